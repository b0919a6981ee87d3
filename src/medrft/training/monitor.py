"""What a generation batch says about the training: means, and spread within the groups, which is all GRPO learns from.

G completions per group stand side by side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from medrft.rewards.reward import ALL, Reward
from medrft.training.scoring import Judged
from medrft.types import Outcome, Score

FLOOR = 0.01
"""A group whose rewards differ by less (standard deviation) teaches noise: TRL blows it up to unit advantages."""

Array = npt.NDArray[np.float64]


def batch_metrics(judged: Sequence[Judged], outcomes: Sequence[Outcome], *, group_size: int) -> dict[str, float]:
    """Metrics of whole groups; a metric with nothing to tell is absent. All stds are those of a sample (n - 1)."""
    rewards = _groups([outcome.reward for outcome in outcomes], group_size)
    spread = _spread(rewards)
    found: dict[str, float] = {
        "unscored": float(np.isnan(rewards).mean()),
        "failed": float(np.mean([bool(row.failures) for row in judged])),
        "missing_image": float(np.mean([row.missing is not None for row in judged])),
        "no_answer": float(np.mean([row.answer is None for row in judged])),
    }
    if spread.size:
        found["spread"] = float(spread.mean())
        found["zero_spread"] = float((spread <= 1e-8).mean())
        found["near_zero_spread"] = float((spread < FLOOR).mean())
    for name in ("correct", "truth", "in_grammar"):
        known = [value for row in judged if (value := getattr(row, name)) is not None]
        if known:
            found[name] = float(np.mean(known))
    gates = [outcome.gate for outcome in outcomes if outcome.gate is not None]
    if gates:
        found["gate"] = float(np.mean(gates))
    return found | part_metrics(outcomes, group_size=group_size)


def part_metrics(outcomes: Sequence[Outcome], *, group_size: int) -> dict[str, float]:
    """Mean and mean within-group std of each part, raw and calibrated, where it applies."""
    found: dict[str, float] = {}
    for name in dict.fromkeys(part for outcome in outcomes for part in outcome.applicable):
        for stage in ("raw", "calibrated"):
            values = _groups([_value(outcome, stage, name) for outcome in outcomes], group_size)
            if np.isfinite(values).any():
                found[f"part/{name}/{stage}"] = float(np.nanmean(values))
                spread = _spread(values)
                if spread.size:
                    found[f"part/{name}/{stage}_std"] = float(spread.mean())
    return found


def calibration_metrics(reward: Reward) -> dict[str, float]:
    """Threshold of each calibration that has one, and whether any no longer tells scores apart (0 or 1)."""
    found: dict[str, float] = {}
    for key, stack in reward.describe()["stacks"].items():
        for part in stack["parts"]:
            threshold = part["calibrate"].get("threshold")
            if threshold is not None:
                found[f"calibration/{part['name'] if key == ALL else f'{key}/' + part['name']}/threshold"] = threshold
    saturated = reward.saturated()
    if found or saturated:
        found["calibration_saturated"] = float(bool(saturated))
    return found


def _value(outcome: Outcome, stage: str, part: str) -> Score:
    scores: Mapping[str, Score] = getattr(outcome, stage)
    return scores.get(part) if outcome.applicable.get(part) else None


def _groups(values: Sequence[Score], size: int) -> Array:
    """Groups by completions; NaN for what is unscored."""
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64).reshape(-1, size)


def _spread(groups: Array) -> Array:
    """Standard deviation of each group with at least two scored completions."""
    enough = np.isfinite(groups).sum(axis=1) > 1
    spread: Array = np.nanstd(groups[enough], axis=1, ddof=1)
    return spread
