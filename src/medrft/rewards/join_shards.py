"""Makes one file of the outputs of all shards: in the order of the rows, the same bytes as scoring them at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from medrft.errors import DataError
from medrft.files import replace_file
from medrft.rewards.parquet_rows import ROW_GROUP, RowPicker, copy_rows, parquet_writer
from medrft.rewards.row_files import PARQUET, Rows, line_groups
from medrft.rewards.shards import Shard, check_records, shard_of


@dataclass
class Joined:
    """What a join wrote."""

    rows: int = 0
    left_out: int = 0


def join_shards(path: Path, output: Path, shards: int) -> Joined:
    """Write the rows of all shards of `path` to `output`, and those left out to its list; the shards stay.

    Raises `DataError` if a shard is missing, or was made from other rows, with other settings or another state.
    """
    parts = [Shard(number, shards).path(output) for number in range(1, shards + 1)]
    made_from = check_records(parts)["rows"]["sha256"]
    if Rows(path, "think").identity()["sha256"] != made_from:
        raise DataError(f"{path} is not the file that the shards were made from, or it has changed since")
    done = Joined()
    with ExitStack() as stack:
        listed: IO[bytes] | None = None
        join = (_ParquetJoin if output.suffix == PARQUET else _LinesJoin)(parts, output, stack)
        lists = [_LeftOut(part) for part in parts]
        for number, group in line_groups(path):
            shard = shard_of(number, group, shards) - 1
            left_out = lists[shard].at(number)
            if left_out is None:
                join.take(shard)
                done.rows += 1
                continue
            listed = listed or stack.enter_context(replace_file(_list_path(output)))
            listed.write(left_out)
            done.left_out += 1
        join.close()
    if listed is None:
        _list_path(output).unlink(missing_ok=True)
    return done


def _list_path(output: Path) -> Path:
    return output.with_name(f"{output.stem}.left_out.jsonl")


class _LeftOut:
    """The rows that a shard left out, in order."""

    def __init__(self, part: Path) -> None:
        self._lines = _lines(_list_path(part)) if _list_path(part).is_file() else iter(())
        self._next = next(self._lines, None)

    def at(self, number: int) -> bytes | None:
        """The entry of the row in line `number`, if it was left out."""
        found = self._next
        if found is None or json.loads(found)["line"] != number:
            return None
        self._next = next(self._lines, None)
        return found


class _LinesJoin:
    """Copies lines of JSON."""

    def __init__(self, parts: list[Path], output: Path, stack: ExitStack) -> None:
        self._parts = [(part, _lines(part)) for part in parts]
        self._file = stack.enter_context(replace_file(output))

    def take(self, shard: int) -> None:
        """Copy the next row of a shard."""
        part, lines = self._parts[shard]
        line = next(lines, None)
        if line is None:
            raise _cut(part)
        self._file.write(line)

    def close(self) -> None:
        """See that no row is left over."""
        for part, lines in self._parts:
            if next(lines, None) is not None:
                raise _cut(part)


class _ParquetJoin:
    """Copies rows of Parquet files, a row group at a time."""

    def __init__(self, parts: list[Path], output: Path, stack: ExitStack) -> None:
        self._parts = parts
        self._pickers = [RowPicker(part) for part in parts]
        self._taken = [0] * len(parts)
        self._order: list[tuple[int, int]] = []
        file = stack.enter_context(replace_file(output))
        self._writer = stack.enter_context(parquet_writer(file, like=parts[0]))

    def take(self, shard: int) -> None:
        """Copy the next row of a shard."""
        self._taken[shard] += 1
        if self._taken[shard] > self._pickers[shard].rows:
            raise _cut(self._parts[shard])
        self._order.append((shard, self._taken[shard]))
        if len(self._order) == ROW_GROUP:
            self._flush()

    def close(self) -> None:
        """Write what is left; see that no row is left over."""
        if self._order:
            self._flush()
        self._writer.close()
        for part, picker, taken in zip(self._parts, self._pickers, self._taken, strict=True):
            if taken != picker.rows:
                raise _cut(part)

    def _flush(self) -> None:
        copy_rows(self._pickers, self._order, self._writer)
        self._order = []


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from file


def _cut(part: Path) -> DataError:
    return DataError(f"{part} has not the rows that its shard had when it was scored; run that shard again")
