"""A reward of ours as OpenRLHF's `--reward.remote_url reward.py`: two lines in that file.

    from medrft.integrations.openrlhf import make_reward_func
    reward_func = make_reward_func("armed_clinical", state="state.json")

OpenRLHF calls the function from several threads, with one row a call. It passes prompt and completion as one text, in
which special tokens are kept and image tokens expanded. It logs an exception at info level alone and goes on without a
reward, so failures are counted and logged here.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from medrft.integrations.foreign import ForeignReward
from medrft.integrations.prompts import completion_in
from medrft.integrations.rows import fields_of, item_of_fields
from medrft.rewards.contracts import CONTRACTS
from medrft.types import Form, Item

LOG = logging.getLogger("medrft")


def make_reward_func(
    reward: str | Path | Mapping[str, Any], *, form: Form = "think", unscored: float = 0.0, **settings: Any
) -> Callable[..., dict[str, Any]]:
    """The function `reward_func(queries, prompts, labels)` that OpenRLHF calls; `settings` go to `ForeignReward`.

    A label is the reference, or a table as JSON with `reference`, `question`, `options` and `kind`.
    """
    held = ForeignReward(reward, rows=CONTRACTS["openrlhf"].rows, unscored=unscored, **settings)

    def reward_func(queries: Sequence[str], prompts: Sequence[str], labels: Sequence[Any], **_: Any) -> dict[str, Any]:
        import torch  # OpenRLHF has it; this module must import without it

        failed = len(queries)
        try:
            items = [item_in(*row, form=form) for row in zip(queries, prompts, labels, strict=True)]
            rows = [held.columns(*held([item])) for item in items]
            failed = 0
        finally:
            if failed:
                held.count("failed", failed)
                LOG.error("medrft: a reward call of %s rows failed: %s", failed, sys.exc_info()[1])
        names = rows[0] if rows else ("score",)
        logs = {name: torch.tensor([row[name] for row in rows], dtype=torch.float32) for name in names}
        scores = logs.pop("score")
        # `rewards` train; `scores` serve OpenRLHF's dynamic filtering, which takes them to lie in [0, 1].
        return {"rewards": scores, "scores": scores.clamp(0.0, 1.0), "extra_logs": logs}

    reward_func.held = held  # type: ignore[attr-defined]
    return reward_func


def item_in(query: str, prompt: str, label: Any, *, form: Form) -> Item:
    """The item of one query, which begins with its prompt. Raises `DataError` for a label that cannot be read."""
    return item_of_fields(completion_in(query, prompt), fields_of(label), form=form)
