"""Where a reward disagrees most with people: scores and judgements go in, rows with texts and explanations come out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from medrft.audit.human.rows import HumanSet, keeps_order
from medrft.audit.subject import Own, Subject
from medrft.rewards.explain import explain_parts
from medrft.types import Item, Score

SHOWN = 12
PER_STUDY = 2
CUT = 800
"""Characters kept of a text."""
CUT_WHY = 4_000


def worst_rows(
    subject: Subject, scores: Sequence[Score], truths: Sequence[float], judged: HumanSet, items: Sequence[Item]
) -> list[dict[str, Any]]:
    """The rows whose rank by the reward lies farthest from their rank by people, at most two of a study.

    `gap` is the difference of the two ranks as shares of the rows: above 0 the reward pays more than people would.
    """
    rows = enumerate(zip(scores, truths, strict=True))
    kept = [i for i, (score, truth) in rows if score is not None and not math.isnan(truth)]
    ranks = [middle_ranks([column[i] for i in kept]) for column in (scores, truths)]
    gaps = sorted(((a - b, i) for i, a, b in zip(kept, *ranks, strict=True)), key=lambda pair: (-abs(pair[0]), pair[1]))
    counts: Counter[str] = Counter()
    found = []
    for gap, i in gaps:
        row = judged.rows[i]
        counts[row.study] += 1
        if counts[row.study] > PER_STUDY or abs(gap) < 1e-9:
            continue
        found.append(
            {
                "id": row.id,
                "question": row.question[:CUT],
                "reference": " | ".join(row.references)[:CUT],
                "candidate": row.candidate[:CUT],
                "score": scores[i],
                "truth": truths[i],
                "votes": list(row.votes),
                "gap": gap,
                "why": explain_row(subject, items[i]),
            }
        )
        if len(found) == SHOWN:
            break
    return found


def middle_ranks(values: Sequence[Any]) -> list[float]:
    """Ranks as shares from 0 to 1, equal values sharing the middle of theirs.

    >>> middle_ranks([3, 1, 3, 2])
    [0.75, 0.125, 0.75, 0.375]
    """
    counts = Counter(values)
    below, first = {}, 0
    for value in sorted(counts):
        below[value] = (first + counts[value] / 2) / len(values)
        first += counts[value]
    return [below[value] for value in values]


def broken_orders(
    subject: Subject, scores: Sequence[Score], judged: HumanSet, items: Sequence[Item], *, tolerance: float
) -> list[dict[str, Any]]:
    """The orders that scores do not keep, with each candidate's text, score and explanation."""
    return [
        {
            "id": order.id,
            "about": order.about,
            "order": str(order),
            "reference": " | ".join(judged.rows[min(order.candidates.values())].references)[:CUT],
            "candidates": [
                {
                    "name": name,
                    "candidate": judged.rows[i].candidate[:CUT],
                    "score": scores[i],
                    "why": explain_row(subject, items[i]),
                }
                for name, i in order.candidates.items()
            ],
        }
        for order in judged.orders
        if keeps_order(order, scores, tolerance=tolerance) is False
    ]


def explain_row(subject: Subject, item: Item) -> str:
    """What the scorers of a reward of ours say that they compared; empty for rewards that explain nothing."""
    return "\n".join(explain_parts(item, subject.reward))[:CUT_WHY] if isinstance(subject, Own) else ""
