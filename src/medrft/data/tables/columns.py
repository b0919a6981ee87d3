"""From the names of a table's columns to their roles: the column that the user mapped, else the first usual name.

Names are compared without case and outer space, and `_`, `-` and space are the same: `"Image Path "` is `image_path`.
Options may have a column each (`A`, `B`, …; `option_1`, `option_2`, …), and so may images (`image_1`, `image_2`, …).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medrft.data.values import DEEPEST
from medrft.errors import DataError, unknown_name

USUAL: dict[str, tuple[str, ...]] = {
    "id": ("id", "qid", "question_id", "index"),
    "image": (
        *("image", "images", "image_path", "img_path", "img_name", "image_name", "file_name"),
        *("img", "image_file", "figure_path", "filename"),
    ),
    "question": ("question", "problem", "query", "question_text"),
    "answer": (
        *("answer", "answers", "reference", "references", "gt_answer", "label"),
        *("ground_truth", "correct_answer", "response", "answer_label", "answer_idx", "answer_index", "cop"),
    ),
    "options": ("options", "choices", "option", "options_list", "answer_choices", "opts"),
    "rationale": ("rationale", "reasoning", "cot"),
    "split": ("split",),
    "modality": ("modality", "modality_type"),
    "organ": ("organ", "body_part", "location"),
    "question_type": ("question_type", "content_type"),
    "window": (),
    "frame": (),
    "slice": (),
}
VIEW_ROLES = ("window", "frame", "slice")
"""How a row's medical image is shown. Only mapped columns play these roles: other tables mean other things by them."""
NEEDED = ("image", "question", "answer")
OPTION = re.compile(r"(?:(?:option|choice|opt|op|ans|answer) ?)?([a-j]|[0-9]|10)")
IMAGE = re.compile(r"(?:image|img|image path|img path) ?([0-9]{1,2})")
MOST = 1_000
"""The first so many columns are looked at by their usual names; those after them must be mapped."""


class Absent:
    """The value of a role for which the row has no column, as opposed to an empty cell."""


ABSENT = Absent()


def check_columns(columns: Any) -> None:
    """Raise for `columns` that are no table of roles, and for a role that a table does not have."""
    if not isinstance(columns, Mapping):
        raise DataError(
            f"columns names the column of each role, such as columns.image={columns if columns else 'file'}; roles: "
            f"{', '.join(USUAL)}"
        )
    for role in columns:
        if role not in USUAL:
            raise unknown_name("role in columns of table", role, USUAL)


@dataclass(frozen=True, slots=True)
class Roles:
    """The columns of one header that play a role."""

    one: Mapping[str, str]
    """Roles that one column plays."""
    several: Mapping[str, tuple[str, ...]]
    """`image` and `options` that are spread over columns."""

    def columns(self, role: str) -> tuple[str, ...]:
        """The columns of a role."""
        return self.several.get(role) or ((self.one[role],) if role in self.one else ())


class Columns:
    """The roles of a table's columns under a map that the user gave (`{"image": "file", "options": ["A", "B"]}`)."""

    def __init__(self, mapped: Mapping[str, Any]) -> None:
        self.mapped = dict(mapped)
        self.roles = functools.lru_cache(maxsize=1_000)(self._roles)  # one header for most tables, a few for others

    def of(self, row: Mapping[str, Any]) -> Roles:
        """The roles of a row's columns."""
        return self.roles(tuple(row))

    def value(self, role: str, row: Mapping[str, Any], roles: Roles) -> Any:
        """The row's value in a role. If several columns play it: a table by column for options, a list for images."""
        if role in roles.several:
            names = roles.several[role]
            if role == "options":
                return {name: row[name] for name in names}
            return [row[name] for name in names if row[name] not in (None, "")] or ABSENT
        name = roles.one.get(role)
        return row[name] if name is not None else ABSENT

    def wanted(self, role: str) -> str:
        """The role and the names that were looked for, for an error message."""
        if self.mapped.get(role) is None:
            return f"{role} (none of {', '.join(USUAL[role])}; map it with columns.{role}=NAME)"
        return f"{role} (columns.{role} is {self.mapped[role]!r})"

    def _roles(self, names: tuple[str, ...]) -> Roles:
        spelled: dict[str, str] = {}
        for name in names[:MOST]:
            spelled.setdefault(plain_spelling(name), name)
        known = set(names)

        def found(wanted: str) -> str | None:
            return wanted if wanted in known else spelled.get(plain_spelling(wanted))

        one: dict[str, str] = {}
        several: dict[str, tuple[str, ...]] = {}
        for role, usual in USUAL.items():
            mapped = self.mapped.get(role)
            if role in self.mapped and not mapped:
                continue  # mapped to nothing: the user says that no column plays it
            if isinstance(mapped, Sequence) and not isinstance(mapped, str):
                several[role] = tuple(filter(None, (found(str(wanted)) for wanted in mapped)))
            elif (column := next(filter(None, map(found, (mapped,) if mapped else usual)), None)) is not None:
                one[role] = column
        for role, pattern in (("options", OPTION), ("image", IMAGE)):
            if role not in one and role not in self.mapped and (run := _numbered(spelled, pattern, role)):
                several[role] = run
        return Roles(one, {role: columns for role, columns in several.items() if columns})


def _numbered(spelled: Mapping[str, str], pattern: re.Pattern[str], role: str) -> tuple[str, ...]:
    """Columns numbered or lettered without a gap from the first on: at least two options, or one image."""
    runs: dict[str, dict[str, str]] = {}
    for words, name in spelled.items():
        match = pattern.fullmatch(words) if len(words) < 20 else None
        if match and (words != match[1] or name.strip().isupper()):  # a bare letter is an option only as a capital
            runs.setdefault(words.removesuffix(match[1]), {})[match[1]] = name
    for run in runs.values():
        for marks in ("abcdefghij", [str(n) for n in range(1, 100)], [str(n) for n in range(100)]):
            length = next((i for i, mark in enumerate(marks) if mark not in run), len(marks))
            if length >= (2 if role == "options" else 1):
                return tuple(run[mark] for mark in marks[:length])
    return ()


def metadata_of_row(row: Mapping[str, Any], values: Mapping[str, Any], roles: Roles) -> dict[str, Any]:
    """The columns without a role, and modality, organ and question type under these three names."""
    used = {column for role in ("id", "image", "question", "rationale") for column in roles.columns(role)}
    rest = {key: value for key, value in row.items() if key not in used and not _holds_bytes(value)}
    named = {role: values[role] for role in ("modality", "organ", "question_type")}
    return {**rest, **{role: value for role, value in named.items() if value is not ABSENT}}


@functools.lru_cache(maxsize=10_000)
def plain_spelling(name: str) -> str:
    """A column's name in lower case, without outer space, and with a space for `_` and `-`.

    >>> plain_spelling(" Image-Path "), plain_spelling("optionA"), plain_spelling("Choice_1")
    ('image path', 'optiona', 'choice 1')
    """
    return " ".join(str(name).replace("\ufeff", "").replace("_", " ").replace("-", " ").lower().split())


def _holds_bytes(value: Any, depth: int = DEEPEST) -> bool:
    if not depth or not isinstance(value, Mapping | list):
        return isinstance(value, bytes)
    return any(_holds_bytes(inner, depth - 1) for inner in (value.values() if isinstance(value, Mapping) else value))
