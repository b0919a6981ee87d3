"""A study's positive control, and each arm's share of what the truth teaches: (arm - start) / (oracle - start).

A share says more than a difference: two points are much where the truth itself teaches three, and little where it
teaches twenty. It is a ratio of two means over the same seeds, and both are uncertain. Its interval is Fieller's (J. R.
Stat. Soc. B 16, 1954), from both variances and the covariance between seeds. A bootstrap over five seeds is too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from medrft.intervals import Interval, student_quantile
from medrft.studies.controls import ORACLE
from medrft.studies.result_files import Arms, Result, metric_column, paired_over_seeds, round_floats

SURE = 4.0
"""The oracle's gain must be this many times its standard error, or no share of it is told."""


def ratio_interval(top: Sequence[float], bottom: Sequence[float]) -> Interval:
    """The ratio of two means over the same units, with Fieller's 95 % interval by t with one degree of freedom fewer.

    With means x, y, their variances and covariance v_x, v_y, c, and t the quantile, the interval holds all r with
    (x - r y)^2 <= t^2 (v_x - 2 r c + r^2 v_y). Its bounds are NaN where y does not differ from 0, for then it has none,
    and for fewer than two units. Raises `ValueError` for columns of different lengths or without a value.

    >>> ratio_interval([1, 2, 3], [9, 10, 11]).mean
    0.2
    """
    if len(top) != len(bottom) or not top:
        raise ValueError(f"a ratio needs two columns of one length, got {len(top)} and {len(bottom)}")
    n, x, y = len(top), fmean(top), fmean(bottom)
    ratio = x / y if y else math.nan
    if n < 2 or not y:
        return Interval(ratio, math.nan, math.nan, n)
    (v_x, c), (_, v_y) = np.cov(top, bottom) / n * student_quantile(n - 1.0) ** 2
    a, b = y * y - v_y, x * y - c
    if a <= 0:
        return Interval(ratio, math.nan, math.nan, n)
    reach = math.sqrt(max(0.0, b * b - a * (x * x - v_x)))
    return Interval(ratio, float((b - reach) / a), float((b + reach) / a), n)


def positive_control(arms: Arms, planned: Sequence[str], where: Mapping[str, Any]) -> dict[str, Any]:
    """Whether the arm `oracle` clearly beats its start in the outcome that `where` names.

    `state` is `absent` (the study plans no such arm), `missing` (no result of it or of its start yet), `one_seed`,
    `unclear` (the interval does not lie above 0, so the study can decide nothing) or `clear`. `gain` is the paired
    difference where there is one.
    """
    if ORACLE not in planned:
        return {"state": "absent", "start": None, "gain": None}
    start = start_of(arms, ORACLE)
    gain = paired_over_seeds(arms[ORACLE], arms[start], **where) if start is not None else None
    if gain is None:
        return {"state": "missing", "start": start, "gain": None}
    clear = gain["low"] is not None and gain["low"] > 0
    state = "one_seed" if len(gain["per_seed"]) < 2 else "clear" if clear else "unclear"
    return {"state": state, "start": start, "gain": gain}


def start_of(arms: Arms, name: str) -> str | None:
    """The arm without stages of its own that has the shared stages of arm `name` in every seed that both have."""
    for other, found in arms.items():
        before = {result["seed"]: result for result in found}
        both = [(before[result["seed"]], result) for result in arms.get(name, ()) if result["seed"] in before]
        if other != name and both and all(_began(start, after) for start, after in both):
            return other
    return None


def _began(start: Result, after: Result) -> bool:
    """Whether `after` was trained from exactly the model that `start` is."""
    own = [[stage for stage in result["cost"] if stage["shared"] is None] for result in (start, after)]
    shared = [[stage["shared"] for stage in result["cost"] if stage["shared"]] for result in (start, after)]
    return not own[0] and bool(own[1]) and shared[0] == shared[1]


def share_of_oracle(arms: Arms, name: str, where: Mapping[str, Any]) -> dict[str, Any] | None:
    """What share of the oracle's gain an arm has, paired by seed: `{share, low, high, seeds, gain, error}`.

    `share` and its bounds are `None`, "not determined", where the oracle's gain is under `SURE` of its standard errors
    (`error`), or the interval has no bounds. The result is `None` for the oracle, for arms that did not start where it
    did, and without a seed in which all three have answered the same questions.
    """
    start = start_of(arms, ORACLE)
    if start is None or name in (ORACLE, start) or start_of(arms, name) != start:
        return None
    gains = [pair for pair in _gains(arms[name], arms[ORACLE], arms[start], where) if pair is not None]
    if not gains:
        return None
    own, most = zip(*gains, strict=True)
    found = ratio_interval(own, most)
    gain = fmean(most)
    error = math.sqrt(float(np.var(most, ddof=1)) / len(most)) if len(most) > 1 else math.nan
    sure = gain > 0 and gain >= SURE * error and not math.isnan(found.low)
    told = {"share": found.mean, "low": found.low, "high": found.high} if sure else dict.fromkeys(_BOUNDS)
    facts = {**told, "seeds": len(gains), "gain": gain, "error": None if math.isnan(error) else error}
    return {key: round_floats(value) for key, value in facts.items()}


_BOUNDS = ("share", "low", "high")


def _gains(
    own: Sequence[Result], oracle: Sequence[Result], start: Sequence[Result], where: Mapping[str, Any]
) -> list[tuple[float, float] | None]:
    """Per seed that all three have, the arm's and the oracle's gain over the start, on the questions of all three."""
    others = {result["seed"]: result for result in oracle}
    before = {result["seed"]: result for result in start}
    found: list[tuple[float, float] | None] = []
    for result in own:
        seed = result["seed"]
        if seed not in others or seed not in before:
            continue
        a, most, least = (metric_column(one, **where) for one in (result, others[seed], before[seed]))
        keys = [key for key in a if key in most and key in least]
        base = fmean(least[key][0] for key in keys) if keys else 0.0
        gains = (fmean(a[key][0] for key in keys) - base, fmean(most[key][0] for key in keys) - base) if keys else None
        found.append(gains)
    return found
