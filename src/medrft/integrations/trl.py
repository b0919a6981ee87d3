"""A reward of ours in TRL's `GRPOTrainer`: `reward_funcs=[reward]`, and `callbacks=[reward.callback()]`.

Each process scores its own completions. Raw scores are gathered before they are calibrated, so that the state is the
same on all processes. Completions are grouped by the data set's id column, never by their text.
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
"""Lists that TRL passes in addition to the data set's columns."""


class TrlReward(ColumnReward):
    """A reward function as TRL calls it: keyword arguments in, a number or `None` per completion out."""

    trainer = "trl"
    model: Any = None
    """The trained model, once the callback has seen it; its mode tells training from evaluation."""

    def __init__(self, reward: str | Path | Mapping[str, Any], **settings: Any):
        """`settings` are those of `ColumnReward` and `ForeignReward`."""
        super().__init__(reward, **settings)
        # TRL names a reward's curves by `__name__`, else by its class, under which two rewards would share one curve.
        self.__name__ = f"medrft_{Path(self.held.named.name).stem}".replace(" ", "_")

    def __call__(self, *, completions: Sequence[Any], **given: Any) -> list[Score]:
        """The rewards of one process's completions."""
        return self.held.values(self.outcomes(completions, **given))

    def outcomes(
        self, completions: Sequence[Any], *, completion_ids: Any = None, log_metric: Any = None, **given: Any
    ) -> list[Outcome]:
        """The reward's full outcome for each completion. Raises `RecipeError` for `update` without the callback."""
        # TRL passes its `trainer_state` and the like among the columns; only lists are columns.
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
        """A `TrainerCallback` that saves the calibrations' state in each checkpoint and restores it on a resume."""
        return state_callback(self)


def trl_reward(reward: str | Path | Mapping[str, Any], **settings: Any) -> TrlReward:
    """A reward function for `GRPOTrainer(reward_funcs=…)`; `settings` are those of `ColumnReward` and `ForeignReward`.

    Raises `RecipeError` for a reward that normalises its parts before the sum.
    """
    made = TrlReward(reward, **settings)
    if made.held.reward.combine_rule == "normalize_then_sum":
        raise RecipeError(f"{reward} normalises its parts before the sum, as TRL does itself: use trl_columns")
    return made
