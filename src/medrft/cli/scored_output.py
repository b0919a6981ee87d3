"""Writes and prints what `medrft score` makes: scored rows as they come (JSON lines, Parquet), then a summary."""

from __future__ import annotations

import json
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from rich.table import Table

from medrft.cli.common import err, out, print_json
from medrft.files import replace_file
from medrft.rewards.explain import explain_row

if TYPE_CHECKING:
    from medrft.rewards import Reward
    from medrft.rewards.scored_file import Scored
    from medrft.types import Item, Scorer


class RowSink(Protocol):
    """Where scored rows go; a context at whose end, if there was no error, all of them are in the file."""

    def __enter__(self) -> RowSink: ...

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None: ...

    def add(self, number: int, row: Mapping[str, Any]) -> None:
        """Take the row in the line `number`."""


MakeSink = Callable[[IO[bytes]], RowSink]
"""Makes a sink that writes to an open file."""


class JsonLines:
    """Writes a row as a line of JSON."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file

    def __enter__(self) -> JsonLines:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self.file.flush()

    def add(self, number: int, row: Mapping[str, Any]) -> None:
        """Take a row; its line's number is not needed."""
        self.file.write(_text(row))


LISTED = 20
"""How many left-out rows are printed; a file beside the output lists them all."""


@dataclass
class Column:
    """Count and sum of one column of scores."""

    n: int = 0
    total: float = 0.0

    def add(self, value: float | None) -> None:
        """Count a score."""
        if value is not None:
            self.n += 1
            self.total += value


@dataclass
class Summary:
    """For each column of scores: n, the mean over scored rows, and how many are null."""

    rows: int = 0
    columns: dict[str, Column] = field(default_factory=dict)
    reward: Column | None = None
    left_out: int = 0

    def add(self, row: Mapping[str, Any]) -> None:
        """Count a row."""
        self.rows += 1
        for name, value in row["scores"].items():
            self.columns.setdefault(name, Column()).add(value)
        if "parts" in row and "reward" in row:
            self.reward = self.reward or Column()
            self.reward.add(row["reward"])

    def as_json(self) -> dict[str, dict[str, Any]]:
        """The columns."""
        every = {**self.columns, **({"reward": self.reward} if self.reward else {})}
        return {
            name: {"n": column.n, "mean": column.total / column.n if column.n else None, "null": self.rows - column.n}
            for name, column in every.items()
        }


class Printed:
    """Writes rows to the output file, or standard output; prints the summary at the end."""

    def __init__(
        self,
        judges: Sequence[Scorer],
        reward: Reward | None,
        *,
        output: Path | None,
        json_: bool,
        explain: bool,
        make_sink: MakeSink = JsonLines,
    ):
        self.judges, self.reward = judges, reward
        self.output, self.json, self.explain, self.make_sink = output, json_, explain, make_sink
        self.summary = Summary()

    def take(self, made: Iterator[Scored], facts: dict[str, Any]) -> None:
        """Write every row, then print the summary; it names `facts["encoder"]` if one of the scores comes from it."""
        with ExitStack() as stack:
            file = None if self.output is None and self.explain and not self.json else self._file(stack)
            with nullcontext() if file is None else self.make_sink(file) as sink:
                self._rows(made, sink, stack)
            facts |= {"rows": self.summary.rows, "columns": self.summary.as_json()}
            if not self._encoded():
                facts.pop("encoder", None)
            facts |= {"left_out": self.summary.left_out} if self.summary.left_out else {}
            if self.json:
                _print_json(facts, file if self.output is None else None)
        if not self.json:
            self._print_table(facts)

    def _file(self, stack: ExitStack) -> IO[bytes]:
        """Where rows go: the output or standard output; with `--json` a temporary file, as the summary comes first."""
        if self.output is not None:
            return stack.enter_context(replace_file(self.output))
        return stack.enter_context(tempfile.TemporaryFile()) if self.json else sys.stdout.buffer

    def _rows(self, made: Iterator[Scored], sink: RowSink | None, stack: ExitStack) -> None:
        """Write each row as it comes; rows left out are listed in `NAME.left_out.jsonl` beside the output."""
        beside = self.output and self.output.with_name(f"{self.output.stem}.left_out.jsonl")
        listed: IO[bytes] | None = None
        for line, row in made:
            if row is None:
                self.summary.left_out += 1
                if beside is not None:
                    listed = listed or stack.enter_context(replace_file(beside))
                    listed.write(_text({"line": line.number, "reason": line.reason}))
                if self.summary.left_out <= LISTED:
                    err.print(f"left out: {line.reason}", markup=False, highlight=False, soft_wrap=True)
                continue
            self.summary.add(row)
            if self.explain and line.row is not None:
                self._explain(line.row.item, row)
            if sink is not None:
                sink.add(line.number, row)
        if beside is not None and listed is None:
            beside.unlink(missing_ok=True)  # of an earlier run
        if self.summary.left_out:
            where = f"; all in {beside}" if beside else ""
            left = f"{self.summary.left_out:,} {'row' if self.summary.left_out == 1 else 'rows'}"
            err.print(f"{left} left out{where}", markup=False, highlight=False, soft_wrap=True)

    def _explain(self, item: Item, row: dict[str, Any]) -> None:
        """Add to a row why it got its scores, and print that unless `--json` is given."""
        row["why"] = explain_row(item, row, scorers=self.judges, reward=self.reward)
        if self.json:
            return
        title = f"{self.summary.rows} reference {list(item.references)!r}, answer {item.answer!r}"
        out.print(title, style="bold", markup=False, highlight=False, soft_wrap=True)
        for line in row["why"]:
            out.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)

    def _encoded(self) -> bool:
        """Whether any score is a sentence encoder's."""
        scorers: dict[str, Scorer] = {judge.name: judge for judge in self.judges}
        gates: list[Scorer] = []
        for stack in self.reward.stacks.values() if self.reward is not None else ():
            scorers |= {part.name: part.scorer for part in stack.parts}
            gates += [stack.gate.scorer] if stack.gate is not None else []
        columns = self.summary.columns
        used = [scorer for name, scorer in scorers.items() if name in columns and columns[name].n]
        return any(hasattr(getattr(scorer, "scorer", scorer), "encoder") for scorer in [*used, *gates])

    def _print_table(self, facts: Mapping[str, Any]) -> None:
        shown = {key: value for key, value in facts.items() if key != "columns"}
        table = Table(title=", ".join(f"{key}: {value}" for key, value in shown.items()), title_justify="left")
        for column in ("score", "n", "mean", "null"):
            table.add_column(column, justify="left" if column == "score" else "right")
        for name, column in facts["columns"].items():
            mean = "" if column["mean"] is None else f"{column['mean']:.4f}"
            table.add_row(name, str(column["n"]), mean, str(column["null"]))
        err.print(table)
        if self.output is not None:
            err.print(f"{self.summary.rows} rows in {self.output}")


def _text(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row, ensure_ascii=False, allow_nan=False).encode("utf-8") + b"\n"


def _print_json(facts: Mapping[str, Any], rows: IO[bytes] | None) -> None:
    """Print the summary as one JSON document; rows that are in no file stand under `scored`, copied one by one."""
    if rows is None:
        print_json(facts)
        return
    head, _, tail = json.dumps({**facts, "scored": []}, indent=2, ensure_ascii=False).rpartition("[]")
    rows.seek(0)
    sys.stdout.write(head + "[")
    for number, line in enumerate(rows):
        row = textwrap.indent(json.dumps(json.loads(line), indent=2, ensure_ascii=False), "    ", lambda _: True)
        sys.stdout.write(("," if number else "") + "\n" + row)
    sys.stdout.write("\n  ]" + tail + "\n")
