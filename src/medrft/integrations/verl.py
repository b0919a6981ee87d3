"""A reward of ours as verl's `reward.custom_reward_function`: `path: pkg://medrft.integrations.verl`.

verl scores one row a call, from several threads and workers. It takes its columns from the first row, so every row must
have the same keys. `reward_kwargs` name the reward; docs/integrations.md has a whole configuration.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from medrft.integrations.foreign import shared_reward
from medrft.integrations.rows import fields_of, item_of_fields
from medrft.rewards.contracts import CONTRACTS
from medrft.types import Form


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    *,
    reward: str | Mapping[str, Any] = "armed_clinical",
    form: Form = "think",
    unscored: float = 0.0,
    state: str | None = None,
    encoder: str | None = None,
    options: Mapping[str, Any] | None = None,
    **_: Any,
) -> dict[str, float]:
    """`score`, whether it is `unscored` (0 or 1), and each calibrated part.

    `ground_truth` is the reference, a list of them, or a table as JSON; `extra_info` may have `question`, `options` and
    `kind`. verl has no missing reward, so an unscored row gets the number `unscored` and has 1 in that column. With
    `algorithm.adv_estimator: gdpo`, name the parts as `gdpo_reward_keys`; verl then normalises each before the sum.
    """
    held = shared_reward(
        reward=_plain(reward),
        state=state,
        unscored=unscored,
        encoder=encoder,
        options=_plain(options),
        rows=CONTRACTS["verl"].rows,
    )
    extra = extra_info or {}
    known = {key: extra[key] for key in ("question", "options", "kind") if key in extra}
    written = json.loads(extra.get("medrft") or "{}")  # by `medrft data convert --to verl`: all references, the options
    known |= {key: written[key] for key in ("references", "options") if written.get(key)}
    item = item_of_fields(solution_str, {**known, **fields_of(_plain(ground_truth))}, form=form)
    return held.columns(*held([item]))


def _plain(value: Any) -> Any:
    """Arrays and OmegaConf's containers as plain lists and dicts."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    return value if value is None or isinstance(value, str | int | float | bool) else [_plain(one) for one in value]
