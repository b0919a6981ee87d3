"""From a table file to numbered rows, with errors that name file, row and column; for the readers of judgements."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from medrft.data.tables.rows import read_rows, table_files
from medrft.errors import DataError

Numbered = Sequence[tuple[int, dict[str, Any]]]
"""Rows with their number in the file, from 1; a CSV's header is not counted."""


def table_rows(path: Path, *, what: str) -> Numbered:
    """All rows of one table; raises `DataError` with `what` was expected if there is no such file or no row."""
    if not path.is_file():
        raise DataError(f"no file at {path}; {what}")
    found = []
    for row in read_rows(table_files(path)):
        if row.problem:
            raise DataError(f"{path}, row {row.number + 1}: {row.problem}")
        found.append((row.number + 1, row.values))
    if not found:
        raise DataError(f"{path} holds no row; {what}")
    return found


def columns_of(rows: Numbered) -> set[str]:
    """The columns that any row has."""
    return {name for _, row in rows for name in row}


def require_columns(path: Path, rows: Numbered, names: Iterable[str], *, what: str) -> None:
    """Raise `DataError` naming the first column that no row has."""
    have = columns_of(rows)
    for name in names:
        if name not in have:
            raise DataError(f"{path} has no column {name!r}; {what}; it has {', '.join(sorted(have))}")


def text_of(value: Any) -> str:
    """A cell as text without space around it; empty for nothing.

    >>> text_of(None), text_of(" 7 "), text_of(7)
    ('', '7', '7')
    """
    return "" if value is None else str(value).strip()


def filled(row: dict[str, Any], name: str, where: str) -> str:
    """A cell that must not be empty; raises `DataError`."""
    found = text_of(row.get(name))
    if not found:
        raise DataError(f"{where}: empty {name}")
    return found
