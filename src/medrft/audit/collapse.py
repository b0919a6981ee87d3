"""How much of a reward GRPO can learn from: scored groups go in; spread, ties and the advantage's signal come out.

GRPO only compares the answers of one group, so every figure here is computed within groups.
The advantage of an answer is A = (r - mean) / (std + 1e-4) over the rewards r of its group, as TRL computes it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medrft.audit.completions import Case
from medrft.audit.discrimination import describe_answer
from medrft.audit.subject import Own, Scored, Subject
from medrft.rewards.calibrations import build_calibration
from medrft.types import Score

Floats = NDArray[np.float64]
STD_EPS = 1e-4
PUSHES = 0.1
"""An advantage larger than this moves the policy."""
WORST = 3
"""How many groups are kept as evidence."""
BINS = np.linspace(0, 0.5, 21)
ALTERNATIVES = ("none", "affine", "sigmoid", "quantile", "rank", "zscore", "group_sigmoid", "adaptive")
BENT = ("bertscore", "cosine", "nli", "clinical")
"""Parts on which other calibrations are tried if the reward calibrates none of its parts."""


class Groups:
    """Which rows belong to which group, and which groups are mixed (right and wrong answers) or all wrong."""

    def __init__(self, cases: Sequence[Case]):
        members: dict[str, list[int]] = {}
        for i, one in enumerate(cases):
            members.setdefault(one.group, []).append(i)
        self.names = [one.group for one in cases]
        self.rows = [np.array(rows) for rows in members.values()]
        self.right = np.array([np.nan if one.right is None else float(one.right) for one in cases])
        self.mixed = [rows for rows in self.rows if (self.right[rows] == 1).any() and (self.right[rows] == 0).any()]
        self.all_wrong = [rows for rows in self.rows if (self.right[rows] == 0).all()]


def measure_collapse(subject: Subject, scored: Scored, cases: Sequence[Case], *, floor: float) -> dict[str, Any]:
    """Spread, ties and levels of the total and of each part, and how well the advantage tells right from wrong.

    Spread is taken over mixed groups (some answers right, some wrong), because there a reward ought to differ.
    `floor`: a group whose std is under it counts as flat.
    """
    groups = Groups(cases)
    total = as_floats(scored.total)
    found: dict[str, Any] = {
        "groups": len(groups.rows),
        "mixed": len(groups.mixed),
        "all_wrong": len(groups.all_wrong),
        "floor": floor,
        "total": {
            "calibrated": group_spread(total, groups, floor),
            "raw": group_spread(as_floats(scored.plain), groups, floor),
        },
        "parts": {},
        "flattest": flattest_groups(total, groups, scored, cases),
        "pushed": best_paid(total, groups.all_wrong, scored, cases),
        "signal": truth_signal(total, groups),
        "signal_uncalibrated": truth_signal(as_floats(scored.plain), groups),
    }
    for name in subject.parts:
        part = as_floats(scored.calibrated[name])
        weighed = part * np.array(scored.weights[name])
        found["parts"][name] = {
            "judges_answer": name in subject.answer_parts,
            "weight": float(np.mean(scored.weights[name])),
            "raw": group_spread(as_floats(scored.raw[name]), groups, floor),
            "calibrated": group_spread(part, groups, floor),
            "variance_share": variance_share(weighed, total, groups),
            "correlation": total_correlation(weighed, total, groups),
            "tails": tail_shares(part),
            "flattest": flattest_groups(part, groups, scored, cases),
            "widest": best_paid(part, groups.rows, scored, cases),
        }
    if isinstance(subject, Own):
        found["alternatives"] = other_calibrations(subject, scored, cases, groups, floor)
        found["saturated"] = subject.reward.saturated()
    return found


def as_floats(column: Sequence[Score]) -> Floats:
    """A column of scores as an array, with NaN for an unscored row."""
    return np.array([math.nan if value is None else value for value in column], dtype=float)


def group_spread(column: Floats, groups: Groups, floor: float) -> dict[str, Any] | None:
    """Within-group std, ties and levels over the mixed groups; `None` if no mixed group is wholly scored."""
    inside = [column[rows] for rows in groups.mixed if np.isfinite(column[rows]).all()]
    if not inside:
        return None
    # ddof=1 as in torch.std, with which TRL divides; numpy alone would take ddof=0.
    stds = np.array([values.std(ddof=1) for values in inside])
    histogram, _ = np.histogram(np.clip(stds, 0, 0.4999), bins=BINS)
    return {
        "groups": len(inside),
        "std_mean": float(stds.mean()),
        "std_median": float(np.median(stds)),
        "under_floor": float((stds < floor).mean()),
        "zero": float((stds < 1e-8).mean()),
        "ties": float(np.mean([_ties(values) for values in inside])),
        "levels": float(np.mean([_levels(values) for values in inside])),
        "histogram": [int(count) for count in histogram],
    }


def _ties(values: Floats) -> float:
    """Share of the pairs of answers in a group that have the same score."""
    gaps = np.abs(values[:, None] - values[None, :])[np.triu_indices(len(values), 1)]
    return float((gaps < 1e-9).mean()) if len(gaps) else 1.0


def _levels(values: Floats) -> float:
    """Effective number of levels: exp of the entropy of the scores, which are rounded to three digits first."""
    _, counts = np.unique(np.round(values, 3), return_counts=True)
    shares = counts / counts.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def flattest_groups(column: Floats, groups: Groups, scored: Scored, cases: Sequence[Case]) -> list[dict[str, Any]]:
    """The three mixed groups with the least spread, each shown by one wrong and one right answer."""
    inside = [rows for rows in groups.mixed if np.isfinite(column[rows]).all()]
    shown = []
    for rows in sorted(inside, key=lambda rows: float(column[rows].std()))[:WORST]:
        right, wrong = (int(rows[groups.right[rows] == truth][0]) for truth in (1, 0))
        gap = float(column[wrong] - column[right])
        shown.append(
            {
                "facet": "",
                "gap": gap,
                "wrong": describe_answer(scored, cases, wrong),
                "right": describe_answer(scored, cases, right),
            }
        )
    return shown


def best_paid(
    column: Floats, among: Sequence[NDArray[np.intp]], scored: Scored, cases: Sequence[Case]
) -> list[dict[str, Any]]:
    """The best paid answer of each of the three groups with the widest spread."""
    inside = [rows for rows in among if np.isfinite(column[rows]).all()]
    widest = sorted(inside, key=lambda rows: -float(column[rows].std()))[:WORST]
    return [describe_answer(scored, cases, int(rows[column[rows].argmax()])) for rows in widest]


def _deviations(column: Floats, groups: Groups, other: Floats) -> Floats:
    """Deviations of `column` from its group means, over the groups that are wholly scored in both columns."""
    scored = [rows for rows in groups.rows if np.isfinite(column[rows]).all() and np.isfinite(other[rows]).all()]
    return np.concatenate([column[rows] - column[rows].mean() for rows in scored]) if scored else np.zeros(0)


def variance_share(part: Floats, total: Floats, groups: Groups) -> float | None:
    """cov(part, total) / var(total) within groups; the shares sum to 1 where the total is the sum of the parts."""
    own, whole = _deviations(part, groups, total), _deviations(total, groups, part)
    variance = float((whole**2).sum())
    return float((own * whole).sum() / variance) if variance > 1e-12 else None


def total_correlation(part: Floats, total: Floats, groups: Groups) -> float | None:
    """Correlation of a part with the total within groups; `None` where either is constant."""
    own, whole = _deviations(part, groups, total), _deviations(total, groups, part)
    scale = math.sqrt(float((own**2).sum()) * float((whole**2).sum()))
    return float((own * whole).sum() / scale) if scale > 1e-12 else None


def tail_shares(column: Floats) -> dict[str, float]:
    """Share of scores within 0.02 of the lowest score seen, and of the highest."""
    values = column[np.isfinite(column)]
    if not len(values):
        return {"low": 0.0, "high": 0.0}
    low, high = values.min(), values.max()
    return {"low": float((values <= low + 0.02).mean()), "high": float((values >= high - 0.02).mean())}


def group_advantages(column: Floats, rows: NDArray[np.intp]) -> Floats:
    """The advantages of one group, by the formula above; all 0 for a group of one."""
    values = column[rows]
    deviation = values.std(ddof=1) if len(values) > 1 else 0.0
    result: Floats = (values - values.mean()) / (deviation + STD_EPS)
    return result


def truth_signal(column: Floats, groups: Groups) -> dict[str, Any]:
    """How well the advantage tells right answers from wrong ones; a figure is `None` without a group to take it from.

    `snr`: in mixed groups, mean advantage of right minus that of wrong answers, over the root of their mean variance.
    `auroc`: P(a right answer is above a wrong one of its group); a tie counts half.
    `wrong_way`: share of mixed groups in which the wrong answers have the higher mean.
    `phantom`: share of all-wrong groups that still push the policy.
    """
    right: list[float] = []
    wrong: list[float] = []
    areas: list[float] = []
    turned: list[bool] = []
    for rows in groups.mixed:
        if not np.isfinite(column[rows]).all():
            continue
        gains, truth = group_advantages(column, rows), groups.right[rows]
        high, low = gains[truth == 1], gains[truth == 0]
        right += high.tolist()
        wrong += low.tolist()
        gaps = high[:, None] - low[None, :]
        areas.append(float(((gaps > 1e-9) + 0.5 * (np.abs(gaps) <= 1e-9)).mean()))
        turned.append(bool(high.mean() < low.mean() - 1e-9))
    pushing = [
        bool(np.abs(group_advantages(column, rows)).max() > PUSHES)
        for rows in groups.all_wrong
        if np.isfinite(column[rows]).all()
    ]
    noise = math.sqrt((np.var(right) + np.var(wrong)) / 2) if right and wrong else 0.0
    return {
        "snr": float((np.mean(right) - np.mean(wrong)) / noise) if noise > 1e-9 else None,
        "auroc": float(np.mean(areas)) if areas else None,
        "wrong_way": float(np.mean(turned)) if turned else None,
        "phantom": float(np.mean(pushing)) if pushing else None,
        "groups": len(areas),
        "all_wrong_groups": len(pushing),
    }


def other_calibrations(
    subject: Own, scored: Scored, cases: Sequence[Case], groups: Groups, floor: float
) -> list[dict[str, Any]]:
    """The same measurements with each other calibration in turn, to show whether one would help this reward.

    It replaces the calibrations of the parts that have one; if none has, the semantic parts (`BENT`) get it.
    """
    if subject.reward.combine_rule != "weighted_sum":
        return []
    kinds = subject.calibrations(cases[0].item.kind)
    bent = [name for name, kind in kinds.items() if kind != "none"] or [n for n in subject.answer_parts if n in BENT]
    if not bent:
        return []
    rows = []
    for kind in ALTERNATIVES:
        column = recombine_with(subject, scored, groups.names, bent, kind)
        found = group_spread(column, groups, floor)
        rows.append(
            {
                "calibration": kind,
                "parts": bent,
                **truth_signal(column, groups),
                "under_floor": found["under_floor"] if found else None,
                "variance_share": {
                    name: variance_share(
                        _calibrated(scored, groups.names, name, kind) * np.array(scored.weights[name]), column, groups
                    )
                    for name in bent
                },
            }
        )
    return rows


def recombine_with(subject: Own, scored: Scored, names: Sequence[str], bent: Sequence[str], kind: str) -> Floats:
    """The total as it would be with calibration `kind` on the parts in `bent`; NaN where it is unscored."""
    total = np.zeros(len(scored.total))
    shut = np.array(scored.shut)
    for name in subject.parts:
        column = (
            _calibrated(scored, names, name, kind)
            if name in bent
            else np.nan_to_num(as_floats(scored.calibrated[name]))
        )
        if name in subject.answer_parts:
            column = np.where(shut, 0.0, column)
        total += np.array(scored.weights[name]) * column
    missing = ~np.isfinite(as_floats(scored.total))
    total[missing] = math.nan
    return total


def _calibrated(scored: Scored, names: Sequence[str], name: str, kind: str) -> Floats:
    """One part's raw scores under a calibration fitted on these scores; 0 where there is none."""
    raw = scored.raw[name]
    values = [value for value in raw if value is not None]
    table: dict[str, Any] = {"kind": kind}
    if kind == "affine" and values:
        low, high = np.quantile(values, [0.05, 0.95])
        table |= {"low": float(low), "high": float(max(high, low + 1e-3))}
    if kind == "sigmoid" and values:
        table |= {"center": float(np.median(values))}
    calibration = build_calibration(table, scorer=name)
    calibration.fit(raw)
    return np.nan_to_num(as_floats(calibration.apply(raw, groups=list(names))))
