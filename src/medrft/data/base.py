"""What every loader shares: rows go in one by one, as examples or as reasons to leave them out, and `Loaded` comes out.

A loader makes a `Reading`, calls `keep` or `leave` for each row, and returns `reading.done()`. Images are checked in
`done`, once per file: a broken image leaves out the rows that use it, and the load goes on.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from medrft.data.counts import Count, Form, compare_counts
from medrft.data.images import inspect_images
from medrft.data.notes import count_noun, split_notes
from medrft.data.values import LONGEST, is_small, is_unicode, json_value, writable_text
from medrft.progress import Advance
from medrft.types import Example, LeftOut, LoadReport

EMPTY_ANSWER = "empty answer"
EMPTY_QUESTION = "empty question"
MISSING_COLUMN = "missing column"
NOT_A_ROW = "not a row"
NOT_AN_OPTION = "answer is not among the options"
NOT_TEXT = "answer is not text"
NOT_UNICODE = "text that is not Unicode"
QUESTION_NOT_TEXT = "question is not text"
NO_IMAGE = "no image named"
NO_SPLIT = "unknown split"
REPEATED_ID = "repeated id"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """The examples of a data set and the report on how they were read."""

    examples: tuple[Example, ...]
    report: LoadReport
    split_by: str | None = None
    """A metadata key, or `dataset`: the report then counts each split once per value (`train_en`, `train_zh`)."""
    counts: tuple[Count, ...] = ()
    """The rows read per official split beside the published number; empty for data without published counts."""

    def split(self, name: str) -> tuple[Example, ...]:
        """The examples of `train`, `validation` or `test`."""
        return tuple(example for example in self.examples if example.split == name)

    def reported(self, example: Example) -> str:
        """The name of an example's split in the report."""
        return report_split(example, self.split_by)

    def groups(self) -> dict[str, list[Example]]:
        """Examples by their split's name in the report, in the report's order."""
        groups: dict[str, list[Example]] = {name: [] for name in self.report.read}
        for example in self.examples:
            groups.setdefault(self.reported(example), []).append(example)
        return groups


def report_split(example: Example, split_by: str | None) -> str:
    """`train`, or `train_en` where the report counts by a metadata key."""
    if split_by is None:
        return example.split
    return f"{example.split}_{example.dataset if split_by == 'dataset' else example.metadata[split_by]}"


@dataclass(slots=True)
class Reading:
    """Collects what a loader reads, one call per row."""

    dataset: str
    splits: tuple[str, ...] = ()
    """Splits in the report's order; each is listed even if it has no row."""
    split_by: str | None = None
    forms: tuple[Form, ...] = ()
    """Published counts: first those of the form being read, then of other forms that the folder may hold instead."""
    notes: list[str] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    converted: list[str] = field(default_factory=list)
    """Rows whose answer was a number and was read as text."""

    def keep(self, example: Example) -> None:
        """Add a row that became an example, with its metadata made into what strict JSON can hold."""
        texts = (example.id, example.question, *example.references, *example.options, example.rationale or "")
        if all(map(is_unicode, texts)):
            self.examples.append(replace(example, metadata=json_value(example.metadata)))
        else:
            self.leave(example.id, report_split(example, self.split_by), NOT_UNICODE, "a lone half of a surrogate pair")

    def leave(self, row: str, split: str, reason: str, detail: str = "") -> None:
        """Add a row that could not be used, with its reason; `split` is the report's name for the split."""
        texts = {"row": row, "split": split, "detail": detail}
        self.left_out.append(
            LeftOut(reason=reason, **{key: writable_text(text, LONGEST) for key, text in texts.items()})
        )

    def done(self, on_progress: Advance | None = None) -> Loaded:
        """Check images and ids, leave out the rows that fail, count, and note which images the splits share."""
        read = Counter(dict.fromkeys(self.splits, 0))
        read.update(report_split(example, self.split_by) for example in self.examples)
        read.update(row.split for row in self.left_out)  # before the checks below, which leave more rows out
        kept = self._checked(on_progress)
        counts = Counter(report_split(example, self.split_by) for example in kept)
        loaded = Loaded(
            examples=tuple(kept),
            report=LoadReport(
                dataset=self.dataset,
                read=dict(read),
                kept={split: counts[split] for split in read},
                left_out=tuple(self.left_out),
            ),
            split_by=self.split_by,
            counts=compare_counts(self.forms, read=read, kept=counts, left_out=self.left_out),
        )
        notes = (*self.notes, *self._conversions(), *split_notes(loaded.groups()))
        return replace(loaded, report=replace(loaded.report, notes=notes))

    def _checked(self, on_progress: Advance | None) -> list[Example]:
        bad = inspect_images((path for example in self.examples for path in example.images), on_progress=on_progress)
        seen: set[str] = set()
        kept = []
        for example in self.examples:
            wrong = next((bad[path] for path in example.images if path in bad), None)
            if wrong is None and example.id in seen:
                wrong = (REPEATED_ID, "an earlier row has this id")
            if wrong is None:
                seen.add(example.id)
                kept.append(example)
            else:
                self.leave(example.id, report_split(example, self.split_by), *wrong)
        return kept

    def _conversions(self) -> list[str]:
        if not self.converted:
            return []
        more = f" and {len(self.converted) - 5} more" if len(self.converted) > 5 else ""
        rows = ", ".join(self.converted[:5]) + more
        return [
            f"{count_noun(len(self.converted), 'answer was a number', 'answers were numbers')}, read as text: {rows}"
        ]


class RowError(Exception):
    """A row that is not kept: `reason` is one of the phrases above, `detail` is what is particular to this row."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


def one_line(value: object) -> str:
    """Text with its white space trimmed and collapsed; `""` for `None`, and for lists, tables and bytes.

    >>> one_line("  Heart\\n size "), one_line(["Heart"])
    ('Heart size', '')
    """
    if value is None or isinstance(value, Mapping | list | tuple | set | frozenset | bytes):
        return ""
    return "" if isinstance(value, int) and not is_small(value) else " ".join(str(value).split())


def answer_text(value: object) -> str | None:
    """A question or an answer as text, a number without its `.0`; `None` for tables, lists, truth values and infinity.

    >>> answer_text(12), answer_text(4.0), answer_text(" Yes "), answer_text(None), answer_text(True)
    ('12', '4', 'Yes', '', None)
    """
    if isinstance(value, bool) or not (value is None or isinstance(value, str | int | float)):
        return None
    if isinstance(value, float):
        return "" if value != value else f"{value:.10g}" if math.isfinite(value) else None
    return None if isinstance(value, int) and not is_small(value) else one_line(value)


def is_number(value: object) -> bool:
    """Whether an answer came as a number and not as text."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def without_nulls(row: dict[str, Any], nulls: tuple[str, ...] = ()) -> dict[str, Any]:
    """Official fields for metadata: text is trimmed, and a text listed in `nulls` becomes `None`."""
    trimmed = {key: one_line(value) if isinstance(value, str) else value for key, value in row.items()}
    return {key: None if isinstance(value, str) and value in nulls else value for key, value in trimmed.items()}


def first_existing(folder: Path, *names: str) -> Path | None:
    """The first of some names that exists in a folder."""
    return next((folder / name for name in names if (folder / name).exists()), None)
