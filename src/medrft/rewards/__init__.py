"""Rewards: calibrated scorers, weighted, in a stack or one stack per kind. Loads no torch.

reward = build_reward("armed")
outcomes = reward(items)                                     # or, in training, after the gather:
outcomes = reward.combine(reward.score(items), groups=groups, update=True)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from medrft.config import EncoderConfig, RewardConfig, StackConfig
from medrft.errors import RecipeError, unknown_name
from medrft.rewards.presets import PRESETS
from medrft.rewards.reward import ALL, Reward, by_kind
from medrft.rewards.stack import RawScores, Stack, build_stack

__all__ = ["PRESETS", "RawScores", "Reward", "build_reward"]


def build_reward(spec: Any, *, encoder: EncoderConfig | None = None, base_dir: Path | None = None) -> Reward:
    """The reward of a preset's name, a stack, a table by kind, or plain tables of these (from YAML).

    `base_dir` is where a user's `file.py:Name` is looked for. Raises `UnknownNameError` or `RecipeError`.
    """
    config = _parsed(spec)

    def stack(entry: str | StackConfig) -> Stack:
        table = _preset(entry) if isinstance(entry, str) else entry
        return build_stack(table, encoder=encoder, base_dir=base_dir)

    if isinstance(config, dict):
        return Reward(by_kind({kind: stack(entry) for kind, entry in config.items()}))
    return Reward({ALL: stack(config)}, preset=config if isinstance(config, str) else None)


def _parsed(spec: Any) -> RewardConfig:
    try:
        return TypeAdapter[RewardConfig](RewardConfig).validate_python(spec)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(place) for place in first["loc"])
        raise RecipeError(f"reward: {where}: {first['msg']}, got {first['input']!r}") from error


def _preset(name: str) -> StackConfig:
    if name not in PRESETS:
        raise unknown_name("reward preset", name, PRESETS)
    return PRESETS[name]
