"""A reward of ours in ms-swift's GRPO: two lines in the file that `--external_plugins` names.

from medrft.integrations.swift import register_reward
register_reward("medrft", "armed_clinical", state="state.json")        # then: --reward_funcs medrft

ms-swift calls the reward on each process's own rows, in evaluations too, and saves none of its state in checkpoints.
So a calibration that learns needs a state that was fitted before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medrft.errors import RecipeError
from medrft.integrations.foreign import ColumnReward
from medrft.integrations.trl_state import gather_ranks
from medrft.rewards.gather import keep_alone
from medrft.types import Score

PASSED = ("prompt_id", "request_id", "is_truncated", "response_token_ids", "messages", "images", "add_eos")
"""Arguments that ms-swift adds, or that are no text columns of the data set."""


class SwiftReward(ColumnReward):
    """A reward as ms-swift calls it: with completions as strings, and all columns of the data set."""

    trainer = "swift"

    def __init__(self, reward: str | Path | Mapping[str, Any], **settings: Any):
        """`settings` are those of `ColumnReward` and `ForeignReward`. Raises `RecipeError` for `update`."""
        if settings.get("update"):
            raise RecipeError("ms-swift keeps no state of a reward in its checkpoints: fit one before, and pass state=")
        super().__init__(reward, **settings)

    def __call__(self, completions: Sequence[str], **given: Any) -> list[Score]:
        """One number per completion, or `None` for one that could not be scored."""
        columns = {
            name: list(value)
            for name, value in given.items()
            if name not in PASSED and isinstance(value, list | tuple) and len(value) == len(completions)
        }
        counts = [_length(ids) for ids in given.get("response_token_ids") or ()]
        items = self.items(completions, columns, counts or None)
        groups = self._groups(given) if self.held.reward.needs_groups else None
        return self.held.values(self.held(items, groups=groups, gather=gather_ranks if groups else keep_alone))

    def _groups(self, given: Mapping[str, Any]) -> Sequence[Any]:
        """The data set's own ids. ms-swift's `prompt_id` goes by the messages, in which two images look the same."""
        own = given.get("prompt_id") if not any(given.get("images") or ()) else None
        found: Sequence[Any] | None = given.get(self.group_by) or own
        if found is None:
            raise self.needs_ids()
        return found


def register_reward(name: str, reward: str | Path | Mapping[str, Any], **settings: Any) -> SwiftReward:
    """Register a reward with ms-swift as `name`, for `--reward_funcs`. It is built now, so a mistake shows at once."""
    from swift.rewards import ORM, orms

    made = SwiftReward(reward, **settings)

    call = {"__call__": lambda self, completions, **given: made(completions, **given)}
    orms[name] = type("MedrftReward", (ORM,), call)  # ms-swift builds it with its own arguments
    return made


def _length(ids: Any) -> int:
    """Number of tokens of a completion, from a list of ids or from one list of ids per turn."""
    return sum(len(turn) if isinstance(turn, list | tuple) else 1 for turn in ids or ())
