"""Rewards: items in, outcomes out, by a weighted stack of calibrated scorers or by one stack per kind. Torch-free.

reward = build_reward("armed")
outcomes = reward(items)                                     # or, in training, after the gather:
outcomes = reward.combine(reward.score(items), groups=groups, update=True)
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from medrft.config import (
    ClinicalConfig,
    CorrectConfig,
    EncoderConfig,
)
from medrft.errors import RecipeError, unknown_name
from medrft.recipes import first_problems
from medrft.reward_config import GateConfig, PartConfig, RewardConfig, StackConfig
from medrft.rewards.presets import PRESETS
from medrft.rewards.reward import ALL, Reward, by_kind
from medrft.rewards.stack import RawScores, build_stack
from medrft.scorers import build_correct
from medrft.scorers.correct import Correct

if TYPE_CHECKING:
    from medrft.config import Recipe

__all__ = [
    "PRESETS",
    "RawScores",
    "Reward",
    "build_reward",
    "correct_of",
    "options_of",
    "resolve_stacks",
    "reward_of",
    "scorers_of",
]

T = TypeVar("T", PartConfig, GateConfig)


def build_reward(
    spec: Any,
    *,
    encoder: EncoderConfig | None = None,
    clinical: ClinicalConfig | None = None,
    correct: CorrectConfig | None = None,
    base_dir: Path | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> Reward:
    """The reward for a preset's name, a stack, a table by kind, or plain tables of these (from YAML).

    `correct` is the recipe's binary outcome. `base_dir` is the folder where a user's `file.py:Name` is looked for.
    `options` are further options by scorer. Raises `UnknownNameError` or `RecipeError`.
    """
    tables = {key: _with_options(table, options or {}) for key, table in resolve_stacks(spec).items()}
    of_correct = _options_in(tables, (correct or CorrectConfig()).scorer)
    shared = {
        **{"encoder": encoder, "clinical": clinical, "correct": correct},
        **{"correct_options": of_correct, "base_dir": base_dir},
    }
    stacks = {key: build_stack(table, **shared) for key, table in tables.items()}
    return Reward(stacks if ALL in stacks else by_kind(stacks), preset=spec if isinstance(spec, str) else None)


def reward_of(recipe: Recipe) -> Reward:
    """The recipe's reward, with all that it says of encoder, clinical scorer and `correct`."""
    return build_reward(recipe.reward, encoder=recipe.encoder, clinical=recipe.clinical, correct=recipe.correct)


def options_of(spec: Any, scorer: str) -> dict[str, Any]:
    """The options that a reward gives a scorer, so that metric, `correct` and reward are the same function."""
    return _options_in(resolve_stacks(spec), scorer)


def correct_of(recipe: Recipe) -> Correct:
    """The recipe's one binary outcome, for training, evaluation and curation alike."""
    options = options_of(recipe.reward, recipe.correct.scorer)
    return build_correct(recipe.correct, encoder=recipe.encoder, clinical=recipe.clinical, options=options)


def scorers_of(spec: Any) -> set[str]:
    """The names of all scorers that a reward's parts and gates use."""
    tables = resolve_stacks(spec).values()
    return {one.scorer for table in tables for one in (*table.parts, table.gate) if one is not None}


def _options_in(tables: Mapping[str, StackConfig], scorer: str) -> dict[str, Any]:
    parts = (part for table in tables.values() for part in table.parts)
    return next((dict(part.options) for part in parts if part.scorer == scorer), {})


def resolve_stacks(spec: Any) -> dict[str, StackConfig]:
    """The stack tables of a reward with presets looked up: by kind, or a single one under `all`."""
    config = _parsed(spec)
    if isinstance(config, dict):
        return {kind: _preset(entry) if isinstance(entry, str) else entry for kind, entry in config.items()}
    return {ALL: _preset(config) if isinstance(config, str) else config}


def _with_options(table: StackConfig, options: Mapping[str, Mapping[str, Any]]) -> StackConfig:
    def more(part: T) -> T:
        return part.model_copy(update={"options": {**part.options, **options.get(part.scorer, {})}})

    gate = more(table.gate) if table.gate else None
    return table.model_copy(update={"parts": tuple(more(part) for part in table.parts), "gate": gate})


def _parsed(spec: Any) -> RewardConfig:
    try:
        return TypeAdapter[RewardConfig](RewardConfig).validate_python(spec)
    except ValidationError as error:
        raise RecipeError(f"reward: {first_problems(error)}") from error


def _preset(name: str) -> StackConfig:
    if ".py:" in name:
        raise RecipeError(
            f"{name} is a scorer, not a whole reward; name it as a part: {{parts: [{{scorer: {name}, weight: 1}}]}}"
        )
    if name not in PRESETS:
        raise unknown_name("reward preset", name, PRESETS)
    return PRESETS[name]
