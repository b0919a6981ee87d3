"""TRL's `GRPOTrainer` with a reward of ours: `reward_funcs=[reward]`, and `callbacks=[reward.callback()]`.

Each process scores its own completions; raw scores are gathered before anything is calibrated, so that states stay in
step. Completions belong together by the data set's id column, never by their text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medrft.errors import RecipeError
from medrft.integrations.foreign import ColumnReward
from medrft.integrations.trl_state import gather_ranks, state_callback
from medrft.types import Outcome, Score

NOT_COLUMNS = ("prompts", "environments")
"""Lists that TRL passes beside the data set's columns."""


class TrlReward(ColumnReward):
    """A reward function as TRL calls it: keyword arguments in, one number or `None` per completion out."""

    trainer = "trl"
    model: Any = None
    """The trained model, once the callback has seen it: an evaluation's completions teach nothing."""

    def __init__(self, reward: str | Path | Mapping[str, Any], **settings: Any):
        """`settings` as `ColumnReward` and `ForeignReward` take them."""
        super().__init__(reward, **settings)
        self.__name__ = f"medrft_{Path(self.held.named.name).stem}".replace(" ", "_")

    def __call__(self, *, completions: Sequence[Any], **given: Any) -> list[Score]:
        """The rewards of one process's completions."""
        return self.held.values(self.outcomes(completions, **given))

    def outcomes(
        self, completions: Sequence[Any], *, completion_ids: Any = None, log_metric: Any = None, **given: Any
    ) -> list[Outcome]:
        """All that the reward says of each completion. Raises `RecipeError` for `update` without the callback."""
        columns = {name: value for name, value in given.items() if isinstance(value, list) and name not in NOT_COLUMNS}
        counts = None if completion_ids is None else [len(ids) for ids in completion_ids]
        items = self.items(completions, columns, counts)
        groups = columns.get(self.group_by)
        if groups is None and (self.held.update or self.held.reward.needs_groups):
            raise self.needs_ids()
        if self.held.update and self.model is None:
            raise RecipeError("update=True needs the reward's callback: GRPOTrainer(…, callbacks=[reward.callback()])")
        learns = self.held.update and bool(self.model.training)
        found = self.held(items, groups=groups, gather=gather_ranks, learns=learns)
        if log_metric is not None and found:
            log_metric("medrft/unscored", sum(one.reward is None for one in found) / len(found))
        return found

    def callback(self) -> Any:
        """A `TrainerCallback` that keeps the calibrations' state in each checkpoint, and brings it back on a resume."""
        return state_callback(self)


def trl_reward(reward: str | Path | Mapping[str, Any], **settings: Any) -> TrlReward:
    """A reward function for `GRPOTrainer(reward_funcs=…)`; see `TrlReward` and `ForeignReward` for the settings."""
    made = TrlReward(reward, **settings)
    if made.held.reward.combine_rule == "normalize_then_sum":
        raise RecipeError(f"{reward} normalises its parts before the sum, as TRL does itself: use trl_columns")
    return made
