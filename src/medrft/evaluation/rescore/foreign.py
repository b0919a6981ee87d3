"""What every reader of another evaluator's files returns (`Foreign`), and the parsing that the readers share.

`Foreign` holds the evaluator's rows, its figures, and what could not be read. The files are by others, so any value may
have any type: the parsers below return `None` or nothing where it is not the expected one.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from medrft.errors import DataError
from medrft.text import whole_characters
from medrft.types import LeftOut

Row = Mapping[str, Any]

WRITERS = {".eval": "inspect-ai", ".xlsx": "vlmevalkit"}
"""Endings that only one evaluator's files have; rows under other endings may be anybody's."""
SPLITS = {"val": "validation", "validate": "validation", "dev": "validation"}
LONGEST_NAME = 256
"""A longer text in place of an image's name is the image itself, in base64."""
OPTION = re.compile(r"^\s*\(?([A-Z])[).:]\s*(\S.*?)\s*$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Answered:
    """One answer as another evaluator recorded it."""

    id: str
    dataset: str
    split: str
    question: str
    references: tuple[str, ...]
    output: str
    """The model's whole text."""
    said: str | None = None
    """Its answer, where their prompt asks for it in a form of its own; else it is read from `output`."""
    options: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    """Names, paths or hashes of its images; empty where the file gives none."""
    sample: int = 0
    theirs: float | None = None
    """Their own mark of this answer, in [0, 1]."""
    how: tuple[str, str] | None = None
    """Why they mark it so, where that is known: a kind of reason, and details of the case."""
    rule: bool | None = None
    """The mark by their rule, computed again by us; differs from `theirs` where a judge decided."""
    values: Mapping[str, float] = field(default_factory=dict)
    """Their other scores of this answer, by our names of the metrics."""
    sets: tuple[str, ...] = ()
    """The sets of rows that it is counted in, by their names."""
    n_tokens: int | None = None
    truncated: bool | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One number that they report, the rows that it covers, and reasons for it that no single row shows."""

    dataset: str
    name: str
    """As their file has it."""
    value: float
    rows: str
    """The set of rows, one of `Answered.sets`; empty for all rows of the data set."""
    metric: str = "right"
    """Our metric to compare it with: `right` (match or exact match), or the name of a scorer."""
    reasons: tuple[str, ...] = ()
    """Reasons found by computing their number again from their rows."""


@dataclass(frozen=True, kw_only=True)
class Foreign:
    """All that was read from the files of one evaluation by another evaluator."""

    evaluator: str
    rows: tuple[Answered, ...]
    figures: tuple[Figure, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()


def split_of(text: object) -> str:
    """Our name of a split.

    >>> split_of("val"), split_of("TEST"), split_of(None)
    ('validation', 'test', 'test')
    """
    name = str(text or "test").strip().lower()
    return SPLITS.get(name, name)


def text_of(value: object) -> str | None:
    """A string, or a number as one; `None` for anything else.

    >>> text_of("x"), text_of(3), text_of(True), text_of(None)
    ('x', '3', None, None)
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else None


def texts_of(value: object) -> tuple[str, ...]:
    """A text or a list of texts; empty for anything else."""
    values = value if isinstance(value, list | tuple) else [value]
    texts = [text_of(one) for one in values]
    return tuple(text for text in texts if text is not None and text.strip())


def mark_of(value: object) -> float | None:
    """A mark in [0, 1] from true, false or a number; `None` for anything else."""
    if isinstance(value, bool | int | float) and 0 <= value <= 1:
        return float(value)
    return None


def options_of(value: object) -> tuple[str, ...]:
    """Options in order, from a list, a table by letter, or either as JSON.

    >>> options_of({"B": "MRI", "A": "CT"}), options_of('["CT", "MRI"]'), options_of(None)
    (('CT', 'MRI'), ('CT', 'MRI'), ())
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return ()
    if isinstance(value, Mapping):
        value = [value[letter] for letter in sorted(value)]
    return texts_of(value) if isinstance(value, list) else ()


def options_in(prompt: str) -> tuple[str, ...]:
    """Options that a prompt lists line by line, (A) first; empty where it lists none.

    >>> options_in("Which plane?\\nA. axial\\nB. coronal\\nAnswer with the letter.")
    ('axial', 'coronal')
    """
    found: list[str] = []
    for letter, text in OPTION.findall(prompt):
        if letter == ascii_uppercase[len(found) % 26]:
            found.append(text)
    return tuple(found) if len(found) > 1 else ()


def clean_texts(value: Any) -> Any:
    """JSON values whose texts can be written: half characters (lone surrogates) are replaced.

    >>> clean_texts({"a": ["left \\ud800"]})
    {'a': ['left ?']}
    """
    if isinstance(value, str):
        return whole_characters(value)
    if isinstance(value, list):
        return [clean_texts(one) for one in value]
    return {clean_texts(key): clean_texts(one) for key, one in value.items()} if isinstance(value, dict) else value


def table_of(value: object) -> Mapping[str, Any]:
    """A JSON object as it is; an empty one for anything else."""
    return value if isinstance(value, Mapping) else {}


def number_of(value: object) -> float | None:
    """A finite number, also one written as text, as in a CSV file; `None` for anything else.

    >>> number_of(0.5), number_of("66.7"), number_of(True), number_of(float("nan")), number_of("N/A")
    (0.5, 66.7, None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def image_ids(value: object) -> tuple[str, ...]:
    """Names for the images of a row: names and paths as they are, a whole image as the SHA-256 of its text.

    >>> image_ids(["a.png", {"bytes": None, "path": "b.png"}]), len(image_ids("iVBORw0" * 99)[0]), image_ids(None)
    (('a.png', 'b.png'), 64, ())
    """
    values = value if isinstance(value, list) else [value]
    texts = texts_of([one.get("path") or one.get("bytes") if isinstance(one, Mapping) else one for one in values])
    return tuple(text if len(text) <= LONGEST_NAME else hashlib.sha256(text.encode()).hexdigest() for text in texts)


def read_json(path: Path) -> Any:
    """The JSON of a file by others, with lone surrogates replaced; raises `DataError` where it is not JSON."""
    try:
        return clean_texts(json.loads(path.read_text(encoding="utf-8", errors="replace")))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON ({' '.join(str(error).split())[:100]})") from error


def read_lines(path: Path) -> list[tuple[int, Any]]:
    """Values of a JSONL file with their line numbers; a line that is not JSON, or not UTF-8, is `None`."""
    found = []
    # By bytes: a text may hold a character that `splitlines` takes for the end of a line.
    for number, line in enumerate(path.read_bytes().removeprefix(codecs.BOM_UTF8).split(b"\n"), 1):
        if line.strip():
            try:
                found.append((number, clean_texts(json.loads(line.decode("utf-8")))))
            except (ValueError, RecursionError):
                found.append((number, None))
    return found


def left_out(row: str, split: str, reason: str, detail: object = "") -> LeftOut:
    """The record of a row that could not be read, with its first 200 characters."""
    return LeftOut(row=row, split=split, reason=reason, detail=str(detail)[:200])


def told_apart(foreign: Foreign) -> Foreign:
    """The same evaluation with one row per id and sample.

    A repeated id is a further sample if question and references are the same; otherwise the row is left out.
    """
    questions: dict[str, tuple[str, tuple[str, ...]]] = {}
    samples: dict[str, set[int]] = {}
    kept, left = [], list(foreign.left_out)
    for row in foreign.rows:
        asked = (row.question, row.references)
        if questions.setdefault(row.id, asked) != asked:
            left.append(left_out(row.id, row.split, "the id of another question", row.question))
            continue
        taken = samples.setdefault(row.id, set())
        sample = row.sample if row.sample not in taken else max(taken) + 1
        taken.add(sample)
        kept.append(replace(row, sample=sample))
    return replace(foreign, rows=tuple(kept), left_out=tuple(left))


def needs_rows(rows: Sequence[Answered], path: Path, left: Sequence[LeftOut], wanted: str) -> None:
    """Raise `DataError` where not one row could be read."""
    if not rows:
        why = f"; the first of {len(left)} rows was left out: {left[0].reason} ({left[0].detail})" if left else ""
        raise DataError(f"no answer to rescore at {path}; expected {wanted}{why}")
