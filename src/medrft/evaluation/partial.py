"""Keeps the scored rows of an evaluation as they come in, so that a killed one loses only what was being asked.

    predictions.partial.jsonl   the header that predictions.jsonl will have, then scored rows in the order they came

If the file is there with the same header, its rows are taken over; a last line that was cut off is dropped. `finish`
writes predictions.jsonl in its final order and removes this file. The header of predictions.jsonl says how many rows
follow, so that a file that was cut off is recognised.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from medrft.errors import DataError
from medrft.files import tell_user, whole_size
from medrft.rundir import append_jsonl, read_growing, read_jsonl, write_jsonl

ROWS = "rows"
"""Key of the header: how many rows follow."""

Row = dict[str, Any]
Key = tuple[str, float, str, int]
"""Control, temperature, example id and number of the sample."""


def key_of(row: Mapping[str, Any]) -> Key:
    """The key of a row, which no other row of its file has."""
    return (row["control"], row["temperature"], row["id"], row["sample"])


class Partial:
    """The rows that are answered, and those whose request failed; only the first are kept, the others asked again."""

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self.path, self.header = path, dict(header)
        self.place = path.with_name(f"{path.stem}.partial{path.suffix}")
        self.rows: dict[Key, Row] = {}
        self.failed: dict[Key, Row] = {}
        found = list(read_growing(self.place))
        if not found or found[0] != self.header:
            # predictions.jsonl can be there with failed or missing rows: its answered ones need not be asked again.
            found = [self.header, *whole_rows(path)] if begins_with(path, self.header) else [self.header]
            path.parent.mkdir(parents=True, exist_ok=True)
            write_jsonl(self.place, [row for row in found if "error" not in row])
        self.rows = {key_of(row): row for row in found[1:] if "error" not in row}

    def add(self, rows: Iterable[Row]) -> None:
        """Keep rows. Those with an answer are on disk when this returns."""
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
        write_jsonl(self.path, [{**self.header, ROWS: len(order)}, *(every[key] for key in order)])
        self.place.unlink()


def read_predictions(path: Path) -> tuple[Row, list[Row]]:
    """The header and the rows of finished predictions; raises `DataError` for a file that is cut off or empty."""
    found = list(read_jsonl(path)) if is_whole(path) else []
    if not found or found[0].get(ROWS, len(found) - 1) != len(found) - 1:
        raise DataError(f"{path} was cut off; medrft eval on its run folder, or medrft run --resume, makes it whole")
    return found[0], found[1:]


def is_whole(path: Path) -> bool:
    """Whether a file ends with a whole line."""
    return path.stat().st_size > 0 and whole_size(path) == path.stat().st_size


def is_finished(path: Path, header: Mapping[str, Any]) -> bool:
    """Whether predictions with exactly this header are there, complete and without a failed request."""
    if not begins_with(path, header):
        return False
    try:
        _, rows = read_predictions(path)
    except DataError as error:
        tell_user(f"{error}; asking for what it lacks")
        return False
    return not any("error" in row for row in rows)


def begins_with(path: Path, header: Mapping[str, Any]) -> bool:
    """Whether a file of predictions has this header, the number of rows aside."""
    try:
        found = next(read_jsonl(path), {}) if path.is_file() else {}
    except DataError:  # not even its first line is whole
        return False
    return {key: value for key, value in found.items() if key != ROWS} == header


def whole_rows(path: Path) -> Iterator[Row]:
    """The rows of predictions that may be cut off, up to the first line that cannot be read."""
    rows = read_growing(path)
    next(rows, None)
    with suppress(DataError):
        yield from rows
