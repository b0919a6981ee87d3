"""Does an audit of a reward predict the truth that training with it gains? From audit and result files to correlations.

The audit's file is written before training, and each result carries its hash. A figure predicts as far as its order of
the rewards is the order of their gains (Spearman). Rewards of one family are alike, so they count as one draw: the
bootstrap draws families, and seeds, and the correlation is also told without each family in turn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medrft.audit.figures import FIGURES
from medrft.intervals import LEVEL, mean_ranks
from medrft.studies.plan import Predict, Study
from medrft.studies.result_files import Arms, paired_over_seeds, round_floats
from medrft.studies.shares import start_of

Floats = NDArray[np.float64]
RESAMPLES = 2000
WORST = 5
"""How many of the rewards that a figure places worst are named."""


def collect_predictions(study: Study, arms: Arms, audit: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What the audit said and what training gained, with the correlations; `None` for a study that predicts nothing.

    Without an audit, or without results, the parts that need them are empty.
    """
    plan = study.table.predict
    if plan is None:
        return None
    rows = [
        row for family, names in plan.families.items() for name in names for row in [_row(study, arms, name, family)]
    ]
    said = audit["rewards"] if audit else {}
    for row in rows:
        found = said.get(row["arm"])
        row["figures"] = found["figures"] if found else {}
        row["findings"] = found["findings"] if found else []
    judged = [row for row in rows if row["family"] not in plan.without]
    return {
        "figure": plan.figure,
        "hash": audit["hash"] if audit else None,
        "without": list(plan.without),
        "rewards": rows,
        # A reward that was trained under another audit, or under none: its place could have been known.
        "late": sorted(row["arm"] for row in judged if audit and row["gain"] and set(row["audits"]) != {audit["hash"]}),
        "correlations": {name: found for name in FIGURES if (found := correlate(judged, name)) is not None},
        "worst": _worst(judged, plan),
    }


def _row(study: Study, arms: Arms, name: str, family: str) -> dict[str, Any]:
    """A reward with its gain in the primary outcome over the start that it was trained from; `None` before it ran."""
    start = start_of(arms, name)
    where = study.table.primary.model_dump(include={"dataset", "kind", "metric", "source"})
    gain = paired_over_seeds(arms[name], arms[start], **where) if start is not None else None
    audits = sorted({str(result.get("audit")) for result in arms.get(name, ())})
    return {"arm": name, "family": family, "gain": gain, "audits": audits}


def correlate(rows: Sequence[Mapping[str, Any]], figure: str) -> dict[str, Any] | None:
    """Spearman's correlation of a figure with the gain, signed so that a figure that is right has a positive one.

    `{rho, low, high, rewards, families, seeds, without: {family: rho}}`. The interval is the bootstrap's, over families
    and over the seeds that all rewards have; `None` where there are under two families or the figure does not vary.
    The result is `None` under three rewards.
    """
    known = [row for row in rows if row["gain"] is not None and row["figures"].get(figure) is not None]
    if len(known) < 3:
        return None
    sign = FIGURES[figure][0]
    said = np.array([sign * row["figures"][figure] for row in known], dtype=float)
    seeds = sorted(set.intersection(*(set(row["gain"]["per_seed"]) for row in known)))
    if not seeds:
        return None
    gained = np.array([[row["gain"]["per_seed"][seed] for seed in seeds] for row in known], dtype=float)
    family = np.array([row["family"] for row in known])
    rho = spearman(said, gained.mean(axis=1))
    low, high = (math.nan, math.nan) if math.isnan(rho) else _bootstrap(said, gained, family)
    names = sorted(set(family.tolist()))
    without = {
        name: spearman(said[family != name], gained[family != name].mean(axis=1))
        for name in names
        if (family != name).sum() > 2
    }
    facts = {"rho": rho, "low": low, "high": high, "rewards": len(known), "families": len(names), "seeds": len(seeds)}
    return {key: round_floats(_known(value)) for key, value in facts.items()} | {
        "without": {name: round_floats(_known(value)) for name, value in without.items()}
    }


def spearman(a: Floats, b: Floats) -> float:
    """Spearman's rank correlation, ties at their mean rank; NaN where a column does not vary.

    >>> spearman(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0]))
    0.5
    """
    x, y = mean_ranks(a), mean_ranks(b)
    x, y = x - x.mean(), y - y.mean()
    scale = math.sqrt(float((x * x).sum() * (y * y).sum()))
    return float((x * y).sum() / scale) if scale > 0 else math.nan


def _bootstrap(said: Floats, gained: Floats, family: NDArray[Any]) -> tuple[float, float]:
    """Both ends of the percentile interval over families and seeds; resamples without a correlation are left out."""
    rng = np.random.default_rng(0)
    members = [np.flatnonzero(family == name) for name in sorted(set(family.tolist()))]
    if len(members) < 2:
        return math.nan, math.nan
    drawn = []
    for _ in range(RESAMPLES):
        rows = np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))])
        seeds = rng.integers(0, gained.shape[1], gained.shape[1])
        drawn.append(spearman(said[rows], gained[rows][:, seeds].mean(axis=1)))
    values = np.array(drawn)
    values = values[~np.isnan(values)]
    if not len(values):
        return math.nan, math.nan
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _worst(rows: Sequence[Mapping[str, Any]], plan: Predict) -> list[dict[str, Any]]:
    """The rewards that the primary figure places farthest from their gain, by rank among all (1 is the best)."""
    known = [row for row in rows if row["gain"] is not None and row["figures"].get(plan.figure) is not None]
    if len(known) < 3:
        return []
    sign = FIGURES[plan.figure][0]
    said = mean_ranks(np.array([-sign * row["figures"][plan.figure] for row in known], dtype=float))
    gained = mean_ranks(np.array([-row["gain"]["mean"] for row in known], dtype=float))
    order = np.argsort(-np.abs(said - gained), kind="stable")[:WORST]
    return [
        {"arm": known[i]["arm"], "family": known[i]["family"], "audit": float(said[i]), "gain": float(gained[i])}
        for i in order
        if said[i] != gained[i]
    ]


def _known(value: float) -> float | None:
    return None if isinstance(value, float) and math.isnan(value) else value
