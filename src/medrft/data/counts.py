"""Published row counts beside the rows that were read: a split that differs gets its likely cause in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from medrft.data.images import MISSING
from medrft.types import LeftOut


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """One published form of a data set with its rows per split, named as the report names them."""

    name: str
    """For a person to read, such as `the official release` or `the hub copy`."""
    rows: Mapping[str, int]
    images: str = "the image archives are not all unpacked, or the download stopped early"
    """The likely cause if rows lack their image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """The rows read of one split beside the published number; `cause` is empty if nothing is wrong."""

    split: str
    form: str
    expected: int
    read: int
    kept: int
    cause: str = ""


def compare_counts(
    forms: Sequence[Form], *, read: Mapping[str, int], kept: Mapping[str, int], left_out: Iterable[LeftOut]
) -> tuple[Count, ...]:
    """One count for each split of the form that was read (the first of `forms`), with a likely cause if it differs."""
    if not forms:
        return ()
    missing = Counter(row.split for row in left_out if row.reason == MISSING)
    found = {split: read.get(split, 0) for split in forms[0].rows}
    return tuple(
        Count(
            split=split,
            form=forms[0].name,
            expected=expected,
            read=found[split],
            kept=kept.get(split, 0),
            cause=_cause(forms, split, found=found, missing=missing[split]),
        )
        for split, expected in forms[0].rows.items()
    )


def _cause(forms: Sequence[Form], split: str, *, found: Mapping[str, int], missing: int) -> str:
    form, others = forms[0], forms[1:]
    rows, expected = found[split], form.rows[split]
    if rows == expected:
        return f"{missing:,} of its rows lack their image: {form.images}" if missing else ""
    same = next((other for other in others if other.rows.get(split) == rows), None)
    if same is not None:
        return f"that is the count of {same.name}"
    if rows == 0:
        return "its file or folder is not there, or holds no row: a partial download"
    if rows < expected:
        return f"{expected - rows:,} rows are not there: a partial download, a cut file, or a copy that was filtered"
    return f"{rows - expected:,} rows too many: another version, or files of two versions in one folder"
