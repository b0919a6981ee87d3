"""From one reward to a reward function and a weight for each of its parts, so that TRL draws a curve for each part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medrft.errors import RecipeError
from medrft.integrations.trl import TrlReward
from medrft.types import Outcome, Score


class TrlColumn:
    """One part of a reward as a reward function."""

    def __init__(self, batch: LastBatch, name: str):
        self.batch, self.name, self.__name__ = batch, name, f"{batch.whole.__name__}_{name}"

    def __call__(self, *, completions: Sequence[Any], **given: Any) -> list[Score]:
        """The calibrated part; `None` where it does not apply, and where any part of the completion is unscored."""
        outcomes = self.batch.outcomes(completions, **given)
        return [None if one.reward is None else one.calibrated.get(self.name) for one in outcomes]

    def callback(self) -> Any:
        """The callback of the whole reward; one serves all columns."""
        return self.batch.whole.callback()


class LastBatch:
    """The outcomes of the last batch. TRL asks for one column after the other on one batch, which is scored once."""

    def __init__(self, whole: TrlReward):
        self.whole = whole
        self._last: tuple[Any, list[Outcome]] = (None, [])

    def outcomes(self, completions: Sequence[Any], **given: Any) -> list[Outcome]:
        """The whole reward's outcomes for these completions."""
        # By identity: another batch may hold equal texts with other references, and calibrations must learn from it.
        if self._last[0] is not completions:
            self._last = (completions, self.whole.outcomes(completions, **given))
        return self._last[1]


def trl_columns(reward: str | Path | Mapping[str, Any], **settings: Any) -> tuple[list[TrlColumn], list[float]]:
    """The values for `reward_funcs` and for `GRPOConfig(reward_weights=…)`; `settings` as for `trl_reward`.

    With `multi_objective_aggregation="normalize_then_sum"` TRL normalises each part within its group before the sum.
    Raises `RecipeError` for a reward that weighs a part differently by kind, because TRL has one weight per function.
    """
    whole = TrlReward(reward, **settings)
    weights: dict[str, float] = {}
    for stack in whole.held.reward.stacks.values():
        for part in stack.parts:
            if weights.setdefault(part.name, part.weight) != part.weight:
                raise RecipeError(
                    f"{reward} weighs {part.name} differently by kind: use trl_reward, one column for all"
                )
    batch = LastBatch(whole)
    return [TrlColumn(batch, name) for name in weights], list(weights.values())
