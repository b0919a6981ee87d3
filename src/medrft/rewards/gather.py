"""Score, gather, combine: from the items of one process to their outcomes when completions are on several processes.

Raw scores depend on one completion alone and are computed on its process. Calibration, ranks and normalisation are
computed after the gather on all rows, and so with the same result on every process.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

from medrft.rewards.reward import Reward
from medrft.rewards.stack import RawScores
from medrft.types import Item, Outcome

Row = TypeVar("Row")

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
    own = [None] * len(items) if groups is None else list(groups)
    _, outcomes, start = combine_gathered(
        reward,
        list(zip(reward.score(items), own, strict=True)),
        raw_of=lambda row: row[0],
        groups_of=lambda rows: None if groups is None else [group for _, group in rows],
        update=update,
        gather=gather,
    )
    return outcomes[start : start + len(own)]


def combine_gathered(
    reward: Reward,
    rows: list[Row],
    *,
    raw_of: Callable[[Row], RawScores],
    groups_of: Callable[[list[Row]], Sequence[Hashable] | None],
    update: bool,
    gather: Gather,
) -> tuple[list[Row], list[Outcome], int]:
    """The rows of all processes with their outcomes, and the place where this process's begin.

    `rows` are what this process has scored, in whatever form also carries the raw scores; `groups_of` says which of
    all rows belong together.
    """
    found, start = gather(rows)
    return found, reward.combine([raw_of(row) for row in found], groups=groups_of(found), update=update), start
