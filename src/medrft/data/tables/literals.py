"""From the text of a cell to the list or table it spells, in JSON or as Python or NumPy print it. Nothing is evaluated.

'["CT", "MRI"]'   "['CT', 'MRI']"   "['CT' 'MRI']"   "array(['CT', 'MRI'], dtype=object)"   "{'A': 'CT', 'B': None}"
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence
from typing import Any

LONGEST = 200_000
"""A cell of more characters is not read as a list."""
WORDS: dict[str, Any] = {"nan": None, "NaN": None, "None": None, "null": None, "True": True, "true": True}
WORDS |= {"False": False, "false": False}
QUOTED = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
PART = re.compile(
    rf"\s*(?:(?P<text>{QUOTED})|(?P<word>{'|'.join(WORDS)})\b|(?P<number>[-+]?[\d.]+(?:[eE][-+]?\d+)?))\s*(?P<comma>,?)",
    re.DOTALL,
)
ARRAY = re.compile(r"(?:np\.|numpy\.)?array\((?P<inside>.*?)(?:,\s*dtype=[^()]*)?\)", re.DOTALL)
_BROKEN = (ValueError, SyntaxError, TypeError, MemoryError, RecursionError)


class TwiceError(ValueError):
    """A JSON object names one key twice."""


def parse_literal(text: str) -> Any:
    """The list or table that a text spells; raises `ValueError` for any other text.

    >>> parse_literal('["CT", "MRI"]'), parse_literal("['CT' 'MRI']"), parse_literal("{'A': 'CT', 'B': None}")
    (['CT', 'MRI'], ['CT', 'MRI'], {'A': 'CT', 'B': None})
    >>> parse_literal('["Crohn\\'s disease", \\'Normal\\']')
    ["Crohn's disease", 'Normal']
    """
    text = text.strip()
    if len(text) > LONGEST:
        raise ValueError(f"{len(text):,} characters")
    array = ARRAY.fullmatch(text)
    text = array["inside"].strip() if array else text
    if text[:1] not in tuple("[({"):
        raise ValueError("no list or table")
    try:
        return json.loads(text, object_pairs_hook=unique_keys)
    except TwiceError:
        raise
    except (ValueError, RecursionError):
        pass
    if text[0] in "[(" and text[-1:] in tuple("])"):
        found = _parts(text[1:-1])
        if found is not None:
            return found
    try:
        value = ast.literal_eval(text) if text[0] == "{" or text[:2] in ("[{", "[[", "({") else None
    except _BROKEN as error:
        raise ValueError("no list or table") from error
    if not isinstance(value, dict | list | tuple):
        raise ValueError("no list or table")
    return value


def unique_keys(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """A table whose keys are all different, as JSON's `object_pairs_hook`; raises `TwiceError`."""
    table = dict(pairs)
    if len(table) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise TwiceError(f"{twice[:60]!r} stands twice")
    return table


def _parts(inside: str) -> list[Any] | None:
    """The values of a flat list, from the text in its brackets: with commas between all, or (as NumPy prints) none."""
    found: list[Any] = []
    commas: list[bool] = []
    place = 0
    inside = inside.strip()
    while place < len(inside):
        part = PART.match(inside, place)
        if part is None:
            return None
        found.append(_value(part))
        commas.append(bool(part["comma"]))
        place = part.end()
    # With a comma missing in the middle it is neither kind: Python would join the two texts around the gap into one.
    return found if all(commas[:-1]) or not any(commas) else None


def _value(part: re.Match[str]) -> Any:
    if part["word"]:
        return WORDS[part["word"]]
    if part["number"]:
        return _number(part["number"])
    try:
        return ast.literal_eval(part["text"])
    except _BROKEN:  # a line break within quotes, a backslash that escapes nothing
        return part["text"][1:-1]


def _number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
