"""From unchecked values of rows to one short line for a message, or to what strict JSON can hold.

A pickle of a few bytes can hold a list that repeats itself into billions of elements, and JSON may be nested to any
depth. So every function here stops after a fixed number of steps.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterator, Mapping
from decimal import Decimal
from itertools import islice
from typing import Any

from medrft.text import whole_characters

DEEPEST = 8
"""The most levels of nesting that metadata keep."""
LARGEST = 10_000
"""The most values that one field of metadata keeps."""
LONGEST = 300
"""The most characters of a row's id, and of a reason's detail, in the list of rows left out."""
DIGITS = 1_024
"""A whole number of more bits is taken for a mistake and not written out: Python refuses to print very long ones."""
CUT = "…"
PLAIN = (str, int, float, bool, bytes, type(None))
MISSING = ("NAType", "NaTType")
"""Names of the types of pandas' missing values: compared by name, so that pandas need not be imported."""


class _Brief(reprlib.Repr):
    """A `repr` that looks only at the first few elements."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother = 2, 80, 80
        self.maxdict = self.maxlist = self.maxtuple = self.maxset = 4

    def repr_int(self, x: int, level: int) -> str:
        return repr(x) if is_small(x) else f"a number of {x.bit_length()} bits"


_BRIEF = _Brief()


def is_small(number: int) -> bool:
    """Whether a whole number is short enough to be written out."""
    return number.bit_length() <= DIGITS


def show_value(value: object, limit: int = 80) -> str:
    """Any value in at most `limit` characters of one line.

    >>> show_value({"answer": ["yes"]}), show_value([[[[1]]]]), show_value("x" * 200, 12)
    ("{'answer': ['yes']}", '[[[...]]]', "'xxxxxxxxxxx")
    """
    text = _BRIEF.repr(value)
    if isinstance(value, str):
        text = repr(value[:limit])
    return " ".join(text.split())[:limit]


def native_value(value: Any, depth: int = DEEPEST) -> Any:
    """A value of NumPy, pandas or `decimal` as Python's own type; any other value as it is.

    >>> native_value(Decimal("2.0")), native_value([Decimal("0.5")])
    (2, [0.5])
    """
    if type(value) in PLAIN or not depth:
        return value
    if type(value) is list or type(value) is tuple:
        return [native_value(inner, depth - 1) for inner in value]
    if type(value) is dict:
        return {key: native_value(inner, depth - 1) for key, inner in value.items()}
    if isinstance(value, Decimal):
        if not value.is_finite():
            return None
        return int(value) if value == value.to_integral_value() and abs(value) < 2**DIGITS else float(value)
    if hasattr(value, "tolist") and not isinstance(value, str | bytes):  # an array, or one of its numbers
        return native_value(value.tolist(), depth - 1)
    return None if type(value).__name__ in MISSING else value


def is_unicode(text: str) -> bool:
    """Whether text can be written as UTF-8: no lone half of a surrogate pair.

    >>> is_unicode("Ω"), is_unicode("\\ud800")
    (True, False)
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def writable_text(text: str, limit: int | None = None) -> str:
    """Text that can be written as UTF-8, cut to `limit` characters."""
    kept = text if limit is None or len(text) <= limit else text[: limit - 1] + CUT
    return whole_characters(kept)


def json_value(value: Any) -> Any:
    """A value that strict JSON can hold: NaN, infinities and bytes as `None`, dates and the like as text.

    Where it is nested deeper than `DEEPEST`, or has more parts than `LARGEST`, `…` stands for the rest.
    """
    return _plain(value, DEEPEST, [LARGEST])


def _plain(value: Any, depth: int, left: list[int]) -> Any:
    left[0] -= 1
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return writable_text(value)
    if isinstance(value, int):
        return value if is_small(value) else show_value(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes | bytearray):
        return None
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        return _parts(value, depth - 1, left) if depth and left[0] > 0 else CUT
    return writable_text(str(value), LONGEST)


def _parts(value: Any, depth: int, left: list[int]) -> Any:
    if isinstance(value, Mapping):
        pairs = islice(value.items(), max(0, left[0]))
        return {_key(key): _plain(inner, depth, left) for key, inner in pairs}
    return list(_listed(value, depth, left))


def _listed(values: Any, depth: int, left: list[int]) -> Iterator[Any]:
    for inner in values:
        if left[0] <= 0:
            yield CUT
            return
        yield _plain(inner, depth, left)


def _key(key: object) -> str:
    return writable_text(key) if isinstance(key, str) else show_value(key)
