"""From a CSV, TSV, JSON or JSONL file to its rows, whatever its encoding, delimiter and shape of JSON.

[{…}, {…}]      {…}\n{…}      {"data": [{…}, {…}]}      {"train": [{…}], "test": [{…}]}      {"image": {"0": …}, …}
"""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from medrft.data.notes import count_noun
from medrft.data.tables.pictures import ENDINGS
from medrft.data.values import show_value
from medrft.errors import DataError

Values = tuple[dict[str, Any], str]
"""The values of a row and `""`, or an empty table and what is wrong with the row."""

MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks and their encodings. UTF-32's mark begins with UTF-16's, so it is tried first."""
DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}
LONGEST_CELL = 1 << 28
"""The most characters of a CSV cell: some cells hold whole images as base64."""
COLUMNS_OF_ROWS = frozenset(
    ("messages", "conversations", "conversatons", "conversation", "prompt", "images", "options")
)
"""Under these keys a list of objects is a part of one row, and not the rows of a table."""
TWICE = "\0twice"
"""The key under which an object that names a key twice records that key: `json` would silently keep the last value."""


def text_encoding(path: Path, wanted: str | None) -> str:
    """The encoding of a text file: the one wanted, else what its byte order mark says, else UTF-8.

    Raises `DataError` for an encoding that Python does not know, and for UTF-16 without a mark.
    """
    with path.open("rb") as file:
        start = file.read(64)
    marked = next((encoding for mark, encoding in MARKS if start.startswith(mark)), None)
    if wanted is None:
        if marked is None and b"\0" in start:
            raise DataError(
                f"{path} holds zero bytes, so it is not UTF-8 text; name its encoding: --set encoding=utf-16-le"
            )
        return marked or "utf-8-sig"
    try:
        known = codecs.lookup(str(wanted))
        "".encode(known.name)
    except (LookupError, ValueError) as error:
        raise DataError(f"unknown encoding {wanted!r}; such as gbk, gb18030, cp1252, utf-16, shift_jis") from error
    return "utf-8-sig" if known.name == "utf-8" else known.name


def not_text(path: Path, encoding: str, error: UnicodeError) -> DataError:
    """The error for a file that cannot be decoded; it names the option that sets another encoding."""
    where = f" ({error.reason} at byte {error.start})" if isinstance(error, UnicodeDecodeError) else f" ({error})"
    name = "UTF-8" if encoding == "utf-8-sig" else encoding
    return DataError(
        f"{path} is not {name} text{where}; name its encoding, such as --set encoding=gbk or cp1252, or save it as "
        "UTF-8"
    )


def csv_rows(path: Path, encoding: str, delimiter: str | None) -> Iterator[Values]:
    """Rows of a CSV or TSV file; raises `DataError` for a header that cannot be used, and `UnicodeError`."""
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_CELL))  # global to the module, so never lowered here
    with path.open(encoding=encoding, newline="") as file:
        lines = _Lines(file)
        mark = _delimiter(path, lines, delimiter)
        reader = csv.reader(lines, delimiter=mark)
        try:
            header = next(reader, None)
        except csv.Error as error:
            raise DataError(f"{path}: its header is not CSV ({error})") from error
        if header is None:
            return
        _check_header(path, header)
        while True:
            lines.taken = []
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:  # such as a cell over the limit; reading goes on with the next line
                yield {}, f"line {lines.number} is not CSV ({error})"
                continue
            if cells:
                yield _row(header, cells, lines, mark)


class _Lines:
    """Iterates over the lines of a file, and remembers in `taken` those that the current row was read from."""

    def __init__(self, file: Iterator[str]) -> None:
        self.file, self.taken, self.number = file, list[str](), 0
        self.waiting: list[str] = []

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self.waiting.pop(0) if self.waiting else next(self.file)
        self.number += 1
        self.taken.append(line)
        return line

    def peek(self) -> str:
        """The next line, without moving on."""
        if not self.waiting:
            self.waiting = [line for line in (next(self.file, None),) if line is not None]
        return self.waiting[0] if self.waiting else ""


def _row(header: Sequence[str], cells: Sequence[str], lines: _Lines, mark: str) -> Values:
    """The cells under their names, or a problem, such as an open quote that has swallowed the rows after it."""
    if len(lines.taken) > 1:
        # `csv` reads on to the end of the file after an open quote, and only its strict mode reports that.
        try:
            list(csv.reader(lines.taken, delimiter=mark, strict=True))
        except csv.Error as error:
            first = lines.number - len(lines.taken) + 1
            return {}, f"lines {first} to {lines.number} hang together by a quote that is not closed ({error})"
    if len(cells) > len(header) and any(cell.strip() for cell in cells[len(header) :]):
        more = count_noun(len(cells) - len(header), "more cell", "more cells")
        return {}, f"line {lines.number} has {more} than the header"
    return {name: cell for name, cell in zip(header, cells, strict=False) if name or cell}, ""


def _check_header(path: Path, header: Sequence[str]) -> None:
    names = [name.strip().lower() for name in header if name.strip()]
    twice = next((name for name in names if names.count(name) > 1), None) if len(names) < 10_000 else None
    if twice is not None:
        raise DataError(f"{path}: its header names the column {twice!r} twice; rename one of them")
    if any(name.endswith(ENDINGS) for name in names):
        raise DataError(
            f"{path} has no header: its first line is {', '.join(header)[:100]}; write the names of the columns above "
            "it, such as image,question,answer"
        )


def _delimiter(path: Path, lines: _Lines, wanted: str | None) -> str:
    """What stands between the cells: by a first line such as `sep=;`, as wanted, or the header's most frequent mark."""
    start = lines.peek().strip("\ufeff\r\n")
    if start.lower().startswith("sep=") and len(start) == 5:
        next(lines)
        return start[4]
    if wanted is not None:
        mark = DELIMITERS.get(str(wanted), str(wanted)).replace("\\t", "\t")
        if len(mark) != 1 or mark in '\r\n"':
            raise DataError(f"delimiter is one character or one of {', '.join(DELIMITERS)}, got {wanted!r}")
        return mark
    usual = "\t" if path.suffix.lower() == ".tsv" else ","
    counts = {mark: start.count(mark) for mark in (usual, ";", "\t", ",", "|")}
    best = max(counts, key=lambda mark: counts[mark])
    return best if counts[best] else usual


def json_rows(path: Path, encoding: str) -> Iterator[Values]:
    """Rows of a JSON or JSONL file, whichever of the two it is called; raises `DataError` or `UnicodeError`."""
    with path.open(encoding=encoding) as file:
        first = next((line for line in file if line.strip()), "")
        alone = not any(line.strip() for line in file)
    lines = path.suffix.lower() != ".json"
    if not alone and _is_object(first):
        yield from _lines(path, encoding)
        return
    try:
        with path.open(encoding=encoding) as file:
            whole = json.load(file, object_pairs_hook=_once)
    except UnicodeError:
        raise
    except (ValueError, RecursionError) as error:
        if lines:
            yield from _lines(path, encoding)
            return
        raise DataError(f"{path} is not JSON ({error}); a table is a list of rows, or one row a line") from error
    if lines and not isinstance(whole, dict) and not (isinstance(whole, list) and whole and isinstance(whole[0], dict)):
        yield from _lines(path, encoding)
        return
    yield from map(_object, _table(path, whole))


def _lines(path: Path, encoding: str) -> Iterator[Values]:
    with path.open(encoding=encoding) as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                yield _object(json.loads(line, object_pairs_hook=_once))
            except (ValueError, RecursionError) as error:  # also for thousands of digits or of open brackets
                yield {}, f"line {number} is not JSON ({getattr(error, 'msg', None) or error})"


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _table(path: Path, whole: Any) -> Sequence[Any]:
    """The rows of a JSON document; raises `DataError` if it holds none, or several lists that could be the rows."""
    if isinstance(whole, list):
        return whole
    if not isinstance(whole, dict) or not whole:
        raise DataError(f"{path} holds a JSON {type(whole).__name__}; a table is a list of rows")
    lists = [key for key, value in whole.items() if _is_rows(value) and key not in COLUMNS_OF_ROWS]
    if len(lists) == 1:
        rows: list[Any] = whole[lists[0]]
        return rows
    if len(lists) > 1:
        raise DataError(
            f"{path} holds several lists of rows ({', '.join(lists)[:200]}); save each as a file of its own"
        )
    if all(isinstance(value, dict) for value in whole.values()):
        return _turned(path, whole)
    return [whole]  # the document is one row


def _turned(path: Path, whole: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of an object of columns, as pandas' `to_json` writes it (`{"image": {"0": …}}`), or of rows by their id."""
    first, *others = whole.values()
    if first and not any(isinstance(value, dict | list) for value in first.values()):
        if all(list(other) == list(first) for other in others) and all(key.isdigit() for key in first):
            return [{name: cells[key] for name, cells in whole.items()} for key in first]
        return [{"id": name, **row} for name, row in whole.items()]
    raise DataError(f"{path} holds a JSON dict of {len(whole):,} tables; a table is a list of rows")


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object as a table; if it, or an object within objects of it, names a key twice, `TWICE` says which."""
    table = dict(pairs)
    if len(table) < len(pairs):
        keys = [key for key, _ in pairs]
        table[TWICE] = next(key for key in keys if keys.count(key) > 1)
    else:
        inner = next((value[TWICE] for value in table.values() if isinstance(value, dict) and TWICE in value), None)
        if inner is not None:
            table[TWICE] = inner
    return table


def _object(row: Any) -> Values:
    if not isinstance(row, dict):
        return {}, f"got {type(row).__name__} {show_value(row, 60)}, not an object"
    if TWICE in row:
        return {}, f"{show_value(row[TWICE], 60)} stands twice in one object"
    return row, ""
