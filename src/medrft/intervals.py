"""Intervals for clustered values: values and their images go in, a mean, difference, AUROC or tau with interval out.

Questions about one image share what the model sees in it, so the unit is the image, not the question. A mean over
questions is a ratio of two sums over images. Its variance is that of the jackknife over clusters (CR3; Bell and
McCaffrey, Survey Methodology 28, 2002). Its interval is Student's t with one degree of freedom fewer than clusters. For
values in [0, 1] it is made on the logit scale, which keeps it inside. docs/evaluation.md says how often it covers.
Needs only numpy.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]
Bounds = tuple[float, float]

LEVEL = 0.95
UNIT: Bounds = (0.0, 1.0)
METHOD = "cluster-robust t over images (jackknife variance), on the logit scale for values in [0, 1]"
CELLS = 4_000_000
"""Most entries of the matrix of resampled weights at a time (32 MB)."""
SAME = 1e-12
"""A standard error below this share of the range of values counts as 0: the clusters are all alike."""


class Interval(NamedTuple):
    """A mean with its interval; `low` and `high` are NaN for one cluster alone, which says nothing about others."""

    mean: float
    low: float
    high: float
    n: int

    def as_json(self) -> dict[str, float | int | None]:
        """`{mean, low, high, n}`, with null for a bound that is unknown."""
        return {"mean": self.mean, "low": _known(self.low), "high": _known(self.high), "n": self.n}


def mean_interval(
    values: Sequence[float],
    *,
    clusters: Sequence[Hashable] | None = None,
    runs: Sequence[Hashable] | None = None,
    bounds: Bounds | None = UNIT,
) -> Interval:
    """Mean of `values` with its 95 % interval, over whole `clusters` (each value its own by default).

    `runs` names the training seed of each value. With more than one, the interval covers other trainings as well as
    other images. Its variance is that over runs plus that over clusters minus that over both at once (Cameron, Gelbach
    and Miller, JBES 29, 2011), with Satterthwaite's degrees of freedom, so few runs make it wide.

    `bounds` are the least and greatest value there can be; `None` for values without bounds, such as a number of
    tokens. If the clusters do not differ at all, t cannot be used. With G clusters, what was never seen may still have
    a share of r = 1 - 0.025^(1/G) (Clopper and Pearson 1934), so the interval reaches from the mean a share r of the
    way to each bound. Raises `ValueError` for no values, values that are not finite or not in `bounds`.

    >>> mean_interval([1, 0, 1, 1]).mean
    0.75
    >>> [round(x, 3) for x in mean_interval([1.0] * 10)[:3]]
    [1.0, 0.692, 1.0]
    """
    numbers, code = _checked(values, clusters)
    if bounds is not None and not bounds[0] <= numbers.min() <= numbers.max() <= bounds[1]:
        raise ValueError(f"values must lie in [{bounds[0]:g}, {bounds[1]:g}], got {numbers.min()} to {numbers.max()}")
    return _interval_of(numbers, code, runs, bounds)


def paired_difference(
    a: Sequence[float],
    b: Sequence[float],
    *,
    clusters: Sequence[Hashable] | None = None,
    runs: Sequence[Hashable] | None = None,
) -> Interval:
    """Mean of `a - b` over pairs, with its 95 % interval by t, over whole `clusters`.

    `runs` names the training seed of each pair, as for `mean_interval`. Where all of `a` and `b` lie in [0, 1] the
    interval stays in [-1, 1].
    """
    if len(a) != len(b):
        raise ValueError(f"pairs need equal lengths, got {len(a)} and {len(b)}")
    left, right = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    numbers, code = _checked((left - right).tolist(), clusters)
    inside = min(left.min(), right.min()) >= 0 and max(left.max(), right.max()) <= 1
    return _interval_of(numbers, code, runs, (-1.0, 1.0) if inside else None)


def cluster_variance(values: Sequence[float], clusters: Sequence[Hashable]) -> float:
    """Sampling variance of the mean over whole clusters by their squared sums (CR1); 0 for a single cluster.

    It says how much of the spread between seeds comes from the images. The intervals themselves use the larger CR3,
    which keeps its level with few clusters.

    >>> round(cluster_variance([0.0, 1.0, 1.0, 0.0], "aabb"), 3), round(cluster_variance([0.0, 1.0], "ab"), 3)
    (0.0, 0.25)
    """
    numbers, code = _checked(values, clusters)
    sums, n = np.bincount(code, weights=numbers - numbers.mean()), int(code.max()) + 1
    return float(sums @ sums) / len(numbers) ** 2 * n / (n - 1) if n > 1 else 0.0


def _interval_of(numbers: Floats, code: Codes, runs: Sequence[Hashable] | None, bounds: Bounds | None) -> Interval:
    """The interval of a mean, over clusters or over runs and clusters."""
    mean, units = float(numbers.mean()), int(code.max()) + 1
    run = _codes(runs, len(numbers)) if runs is not None else np.zeros(len(numbers), dtype=np.intp)
    trained = int(run.max()) + 1
    if max(units, trained) < 2:
        return Interval(mean, math.nan, math.nan, len(numbers))
    if trained < 2:
        error, df = math.sqrt(_jackknife(numbers, code)), float(units - 1)
    else:
        error, df = _two_way(numbers, code, run)
    return Interval(mean, *_ends(mean, error, df, units=max(units, trained), bounds=bounds), len(numbers))


def auroc(
    positives: Sequence[float],
    negatives: Sequence[float],
    *,
    clusters: tuple[Sequence[Hashable], Sequence[Hashable]] | None = None,
    seed: int,
    resamples: int = 1000,
) -> Interval:
    """P(a positive scores above a negative), ties counted half, with its interval; n counts both sides.

    A percentile bootstrap. Positives and negatives are resampled separately, so that no resample lacks either. With
    `clusters` (labels of the positives, labels of the negatives) a label on both sides is drawn for both at once.
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


class LeftOut(NamedTuple):
    """A statistic of all rows, and of all rows but those of each cluster in turn; NaN where it is not defined."""

    value: float
    without: Floats
    """One entry per cluster, in order of appearance; that of a cluster without a usable row is the value itself."""
    n: int
    """Rows that it was made from."""

    def minus(self, other: LeftOut) -> LeftOut:
        """The difference of two statistics of the same rows and clusters."""
        return LeftOut(self.value - other.value, self.without - other.without, min(self.n, other.n))


def kendall_tau(a: Sequence[float], b: Sequence[float], *, clusters: Sequence[Hashable] | None = None) -> LeftOut:
    """Kendall's tau-b between two columns, in [-1, 1]; rows in which either is NaN are left out.

    It is the concordant less the discordant pairs of rows, over the geometric mean of the pairs that each column does
    not tie (Kendall, Biometrika 33, 1945); NaN for a column that ties all.

    >>> kendall_tau([1, 2, 3, 4], [1, 3, 2, 4]).value
    0.6666666666666666
    """
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if x.shape != y.shape:
        raise ValueError(f"tau needs columns of equal length, got {len(x)} and {len(y)}")
    code = np.arange(len(x)) if clusters is None else _codes(clusters, len(x))
    units = int(code.max(initial=-1)) + 1
    kept = ~(np.isnan(x) | np.isnan(y))
    x, y, code = x[kept], y[kept], code[kept]
    rows, inside = np.zeros((3, len(x))), np.zeros((3, len(x)))
    for part in _slices(len(x)):
        left, right = np.sign(x[part, None] - x), np.sign(y[part, None] - y)
        own = code[part, None] == code
        for i, pairs in enumerate((left * right, np.abs(left), np.abs(right))):
            rows[i, part], inside[i, part] = pairs.sum(axis=1), (pairs * own).sum(axis=1)
    # Every pair stands in the matrix twice; those that touch a cluster are its rows and columns, less what is in both.
    of_all = rows.sum(axis=1, keepdims=True)
    sums, both = (np.stack([np.bincount(code, row, units) for row in table]) for table in (rows, inside))
    ways = np.concatenate([of_all, of_all - 2 * sums + both], axis=1)
    tau = _over(ways[0], np.sqrt(np.maximum(ways[1] * ways[2], 0)))
    return LeftOut(float(tau[0]), tau[1:], len(x))


def area_under_curve(
    values: Sequence[float], right: Sequence[bool], *, clusters: Sequence[Hashable] | None = None
) -> LeftOut:
    """P(a right row's value is above a wrong one's), ties counted half; NaN while a side is empty.

    `auroc` gives the same number with a bootstrap interval; this one can be compared between columns of the same rows.
    """
    numbers, code = _checked(values, clusters)
    good = np.asarray(right, dtype=bool)
    units = int(code.max()) + 1
    high, low = numbers[good], numbers[~good]
    code_high, code_low = code[good], code[~good]
    of_high, inside, of_low = np.zeros(len(high)), np.zeros(len(high)), np.zeros(len(low))
    for part in _slices(len(high), len(low)):
        wins = (np.sign(high[part, None] - low) + 1) / 2
        of_high[part], inside[part] = wins.sum(axis=1), (wins * (code_high[part, None] == code_low)).sum(axis=1)
        of_low += wins.sum(axis=0)
    lost = np.bincount(code_high, of_high - inside, units) + np.bincount(code_low, of_low, units)
    pairs = (len(high) - np.bincount(code_high, minlength=units)) * (len(low) - np.bincount(code_low, minlength=units))
    area = _over(
        np.array([of_high.sum(), *(of_high.sum() - lost)]), np.array([len(high) * len(low), *pairs], dtype=float)
    )
    return LeftOut(float(area[0]), area[1:], len(numbers))


def average_of(statistics: Sequence[LeftOut]) -> LeftOut:
    """The mean of statistics over the same clusters; those that are not defined are left out, and if all are, NaN."""
    known = [one for one in statistics if not math.isnan(one.value)]
    if not known:
        return LeftOut(math.nan, np.full(0, math.nan), 0)
    without = np.mean([one.without for one in known], axis=0)
    return LeftOut(float(np.mean([one.value for one in known])), without, max(one.n for one in known))


def jackknife_interval(found: LeftOut, *, bounds: Bounds) -> Interval:
    """A statistic with its 95 % interval by t; the variance is the jackknife's over whole clusters, as for a mean.

    For [0, 1] the interval is made on the logit scale, and for [-1, 1] on Fisher's z, which is the same after a shift.
    Its bounds are NaN for fewer than two clusters, or where the statistic hangs on one of them.
    """
    units = len(found.without)
    error = math.sqrt(float(((found.without - found.value) ** 2).sum()))
    if units < 2 or math.isnan(error) or math.isnan(found.value):
        return Interval(found.value, math.nan, math.nan, found.n)
    if bounds != (-1.0, 1.0):
        return Interval(found.value, *_ends(found.value, error, units - 1.0, units=units, bounds=bounds), found.n)
    low, high = _ends((found.value + 1) / 2, error / 2, units - 1.0, units=units, bounds=UNIT)
    return Interval(found.value, 2 * low - 1, 2 * high - 1, found.n)


def mean_ranks(values: Floats) -> Floats:
    """Ranks from 1 up; equal values share their mean rank, as in Spearman's correlation."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Floats = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return ranks


def _slices(rows: int, columns: int | None = None) -> list[slice]:
    """The rows of a matrix in blocks of at most `CELLS` entries; the matrix is square by default."""
    step = max(1, CELLS // max(1, rows if columns is None else columns))
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


def _over(top: Floats, bottom: Floats) -> Floats:
    """A ratio, NaN where the bottom is 0."""
    ratio: Floats = np.divide(top, bottom, out=np.full_like(top, np.nan), where=bottom > 0)
    return ratio


def _checked(values: Sequence[float], clusters: Sequence[Hashable] | None) -> tuple[Floats, Codes]:
    """Values as an array and their clusters as 0, 1, …"""
    numbers = np.asarray(values, dtype=float)
    if numbers.ndim != 1 or not len(numbers):
        raise ValueError(f"an interval needs at least one value, got shape {numbers.shape}")
    if not np.isfinite(numbers).all():
        raise ValueError("an interval needs finite values; leave unscored ones out and count them")
    code = np.arange(len(numbers)) if clusters is None else _codes(clusters, len(numbers))
    return numbers, code


def _codes(labels: Sequence[Hashable], n: int) -> Codes:
    """Labels as 0, 1, … in order of appearance."""
    if len(labels) != n:
        raise ValueError(f"{n} values need {n} labels, got {len(labels)}")
    seen: dict[Hashable, int] = {}
    return np.array([seen.setdefault(label, len(seen)) for label in labels], dtype=np.intp)


def _counts(rng: np.random.Generator, units: int, resamples: int) -> Floats:
    """How often each unit is drawn in each resample, `(resamples, units)`."""
    return rng.multinomial(units, np.full(units, 1 / units), size=resamples).astype(float)


def _jackknife(numbers: Floats, code: Codes) -> float:
    """Variance of the mean over two or more clusters (CR3).

    The sum over clusters of (change of the mean when that cluster is left out)^2.
    """
    sums, sizes = np.bincount(code, weights=numbers), np.bincount(code).astype(float)
    changes = (sums - sizes * (sums.sum() / sizes.sum())) / (sizes.sum() - sizes)
    return float(changes @ changes)


def _two_way(numbers: Floats, code: Codes, run: Codes) -> tuple[float, float]:
    """Standard error and degrees of freedom of a mean over both runs and clusters; formulas in `mean_interval`."""
    units, runs = int(code.max()) + 1, int(run.max()) + 1
    of_runs = _jackknife(numbers, run)
    of_units = _jackknife(numbers, code) if units > 1 else 0.0
    _, both = np.unique(run * units + code, return_inverse=True)
    # The three-term variance can fall below one of its parts, even below 0, by chance.
    variance = max(of_runs + of_units - _jackknife(numbers, both), of_runs, of_units)
    spread = of_runs**2 / (runs - 1) + of_units**2 / max(units - 1, 1)
    df = variance**2 / spread if spread > 0 else runs - 1.0
    return math.sqrt(variance), min(max(df, 1.0), runs + units - 2.0) if units > 1 else runs - 1.0


def _ends(mean: float, error: float, df: float, *, units: int, bounds: Bounds | None) -> tuple[float, float]:
    """Both ends of the interval of a mean, from its standard error over two or more units."""
    if bounds is None:
        return mean - student_quantile(df) * error, mean + student_quantile(df) * error
    low, high = bounds
    if error <= SAME * (high - low):
        unseen = 1 - ((1 - LEVEL) / 2) ** (1 / units)
        return mean - unseen * (mean - low), mean + unseen * (high - mean)
    if bounds != UNIT:
        return max(low, mean - student_quantile(df) * error), min(high, mean + student_quantile(df) * error)
    logit, reach = math.log(mean / (1 - mean)), student_quantile(df) * error / (mean * (1 - mean))
    return min(_logistic(logit - reach), mean), max(_logistic(logit + reach), mean)


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


@lru_cache(maxsize=4096)
def student_quantile(df: float) -> float:
    """What `|t|` with `df` >= 1 degrees of freedom exceeds in 5 % of cases.

    With t = sqrt(df) tan(angle), `P(|T| <= t)` is an integral of cos^(df - 1), here by Gauss and Legendre; then Newton
    from below, which cannot overshoot, since that probability is concave in t.

    >>> round(student_quantile(1), 3), round(student_quantile(4), 3), round(student_quantile(1e6), 3)
    (12.706, 2.776, 1.96)
    """
    nodes, weights = _legendre()
    scale = 2 / math.sqrt(math.pi) * math.exp(math.lgamma((df + 1) / 2) - math.lgamma(df / 2))
    t = 1.9
    for _ in range(60):
        angle = math.atan(t / math.sqrt(df))
        inside = scale * angle / 2 * float(weights @ np.cos(angle / 2 * (nodes + 1)) ** (df - 1))
        step = (LEVEL - inside) * math.sqrt(df) / (scale * math.cos(angle) ** (df + 1))
        t += step
        if abs(step) < 1e-12 * t:
            break
    return t


@lru_cache(maxsize=1)
def _legendre() -> tuple[Floats, Floats]:
    """Nodes and weights of Gauss and Legendre on [-1, 1], kept because numpy takes milliseconds to find them."""
    nodes, weights = np.polynomial.legendre.leggauss(64)
    return nodes, weights


def _interval(mean: float, draws: Floats, n: int, *, units: int) -> Interval:
    """Percentile interval of the resampled means."""
    if units < 2:
        return Interval(mean, math.nan, math.nan, n)
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(mean, float(low), float(high), n)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
