"""Your own questions: a JSONL, JSON, CSV, TSV or Parquet table, or a data set on the hub, with a map of its columns.

    {"image": "img/001.png", "question": "Is there a fracture?", "answer": "No", "modality": "X-ray"}

A role that is not mapped is looked for under its usual names (`USUAL`). Image paths are relative to the table; images
inside the table (as the hub stores them) are written to the cache as 8-bit PNG, and so are DICOM, NIfTI and deep PNG
or TIFF files, with what was done in `metadata.shown`. Columns without a role stay in `metadata`.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from medrft.data import base, choices
from medrft.data.base import Loaded, Progress, Reading, RowError
from medrft.data.hub import hub_name, hub_rows
from medrft.data.images import BadImageError, default_cache, materialise
from medrft.data.layout import Release
from medrft.data.medical import show, view_notes
from medrft.data.paths import image_in
from medrft.data.rows import SUFFIXES, Row, read_rows, split_name, table_files
from medrft.data.values import DEEPEST, shown
from medrft.data.views import View, make_view
from medrft.errors import UserError, unknown_name
from medrft.text import infer_kind
from medrft.types import SPLITS, Example

USUAL: dict[str, tuple[str, ...]] = {
    "id": ("id", "qid", "question_id", "index"),
    "image": ("image", "images", "image_path", "img_path", "img_name", "image_name", "file_name"),
    "question": ("question", "problem", "Question"),
    "answer": ("answer", "answers", "reference", "references", "gt_answer", "Answer", "label"),
    "options": ("options", "choices"),
    "rationale": ("rationale", "reasoning", "cot"),
    "split": ("split",),
    "modality": ("modality", "modality_type"),
    "organ": ("organ", "body_part", "location"),
    "question_type": ("question_type", "content_type"),
    "window": (),
    "frame": (),
    "slice": (),
}
VIEW_ROLES = ("window", "frame", "slice")
"""How a row's medical image is shown; only columns that are mapped, for other tables use these words otherwise."""
NEEDED = ("image", "question", "answer")
NOT_AN_OPTION = base.NOT_AN_OPTION
NO_VIEW = "no such view"
CT = frozenset({"ct", "computed tomography", "cta", "ct scan"})
RELEASE = Release(
    dataset="table",
    wanted=f"one table ({', '.join(SUFFIXES)}), or a folder with train, validation and test tables",
    source="your own files, or hf:owner/name for a data set on the hub",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    """How the rows of one table are read."""

    dataset: str
    split: str
    columns: Mapping[str, Any]
    folder: Path
    cache: Path
    separator: str | None = None
    reading: Reading = field(repr=False)
    view: Mapping[str, Any]
    """Arguments of `make_view` that hold for rows that say nothing else."""
    shown: dict[tuple[Path, View], tuple[Path, dict[str, Any]] | None] = field(default_factory=dict, repr=False)
    """Files that were looked at: a table may ask many questions about one."""


def load(
    root: Path | None,
    *,
    seed: int = 0,
    columns: Mapping[str, str | Sequence[str]] | None = None,
    dataset: str | None = None,
    split: str = "train",
    image_root: str | Path | None = None,
    separator: str | None = None,
    subset: str | None = None,
    revision: str | None = None,
    window: str | Sequence[float] | None = None,
    frame: int | None = None,
    slice: int | None = None,
    plane: str = "axial",
    orientation: str = "auto",
    cache: Path | None = None,
    on_progress: Progress | None = None,
) -> Loaded:
    """Read a table, a folder of them, or `hf:owner/name`.

    `columns` maps roles to columns (several for `image` and `options`), `split` holds for rows that name none,
    `separator` stands between several references in one text cell; the five from `window` on are those of `View`.
    Raises `DataError` for a missing or unreadable file, `UnknownNameError` for an unknown role, split or view.
    """
    view: dict[str, Any] = {
        "window": window,
        "frame": frame,
        "slice": slice,
        "plane": plane,
        "orientation": orientation,
    }
    make_view(**view)
    for role in columns or {}:
        if role not in USUAL:
            raise unknown_name("role in columns of table", role, USUAL)
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    hub = hub_name(root)
    place = Path() if hub else RELEASE.require(root)
    name = re.sub(r"[^\w.-]+", "_", dataset or _last_part(hub, place)).lstrip(".") or "table"
    rows = hub_rows(hub, subset=subset, revision=revision) if hub else read_rows(table_files(place))
    folder = Path(image_root) if image_root else (place.parent if place.is_file() else place)
    note = f"read the newest revision of {hub}; pin it with revision=… to read the same rows again"
    return read_table(
        rows,
        dataset=name,
        split=split,
        columns=columns or {},
        folder=folder,
        cache=cache,
        separator=separator,
        notes=[note] if hub and revision is None else [],
        view=view,
        on_progress=on_progress,
    )


def read_table(
    rows: Iterable[Row],
    *,
    dataset: str,
    folder: Path,
    split: str = "train",
    columns: Mapping[str, Any] | None = None,
    cache: Path | None = None,
    separator: str | None = None,
    notes: Sequence[str] = (),
    view: Mapping[str, Any] | None = None,
    on_progress: Progress | None = None,
) -> Loaded:
    """Read rows that are at hand as `load` reads those of a file; image paths are relative to `folder`."""
    reading = Reading(dataset)
    table = _Table(
        dataset=dataset,
        split=split,
        columns=columns or {},
        folder=folder,
        cache=cache or default_cache(),
        separator=separator,
        reading=reading,
        view=dict(view or {}),
    )
    for row in rows:
        _read_row(table, row)
    reading.notes += notes
    reading.notes += view_notes(found[1] for found in table.shown.values() if found is not None)
    return reading.done(on_progress)


def _last_part(hub: str | None, place: Path) -> str:
    """What a table is called when no name is given."""
    if hub:
        return hub.rstrip("/").rpartition("/")[2]
    return place.stem if place.is_file() else place.resolve().name


def _read_row(table: _Table, row: Row) -> None:
    """Keep the row, or leave it out with its reason."""
    values = {role: _value(table.columns, role, row.values) for role in USUAL}
    given = _first(values["split"], row.split, table.split)
    split = split_name(given)
    own = base.one_line(_first(values["id"], row.number))
    name = f"{table.dataset}/{split or base.one_line(given)}/{own or row.number}"
    try:
        if row.problem:
            raise RowError(base.NOT_A_ROW, row.problem)
        if split is None:
            raise RowError(base.NO_SPLIT, f"{shown(given)}; known are train, validation, test and their usual forms")
        table.reading.keep(_example(table, row, values, name=name))
    except RowError as left:
        table.reading.leave(name, split or base.one_line(given), left.reason, left.detail)
    except BadImageError as bad:
        table.reading.leave(name, split or base.one_line(given), bad.reason, bad.detail)


def _example(table: _Table, row: Row, values: Mapping[str, Any], *, name: str) -> Example:
    missing = [_wanted(table.columns, role) for role in NEEDED if values[role] is _ABSENT]
    if missing:
        raise RowError(base.MISSING_COLUMN, f"{', '.join(missing)}; the row has {', '.join(row.values) or 'none'}")
    question = base.answer_text(values["question"])
    if question is None:
        raise RowError(base.QUESTION_NOT_TEXT, f"got {shown(values['question'])}")
    if not question:
        raise RowError(base.EMPTY_QUESTION)
    options = choices.options_of(_first(values["options"], None))
    references = _references(table, values["answer"], options, name=name)
    view = _view(table, values)
    found = [_image(table, value, view) for value in _image_values(values["image"])]
    if not found:
        raise RowError(base.NO_IMAGE)
    records = [record for _, record in found]
    split = split_name(_first(values["split"], row.split, table.split))
    assert split is not None  # checked by the caller
    return Example(
        id=name,
        dataset=table.dataset,
        split=split,
        images=tuple(path for path, _ in found),
        question=question,
        references=references,
        kind=infer_kind(references, options),
        options=options,
        rationale=_rationale(values["rationale"]),
        metadata={
            **_metadata(table.columns, row.values, values),
            **({"shown": records} if any(record is not None for record in records) else {}),
        },
    )


def _view(table: _Table, values: Mapping[str, Any]) -> View:
    """How a row's images are shown: as it says, else as the options say."""
    own = {role: values[role] for role in VIEW_ROLES if values[role] not in (_ABSENT, None, "")}
    try:
        view = make_view(**{**table.view, **own})
    except UserError as error:
        raise RowError(NO_VIEW, str(error)) from error
    return replace(view, ct=base.one_line(_first(values["modality"], "")).lower() in CT)


def _references(table: _Table, value: Any, options: Sequence[str], *, name: str) -> tuple[str, ...]:
    """Accepted answers, each once; for a choice the text of the right option."""
    if isinstance(value, str) and table.separator:
        value = value.split(table.separator)
    texts = []
    for part in value if isinstance(value, list | tuple) else [value]:
        text = base.answer_text(part)
        if text is None:
            raise RowError(base.NOT_TEXT, f"got {shown(part)}")
        if base.is_number(part):
            table.reading.converted.append(name)
        texts.append(text)
    references = tuple(dict.fromkeys(text for text in texts if text))
    if not references:
        raise RowError(base.EMPTY_ANSWER)
    if not options:
        return references
    resolved = tuple(dict.fromkeys(choices.resolve(text, options) for text in references))
    named = tuple(text for text in resolved if text is not None)
    if len(named) < len(resolved):
        raise RowError(NOT_AN_OPTION, f"{shown(references[0], 60)} in {' | '.join(options):.120}")
    return named


def _image_values(value: Any) -> list[Any]:
    """The images of one cell: one, a list, or JSON text of a list."""
    if isinstance(value, str) and value.strip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise RowError(base.NO_IMAGE, f"{shown(value, 60)} is not a JSON list") from error
    values = value if isinstance(value, list | tuple) else [value]
    return [image for image in values if image is not None and image != "" and image is not _ABSENT]


def _image(table: _Table, value: Any, view: View) -> tuple[Path, dict[str, Any] | None]:
    """The file of one image and what was done to show it; what is no plain file is written to the cache."""
    if isinstance(value, Mapping):  # as `datasets` stores images, or {"image_path": …}
        encoded = value.get("bytes")
        value = encoded if encoded is not None else value.get("path") or value.get("image_path")
    if isinstance(value, bytes):
        return materialise(value, table.cache), None
    if not isinstance(value, str):
        raise RowError(base.NO_IMAGE, f"got {type(value).__name__}")
    if value.startswith("data:"):
        try:
            return materialise(base64.b64decode(value.partition(",")[2], validate=True), table.cache), None
        except ValueError as error:  # binascii.Error is one, and so is text that is not ASCII
            raise RowError(base.NO_IMAGE, f"a data address that is not base64 ({error})") from error
    if value.startswith(("http://", "https://")):
        raise RowError(base.NO_IMAGE, f"{shown(value)} is a web address; download it first")
    path = image_in(table.folder, value)
    if (path, view) not in table.shown:
        table.shown[path, view] = show(path, view, table.cache)
    return table.shown[path, view] or (path, None)


class _Absent:
    """A column that a row does not have."""


_ABSENT = _Absent()


def _first(*values: Any) -> Any:
    """The first value that is present."""
    return next((value for value in values if value is not _ABSENT and value is not None), None)


def _value(columns: Mapping[str, Any], role: str, row: Mapping[str, Any]) -> Any:
    """What a row says in a role: the mapped column (or columns, as a list), else the first usual one it has."""
    mapped = columns.get(role)
    if isinstance(mapped, str):
        return row.get(mapped, _ABSENT)
    if mapped is not None:
        found = [row[column] for column in mapped if row.get(column) not in (None, "")]
        return found or _ABSENT
    return next((row[column] for column in USUAL[role] if column in row), _ABSENT)


def _wanted(columns: Mapping[str, Any], role: str) -> str:
    mapped = columns.get(role)
    if mapped is None:
        return f"{role} (none of {', '.join(USUAL[role])}; map it with columns.{role}=NAME)"
    return f"{role} (columns.{role} is {mapped!r})"


def _metadata(columns: Mapping[str, Any], row: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Columns without a role; modality, organ and question type under these names; what images inside were called."""
    used = {column for role in ("id", "image", "question", "rationale") for column in _columns_of(columns, role, row)}
    rest = {key: value for key, value in row.items() if key not in used and not _holds_bytes(value)}
    named = {role: values[role] for role in ("modality", "organ", "question_type")}
    sources = [str(i.get("path")) for i in _image_values(values["image"]) if isinstance(i, Mapping) and i.get("bytes")]
    given = {role: value for role, value in named.items() if values[role] is not _ABSENT}
    return {**rest, **given, **({"source": sources} if sources else {})}


def _columns_of(columns: Mapping[str, Any], role: str, row: Mapping[str, Any]) -> Sequence[str]:
    mapped = columns.get(role)
    if mapped is not None:
        return [mapped] if isinstance(mapped, str) else list(mapped)
    return [column for column in USUAL[role] if column in row][:1]


def _holds_bytes(value: Any, depth: int = DEEPEST) -> bool:
    if not depth or not isinstance(value, Mapping | list):
        return isinstance(value, bytes)
    return any(_holds_bytes(inner, depth - 1) for inner in (value.values() if isinstance(value, Mapping) else value))


def _rationale(value: Any) -> str | None:
    """A chain of thought with its line breaks."""
    return value.strip() or None if isinstance(value, str) else None
