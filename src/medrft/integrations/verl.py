"""A reward of ours as verl's `reward.custom_reward_function`: `path: pkg://medrft.integrations.verl`.

verl scores one row a call, from several threads and workers. It takes its columns from the first row, so every row must
have the same keys. `reward_kwargs` name the reward; docs/integrations.md has a whole configuration.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from medrft.integrations.foreign import ForeignReward
from medrft.integrations.rows import fields_of, items_of
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
    held = _held(json.dumps([_plain(reward), state, unscored, encoder, _plain(options)]))
    extra = extra_info or {}
    known = {key: extra[key] for key in ("question", "options", "kind") if key in extra}
    written = json.loads(extra.get("medrft") or "{}")  # by `medrft data convert --to verl`: all references, the options
    known |= {key: written[key] for key in ("references", "options") if written.get(key)}
    columns = {key: [value] for key, value in {**known, **fields_of(_plain(ground_truth))}.items()}
    return held.columns(held(items_of([solution_str], columns, form=form))[0])


@lru_cache(maxsize=8)
def _held(settings: str) -> ForeignReward:
    """The reward with these settings (as JSON, so that they can be a cache's key), built once per worker."""
    reward, state, unscored, encoder, options = json.loads(settings)
    return ForeignReward(
        reward,
        state=state,
        unscored=unscored,
        encoder=encoder,
        options=options,
        rows=CONTRACTS["verl"].rows,
    )


def _plain(value: Any) -> Any:
    """Arrays and OmegaConf's containers as plain lists and dicts."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    return value if value is None or isinstance(value, str | int | float | bool) else [_plain(one) for one in value]
