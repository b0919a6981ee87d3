"""Calibrations with state, from a batch of scores to calibrated ones: ARMed's adaptive threshold, and a quantile.

Both learn once per generation batch, in training only. Their state is plain JSON, so that checkpoints can hold it.
"""

from __future__ import annotations

import bisect
import math
from array import array
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np

from medrft.errors import RecipeError
from medrft.rewards.calibration import Calibration
from medrft.types import Score

SLOPES_BELOW = {"bertscore": 3.0, "cosine": 0.8}
"""a_neg by scorer. These are not the authors' values; no single value reproduces their Figure 3."""

TAIL = 0.02
"""Values within this distance of the lowest or highest one count as saturated."""
CROWDED = 0.9


def append_scores(history: Sequence[float], scores: Sequence[float], *, keep: int) -> list[float]:
    """The newest `keep` scores after one more batch.

    The batch is put in an order that depends on its values alone, so that the order of rows does not matter. The order
    is mixed, so that high or low scores are not favoured when a part of the batch is cut off.
    """
    ordered = np.sort(np.asarray(scores, dtype=float))
    mixed = ordered[np.random.default_rng(len(ordered)).permutation(len(ordered))]
    return [*history, *mixed.tolist()][-keep:]


@dataclass
class Adaptive(Calibration):
    """The adaptive calibration of ARMed (arXiv 2508.12957). For each batch of raw scores r:

    1. append {r > rho T} to the history H, keep the newest `history`;  2. T* = the `percentile` of H;
    3. T <- clip(T + clip(T* - T, ±max_step), t_min, t_max);  4. x = clip((r - T) / (1 - T + eps), -1, 1);
    5. r' = (1 + tanh(a x)) / 2 with a = a_pos where x >= 0, else a_neg.

    The authors' settings are unpublished; these defaults are ours. With `start: auto` the first batch sets T to its own
    percentile, clipped to [t_min, t_max]; a number is the first T. An empty H leaves T as it is.
    """

    kind: ClassVar[str] = "adaptive"
    has_state: ClassVar[bool] = True
    percentile: float = 50.0
    rho: float = 0.7
    history: int = 2048
    max_step: float = 0.01
    t_min: float = 0.5
    t_max: float = 0.98
    eps: float = 1e-6
    a_pos: float = 5.0
    a_neg: float = 3.0
    start: float | Literal["auto"] = "auto"
    _threshold: float | None = field(default=None, repr=False)
    _history: list[float] = field(default_factory=list, repr=False)
    _low_share: float = field(default=0.0, repr=False)
    _high_share: float = field(default=0.0, repr=False)

    def __post_init__(self) -> None:
        """Raise `RecipeError` for settings out of range; a number as `start` becomes the first threshold."""
        checks = {
            f"0 <= t_min < t_max < 1, got {self.t_min} and {self.t_max}": 0 <= self.t_min < self.t_max < 1,
            f"0 <= percentile <= 100, got {self.percentile}": 0 <= self.percentile <= 100,
            f"0 <= rho <= 1, got {self.rho}": 0 <= self.rho <= 1,
            f"history >= 1, got {self.history}": self.history >= 1,
            f"max_step > 0, got {self.max_step}": self.max_step > 0,
            f"a_pos, a_neg > 0, got {self.a_pos} and {self.a_neg}": self.a_pos > 0 and self.a_neg > 0,
            f"eps >= 0, got {self.eps}": self.eps >= 0,
        }
        for rule, holds in checks.items():
            if not holds:
                raise RecipeError(f"adaptive calibration needs {rule}")
        if self.start != "auto":
            if not isinstance(self.start, int | float) or not self.t_min <= self.start <= self.t_max:
                raise RecipeError(f"adaptive start is auto or in [{self.t_min}, {self.t_max}], got {self.start!r}")
            self._threshold = float(self.start)

    @property
    def range(self) -> tuple[float, float]:
        """Lowest and highest value: the ends of the two tanh branches."""
        return (0.5 * (1 - math.tanh(self.a_neg)), 0.5 * (1 + math.tanh(self.a_pos)))

    @property
    def threshold(self) -> float | None:
        """T; `None` before the first batch under `start: auto`."""
        return self._threshold

    def update(self, scores: Sequence[Score]) -> None:
        """Do steps 1 to 3 with one batch."""
        batch = [score for score in scores if score is not None]
        if not batch:
            return
        if self._threshold is None:
            # Step 1 needs a T, so the first batch sets it before it enters the history.
            self._threshold = self._clipped_percentile(batch)
            self._append(batch)
        else:
            self._append(batch)
            if self._history:
                step = _percentile(self._history, self.percentile) - self._threshold
                moved = self._threshold + min(self.max_step, max(-self.max_step, step))
                self._threshold = min(self.t_max, max(self.t_min, moved))
        self._watch(batch)

    def fit(self, scores: Sequence[Score]) -> None:
        """Set T to the clipped percentile of all these scores, and empty the history."""
        batch = array("d", (score for score in scores if score is not None))
        if batch:
            self._threshold = self._clipped_percentile(batch)
            self._history = []
            self._watch(batch)

    def apply(self, scores: Sequence[Score], *, groups: Sequence[Hashable] | None = None) -> list[Score]:
        """Steps 4 and 5 for each score; as long as there is no T, with the batch's own clipped percentile."""
        batch = [score for score in scores if score is not None]
        if not batch:
            return list(scores)
        threshold = self._clipped_percentile(batch) if self._threshold is None else self._threshold
        return [None if score is None else self._bend(score, threshold) for score in scores]

    def map_one(self, score: float) -> float:
        """Steps 4 and 5 for one score, with the present T."""
        assert self._threshold is not None, "no threshold yet: update, fit or load a state"
        return self._bend(score, self._threshold)

    def _bend(self, score: float, threshold: float) -> float:
        x = min(1.0, max(-1.0, (score - threshold) / (1 - threshold + self.eps)))
        return 0.5 * (1 + math.tanh((self.a_pos if x >= 0 else self.a_neg) * x))

    def _append(self, batch: Sequence[float]) -> None:
        assert self._threshold is not None
        floor = self.rho * self._threshold
        kept = [score for score in batch if score > floor]
        if kept:
            self._history = append_scores(self._history, kept, keep=self.history)

    def _clipped_percentile(self, batch: Sequence[float]) -> float:
        return min(self.t_max, max(self.t_min, _percentile(batch, self.percentile)))

    def _watch(self, batch: Sequence[float]) -> None:
        low, high = self.range
        below = above = 0
        for value in map(self.map_one, batch):
            below += value <= low + TAIL
            above += value >= high - TAIL
        self._low_share, self._high_share = below / len(batch), above / len(batch)

    def saturated(self) -> str | None:
        """The reason if T is at a bound, or more than 90 % of the last batch are at one end of the range."""
        if self._threshold in (self.t_min, self.t_max):
            return f"threshold pinned at {self._threshold}"
        for share, tail in ((self._low_share, "low"), (self._high_share, "high")):
            if share > CROWDED:
                return f"{share:.0%} of the batch in the {tail} tail"
        return None

    def state_dict(self) -> dict[str, Any]:
        """Threshold and history."""
        return {"threshold": self._threshold, "history": list(self._history)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over threshold and history."""
        self._threshold = state["threshold"]
        self._history = [float(score) for score in state["history"]][-self.history :]

    def describe(self) -> dict[str, Any]:
        """Settings and the present threshold."""
        return {**super().describe(), "threshold": self._threshold}


@dataclass
class Quantile(Calibration):
    """The score's quantile in a history of n scores; ties count half: (below + equal / 2) / n."""

    kind: ClassVar[str] = "quantile"
    has_state: ClassVar[bool] = True
    history: int = 2048
    _history: Sequence[float] = field(default_factory=list, repr=False)
    _sorted: Sequence[float] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        """Raise `RecipeError` for a history of length 0."""
        if self.history < 1:
            raise RecipeError(f"quantile calibration needs history >= 1, got {self.history}")

    def update(self, scores: Sequence[Score]) -> None:
        """Append one batch to the history."""
        batch = [score for score in scores if score is not None]
        if batch:
            self._history = append_scores(self._history, batch, keep=self.history)
            self._sorted = sorted(self._history)

    def fit(self, scores: Sequence[Score]) -> None:
        """Take all these scores as the history."""
        self._sorted = array("d", np.sort(array("d", (score for score in scores if score is not None))))
        self._history = self._sorted

    def apply(self, scores: Sequence[Score], *, groups: Sequence[Hashable] | None = None) -> list[Score]:
        """Quantiles in the history; as long as there is none, in the batch itself."""
        order = self._sorted or sorted(score for score in scores if score is not None)
        return [None if score is None else _place(score, order) for score in scores]

    def map_one(self, score: float) -> float:
        """One score's quantile in the history."""
        return _place(score, self._sorted)

    def saturated(self) -> str | None:
        """The reason if all scores in the history are equal, so that it cannot tell scores apart."""
        if self._sorted and self._sorted[0] == self._sorted[-1]:
            return f"all {len(self._sorted)} remembered scores equal {self._sorted[0]}"
        return None

    def state_dict(self) -> dict[str, Any]:
        """The history."""
        return {"history": list(self._history)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a history."""
        self._history = [float(score) for score in state["history"]]
        self._sorted = sorted(self._history)


def _place(score: float, order: Sequence[float]) -> float:
    left, right = bisect.bisect_left(order, score), bisect.bisect_right(order, score)
    return 0.5 * (left + right) / len(order) if order else 0.5


def _percentile(values: Sequence[float], percentile: float) -> float:
    return float(np.percentile(np.asarray(values, dtype=float), percentile))
