"""Score, gather, combine: how a reward is computed where completions lie on several processes, by whoever trains.

What one completion's text decides is computed where it lies; calibration, ranks and normalisation are computed after
the gather on all rows, and so alike on every process.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

from medrft.rewards.reward import Reward
from medrft.types import Item, Outcome

Gather = Callable[[list[Any]], tuple[list[Any], int]]
"""The rows of all processes in the order of ranks, and the place at which a process's own begin."""


def keep_alone(rows: list[Any]) -> tuple[list[Any], int]:
    """The gather of one process."""
    return rows, 0


def score_gathered(
    reward: Reward,
    items: Sequence[Item],
    *,
    groups: Sequence[Hashable] | None = None,
    update: bool = False,
    gather: Gather = keep_alone,
) -> list[Outcome]:
    """Outcomes of this process's items, calibrated with those of all processes.

    Every process must call it, also one without rows; states then stay in step, for all see the same rows.
    """
    raws = reward.score(items)
    own = [None] * len(raws) if groups is None else list(groups)
    rows, start = gather(list(zip(raws, own, strict=True)))
    outcomes = reward.combine(
        [raw for raw, _ in rows], groups=None if groups is None else [group for _, group in rows], update=update
    )
    return outcomes[start : start + len(raws)]
