"""From table files (Parquet, or JSONL, JSON, CSV and TSV by `text_files`) to their rows as they stand there.

A malformed line becomes a `Row` with a problem and no values, so that it is listed and the load goes on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medrft.data.images import first_line
from medrft.data.layout import list_names, require_file
from medrft.data.tables.text_files import Values, csv_rows, json_rows, not_text, text_encoding
from medrft.errors import DataError
from medrft.types import Split

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
WAYS = {
    (".gz", ".zip", ".bz2", ".xz", ".zst", ".7z", ".tar", ".tgz"): "; unpack it first",
    (".xlsx", ".xls", ".ods"): "; save the sheet as CSV UTF-8",
    (".arrow", ".feather", ".pkl", ".pickle", ".h5"): "; save it as Parquet (to_parquet)",
    (".txt", ".dat", ""): "; give it the ending of what it holds",
    (".yaml", ".yml", ".xml"): "; save it as JSON",
}
"""For files of other kinds, by their ending: how to make a table of them."""
SPLIT_NAMES: dict[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "validate", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of a table."""

    number: int
    """Its place in the split, from 0."""
    split: str | None
    """The split that the file's name gives, if any."""
    values: dict[str, Any]
    problem: str = ""
    """Why the line could not be read, in which case there are no values."""
    turn: int | None = None
    """Its place in a conversation of several turns, from 1."""


def split_name(text: object) -> Split | None:
    """The split that a word names, `None` for other words.

    >>> split_name("Val"), split_name("testing"), split_name("fold1")
    ('validation', 'test', None)
    """
    return SPLIT_NAMES.get(str(text).strip().lower())


def table_files(root: Path) -> list[tuple[Path, Split | None]]:
    """The tables under a root, with the split that each one's name gives (`train-00000-of-00002.parquet`).

    A root is a file, or a folder with tables in it or in its folder `data`. They are named by split, unless there is
    only one. Raises `DataError` if there is no table.
    """
    if root.is_file():
        return [(_known(root), _split_of(root))]
    if not root.is_dir():
        require_file(root)
    folders = [folder for folder in (root, root / "data") if folder.is_dir()]
    files = [path for folder in folders for path in sorted(folder.iterdir()) if path.is_file()]
    found = [path for path in files if path.suffix.lower() in SUFFIXES]
    named = [(path, _split_of(path)) for path in found if _split_of(path) is not None]
    if named:
        return named
    if len(found) == 1:
        return [(found[0], None)]
    raise DataError(
        f"{root} holds no table that says its split: looked for train, validation and test with one of the endings "
        f"{', '.join(SUFFIXES)}, or for a single table; found {list_names(root)}"
    )


def read_rows(
    files: list[tuple[Path, Split | None]], encoding: str | None = None, delimiter: str | None = None
) -> Iterator[Row]:
    """Every row of some tables; the files of one split are numbered through.

    `encoding` and `delimiter` are for text files from which they cannot be told. Raises `DataError` for a file that
    cannot be read.
    """
    numbers: dict[str | None, int] = {}
    for path, split in files:
        for values, problem in _read(path, encoding, delimiter):
            number = numbers.get(split, 0)
            numbers[split] = number + 1
            yield Row(number=number, split=split, values=values, problem=problem)


def _known(path: Path) -> Path:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        way = next((way for endings, way in WAYS.items() if suffix in endings), "")
        raise DataError(f"{path} is no table: its ending is {path.suffix!r}, known are {', '.join(SUFFIXES)}{way}")
    return path


def _split_of(path: Path) -> Split | None:
    return split_name(re.split(r"[-_.]", path.stem)[0])


def _read(path: Path, encoding: str | None, delimiter: str | None) -> Iterator[Values]:
    """Values and problem of each row of one file."""
    require_file(path)
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        yield from _parquet(path)
        return
    known = text_encoding(path, encoding)
    try:
        if suffix in (".csv", ".tsv"):
            yield from csv_rows(path, known, delimiter)
        else:
            yield from json_rows(path, known)
    except UnicodeError as error:
        raise not_text(path, known, error) from error


def _parquet(path: Path) -> Iterator[Values]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=64):
                yield from ((row, "") for row in batch.to_pylist())
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start})") from error
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        raise DataError(f"{path} is not a Parquet file ({first_line(error)})") from error
