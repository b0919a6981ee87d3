"""The clinical scorer's reasons for its score of an open answer, short enough for a row of `predictions.jsonl`.

    {"contradiction": true, "route": "findings", "reference": "left pleural effusion",
     "matched": ["finding: fluid", "anatomy: pleura"], "clashed": ["side: left / right"]}

`medrft score --explain` prints the same at full length.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from medrft.scorers.base import has_readable_answer
from medrft.scorers.clinical import Explanation, explain_best
from medrft.scorers.clinical.lexicon import Lexicon
from medrft.types import Item

MOST = 6
"""Entries kept of each list."""
WIDTH = 120
"""Characters kept of each entry."""


def explanation_of(item: Item, lexicon: Lexicon | None = None) -> dict[str, Any]:
    """What in the answer matched, clashed, was missing, or said less or more than the reference that scores best.

    Empty for closed and choice questions and where no answer can be read. Empty lists are left out.
    """
    if item.kind != "open" or item.answer is None or not has_readable_answer(item):
        return {}
    found = explain_best(item.references, item.answer, item.question, lexicon)
    lists: dict[str, list[str]] = {"matched": [], "close": [], "less": [], "more": [], "clashed": [], "missing": []}
    for group, text in _entries(found):
        lists[group].append(_cut(text))
    lists["also"] = [_cut(text) for text in found.extra]
    return {
        "contradiction": found.contradiction,
        "route": found.route,
        "reference": _cut(found.reference),
        **{group: texts[:MOST] for group, texts in lists.items() if texts},
    }


def _entries(found: Explanation) -> Iterator[tuple[str, str]]:
    """Each facet of each finding of the reference, with the list it belongs to."""
    groups = {"same": "matched", "near": "close", "less": "less", "more": "more", "clash": "clashed"}
    for finding in found.findings:
        if finding.candidate is None:
            yield "missing", finding.reference
        elif finding.contradicted and not any(line.verdict == "clash" for line in finding.facets):
            yield "clashed", f"{finding.reference} / {finding.candidate}"
        for line in finding.facets:
            both = line.reference if line.verdict == "same" else f"{_said(line.reference)} / {_said(line.candidate)}"
            yield groups[line.verdict], f"{line.facet}: {both}"


def _said(text: str) -> str:
    return text or "not said"


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"
