"""The rows that `medrft score` reads: JSON lines, a Parquet file, or one pair; whole, or one shard of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from medrft.errors import DataError, UserError
from medrft.files import hash_file
from medrft.rewards.parquet_rows import count_rows, read_tables
from medrft.rewards.rows import Row, read_row
from medrft.rewards.shards import Shard, group_in
from medrft.types import Form

Table = dict[str, Any]

PARQUET = ".parquet"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the input: a row, or the reason why it cannot be scored."""

    number: int
    table: Table = field(default_factory=dict)
    row: Row | None = None
    reason: str = ""


@dataclass(frozen=True)
class Rows:
    """The rows to score: those of a file, or the single row `pair`."""

    path: Path | None
    form: Form
    pair: Table | None = None
    shard: Shard | None = None
    columns: tuple[str, ...] | None = None
    """The columns that are read from a Parquet file; `None` for all."""

    @property
    def is_parquet(self) -> bool:
        """Whether they are in a Parquet file, going by its name."""
        return self.path is not None and self.path.suffix == PARQUET

    def __iter__(self) -> Iterator[Line]:
        """Every line that is not blank (and in the shard), in order."""
        if self.path is None:
            yield _line(1, json.dumps(self.pair).encode(), self.form, "the pair")
        elif self.is_parquet:
            for number, table in read_tables(self.path, columns=self.columns, shard=self.shard):
                yield _line(number, table, self.form, f"{self.path}, row {number}")
        else:
            for number, content in self._contents(self.path):
                yield _line(number, content, self.form, f"{self.path}, line {number}")

    def whole(self) -> Rows:
        """The rows of all shards."""
        return replace(self, shard=None)

    def identity(self) -> Table:
        """A hash of the file (or the pair itself), and the number of lines; for a shard, of its own."""
        if self.path is None:
            return {"pair": self.pair, "lines": 1}
        if self.is_parquet:
            lines = count_rows(self.path, shard=self.shard)
            facts: Table = {"sha256": hash_file(self.path), "lines": lines, "columns": self.columns}
        else:
            digest, lines = hashlib.sha256(), 0
            for number, content in _contents(self.path):
                digest.update(content)
                lines += self._takes(number, content)
            facts = {"sha256": digest.hexdigest(), "lines": lines}
        return {**facts, "shard": str(self.shard)} if self.shard is not None else facts

    def _contents(self, path: Path) -> Iterator[tuple[int, bytes]]:
        return ((number, content) for number, content in _contents(path) if self._takes(number, content))

    def _takes(self, number: int, content: bytes) -> bool:
        return self.shard is None or self.shard.takes(number, group_in(content))


def line_groups(path: Path) -> Iterator[tuple[int, object]]:
    """Number and group of every line that is not blank, as shards are made from them."""
    if path.suffix == PARQUET:
        for number, table in read_tables(path, columns=("group",)):
            yield number, (table or {}).get("group")
    else:
        for number, content in _contents(path):
            yield number, group_in(content)


def _contents(path: Path) -> Iterator[tuple[int, bytes]]:
    """Number and content of each line that is not blank."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            content = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line  # the byte order mark of Windows
            if content.strip():
                yield number, content


def _line(number: int, content: bytes | Table | None, form: Form, where: str) -> Line:
    """A line as a row; one that is not JSON, not UTF-8 or not a row for scorers has the reason instead.

    `content` is `None` for a row of a Parquet file whose text is not UTF-8.
    """
    try:
        if content is None:
            return Line(number, reason=f"{where}: not UTF-8")
        table = _parsed(content) if isinstance(content, bytes) else content
        if not isinstance(table, dict):
            raise DataError(f"{where}: expected an object, got {type(table).__name__}")
        json.dumps(table, ensure_ascii=False, allow_nan=False).encode("utf-8")  # it can be written back
        return Line(number, table, read_row(table, where=where, form=form))
    except UserError as error:
        return Line(number, reason=str(error))
    except json.JSONDecodeError as error:
        return Line(number, reason=f"{where}: not JSON ({error.msg})")
    except UnicodeDecodeError:
        return Line(number, reason=f"{where}: not UTF-8")
    except UnicodeEncodeError:
        return Line(number, reason=f"{where}: half of a character (a lone surrogate), which UTF-8 cannot hold")
    except RecursionError:
        return Line(number, reason=f"{where}: brackets nested too deep")
    except (ValueError, TypeError) as error:
        return Line(number, reason=f"{where}: {' '.join(str(error).split())[:200]}")


def _parsed(content: bytes) -> Any:
    return json.loads(content.decode("utf-8"), parse_constant=_no_number, parse_float=_finite)


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON's")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:40]} is too large a number")
    return number
