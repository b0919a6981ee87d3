"""ms-swift's GRPO with a reward of ours: two lines in the file that `--external_plugins` names.

from medrft.integrations.swift import register_reward
register_reward("medrft", "armed_clinical", state="state.json")        # then: --reward_funcs medrft
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medrft.errors import DataError
from medrft.integrations.foreign import ForeignReward
from medrft.integrations.rows import items_of
from medrft.rewards.contracts import CONTRACTS
from medrft.types import Form, Score

PASSED = ("request_id", "is_truncated", "response_token_ids", "messages", "images", "add_eos")
"""Columns that ms-swift adds, or that hold no text of the data set's own."""


class SwiftReward:
    """A reward as ms-swift calls it: completions as strings, and every column of the data set."""

    def __init__(
        self,
        reward: str | Path | Mapping[str, Any],
        *,
        form: Form = "think",
        columns: Mapping[str, str] | None = None,
        **settings: Any,
    ):
        """`columns` says which column holds the references and so on; `settings` go to `ForeignReward`."""
        self.held = ForeignReward(reward, rows=CONTRACTS["swift"].rows, **settings)
        self.form, self.names = form, columns

    def __call__(self, completions: Sequence[str], **given: Any) -> list[Score]:
        """One number, or `None` for what could not be scored, per completion."""
        columns = {name: list(value) for name, value in given.items() if _is_column(name, value, len(completions))}
        ids = given.get("response_token_ids")
        counts = [len(one) for one in ids] if ids and all(one is not None for one in ids) else None
        group = CONTRACTS["swift"].group
        groups = columns.pop(group, None) if group else None
        if groups is None and (self.held.update or self.held.reward.needs_groups):
            raise DataError(
                f"ms-swift passed no {group!r}, so completions of one prompt cannot be told; use 4.6 or later"
            )
        items = items_of(completions, columns, form=self.form, names=self.names, n_tokens=counts)
        return self.held.values(self.held(items, groups=groups))


def register_reward(name: str, reward: str | Path | Mapping[str, Any], **settings: Any) -> None:
    """Make a reward known to ms-swift as `name`, for `--reward_funcs`. It is built at once, so a mistake shows here."""
    from swift.rewards import ORM, orms

    made = SwiftReward(reward, **settings)

    class MedrftReward(ORM):  # type: ignore[misc]
        """What ms-swift makes of the name: its own arguments are not ours."""

        def __call__(self, completions: Sequence[str], **given: Any) -> list[Score]:
            """The rewards of a batch."""
            return made(completions, **given)

    orms[name] = MedrftReward


def _is_column(name: str, value: Any, rows: int) -> bool:
    return name not in PASSED and isinstance(value, list | tuple) and len(value) == rows
