"""Seeded intervals: the cluster bootstrap, paired differences, and the area under the ROC curve. Numpy only.

Questions about one image share what the model sees in it, so images are resampled, not questions: each resample draws
as many clusters as there are, with replacement, and divides the sum of their values by the sum of their sizes (a ratio
estimator; Davison and Hinkley 1997, section 3.8). Intervals are percentile intervals. Values that are all alike have an
interval of no width, whatever n is: read it with n.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEVEL = 0.95
CELLS = 4_000_000
"""Largest matrix of resampled weights at a time (32 MB), whatever the number of clusters."""


class Interval(NamedTuple):
    """A mean with its interval; `low` and `high` are NaN where there is one cluster and nothing to resample."""

    mean: float
    low: float
    high: float
    n: int

    def as_json(self) -> dict[str, float | int | None]:
        """`{mean, low, high, n}`, with null for a bound that is unknown."""
        return {"mean": self.mean, "low": _known(self.low), "high": _known(self.high), "n": self.n}


def bootstrap_mean(
    values: Sequence[float],
    *,
    clusters: Sequence[Hashable] | None = None,
    seed: int,
    resamples: int = 1000,
) -> Interval:
    """Mean of `values` with its interval, resampling whole `clusters` (each value its own by default).

    Raises `ValueError` for no values, or for values that are not finite.

    >>> bootstrap_mean([1, 0, 1, 1], seed=0).mean
    0.75
    """
    numbers, code = _checked(values, clusters)
    sums, sizes = np.bincount(code, weights=numbers), np.bincount(code).astype(float)
    rng = np.random.default_rng(seed)
    draws = [(weights @ sums) / (weights @ sizes) for weights in _weights(rng, len(sums), resamples)]
    return _interval(float(numbers.mean()), np.concatenate(draws), len(numbers), units=len(sums))


def paired_difference(
    a: Sequence[float],
    b: Sequence[float],
    *,
    clusters: Sequence[Hashable] | None = None,
    runs: Sequence[Hashable] | None = None,
    seed: int,
    resamples: int = 1000,
) -> Interval:
    """Mean of `a - b` over pairs, with its interval.

    `runs` names the training seed of each pair. With more than one, runs are resampled first and then clusters within
    each drawn run, so that the interval covers another training as well as other images.
    """
    if len(a) != len(b):
        raise ValueError(f"pairs need equal lengths, got {len(a)} and {len(b)}")
    differences = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    if runs is None or len(set(runs)) < 2:
        return bootstrap_mean(differences.tolist(), clusters=clusters, seed=seed, resamples=resamples)
    numbers, code = _checked(differences.tolist(), clusters)
    run = _codes(runs, len(numbers))
    rng = np.random.default_rng(seed)
    draws = _nested(rng, numbers, code, run, resamples)
    return _interval(float(numbers.mean()), draws, len(numbers), units=int(run.max()) + 1)


def auroc(
    positives: Sequence[float],
    negatives: Sequence[float],
    *,
    clusters: tuple[Sequence[Hashable], Sequence[Hashable]] | None = None,
    seed: int,
    resamples: int = 1000,
) -> Interval:
    """P(a positive scores above a negative), ties counted half, with its interval; n counts both sides.

    Positives and negatives are resampled apart, so that no resample lacks either; with `clusters` (labels of the
    positives, labels of the negatives) a label that occurs on both sides is drawn for both at once.
    """
    high, code_high = _checked(positives, clusters[0] if clusters else None)
    low, code_low = _checked(negatives, clusters[1] if clusters else None)
    order = np.argsort(low)
    left = np.searchsorted(low[order], high, side="left")
    right = np.searchsorted(low[order], high, side="right")

    def area(weight_high: Floats, weight_low: Floats) -> Floats:
        below = np.concatenate([np.zeros((len(weight_low), 1)), np.cumsum(weight_low[:, order], axis=1)], axis=1)
        wins = (weight_high * (below[:, left] + below[:, right]) / 2).sum(axis=1)
        pairs = weight_high.sum(axis=1) * below[:, -1]
        area_R: Floats = np.divide(wins, pairs, out=np.full_like(wins, np.nan), where=pairs > 0)
        return area_R

    mean = float(area(np.ones((1, len(high))), np.ones((1, len(low))))[0])
    rng = np.random.default_rng(seed)
    chunk = max(1, CELLS // (len(high) + len(low)))
    counts = [min(chunk, resamples - start) for start in range(0, resamples, chunk)]
    if clusters is None:
        pairs = ((_counts(rng, len(high), count), _counts(rng, len(low), count)) for count in counts)
        units = min(len(high), len(low))
    else:
        shared = _codes([*clusters[0], *clusters[1]], len(high) + len(low))
        units = int(shared.max()) + 1
        code_high, code_low = shared[: len(high)], shared[len(high) :]
        drawn = (_counts(rng, units, count) for count in counts)
        pairs = ((weights[:, code_high], weights[:, code_low]) for weights in drawn)
    draws = np.concatenate([area(*pair) for pair in pairs])
    return _interval(mean, draws[~np.isnan(draws)], len(high) + len(low), units=units)


def _checked(values: Sequence[float], clusters: Sequence[Hashable] | None) -> tuple[Floats, NDArray[np.intp]]:
    """Values as an array and their clusters as 0, 1, …"""
    numbers = np.asarray(values, dtype=float)
    if numbers.ndim != 1 or not len(numbers):
        raise ValueError(f"an interval needs at least one value, got shape {numbers.shape}")
    if not np.isfinite(numbers).all():
        raise ValueError("an interval needs finite values; leave unscored ones out and count them")
    code = np.arange(len(numbers)) if clusters is None else _codes(clusters, len(numbers))
    return numbers, code


def _codes(labels: Sequence[Hashable], n: int) -> NDArray[np.intp]:
    """Labels as 0, 1, … in order of appearance."""
    if len(labels) != n:
        raise ValueError(f"{n} values need {n} labels, got {len(labels)}")
    seen: dict[Hashable, int] = {}
    return np.array([seen.setdefault(label, len(seen)) for label in labels], dtype=np.intp)


def _counts(rng: np.random.Generator, units: int, resamples: int) -> Floats:
    """How often each unit is drawn in each resample, `(resamples, units)`."""
    return rng.multinomial(units, np.full(units, 1 / units), size=resamples).astype(float)


def _weights(rng: np.random.Generator, units: int, resamples: int) -> Iterator[Floats]:
    """`_counts` in chunks that fit in memory."""
    chunk = max(1, CELLS // units)
    for start in range(0, resamples, chunk):
        yield _counts(rng, units, min(chunk, resamples - start))


def _nested(
    rng: np.random.Generator, numbers: Floats, code: NDArray[np.intp], run: NDArray[np.intp], resamples: int
) -> Floats:
    """Resampled means: runs first, then the clusters within each drawn run."""
    runs = []
    for r in range(int(run.max()) + 1):
        _, inner = np.unique(code[run == r], return_inverse=True)
        runs.append((np.bincount(inner, weights=numbers[run == r]), np.bincount(inner).astype(float)))
    means = np.empty(resamples)
    for i in range(resamples):
        total = size = 0.0
        for r in rng.integers(len(runs), size=len(runs)):
            sums, sizes = runs[r]
            weights = _counts(rng, len(sums), 1)[0]
            total += float(weights @ sums)
            size += float(weights @ sizes)
        means[i] = total / size
    return means


def _interval(mean: float, draws: Floats, n: int, *, units: int) -> Interval:
    """Percentile interval of the resampled means."""
    if units < 2:
        return Interval(mean, math.nan, math.nan, n)
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(mean, float(low), float(high), n)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
