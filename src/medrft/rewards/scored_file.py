"""Scores a file of rows of any length: JSONL or Parquet in, the same rows with their scores out.

    scored.partial.jsonl    what the scores depend on, then each row's raw scores, appended batch by batch
    scored.jsonl            the rows with their scores, written whole once all raw scores are there

Rows that cannot be scored are listed. A kill loses one batch. Memory does not grow with the number of rows, except for
calibrations that are fitted on the whole file, which keep 8 bytes per row and part.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from glob import escape
from pathlib import Path
from typing import IO, Any

from medrft.errors import DataError, RunInUseError, cannot_write
from medrft.files import hash_file, sweep_scraps, tell_user, try_lock
from medrft.progress import Advance
from medrft.rewards.reward import Reward
from medrft.rewards.row_files import Line, Rows, Table
from medrft.rewards.rows import reward_columns
from medrft.rewards.shards import record_path, write_record
from medrft.rewards.stack import RawScores
from medrft.rewards.state import load_state
from medrft.scorers.custom import files_in
from medrft.types import Scorer

BATCH = 2048
"""Rows scored at a time; no score depends on it."""

RAW = tuple(one.name for one in fields(RawScores))

Scored = tuple[Line, Table | None]
"""A line, and its row with scores; `None` if it was left out."""


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """What scores the rows: scorers, a reward, or both.

    With `state` the reward's calibrations have the state of a run; without, they are fitted on the file.
    """

    judges: Sequence[Scorer]
    reward: Reward | None
    state: Path | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    """All that the raw scores depend on in addition to the rows."""


@contextmanager
def scored_rows(
    rows: Rows, scoring: Scoring, *, output: Path | None, on_progress: Advance
) -> Iterator[tuple[Iterator[Scored], str | None]]:
    """Score `rows`; yields the lines with their rows as they are to be written, and what calibrations were fitted on.

    Raw scores are kept in a file beside `output`, from which the same call resumes after a kill; it is removed at the
    end. Without an output they are in a temporary file. Raises `DataError` if no row can be scored (a shard may be
    empty), or if only some rows have a group.
    """
    place = output and output.with_name(f"{output.stem}.partial.jsonl")
    with _opened(place) as spool:
        if output is not None and rows.shard is not None:
            record_path(output).unlink(missing_ok=True)
        header = {"rows": rows.identity(), **scoring.settings}
        _fill(spool, rows, scoring, header, on_progress)
        if rows.shard is None and not any(_kept(spool)):
            first = next((line.reason for line in rows), "it is empty")
            raise DataError(first if rows.path is None else f"{rows.path} holds no row to score; {first}")
        fitted = _calibrated(spool, scoring)
        yield _results(spool, rows, scoring), fitted
    if output is not None and rows.shard is not None:
        write_record(output, header, scoring.reward)
    if place is not None:
        place.unlink()


@contextmanager
def _opened(place: Path | None) -> Iterator[IO[bytes]]:
    """The file of raw scores; raises `StorageError` if it cannot be opened, `RunInUseError` if it is in use."""
    if place is None:
        with tempfile.TemporaryFile(buffering=0) as nameless:
            yield nameless
        return
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        spool = place.open("a+b", buffering=0)
    except OSError as error:
        raise cannot_write(place, error) from error
    with spool:
        if try_lock(spool.fileno()) is False:
            raise RunInUseError(f"{place} is being written by another process; wait, or choose another --output")
        sweep_scraps(place.parent, of=f".{escape(place.stem.removesuffix('.partial'))}*")
        yield spool


def _fill(spool: IO[bytes], rows: Rows, scoring: Scoring, header: Table, on_progress: Advance) -> None:
    """Append the raw scores of all rows that are missing, batch by batch."""
    done = _go_on(spool, header)
    total = header["rows"]["lines"]
    on_progress(done, total)
    batch: list[Line] = []
    for number, line in enumerate(rows, 1):
        if number <= done:
            continue
        batch.append(line)
        if len(batch) == BATCH or number == total:
            _append(spool, "".join(json.dumps(kept) + "\n" for kept in _raw(batch, scoring)))
            on_progress(number, total)
            batch = []


def _go_on(spool: IO[bytes], header: Table) -> int:
    """The number of lines that are done already, in whole batches; anything after them is cut off.

    A file with another header is emptied.
    """
    spool.seek(0)
    first = spool.readline()
    if first != (json.dumps(header) + "\n").encode():
        spool.seek(0)
        os.ftruncate(spool.fileno(), 0)
        _append(spool, json.dumps(header) + "\n")
        return 0
    done, end, here = 0, len(first), len(first)
    for number, line in enumerate(_lines(spool), 1):
        if not line.endswith(b"\n"):
            break
        here += len(line)
        if number % BATCH == 0 or number == header["rows"]["lines"]:
            done, end = number, here
    os.ftruncate(spool.fileno(), end)
    if done:
        tell_user(f"going on after {done:,} rows that were scored before")
    return done


def _append(spool: IO[bytes], text: str) -> None:
    spool.seek(0, os.SEEK_END)
    left = memoryview(text.encode("utf-8"))
    try:
        while left:  # an unbuffered file may write less than it was given
            left = left[spool.write(left) :]
    except OSError as error:
        raise cannot_write(Path(str(spool.name)), error) from error


def _raw(batch: Sequence[Line], scoring: Scoring) -> Iterator[Table]:
    """The entry for each line: raw scores, or an empty table for a line that was left out."""
    read = [line.row for line in batch if line.row is not None]
    items = [row.item for row in read]
    columns = {judge.name: judge(items) for judge in scoring.judges} if items else {}
    raws = scoring.reward.score(items) if scoring.reward is not None and items else []
    place = 0
    for line in batch:
        if line.row is None:
            yield {}
            continue
        kept: Table = {"scores": {name: column[place] for name, column in columns.items()}}
        if scoring.reward is not None:
            raw = raws[place]
            kept |= {"raw": {name: getattr(raw, name) for name in RAW}, "group": line.row.group}
        place += 1
        yield kept


def _kept(spool: IO[bytes]) -> Iterator[Table]:
    """The entry of each line; an empty table for one that was left out."""
    for line in _lines(spool):
        yield json.loads(line)


def _lines(spool: IO[bytes]) -> Iterator[bytes]:
    """The lines of the file of raw scores, without its header."""
    spool.seek(0)
    # A copy of the descriptor, because closing this reader must not close the spool, and with it give up the lock.
    with os.fdopen(os.dup(spool.fileno()), "rb") as file:
        next(file)
        yield from file


def _calibrated(spool: IO[bytes], scoring: Scoring) -> str | None:
    """Set the calibrations' state, and return a phrase on where it comes from; `None` without a reward."""
    reward = scoring.reward
    if reward is None:
        return None
    if scoring.state is not None:
        return f"state of {load_state(reward, scoring.state)}"
    rows = 0

    def raws() -> Iterator[RawScores]:
        nonlocal rows
        for kept in _kept(spool):
            if kept:
                rows += 1
                yield RawScores(**kept["raw"])

    reward.fit(raws())
    return f"fitted once on these {rows} rows"


def _results(spool: IO[bytes], rows: Rows, scoring: Scoring) -> Iterator[Scored]:
    """The lines with their scored rows, in order."""
    reward = scoring.reward
    grouped = _Groups(spool, reward, rows) if reward is not None and reward.needs_groups else None
    batch: list[tuple[Line, Table]] = []
    for line, kept in zip(rows, _kept(spool), strict=True):
        if len(batch) >= BATCH and (grouped is None or grouped.may_cut(batch[-1][1], kept)):
            yield from _finished(batch, scoring, grouped)
            batch = []
        batch.append((line, kept))
    yield from _finished(batch, scoring, grouped)


class _Groups:
    """Where the file may be cut into batches for a reward that looks at whole groups: between two groups.

    If the rows of a group are scattered, or if the sum is standardised over all rows, the file must be one batch.
    Raises `DataError` if only some rows have a group.
    """

    def __init__(self, spool: IO[bytes], reward: Reward, rows: Rows) -> None:
        self.any = False
        self.whole = reward.combine_rule == "normalize_then_sum"
        seen: set[Any] = set()
        before: Any = None
        missing = 0
        for number, kept in enumerate(_kept(spool), 1):
            if not kept:
                continue
            group = kept["group"]
            if group is None:
                missing = missing or number
                continue
            self.any = True
            if group != before and group in seen:
                self.whole = True
            seen.add(group)
            before = group
        if missing and self.any:
            where = f" of shard {rows.shard}" if rows.shard is not None else ""
            raise DataError(f"row {missing}{where} has no `group` but others have; give every row its group")

    def may_cut(self, before: Table, after: Table) -> bool:
        """Whether a batch may end between two lines."""
        return bool(before and after) and not self.whole and before["group"] != after["group"]


def _finished(batch: Sequence[tuple[Line, Table]], scoring: Scoring, grouped: _Groups | None) -> Iterator[Scored]:
    """A batch's lines with their scored rows."""
    reward = scoring.reward
    scored = [kept for _, kept in batch if kept]
    own: Iterator[Table] = iter(())
    if reward is not None:
        raws = [RawScores(**kept["raw"]) for kept in scored]
        groups = [kept["group"] for kept in scored] if grouped is not None and grouped.any else None
        outcomes = reward.combine(raws, groups=groups)
        own = (reward_columns(one, reward.weights(raw.kind)) for one, raw in zip(outcomes, raws, strict=True))
    for line, kept in batch:
        if not kept:
            yield line, None
            continue
        made = next(own) if reward is not None else {"scores": {}}
        yield line, {**line.table, **made, "scores": {**made["scores"], **kept["scores"]}}


def settings_of(options: Mapping[str, Any]) -> Table:
    """What the raw scores of a command depend on: version, options, and the code of scorers named by file."""
    from medrft import __version__

    return {"medrft": __version__, **options, "code": {str(path): hash_file(path) for path in files_in(options)}}
