"""Score, gather, combine: from the items of one process to their outcomes when completions are on several processes.

Raw scores depend on one completion alone and are computed on its process. Calibration, ranks and normalisation are
computed after the gather on all rows, and so with the same result on every process.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

from medrft.rewards.reward import Reward
from medrft.types import Item, Outcome

Gather = Callable[[list[Any]], tuple[list[Any], int]]
"""From a process's rows to the rows of all processes in the order of ranks, and the place where its own begin."""


def keep_alone(rows: list[Any]) -> tuple[list[Any], int]:
    """The gather for a single process: its own rows."""
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

    Every process must call it, even one without rows: a gather waits for all. As all see the same rows, the states of
    their calibrations stay the same.
    """
    raws = reward.score(items)
    own = [None] * len(raws) if groups is None else list(groups)
    rows, start = gather(list(zip(raws, own, strict=True)))
    outcomes = reward.combine(
        [raw for raw, _ in rows], groups=None if groups is None else [group for _, group in rows], update=update
    )
    return outcomes[start : start + len(raws)]
