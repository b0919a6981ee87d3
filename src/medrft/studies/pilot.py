"""From a pilot's result files to the seeds and test pictures that an outcome needs for a small standard error.

The variance of a difference over seeds has two parts: what another draw of test pictures alone would change (within a
seed, known from one seed), and what another training would change (between seeds, known from two or more). More test
pictures make the first part smaller, and only more seeds the second.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import ceil, sqrt
from statistics import variance
from typing import Any

from medrft.studies.arms import arms_of
from medrft.studies.controls import ORACLE
from medrft.studies.plan import Pair, Study
from medrft.studies.result_files import (
    Arms,
    Places,
    metric_column,
    paired_over_seeds,
    read_results,
    result_label,
    round_floats,
)
from medrft.studies.shares import start_of

TARGET = 0.008
"""The standard error that a study should have, 0.8 points: a half-width of about 2 with five seeds."""
BETWEEN = 0.025
"""Standard deviation between seeds where the pilot has one seed alone: the root mean square over the seven studies in
docs/studies.md, whose figures it has (`sd` and `by images`)."""
TIMES = (1, 2, 4, 10)
"""Multiples of the pilot's test pictures."""


def study_pilot(study: Study, places: Places) -> dict[str, Any]:
    """What a study's results so far say of its power; those of a pilot's seed, which the plan does not have, count too.

    Results made under another content are left out. The pairs are the primary one, the secondary ones, and the oracle
    against its start.
    """
    own = study.table.primary
    seeds = {0, *study.table.seeds, *(result["seed"] for result in read_results(places.own))}
    planned = arms_of(study, list(study.arms), sorted(seeds))
    keys = {arm.label: arm.key for arm in planned}
    fresh = [result for result in places.read(planned) if keys.get(result_label(result)) == result["key"]]
    arms = {name: found for name in study.arms if (found := [result for result in fresh if result["arm"] == name])}
    pairs = [Pair(a=own.a, against=own.against), *study.table.secondary]
    if (start := start_of(arms, ORACLE)) is not None:
        pairs.append(Pair(a=ORACLE, against=start))
    where: dict[str, Any] = own.model_dump(include={"dataset", "kind", "metric", "source"})
    pairs = list({(pair.a, pair.against): pair for pair in pairs}.values())
    found = sorted({result["seed"] for result in fresh})
    return {"study": study.name, "target": TARGET, **where, "seeds": found, "pairs": pilot_power(arms, pairs, where)}


def pilot_power(arms: Arms, pairs: Iterable[Pair], where: Mapping[str, Any]) -> list[dict[str, Any]]:
    """For each pair of arms: both parts of the variance, and the seeds that the target needs, by test pictures.

    `within_sd` and `between_sd` are those of one seed's difference. `measured` says whether the second comes from the
    pilot, which needs two seeds, or is `BETWEEN`. `between_share` is its share of the variance at the pilot's number of
    pictures. `needed` holds `{pictures, seeds}`, at least two seeds.
    """
    rows = []
    for pair in pairs:
        found = paired_over_seeds(arms.get(pair.a, ()), arms.get(pair.against, ()), **where)
        if found is None:
            continue
        values = list(found["per_seed"].values())
        within = float(found["within_sd"]) ** 2
        measured = len(values) > 1
        between = max(0.0, variance(values) - within) if measured else BETWEEN**2
        pictures = _pictures(arms, pair.a, where)
        total = within + between
        row = {
            **{"a": pair.a, "against": pair.against, "difference": found["mean"], "seeds": len(values)},
            "questions": found["n"] // len(values),
            "pictures": pictures,
            "within_sd": sqrt(within),
            "between_sd": sqrt(between),
            "measured": measured,
            "between_share": between / total if total else 0.0,
            "needed": [
                {"pictures": times * pictures, "seeds": seeds_for(within / times, between, target=TARGET)}
                for times in TIMES
            ],
        }
        rows.append({key: round_floats(value) for key, value in row.items()})
    return rows


def seeds_for(within: float, between: float, *, target: float) -> int:
    """Seeds until a mean over seeds with these two variances has the standard error `target`; at least two.

    >>> seeds_for(0.0016, 0.0016, target=0.008), seeds_for(0.0, 0.0, target=0.008)
    (50, 2)
    """
    return max(2, ceil((within + between) / target**2 - 1e-9))


def _pictures(arms: Arms, name: str, where: Mapping[str, Any]) -> int:
    """The test pictures of an arm's first seed that its outcome rests on."""
    found = metric_column(arms[name][0], **where)
    return len({picture for _, picture in found.values()})
