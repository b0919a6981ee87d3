"""From paired answers of two models to counts and examples of those that changed: won, lost, or otherwise wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from medrft.evaluation.metrics import RIGHT, values_of
from medrft.text import normalize
from medrft.types import KINDS

if TYPE_CHECKING:
    from medrft.evaluation.compare.sides import Pair, Row

OUTCOMES = ("wrong to right", "right to wrong", "wrong to other wrong", "both right", "both wrong alike", "unscored")
LISTED = OUTCOMES[:3]
"""Outcomes whose examples are listed."""


def changes_of(pairs: Sequence[Pair]) -> dict[str, Any]:
    """`{counts: {data set: {kind: {outcome: n}}}, examples: […]}` over all pairs, first samples only."""
    counts: dict[str, dict[str, dict[str, int]]] = {}
    examples = []
    for pair in pairs:
        a, b = pair.a[0], pair.b[0]
        outcome = outcome_of(a, b)
        kinds = counts.setdefault(pair.key[0], {})
        kinds.setdefault(pair.kind, dict.fromkeys(OUTCOMES, 0))[outcome] += 1
        if outcome in LISTED:
            examples.append(_example(pair, outcome))
    order = {kind: number for number, kind in enumerate(KINDS)}
    examples.sort(key=lambda e: (e["dataset"], order[e["kind"]], LISTED.index(e["outcome"]), e["run"], e["id"]))
    ordered = {name: {kind: kinds[kind] for kind in KINDS if kind in kinds} for name, kinds in sorted(counts.items())}
    return {"counts": ordered, "examples": examples}


def is_right(row: Row) -> bool | None:
    """Whether an answer is right by its kind's leading outcome; `None` where it is unscored."""
    values = values_of(row)
    value = next((values[name] for name in RIGHT if name in values), None)
    return None if value is None else value >= 1


def outcome_of(a: Row, b: Row) -> str:
    """Which of `OUTCOMES` holds between an answer `a` and the later answer `b`; comparisons and reports both use it."""
    before, after = is_right(a), is_right(b)
    if before is None or after is None:
        return "unscored"
    if before != after:
        return "wrong to right" if after else "right to wrong"
    if before:
        return "both right"
    same = normalize(a.get("answer") or "") == normalize(b.get("answer") or "")
    return "both wrong alike" if same else "wrong to other wrong"


def _example(pair: Pair, outcome: str) -> dict[str, Any]:
    a, b = pair.a[0], pair.b[0]
    return {
        "dataset": pair.key[0],
        "split": pair.key[1],
        "id": pair.key[2],
        "run": pair.run,
        "kind": pair.kind,
        "outcome": outcome,
        "question": a["question"],
        "references": a["references"],
        "options": a.get("options") or [],
        "images": a["images"] or b["images"],
        "a": a.get("answer"),
        "b": b.get("answer"),
        "clash_a": facet_clashes(a),
        "clash_b": facet_clashes(b),
    }


def facet_clashes(row: Row) -> list[str]:
    """The facets in which an open answer contradicts its best reference, as the clinical scorer reads them.

    >>> row = {"kind": "open", "question": "Where?", "references": ["left lung"], "answer": "right lung"}
    >>> facet_clashes(row)
    ['side: left / right']
    """
    from medrft.scorers.clinical import explain_best

    answer = row.get("answer")
    if row["kind"] != "open" or not answer:
        return []
    found = explain_best(row["references"], answer, row["question"])
    facets = [line for finding in found.findings for line in finding.facets if line.verdict == "clash"]
    told = [f"{line.facet}: {line.reference or 'not said'} / {line.candidate or 'not said'}" for line in facets]
    if not told and found.contradiction:
        told = [f"contradicts {finding.reference!r}" for finding in found.findings if finding.contradicted]
    return list(dict.fromkeys(told))
