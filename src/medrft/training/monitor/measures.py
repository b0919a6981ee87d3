"""Measures a generation batch: graded completions and their rewards go in, numbers for `metrics.jsonl` come out.

For example `{"correct": 0.62, "no_answer": 0.03, "spread": 0.21, …}`: shares and means, and the spread of rewards
within groups, which is all that GRPO learns from. Completions of one group stand side by side, G of them. `causes`
reads these numbers; docs/monitor.md says what each means.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from medrft.rewards.calibration import Calibration
from medrft.rewards.reward import ALL, Reward
from medrft.text import normalize
from medrft.training.grading import Graded
from medrft.training.monitor.causes import FLOOR
from medrft.types import Outcome, Score, Scorer

Array = npt.NDArray[np.float64]


def batch_metrics(graded: Sequence[Graded], outcomes: Sequence[Outcome], *, group_size: int) -> dict[str, float]:
    """Metrics of whole groups; one that cannot be measured is absent. Standard deviations are of a sample (n - 1)."""
    rewards = _groups([outcome.reward for outcome in outcomes], group_size)
    spread = _spread(rewards)
    found: dict[str, float] = {
        "unscored": float(np.isnan(rewards).mean()),
        "failed": float(np.mean([bool(row.failures) for row in graded])),
        "missing_image": float(np.mean([row.missing is not None for row in graded])),
        "no_answer": float(np.mean([row.answer is None for row in graded])),
    }
    if spread.size:
        found["spread"] = float(spread.mean())
        found["zero_spread"] = float((spread <= 1e-8).mean())
        found["near_zero_spread"] = float((spread < FLOOR).mean())
        found["ties"] = _ties(rewards)
    for name in ("correct", "truth", "in_grammar", "looks"):
        known = [value for row in graded if (value := getattr(row, name)) is not None]
        if known:
            found[name] = float(np.mean(known))
    gates = [outcome.gate for outcome in outcomes if outcome.gate is not None]
    if gates:
        found["gate"] = float(np.mean(gates))
    found |= _truth_correlation(rewards, _groups([row.truth for row in graded], group_size))
    return found | answer_metrics(graded, group_size=group_size) | part_metrics(outcomes, group_size=group_size)


def part_metrics(outcomes: Sequence[Outcome], *, group_size: int) -> dict[str, float]:
    """Mean and mean within-group std of each part's raw and calibrated scores, and the ties of the calibrated ones.

    Only completions that a part applies to count.
    """
    found: dict[str, float] = {}
    for name in dict.fromkeys(part for outcome in outcomes for part in outcome.applicable):
        for stage in ("raw", "calibrated"):
            values = _groups([_value(outcome, stage, name) for outcome in outcomes], group_size)
            if np.isfinite(values).any():
                found[f"part/{name}/{stage}"] = float(np.nanmean(values))
                spread = _spread(values)
                if spread.size:
                    found[f"part/{name}/{stage}_std"] = float(spread.mean())
                    if stage == "calibrated":
                        found[f"part/{name}/ties"] = _ties(values)
    return found


def answer_metrics(graded: Sequence[Graded], *, group_size: int) -> dict[str, float]:
    """How often two questions of one kind get the same answer, and how often they have the same reference.

    Both are shares of pairs. Unlike the share of the most common answer, they do not depend on how many questions a
    batch holds. Empty if no two questions of the batch are of one kind.
    """
    answers, references = _Pairs(), _Pairs()
    for number, row in enumerate(graded):
        if row.answer is not None:
            place = (row.example.kind, number // group_size)
            answers.add(*place, normalize(row.answer))
            references.add(*place, normalize(row.example.references[0]))
    if not answers.count:
        return {}
    return {"same_answer": answers.equal / answers.count, "same_reference": references.equal / references.count}


def reward_metrics(
    reward: Reward, graded: Sequence[Graded], outcomes: Sequence[Outcome], *, group_size: int
) -> dict[str, float]:
    """Metrics that need the reward's own settings: `top`, `format/…`, `failed` and `dominance` of each part.

    `top` is the share of completions that earn the most that a part can give; for a part about form it is also
    `format/<part>`. `failed` is the share that a scorer behind an endpoint gave no score.
    """
    found: dict[str, float] = {}
    stacks = [reward.stack(row.example.kind) for row in graded]
    for name in reward.names:
        rows = [
            (part.scorer, outcome.raw[name])
            for stack, outcome in zip(stacks, outcomes, strict=True)
            for part in stack.parts
            if part.name == name and outcome.applicable.get(name)
        ]
        if rows:
            found |= _of_part(name, rows[0][0], [value for _, value in rows])
    failed = [o.gate is None for s, o in zip(stacks, outcomes, strict=True) if s.gate and _can_fail(s.gate.scorer)]
    if failed:
        found["part/gate/failed"] = float(np.mean(failed))
    return found | part_dominance(reward, graded, outcomes, group_size=group_size)


def _of_part(name: str, scorer: Scorer, values: Sequence[Score]) -> dict[str, float]:
    found: dict[str, float] = {}
    most = scorer.range[1]
    if np.isfinite(most):
        found[f"part/{name}/top"] = float(np.mean([value is not None and value >= most - FLOOR for value in values]))
        if getattr(scorer, "about", "answer") == "form" and most > 0:
            found[f"format/{name}"] = found[f"part/{name}/top"]
    if _can_fail(scorer):
        found[f"part/{name}/failed"] = float(np.mean([value is None for value in values]))
    return found


def part_dominance(
    reward: Reward, graded: Sequence[Graded], outcomes: Sequence[Outcome], *, group_size: int
) -> dict[str, float]:
    """`part/<name>/dominance`: a part's share of the reward's within-group variance minus its share of the weights.

    The share of the variance is cov(weighted part, reward) / var(reward), both within groups; these sum to 1. The share
    of the weights is among the parts that spread at all. Empty if fewer than two do.
    """
    kinds = [row.example.kind for row in graded[::group_size]]
    weights = {name: np.array([reward.weights(kind).get(name, 0.0) for kind in kinds]) for name in reward.names}
    scored = [outcome.reward is not None for outcome in outcomes]
    parts = {}
    for name, weight in weights.items():
        values = _groups(
            [_value(o, "calibrated", name) if ok else None for o, ok in zip(outcomes, scored, strict=True)], group_size
        )
        spread = _spread(values)
        if spread.size and spread.mean() >= FLOOR:
            away = np.nan_to_num(values - _mean(values))
            if reward.combine_rule == "normalize_then_sum":  # as in TRL, where 1e-4 is added; here it is a floor
                away /= np.maximum(np.sqrt((away**2).sum(axis=1, keepdims=True) / (group_size - 1)), 1e-4)
            parts[name] = (away * weight[:, None], float(np.abs(weight[np.isfinite(values).any(axis=1)]).sum()))
    if len(parts) < 2:
        return {}
    total = np.sum([away for away, _ in parts.values()], axis=0)
    variance, all_weights = float((total**2).sum()), sum(weight for _, weight in parts.values())
    if variance < 1e-12 or not all_weights:
        return {}
    return {
        f"part/{name}/dominance": float((away * total).sum()) / variance - weight / all_weights
        for name, (away, weight) in parts.items()
    }


def calibration_metrics(reward: Reward) -> dict[str, float]:
    """The threshold of each calibration that has one, and whether it no longer tells scores apart (0 or 1).

    `calibration_saturated` is 1 if any calibration no longer does.
    """
    found: dict[str, float] = {}
    saturated = reward.saturated()
    for key, stack in reward.stacks.items():
        for part in stack.parts:
            name = part.name if key == ALL else f"{key}/{part.name}"
            threshold = part.calibration.describe().get("threshold")
            if threshold is not None:
                found[f"calibration/{name}/threshold"] = threshold
            if type(part.calibration).saturated is not Calibration.saturated:
                found[f"calibration/{name}/saturated"] = float(name in saturated)
    if found:
        found["calibration_saturated"] = float(bool(saturated))
    return found


class _Pairs:
    """Counts pairs of values of one kind from different groups, and how many of these pairs are equal.

    It counts all pairs of a kind and subtracts those within a group, which is linear in the number of values.
    """

    def __init__(self) -> None:
        self._by_kind: dict[str, Counter[Hashable]] = {}
        self._by_group: dict[tuple[str, int], Counter[Hashable]] = {}

    def add(self, kind: str, group: int, value: Hashable) -> None:
        """Add the value of one completion."""
        self._by_kind.setdefault(kind, Counter())[value] += 1
        self._by_group.setdefault((kind, group), Counter())[value] += 1

    @property
    def count(self) -> int:
        """The number of ordered pairs."""
        whole = sum(counts.total() ** 2 for counts in self._by_kind.values())
        return whole - sum(counts.total() ** 2 for counts in self._by_group.values())

    @property
    def equal(self) -> int:
        """The number of ordered pairs whose values are equal."""
        whole = sum(n**2 for counts in self._by_kind.values() for n in counts.values())
        return whole - sum(n**2 for counts in self._by_group.values() for n in counts.values())


def _truth_correlation(rewards: Array, truth: Array) -> dict[str, float]:
    """Correlation of reward and truth within groups, pooled over groups in which the truth differs.

    It is 0 for a reward that is the same throughout each of these groups. Empty if there is no such group.
    """
    known = np.isfinite(rewards) & np.isfinite(truth)
    rewards, truth = np.where(known, rewards, np.nan), np.where(known, truth, np.nan)
    right = np.nan_to_num(truth - _mean(truth))
    differs = (right**2).sum(axis=1) > 0
    if not differs.any():
        return {}
    paid = np.nan_to_num(rewards - _mean(rewards))[differs]
    both = float((paid * right[differs]).sum())
    scale = float(np.sqrt((paid**2).sum() * (right[differs] ** 2).sum()))
    return {"truth_correlation": both / scale if scale > 1e-12 else 0.0}


def _mean(groups: Array) -> Array:
    """Mean of each group's known values, as a column; 0 if a group has none."""
    known = np.isfinite(groups)
    mean: Array = np.where(known, groups, 0.0).sum(axis=1, keepdims=True) / np.maximum(known.sum(axis=1), 1)[:, None]
    return mean


def _ties(groups: Array) -> float:
    """Share of pairs within groups that are equal, over groups with at least two scored completions."""
    pairs = equal = 0
    for row in groups:
        values = np.sort(row[np.isfinite(row)])
        runs = np.diff(np.flatnonzero(np.r_[True, np.diff(values) > 1e-8, True]))
        pairs += len(values) * (len(values) - 1)
        equal += int((runs * (runs - 1)).sum())
    return equal / pairs


def _can_fail(scorer: object) -> bool:
    return bool(getattr(scorer, "can_fail", False))


def _value(outcome: Outcome, stage: str, part: str) -> Score:
    scores: Mapping[str, Score] = getattr(outcome, stage)
    return scores.get(part) if outcome.applicable.get(part) else None


def _groups(values: Sequence[Score], size: int) -> Array:
    """Values as an array, (groups, completions); NaN for what is unscored."""
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64).reshape(-1, size)


def _spread(groups: Array) -> Array:
    """Standard deviation of each group with at least two scored completions."""
    enough = np.isfinite(groups).sum(axis=1) > 1
    spread: Array = np.nanstd(groups[enough], axis=1, ddof=1)
    return spread
