"""From a loaded data set to its counts, as `medrft data check --json` prints them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, TypedDict

from medrft.data.base import Loaded
from medrft.data.notes import images_of
from medrft.types import KINDS, Example, Kind


class SplitSummary(TypedDict):
    """One split: `rows` = `kept` + everything in `left_out`."""

    rows: int
    kept: int
    kinds: dict[Kind, int]
    images: int
    left_out: dict[str, int]


class LeftOutRow(TypedDict):
    """One row that was left out."""

    row: str
    split: str
    reason: str
    detail: str


class Summary(TypedDict):
    """A data set; images are counted by content."""

    dataset: str
    rows: int
    kept: int
    images: int
    splits: dict[str, SplitSummary]
    reasons: dict[str, int]
    left_out: list[LeftOutRow]
    counts: list[dict[str, Any]]
    """The fields of `Count` for each official split; `cause` is empty if nothing is wrong."""
    notes: list[str]


def summarize_data(loaded: Loaded) -> Summary:
    """Rows, kinds and images per split, and each row left out with its reason."""
    report = loaded.report
    return {
        "dataset": report.dataset,
        "rows": sum(report.read.values()),
        "kept": sum(report.kept.values()),
        "images": len(images_of(loaded.examples)),
        "splits": {name: _split(name, rows, loaded) for name, rows in loaded.groups().items()},
        "reasons": dict(report.reasons().most_common()),
        "left_out": [
            {"row": row.row, "split": row.split, "reason": row.reason, "detail": row.detail} for row in report.left_out
        ],
        "counts": [asdict(count) for count in loaded.counts],
        "notes": list(report.notes),
    }


def _split(name: str, rows: Sequence[Example], loaded: Loaded) -> SplitSummary:
    kinds = Counter(example.kind for example in rows)
    reasons = Counter(row.reason for row in loaded.report.left_out if row.split == name)
    return {
        "rows": loaded.report.read[name],
        "kept": loaded.report.kept[name],
        "kinds": {kind: kinds[kind] for kind in KINDS},
        "images": len(images_of(rows)),
        "left_out": dict(reasons.most_common()),
    }
