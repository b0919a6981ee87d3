"""From somebody's file or folder to how `medrft` reads it: the data set, its columns, and the folder of its images.

    study.csv with Question, Answer, img_path   ->  table, columns as they are called there, images under images/
    a folder with 'VQA_RAD Dataset Public.json' ->  vqa_rad

Names decide first (`columns.USUAL`, then `MORE`), then what the cells hold: names of image files, questions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from medrft.data.base import RowError
from medrft.data.hub import hub_name, hub_rows
from medrft.data.layout import list_names
from medrft.data.tables.columns import NEEDED, USUAL, Columns, check_columns, plain_spelling
from medrft.data.tables.formats import recognize_format, turns_of
from medrft.data.tables.pictures import ENDINGS, cell_images, image_name, is_base64
from medrft.data.tables.rows import SUFFIXES, Row, read_rows, split_name, table_files
from medrft.data.values import native_value
from medrft.errors import DataError

RELEASES: dict[str, tuple[tuple[str, str], ...]] = {
    "vqa_rad": (("VQA_RAD Dataset Public.json", ""), ("trainset.json", "phrase_type")),
    "slake": (("train.json", '"q_lang"'), ("test.json", '"q_lang"')),
    "path_vqa": (("pvqa/qas", ""), ("qas/train/train_qa.pkl", "")),
    "vqa_med_2019": (("All_QA_Pairs_train.txt", ""),),
    "vqa_med_2021": (("Task1-VQA-2021-TestSet-Questions.txt", ""),),
    "pmc_vqa": (("train.csv", "Figure_path"), ("train_2.csv", "Figure_path")),
    "medxpertqa": (("MM/dev.jsonl", ""), ("dev.jsonl", "medical_task")),
    "omnimedvqa": (("QA_information/Open-access", ""),),
}
"""Data set -> files that its release holds, each with a text that stands near the file's beginning."""
NEAR = 4_000
"""Characters of a file that are searched for such a text."""
LOOKED, TRIED = 200, 20
"""Rows of each file that are looked at, and of those rows in which an image is looked for on the disk."""
MORE: dict[str, tuple[str, ...]] = {
    "image": (
        *("image_id", "imageid", "img_id", "image_filename", "filepath", "file_path", "path", "file", "picture"),
        *("pic", "figure", "dicom", "dicom_path", "dicom_file", "dcm", "scan", "scan_path", "study_path", "photo"),
    ),
    "question": ("q", "ques", "questions", "prompt", "instruction", "input", "text_input", "query_text"),
    "answer": (
        *("a", "ans", "gt", "gold", "target", "output", "correct", "caption", "captions", "report", "findings"),
        *("impression", "diagnosis", "class", "label_name", "finding", "description", "text"),
    ),
    "rationale": ("explanation", "reason", "thought", "thoughts", "chain_of_thought"),
    "split": ("set", "subset", "fold", "phase", "partition", "split_name"),
}
"""Names that stand for a role in files in the field, but mean other things elsewhere: `init` says what it took."""
CAPTIONS = ("caption", "captions", "report", "findings", "impression", "description", "text")
ASK = {"caption": "What does this image show?", "class": "Which of the classes does this image show?"}
"""What rows without a question are asked: for a caption, and for the name of a class."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """How a file or folder of somebody's is read."""

    name: str
    """The loader."""
    root: str
    options: Mapping[str, Any] = field(default_factory=dict)
    """The loader's options, as a recipe's `data:` holds them."""
    said: tuple[str, ...] = ()
    """A sentence on each thing that was taken without its usual name."""
    missing: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Roles that no column could be found for -> the columns that are left to choose from."""
    columns: tuple[str, ...] = ()
    """All columns of the table."""


def recognize_source(root: str, given: Mapping[str, Any] | None = None) -> Source:
    """How `root` (a file, a folder, or `hf:owner/name`) is read; `given` are options that the user has set.

    Raises `DataError` where nothing is there, or no table is.
    """
    path = Path(root).expanduser()
    if hub_name(Path(root)) is None:
        if not path.exists():
            raise DataError(
                f"nothing at {path}; medrft init takes a table, a folder, hf:owner/name or a data set's name"
            )
        if (found := _release(path)) is not None:
            return found
    check_columns((given or {}).get("columns") or {})
    return _table(root, path, dict(given or {}))


def _release(path: Path) -> Source | None:
    """A release in its official layout: the folder, or one of its files."""
    folder = path.parent if path.is_file() else path
    for name, marks in RELEASES.items():
        for mark, text in marks:
            file = folder / mark
            if (path.is_dir() or file == path) and file.exists() and (not text or text in _beginning(file)):
                return Source(name=name, root=str(folder), said=(f"{folder} is {name}, by its {mark}",))
    return None


def _beginning(file: Path) -> str:
    with file.open(encoding="utf-8", errors="replace") as text:
        return text.read(NEAR)


def _table(root: str, path: Path, given: dict[str, Any]) -> Source:
    """A table of somebody's own."""
    hub = hub_name(Path(root))
    place = None if hub else _file(path)
    if hub:
        rows = list(islice(hub_rows(hub, subset=given.get("subset"), revision=given.get("revision")), LOOKED))
    else:
        assert place is not None
        rows = list(_first_rows(place, given))
    values = [{str(key): native_value(value) for key, value in row.values.items()} for row in rows if not row.problem]
    if not values:
        if not rows:
            raise DataError(f"{root} holds no rows; write one for each question, below a header: image,question,answer")
        raise DataError(f"{root} holds no row that can be read; medrft data check table {root} lists why")
    mapped = dict(given.get("columns") or {})
    said: list[str] = [f"the table is {place}"] if place is not None and place != path else []
    options: dict[str, Any] = {key: value for key, value in given.items() if key != "columns"}
    names = tuple(dict.fromkeys(name for row in values for name in row))
    if not mapped and recognize_format(values[0]) is not None and not {"question", "answer"} <= _roles(values[0], {}):
        said.append("rows are conversations: each answered question is an example")
        images = [image for row in rows for image in _chat_images(row)]
        options |= _image_root(place, images, options, said)
        return Source(name="table", root=str(place or root), options=options, said=tuple(said), columns=names)
    roles = _columns(values, names, mapped, place, said)
    missing = {
        role: _left(names, roles)
        for role in NEEDED
        if role not in roles and not (role == "question" and "ask" in options)
    }
    if "question" in missing and "answer" in roles and "image" in roles and not _unused_texts(values, names, roles):
        caption = plain_spelling(str(roles["answer"])) in CAPTIONS
        options["ask"] = ASK["caption" if caption else "class"]
        said.append(f"no column holds questions: every row is asked {options['ask']!r} (data.ask)")
        del missing["question"]
    cells = [cell for row in values for cell in _cells(row, roles.get("image"))]
    options |= _image_root(place, cells, options, said)
    if roles:
        options = {"columns": roles, **options}
    return Source(
        name="table", root=str(place or root), options=options, said=tuple(said), missing=missing, columns=names
    )


def _file(path: Path) -> Path:
    """The table in a folder, wherever it lies there; the path itself if it is a file or has tables by split."""
    if path.is_file():
        return path
    try:
        table_files(path)
        return path
    except DataError:
        deeper = sorted(p for p in path.glob("*/*") if p.is_file() and p.suffix.lower() in SUFFIXES)
        if len(deeper) == 1:
            return deeper[0]
        if deeper and len({p.parent for p in deeper}) == 1 and any(split_name(p.stem) for p in deeper):
            return deeper[0].parent
        here = sorted(p for p in path.iterdir() if p.is_file() and p.suffix.lower() in SUFFIXES)
        if not here and not deeper:
            raise DataError(
                f"{path} holds no table ({', '.join(SUFFIXES)}), only {list_names(path)}; write one with a row per "
                "question: image,question,answer"
            ) from None
        raise


def _first_rows(place: Path, given: Mapping[str, Any]) -> Iterator[Row]:
    """The first rows of each file of a table."""
    for file in table_files(place):
        yield from islice(read_rows([file], given.get("encoding"), given.get("delimiter")), LOOKED)


def _roles(row: Mapping[str, Any], mapped: Mapping[str, Any]) -> set[str]:
    found = Columns(mapped).of(row)
    return {*found.one, *found.several}


def _columns(
    rows: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    mapped: Mapping[str, Any],
    place: Path | None,
    said: list[str],
) -> dict[str, Any]:
    """Role -> column (or columns), by usual names, by further ones, and by what cells hold."""
    usual = Columns(mapped).of(dict.fromkeys(names))
    roles: dict[str, Any] = {
        role: list(usual.several[role]) if role in usual.several else usual.one[role]
        for role in USUAL
        if role in usual.one or role in usual.several
    }
    spelled = {plain_spelling(name): name for name in names}
    for role, more in MORE.items():
        if role in roles or role in mapped:
            continue
        used = _used(roles)
        found = next((spelled[n] for n in map(plain_spelling, more) if n in spelled and spelled[n] not in used), None)
        if found is not None and (role != "split" or _are_splits(rows, found)):
            roles[role] = found
            said.append(f"{role} is taken from column {found!r}")
    if "image" not in mapped and not _are_images(rows, roles.get("image"), place):
        by_cells = [name for name in names if name not in _used(roles) and _are_images(rows, name, place)]
        if by_cells:
            roles["image"] = by_cells[0]
            said.append(f"image is taken from column {by_cells[0]!r}, whose cells name image files")
    if "question" not in roles and "question" not in mapped:
        asking = [name for name in names if name not in _used(roles) and _are_questions(rows, name)]
        if asking:
            roles["question"] = asking[0]
            said.append(f"question is taken from column {asking[0]!r}, whose cells end in a question mark")
    if "answer" not in roles and "answer" not in mapped and "question" in roles:
        left = _unused_texts(rows, names, roles)
        if len(left) == 1:
            roles["answer"] = left[0]
            said.append(f"answer is taken from column {left[0]!r}, the only text that is left")
    return roles


def _used(roles: Mapping[str, Any]) -> set[str]:
    return {name for found in roles.values() for name in (found if isinstance(found, list) else [found])}


def _left(names: Sequence[str], roles: Mapping[str, Any]) -> tuple[str, ...]:
    used = _used(roles)
    return tuple(name for name in names if name not in used)


def _texts(rows: Sequence[Mapping[str, Any]], name: str) -> list[str]:
    return [row[name].strip() for row in rows if isinstance(row.get(name), str) and row[name].strip()]


def _unused_texts(rows: Sequence[Mapping[str, Any]], names: Sequence[str], roles: Mapping[str, Any]) -> list[str]:
    """Columns of text, neither numbers nor addresses, that play no role."""
    return [
        name
        for name in _left(names, roles)
        if (texts := _texts(rows, name))
        and sum(text.replace(".", "", 1).isdigit() or "://" in text for text in texts) < len(texts) / 2
    ]


def _are_splits(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    texts = _texts(rows, name)
    return bool(texts) and all(split_name(text) is not None for text in texts)


def _are_questions(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    texts = _texts(rows, name)
    return bool(texts) and sum(text.endswith(("?", "？")) for text in texts) > len(texts) / 2


def _are_images(rows: Sequence[Mapping[str, Any]], name: Any, place: Path | None) -> bool:
    """Whether most cells of a column hold images or names of image files."""
    if name is None:
        return False
    cells = [cell for row in rows[:TRIED] for cell in _cells(row, name)]
    folders = _places(place)
    hits = sum(
        not isinstance(cell, str)
        or is_base64(cell)
        or cell.startswith("data:")
        or image_name(cell).strip().lower().endswith(ENDINGS)
        or any(_is_file(folder, cell.strip()) for folder in folders)
        for cell in cells
    )
    return bool(cells) and hits > len(cells) / 2


def _cells(row: Mapping[str, Any], columns: Any) -> list[Any]:
    """The images of a row as its cells hold them."""
    found: list[Any] = []
    for name in columns if isinstance(columns, list) else [columns]:
        try:
            found += cell_images(row.get(name)) if name is not None else []
        except RowError:
            continue
    return found


def _chat_images(row: Row) -> list[Any]:
    form = recognize_format(row.values)
    turns = turns_of(row, form) if form is not None and not row.problem else []
    return [cell for turn in turns[:1] for cell in _cells(turn.values, "image")]


def _folder(place: Path | None) -> Path | None:
    if place is None:
        return None
    return place.parent if place.is_file() else place


def _places(place: Path | None) -> list[Path]:
    """Where the images of a table may lie: beside it, in folders there, where one stands, in the folder above."""
    folder = _folder(place)
    if folder is None:
        return []
    beside = sorted(p for p in (*folder.glob("*/"), *folder.glob("*/*/")) if p.is_dir())[:100]
    return list(dict.fromkeys((folder, *beside, Path(), folder.parent)))


def _image_root(
    place: Path | None, cells: Sequence[Any], options: Mapping[str, Any], said: list[str]
) -> dict[str, str]:
    """`image_root` where most images lie elsewhere than beside the table: in a folder there, or where one stands."""
    names = [image_name(cell).strip().replace("\\", "/") for cell in cells if isinstance(cell, str) and len(cell) < 500]
    folder = _folder(place)
    if folder is None or not names or "image_root" in options:
        return {}
    hits = {p: sum(_is_file(p, name) for name in names) for p in _places(place)}
    best = max(hits, key=lambda p: hits[p])
    if not hits[best] or hits[best] == hits[folder]:
        return {}
    said.append(f"images are found under {best} (data.image_root)")
    return {"image_root": str(best)}


def _is_file(folder: Path, name: str) -> bool:
    path = folder / name
    try:
        return path.exists() or (not path.suffix and any(path.with_name(path.name + e).is_file() for e in ENDINGS))
    except (OSError, ValueError):
        return False
