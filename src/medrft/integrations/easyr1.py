"""A reward of ours as EasyR1's `worker.reward.reward_function`: `reward_function: …/easyr1.py:compute_score`.

    {"response": "…<answer>no</answer>", "response_length": 41, "ground_truth": "no"}  ->  {"overall": 0.9, "bleu1": …}

Written after EasyR1's source and never run with it, because it cannot be installed as a package.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medrft.integrations.foreign import shared_reward
from medrft.integrations.rows import fields_of, item_of_fields
from medrft.rewards.contracts import CONTRACTS
from medrft.types import Form

REWARD_NAME = "medrft"
REWARD_TYPE = "batch"


def compute_score(
    reward_inputs: Sequence[Mapping[str, Any]],
    *,
    reward: str = "armed_clinical",
    form: Form = "think",
    unscored: float = 0.0,
    state: str | None = None,
    encoder: str | None = None,
) -> list[dict[str, float]]:
    """`overall` and the calibrated parts of each row.

    Each row has `response`, `response_length` and `ground_truth` (the reference, or a table as JSON). The keyword
    arguments come from `reward_function_kwargs`; `state` is a fitted state, see `ForeignReward`.
    """
    held = shared_reward(reward=reward, state=state, unscored=unscored, encoder=encoder, rows=CONTRACTS["easyr1"].rows)
    items = [
        item_of_fields(
            row["response"],
            fields_of(row["ground_truth"]),
            form=form,
            n_tokens=int(row["response_length"]) if "response_length" in row else None,
        )
        for row in reward_inputs
    ]
    rows = [held.columns(outcome) for outcome in held(items)]
    return [{"overall": row.pop("score"), **row} for row in rows]
