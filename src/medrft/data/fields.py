"""From the parts of a row (`Fields`), as a release writes them, to an example that is kept or a listed reason."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePath
from typing import Any

from medrft.data import base
from medrft.data.base import Reading, RowError
from medrft.data.hub import hub_name, hub_rows
from medrft.data.images import BadImageError, default_cache, write_png
from medrft.data.layout import Release
from medrft.data.paths import image_in
from medrft.data.tables import choices
from medrft.data.tables.rows import Row, read_rows, split_name, table_files
from medrft.data.values import show_value
from medrft.text import infer_kind
from medrft.types import Example, Kind, Split


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """The parts of one row as its release gives them, before any check."""

    question: Any
    answers: tuple[Any, ...]
    """Accepted answers; with options, an option's text, or its letter if `lettered`."""
    images: tuple[Any, ...]
    """File names in `folder`, or images as the hub stores them: encoded bytes, or a table with a key `bytes`."""
    folder: Path = Path("images")
    options: Mapping[str, str] = field(default_factory=dict)
    """Option texts by their official letter; empty options are left out."""
    lettered: bool = False
    kind: Kind | None = None
    """Given if the release says it; else inferred from answers and options."""
    id: str | None = None
    """The official id, where there is one."""
    metadata: Mapping[str, Any] = field(default_factory=dict)


def keep_row(
    reading: Reading, name: str, split: Split, fields: Fields, *, reported: str | None = None, cache: Path | None = None
) -> None:
    """Keep a row, or leave it out with its reason; images inside the row are written to the cache.

    `reported` is the report's name for the split, if it is not the split's own name.
    """
    try:
        references = _references(fields)
        question = base.answer_text(fields.question)
        if question is None:
            raise RowError(base.QUESTION_NOT_TEXT, f"got {show_value(fields.question)}")
        if not question:
            raise RowError(base.EMPTY_QUESTION)
        if not fields.images:
            raise RowError(base.NO_IMAGE)
        images = tuple(_image(value, fields.folder, cache) for value in fields.images)
    except (RowError, BadImageError) as left:
        reading.leave(name, reported or split, left.reason, left.detail)
        return
    if any(base.is_number(answer) for answer in fields.answers):
        reading.converted.append(name)
    options = tuple(fields.options.values())
    reading.keep(
        Example(
            id=name,
            dataset=reading.dataset,
            split=split,
            images=images,
            question=question,
            references=references,
            kind=fields.kind or infer_kind(references, options),
            options=options,
            metadata=fields.metadata,
        )
    )


def is_hub_form(root: Path | None) -> bool:
    """Whether a root is `hf:owner/name` or a folder of Parquet files named by split, as the hub stores them."""
    if hub_name(root) is not None:
        return True
    if root is None or not root.is_dir():
        return False
    files = [path for folder in (root, root / "data") for path in folder.glob("*.parquet")]
    return any(split_name(path.name.split("-")[0].split(".")[0]) for path in files)


def read_hub(
    reading: Reading,
    root: Path,
    fields_of: Callable[[Mapping[str, Any]], Fields | str],
    *,
    subset: str | None = None,
    revision: str | None = None,
    cache: Path | None = None,
) -> None:
    """Read the hub form of a data set. Its ids carry an `h`: row numbers there are not those of the official release.

    `fields_of` returns the parts of a row, or as text the names of the columns that the row lacks.
    """
    for row in _hub_source(reading, root, subset=subset, revision=revision):
        keep_table_row(reading, row, fields_of, cache=cache, prefix="h")


def keep_table_row(
    reading: Reading,
    row: Row,
    fields_of: Callable[[Mapping[str, Any]], Fields | str],
    *,
    cache: Path | None = None,
    prefix: str = "",
) -> None:
    """Keep a table's row, or leave it out with its reason; it is named by its official id, else by its row number."""
    split = split_name(row.split)
    fields = row.problem or fields_of(row.values)
    given = fields.id if isinstance(fields, Fields) else None
    name = f"{reading.dataset}/{split or row.split}/{given or f'{prefix}{row.number}'}"
    if split is None:
        reading.leave(name, str(row.split), base.NO_SPLIT, f"{row.split!r}; known are train, validation and test")
    elif isinstance(fields, Fields):
        keep_row(reading, name, split, fields, cache=cache)
    else:
        reading.leave(name, split, base.NOT_A_ROW if row.problem else base.MISSING_COLUMN, fields)


def find_column(row: Mapping[str, Any], *names: str) -> Any:
    """The value of the first of these columns that the row has, whatever their case and `_`; `None` if it has none.

    >>> find_column({"Choice A": "CT"}, "choice_a"), find_column({"Answer": "A"}, "answer_label", "answer")
    ('CT', 'A')
    """
    for name in names:
        if name in row:
            return row[name]
        found = next((key for key in row if _spelling(key) == _spelling(name)), None)
        if found is not None:
            return row[found]
    return None


@functools.lru_cache(maxsize=10_000)
def _spelling(name: str) -> str:
    return name.lower().replace("_", " ")


def plain_fields(row: Mapping[str, Any]) -> Fields | str:
    """The parts of a hub row that has an image, a question and an answer."""
    missing = [name for name in ("image", "question", "answer") if find_column(row, name) is None]
    if missing:
        return ", ".join(missing)
    return Fields(
        question=find_column(row, "question"),
        answers=(find_column(row, "answer"),),
        images=(find_column(row, "image"),),
        metadata=metadata_of(row, "image", "question", "answer"),
    )


def metadata_of(row: Mapping[str, Any], *used: str) -> dict[str, Any]:
    """Official columns for metadata, without those in `used` and those that hold tables or bytes."""
    rest = {key: value for key, value in row.items() if key.lower() not in used and _is_plain(value)}
    return base.without_nulls(rest)


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(part is None or isinstance(part, str | int | float | list | tuple) for part in islice(value, 100))
    return value is None or isinstance(value, str | int | float)


def find_file(root: Path, *names: str) -> Path | None:
    """The first of some files or folders under a root, at most two folders down.

    A release unpacks into folders of its own. A user may name the innermost one, its parent or the parent of that.
    """
    for pattern in (f"{depth}{name}" for name in names for depth in ("", "*/", "*/*/")):
        found = sorted(path for path in root.glob(pattern) if path.is_file() or path.is_dir())
        if found:
            return found[0]
    return None


def with_ending(name: str) -> str:
    """The file name of an image that its list gives without `.jpg`.

    >>> with_ending("synpic1"), with_ending("synpic1.png")
    ('synpic1.jpg', 'synpic1.png')
    """
    return name if PurePath(name).suffix else f"{name}.jpg"


def require_any(release: Release, root: Path, found: Mapping[str, Any]) -> None:
    """Raise `DataError` if none of the files that were looked for is there."""
    if not any(found.values()):
        raise release.wrong(root, missing=" or ".join(found))


def _hub_source(reading: Reading, root: Path, *, subset: str | None, revision: str | None) -> Iterator[Row]:
    name = hub_name(root)
    if name is None:
        return read_rows(table_files(root))
    if revision is None:
        reading.notes.append(f"read the newest revision of {name}; pin it with revision=… to read the same rows again")
    return hub_rows(name, subset=subset, revision=revision)


def _references(fields: Fields) -> tuple[str, ...]:
    """Accepted answers, each once; for a choice the text of the right option."""
    texts = []
    for answer in fields.answers:
        text = base.answer_text(answer)
        if text is None:
            raise RowError(base.NOT_TEXT, f"got {show_value(answer)}")
        option = _option(text, fields) if text and fields.options else text
        if option is None:
            listed = " | ".join(f"{letter}: {option[:60]}" for letter, option in fields.options.items())
            raise RowError(base.NOT_AN_OPTION, f"{show_value(text, 60)} in {listed:.120}")
        texts.append(option)
    references = tuple(dict.fromkeys(text for text in texts if text))
    if not references:
        raise RowError(base.EMPTY_ANSWER)
    return references


def _option(text: str, fields: Fields) -> str | None:
    """The option that an answer means. Letters are the official ones, also if an option before is empty and dropped."""
    if fields.lettered:
        return fields.options.get(text)
    return choices.resolve_answer(text, tuple(fields.options.values()))


def _image(value: Any, folder: Path, cache: Path | None) -> Path:
    """The file of one image; encoded bytes are written to the cache."""
    encoded = value.get("bytes") if isinstance(value, Mapping) else value
    if isinstance(encoded, bytes):
        return write_png(encoded, cache or default_cache())
    if not isinstance(encoded, str) or not encoded.strip():
        raise RowError(base.NO_IMAGE, f"got {show_value(value)}")
    return image_in(folder, encoded)
