"""Calibrations: from a batch of one scorer's scores to calibrated scores. Those with state are in `adaptive`.

Each declares its range. `None` (unscored or not applicable) stays `None` and is not counted. A calibration is applied
to the batch that was gathered from all processes; the order of rows changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, fields
from statistics import fmean
from typing import Any, ClassVar

from medrft.errors import RecipeError
from medrft.types import Score

STD_EPS = 1e-4
"""Added to a group's standard deviation, as in TRL and GDPO."""


@dataclass
class Calibration:
    """Base of all calibrations, and the one called `none`: scores as they are."""

    kind: ClassVar[str] = "none"
    needs_groups: ClassVar[bool] = False
    has_state: ClassVar[bool] = False
    """Whether its values depend on scores that it has seen before."""

    @property
    def range(self) -> tuple[float, float]:
        """Lowest and highest value for scores in [0, 1]."""
        return (0.0, 1.0)

    def apply(self, scores: Sequence[Score], *, groups: Sequence[Hashable] | None = None) -> list[Score]:
        """The calibrated scores, in the same order."""
        return [None if score is None else self.map_one(score) for score in scores]

    def map_one(self, score: float) -> float:
        """The calibrated value of one score, for calibrations that need no other scores."""
        return score

    def update(self, scores: Sequence[Score]) -> None:
        """Learn from one training batch; does nothing without state."""

    def fit(self, scores: Sequence[Score]) -> None:
        """Set the state once from all these scores; does nothing without state."""

    def saturated(self) -> str | None:
        """Why this calibration no longer tells scores apart, or `None`."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """State as plain JSON values."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a state."""

    def describe(self) -> dict[str, Any]:
        """Kind and settings, for `--show` and the run's records."""
        settings = {f.name: getattr(self, f.name) for f in fields(self) if not f.name.startswith("_")}
        return {"kind": self.kind, **settings}


@dataclass
class Affine(Calibration):
    """clip((r - low) / (high - low), 0, 1), which stretches the band in which an encoder's scores lie."""

    kind: ClassVar[str] = "affine"
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        """Raise `RecipeError` for an empty band."""
        if not self.low < self.high:
            raise RecipeError(f"affine calibration needs low < high, got low = {self.low}, high = {self.high}")

    def map_one(self, score: float) -> float:
        """The stretched score."""
        return min(1.0, max(0.0, (score - self.low) / (self.high - self.low)))


@dataclass
class Sigmoid(Calibration):
    """1 / (1 + exp(-slope (r - center))), with a fixed center."""

    kind: ClassVar[str] = "sigmoid"
    center: float = 0.8
    slope: float = 20.0

    def __post_init__(self) -> None:
        """Raise `RecipeError` for a slope that would reverse or remove the order of scores."""
        if self.slope <= 0:
            raise RecipeError(f"sigmoid calibration needs slope > 0, got {self.slope}")

    def map_one(self, score: float) -> float:
        """The logistic function of the score."""
        # By tanh, which cannot overflow as exp can.
        return 0.5 * (1 + math.tanh(0.5 * self.slope * (score - self.center)))


@dataclass
class Threshold(Calibration):
    """1 where r >= at, else 0; MediX-R1 rewards its cosine in this way."""

    kind: ClassVar[str] = "threshold"
    at: float = 0.8

    def map_one(self, score: float) -> float:
        """1 or 0."""
        return float(score >= self.at)


@dataclass
class Rank(Calibration):
    """Rank within the group from 0 (worst) to 1 (best). Ties share their mean rank; a group without spread gets 0.5."""

    kind: ClassVar[str] = "rank"
    needs_groups: ClassVar[bool] = True

    def apply(self, scores: Sequence[Score], *, groups: Sequence[Hashable] | None = None) -> list[Score]:
        """Ranks within each group."""
        return within_groups(scores, groups, _ranks)


@dataclass
class ZScore(Calibration):
    """(r - mean) / (std + 1e-4) within the group, std with n - 1, as GDPO does with each part."""

    kind: ClassVar[str] = "zscore"
    needs_groups: ClassVar[bool] = True

    @property
    def range(self) -> tuple[float, float]:
        """Unbounded, because the bound depends on the group: at most sqrt(group size) from 0."""
        return (-math.inf, math.inf)

    def apply(self, scores: Sequence[Score], *, groups: Sequence[Hashable] | None = None) -> list[Score]:
        """z-scores within each group."""
        return within_groups(scores, groups, standardize_scores)


@dataclass
class GroupSigmoid(Calibration):
    """(1 + tanh(slope (r - mean) / max(std, floor))) / 2 within the group, std with n - 1.

    Like ARMed's adaptive calibration it bends scores where a policy's answers now are, and its values stay in [0, 1].
    But the centre is each group's own mean, so there is no threshold that lags behind or stands at a bound. A spread
    below `floor` is not stretched, as `zscore` would.
    """

    kind: ClassVar[str] = "group_sigmoid"
    needs_groups: ClassVar[bool] = True
    slope: float = 1.0
    floor: float = 0.1

    def __post_init__(self) -> None:
        """Raise `RecipeError` for a slope or a floor that is not above 0."""
        if self.slope <= 0 or self.floor <= 0:
            raise RecipeError(
                f"group_sigmoid calibration needs slope > 0 and floor > 0, got {self.slope} and {self.floor}"
            )

    def apply(self, scores: Sequence[Score], *, groups: Sequence[Hashable] | None = None) -> list[Score]:
        """Bent scores within each group."""
        return within_groups(scores, groups, self._bend)

    def _bend(self, values: Sequence[float]) -> list[float]:
        mean, spread = _mean_and_spread(values)
        return [0.5 * (1 + math.tanh(self.slope * (value - mean) / max(spread, self.floor))) for value in values]


def within_groups(scores: Sequence[Score], groups: Sequence[Hashable] | None, function: Any) -> list[Score]:
    """The results of `function` on the scored members of each group, in place; raises `RecipeError` without groups."""
    if groups is None:
        raise RecipeError(
            "rank, zscore and group_sigmoid calibrations and normalize_then_sum need groups; give each row its `group`"
        )
    members: dict[Hashable, list[int]] = {}
    for position, (score, group) in enumerate(zip(scores, groups, strict=True)):
        if score is not None:
            members.setdefault(group, []).append(position)
    result: list[Score] = [None] * len(scores)
    for positions in members.values():
        for position, value in zip(positions, function([scores[p] for p in positions]), strict=True):
            result[position] = value
    return result


def standardize_scores(values: Sequence[float]) -> list[float]:
    """(v - mean) / (std + 1e-4), std with n - 1; zeros where there is no spread.

    >>> [round(z, 2) for z in standardize_scores([0.0, 1.0, 0.5])], standardize_scores([0.3])
    ([-1.0, 1.0, 0.0], [0.0])
    """
    mean, spread = _mean_and_spread(values)
    return [(value - mean) / (spread + STD_EPS) for value in values]


def _mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    mean = math.fsum(values) / len(values)
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / max(1, len(values) - 1))


def _ranks(values: Sequence[float]) -> list[float]:
    order = sorted(values)
    if len(order) == 1 or order[0] == order[-1]:
        return [0.5] * len(values)
    places: dict[float, list[int]] = {}
    for place, value in enumerate(order):
        places.setdefault(value, []).append(place)
    return [fmean(places[value]) / (len(order) - 1) for value in values]
