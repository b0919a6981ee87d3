"""Rows of tables as they stand in a file or on the hub: JSONL, JSON, CSV, TSV, Parquet.

A malformed line comes out as a `Row` with a problem instead of values, so that it is listed and the load goes on.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medrft.data.images import first_line
from medrft.data.layout import listing, require_file
from medrft.data.values import shown
from medrft.errors import DataError
from medrft.types import Split

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
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
    """The split that the file's name gives."""
    values: dict[str, Any]
    problem: str = ""
    """Why the line could not be read; there are no values then."""


def split_name(text: object) -> Split | None:
    """The split that a word names.

    >>> split_name("Val"), split_name("testing"), split_name("fold1")
    ('validation', 'test', None)
    """
    return SPLIT_NAMES.get(str(text).strip().lower())


def table_files(root: Path) -> list[tuple[Path, Split | None]]:
    """The tables under a root, with the split that each one's name gives (`train-00000-of-00002.parquet`).

    A root is a file, or a folder whose tables (or those of its folder `data`) are named by split; a folder with a
    single table needs no such name. Raises `DataError` when there is none.
    """
    if root.is_file():
        return [(_known(root), _split_of(root))]
    if not root.is_dir():
        require_file(root)
    found = [path for folder in (root, root / "data") for path in _tables(folder)]
    named = [(path, _split_of(path)) for path in found if _split_of(path) is not None]
    if named:
        return named
    if len(found) == 1:
        return [(found[0], None)]
    raise DataError(
        f"{root} holds no table that says its split: looked for train, validation and test with one of the endings "
        f"{', '.join(SUFFIXES)}, or for a single table; found {listing(root)}"
    )


def read_rows(files: list[tuple[Path, Split | None]]) -> Iterator[Row]:
    """Every row of some tables; numbers run on over the files of one split."""
    numbers: dict[str | None, int] = {}
    for path, split in files:
        for values, problem in _read(path):
            number = numbers.get(split, 0)
            numbers[split] = number + 1
            yield Row(number=number, split=split, values=values, problem=problem)


def _tables(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_file() and p.suffix in SUFFIXES) if folder.is_dir() else []


def _known(path: Path) -> Path:
    if path.suffix not in SUFFIXES:
        raise DataError(f"{path} is no table: its ending is {path.suffix!r}, known are {', '.join(SUFFIXES)}")
    return path


def _split_of(path: Path) -> Split | None:
    return split_name(re.split(r"[-_.]", path.stem)[0])


def _read(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """Values and problem of each row of one file."""
    require_file(path)
    readers = {".parquet": _parquet, ".csv": _csv, ".tsv": _csv, ".json": _json}
    try:
        yield from readers.get(path.suffix, _jsonl)(path)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from error


def _jsonl(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                yield _object(json.loads(line))
            except (ValueError, RecursionError) as error:  # also a number of thousands of digits, or endless brackets
                yield {}, f"line {number} is not JSON ({getattr(error, 'msg', None) or error})"


def _json(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON ({error})") from error
    if not isinstance(rows, list):
        raise DataError(f"{path} holds a JSON {type(rows).__name__}; a table is a list of rows")
    yield from (_object(row) for row in rows)


def _csv(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ",")
        try:
            reader.fieldnames  # noqa: B018  reads the header
        except csv.Error as error:
            raise DataError(f"{path}: its header is not CSV ({error})") from error
        while True:
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:  # such as a cell of more than 131,072 characters; the next line is read
                yield {}, f"line {reader.line_num} is not CSV ({error})"
                continue
            extra = row.pop(None, None)  # cells beyond the header
            if extra is not None:
                yield {}, f"line {reader.line_num} has {len(extra)} more cells than the header"
            else:
                yield {key: value for key, value in row.items() if value is not None}, ""


def _parquet(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=64):
                yield from ((row, "") for row in batch.to_pylist())
    except UnicodeDecodeError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        raise DataError(f"{path} is not a Parquet file ({first_line(error)})") from error


def _object(row: Any) -> tuple[dict[str, Any], str]:
    return (row, "") if isinstance(row, dict) else ({}, f"got {type(row).__name__} {shown(row, 60)}, not an object")
