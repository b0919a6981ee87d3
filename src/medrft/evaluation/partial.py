"""Rows of an evaluation as they come in, so that a kill costs only what was being asked.

    predictions.partial.jsonl   the header that predictions.jsonl will have, then scored rows in the order they came

A file with the same header is gone on with; a last line that was cut is dropped. `finish` writes the whole file in its
own order and removes this one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from medrft.rundir import append_jsonl, read_jsonl, whole_lines, write_jsonl

Row = dict[str, Any]
Key = tuple[str, float, str, int]
"""Control, temperature, example and sample of an answer."""


def key_of(row: Mapping[str, Any]) -> Key:
    """What tells a row from all others of its file."""
    return (row["control"], row["temperature"], row["id"], row["sample"])


class Partial:
    """The rows that are there, and those that failed: an answer that an endpoint did not give is asked for again."""

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self.path, self.header = path, dict(header)
        self.place = path.with_name(f"{path.stem}.partial{path.suffix}")
        self.rows: dict[Key, Row] = {}
        self.failed: dict[Key, Row] = {}
        found = list(read_jsonl(whole_lines(self.place))) if self.place.is_file() else []
        if not found or found[0] != self.header:
            found = list(read_jsonl(path)) if _begins(path, self.header) else [self.header]
            path.parent.mkdir(parents=True, exist_ok=True)
            write_jsonl(self.place, [row for row in found if "error" not in row])
        self.rows = {key_of(row): row for row in found[1:] if "error" not in row}

    def add(self, rows: Iterable[Row]) -> None:
        """Keep rows; those that hold an answer are on disk when this returns."""
        answered = []
        for row in rows:
            kept = self.failed if "error" in row else self.rows
            kept[key_of(row)] = row
            if kept is self.rows:
                answered.append(row)
        append_jsonl(self.place, answered)

    def finish(self, order: Sequence[Key]) -> None:
        """Write all rows in this order, and remove the partial file."""
        every = {**self.failed, **self.rows}
        write_jsonl(self.path, [self.header, *(every[key] for key in order)])
        self.place.unlink()


def is_finished(path: Path, header: Mapping[str, Any]) -> bool:
    """Whether predictions with exactly this header are there, none of them failed; they are written whole."""
    return _begins(path, header) and not any("error" in row for row in read_jsonl(path))


def _begins(path: Path, header: Mapping[str, Any]) -> bool:
    return path.is_file() and next(read_jsonl(path), None) == header
