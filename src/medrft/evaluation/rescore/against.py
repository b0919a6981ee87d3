"""Compares another evaluator's figures with ours over the same rows, and finds in the rows why they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from medrft.evaluation.rescore.foreign import Answered, Figure, Foreign
from medrft.evaluation.rescore.mark import MATCHES
from medrft.text import normalize, part_thought, yes_no

Row = Mapping[str, Any]

DIFFERS = 5e-4
"""Figures nearer than this agree to three decimals and count as the same."""

SHOWN = 3
"""Cases shown per reason."""


def compare_figures(foreign: Foreign, marked: Sequence[Row]) -> list[dict[str, Any]]:
    """One entry per figure of theirs: data set, name, metric, theirs, ours, n, whether they differ, and why."""
    found = []
    for figure in foreign.figures:
        chosen = [
            (row, ours)
            for row, ours in zip(foreign.rows, marked, strict=True)
            if row.dataset == figure.dataset and (not figure.rows or figure.rows in row.sets)
        ]
        values = [value for _, ours in chosen if (value := value_of(ours, figure.metric)) is not None]
        mean = fmean(values) if values else None
        differs = mean is None or abs(mean - figure.value) > DIFFERS
        found.append(
            {
                "dataset": figure.dataset,
                "figure": figure.name,
                "metric": figure.metric,
                "theirs": figure.value,
                "ours": mean,
                "n": len(values),
                "differs": differs,
                "reasons": [*figure.reasons, *_row_reasons(figure, chosen)] if differs else [],
            }
        )
    return found


def value_of(row: Row, metric: str) -> float | None:
    """Our value of a row for a figure; `None` where the scorer does not concern it or could not score it."""
    name = MATCHES[row["kind"]] if metric == "right" else metric
    value = row["scores"].get(name)
    return None if value is None else float(value)


def _row_reasons(figure: Figure, chosen: Sequence[tuple[Answered, Row]]) -> list[str]:
    """Rows on which the two evaluators disagree, counted by reason, each with a few cases."""
    cases: dict[str, list[str]] = {}
    for row, ours in chosen:
        theirs = row.theirs if figure.metric == "right" else row.values.get(figure.metric)
        value = value_of(ours, figure.metric)
        if theirs is None or value is None or abs(theirs - value) <= DIFFERS:
            continue
        reason, case = (
            why_differs(row, ours, theirs=theirs, value=value) if figure.metric == "right" else ("other words", "")
        )
        words = " ".join(row.output.split())
        words = words if len(words) <= 70 else words[:69] + "…"
        shown = f"{words!r} for {row.references[0]!r}: theirs {theirs:.3g}, ours {value:.3g}"
        cases.setdefault(reason, []).append(f"{shown} ({case})" if case else shown)
    return [
        f"{reason}, {len(found)} of {len(chosen)} rows: {'; '.join(dict.fromkeys(found[:SHOWN]))}"
        for reason, found in sorted(cases.items(), key=lambda entry: -len(entry[1]))
    ]


def why_differs(row: Answered, ours: Row, *, theirs: float, value: float) -> tuple[str, str]:
    """Why one answer is marked differently than by us: a kind of reason, and details of the case where there are any.

    `theirs` and `value` are their mark and ours, and differ. What is certain is tried before what is merely likely.
    """
    answer = ours["answer"]
    if answer is None:
        return "no single answer can be read", "cut off in its reasoning" if part_thought(
            row.output
        ).thought is not None else ""
    if row.how is not None and row.how[0] in ("substring match", "judge"):
        return row.how
    cut = ("cut off at the token limit", f"{row.n_tokens} tokens") if row.truncated else None
    if value > theirs:
        said = yes_no(answer) is not None and normalize(answer) not in ("yes", "no")
        if ours["kind"] == "closed" and said:
            return "yes or no with more words counted wrong", ""
        if any(normalize(reference) == normalize(answer) for reference in row.references):
            stripped = answer.strip().casefold() != row.output.strip().casefold()
            return ("the answer stands among reasoning or tags" if stripped else "equal only after normalisation"), ""
        return cut or ("their rule asks for more", row.how[1] if row.how else "")
    return cut or ("their rule asks for less", row.how[1] if row.how else "")
