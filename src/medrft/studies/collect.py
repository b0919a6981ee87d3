"""From a study's small result files to its figures: the primary outcome, tables, costs, curves and power."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from medrft.studies.contrasts import (
    answer_lengths,
    by_difficulty,
    last_curve,
    metric_comparisons,
    reward_learned,
    side_metrics,
)
from medrft.studies.costs import study_costs
from medrft.studies.plan import FLIPS, SOURCES, Study
from medrft.studies.predict import collect_predictions
from medrft.studies.result_files import (
    Arms,
    Result,
    datasets_of,
    lead_of,
    mean_of,
    paired_over_seeds,
    pooled_mean,
    result_label,
)
from medrft.studies.shares import positive_control, share_of_oracle
from medrft.studies.starts import compare_starts, start_predictors
from medrft.types import KINDS

CONTROLS = tuple(source for source in SOURCES if source != "frequent_type")
"""Sources shown beside an arm's own answers. Of train's two kinds of most frequent answer only the stronger one."""
EFFECTS = (0.01, 0.02, 0.03, 0.05)
Z = 1.959964, 0.841621
"""Normal quantiles of a two-sided test at 5 % and of a power of 80 %."""


def collect_study(
    study: Study, results: Sequence[Result], *, keys: Mapping[str, str], audit: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """All figures of a study. `keys` are the arms' present keys by label, `audit` what results are held against.

    A result with another key was made by another recipe: it is left out and listed as `stale`.
    """
    fresh = [result for result in results if keys.get(result_label(result)) == result["key"]]
    arms = {name: [result for result in fresh if result["arm"] == name] for name in study.arms}
    arms = {name: found for name, found in arms.items() if found}
    table = study.table
    against = table.primary.against
    there = {result_label(result) for result in fresh}
    return {
        "study": study.name,
        "question": table.question,
        "claim": table.claim,
        "seeds": sorted({result["seed"] for result in fresh}),
        "planned_seeds": list(table.seeds),
        "stale": sorted(result_label(r) for r in results if keys.get(result_label(r)) not in (None, r["key"])),
        "unplanned": sorted(result_label(r) for r in results if result_label(r) not in keys),
        "missing": [name for name in keys if name not in there],
        "datasets": datasets_of(arms),
        "encoder": sorted({result["encoder"] for result in fresh}),
        # The share of the base's sampled completions that keep the answer form, where it was measured.
        "form": next((dict(result["form"]) for result in fresh if result.get("form")), None),
        "primary": {**table.primary.model_dump(), "outcome": _primary(study, arms)},
        "control": positive_control(arms, list(study.arms), primary_outcome(study)),
        "predicts": collect_predictions(study, arms, audit),
        "tables": study_tables(arms, against=against, source=shown_source(study)),
        "metrics": side_metrics(arms, against=against),
        "comparisons": metric_comparisons(arms, table.secondary, kind=table.primary.kind),
        "difficulty": by_difficulty(arms, against=against),
        "lengths": answer_lengths(arms, against=against),
        "learning": reward_learned(arms),
        "starts": compare_starts(arms),
        "predictors": start_predictors(arms),
        "pass_at": {name: passed for name, found in arms.items() if (passed := _pass_at(found))},
        "cost": study_costs(arms, table.budget, study.controls.table if study.controls else None),
        "curves": {name: run for name, found in arms.items() if (run := mean_curves(found))},
        "power": study_power(arms, study),
    }


def _primary(study: Study, arms: Arms) -> dict[str, Any] | None:
    own = study.table.primary
    return paired_over_seeds(arms.get(own.a, ()), arms.get(own.against, ()), **primary_outcome(study))


def primary_outcome(study: Study) -> dict[str, Any]:
    """Data set, kind, metric and source of the primary outcome."""
    return study.table.primary.model_dump(include={"dataset", "kind", "metric", "source"})


def shown_source(study: Study) -> str:
    """What the tables are made of: `sampled` answers where the primary outcome is theirs, else `none`, greedy ones."""
    return "sampled" if study.table.primary.source == "sampled" else "none"


def study_tables(arms: Arms, *, against: str, source: str = "none") -> list[dict[str, Any]]:
    """One table per data set and kind: each arm's mean, its controls, and its paired difference to `against`.

    Flipped answers are greedy ones.
    Where a data set has one kind of question, whose table would repeat that of all kinds, it has the latter alone.
    """
    made = []
    for dataset in datasets_of(arms):
        own = []
        for kind in ("all", *KINDS):
            rows = [row for name in arms if (row := _row(arms, name, against, dataset, kind, source)) is not None]
            if rows:
                metric = rows[0].pop("metric")
                own.append({"dataset": dataset, "kind": kind, "metric": metric, "source": source, "rows": rows})
                for row in rows[1:]:
                    row.pop("metric")
        repeats = len(own) == 2 and own[0]["rows"] == own[1]["rows"]
        made += own[:1] if repeats else own
    return made


def _row(arms: Arms, name: str, against: str, dataset: str, kind: str, source: str) -> dict[str, Any] | None:
    metric = lead_of(arms[name], dataset)
    where: dict[str, Any] = {"dataset": dataset, "kind": kind, "metric": metric}
    shown = {**where, "source": source}
    own = pooled_mean(arms[name], **shown)
    if own is None:
        return None
    apart = None if name == against else paired_over_seeds(arms[name], arms.get(against, ()), **shown)
    controls = {other: mean_of(arms[name], **where, source=other) for other in CONTROLS if other != source}
    return {
        "metric": metric,
        "arm": name,
        **own,
        "controls": {other: value for other, value in controls.items() if value is not None},
        "flips": {flip: _flips(arms, name, against, {**where, "metric": flip}) for flip in FLIPS},
        "difference": apart,
        "share": share_of_oracle(arms, name, shown),
    }


def _flips(arms: Arms, name: str, against: str, where: dict[str, Any]) -> dict[str, Any] | None:
    """The share of flipped answers and its paired difference; `None` for data without a known truth."""
    own = pooled_mean(arms[name], **where)
    if own is None:
        return None
    apart = None if name == against else paired_over_seeds(arms[name], arms.get(against, ()), **where)
    return {"mean": own["mean"], "difference": apart}


def _pass_at(found: Sequence[Result]) -> dict[str, dict[str, float]]:
    """pass@k by data set, averaged over seeds."""
    made: dict[str, dict[str, float]] = {}
    for dataset in {name for result in found for name in result["pass_at"]}:
        curves = [result["pass_at"][dataset] for result in found if dataset in result["pass_at"]]
        made[dataset] = {k: round(fmean(curve[k] for curve in curves), 4) for k in curves[0]}
    return dict(sorted(made.items()))


def mean_curves(found: Sequence[Result]) -> dict[str, list[float | None]]:
    """Curves of an arm's last trained stage, averaged over seeds at each point."""
    runs = [last_curve(result) for result in found if result["curves"]]
    if not runs:
        return {}
    n = min(len(run.get("step", ())) for run in runs)
    names = dict.fromkeys(key for run in runs for key in run)
    return {
        name: [_across([run[name][i] for run in runs if name in run and i < len(run[name])]) for i in range(n)]
        for name in names
    }


def _across(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(f"{fmean(known):.4g}") if known else None


def study_power(arms: Arms, study: Study) -> list[dict[str, Any]]:
    """How much the differences vary between seeds, and how many seeds an effect would need at 80 % power.

    n = (z_0.975 + z_0.8)^2 sd^2 / effect^2 + z_0.975^2 / 2, two-sided at 5 %: the normal formula with Guenther's term
    for the t test. sd is the standard deviation of the per-seed differences of the primary metric, for the number of
    questions here. `within_sd` is the part of it that comes from the images alone; where it is nearly all, more
    pictures help as well as more seeds. Needs three seeds or more.
    """
    own = study.table.primary
    rows = []
    for dataset in datasets_of(arms):
        for name in arms:
            if name == own.against:
                continue
            where: dict[str, Any] = {"dataset": dataset, "kind": own.kind, "metric": own.metric, "source": own.source}
            found = paired_over_seeds(arms[name], arms.get(own.against, ()), **where)
            values = list(found["per_seed"].values()) if found else []
            if found is None or len(values) < 3:
                continue
            spread = stdev(values)
            rows.append(
                {
                    "dataset": dataset,
                    "arm": name,
                    "sd": round(spread, 5),
                    "within_sd": found["within_sd"],
                    "seeds": len(values),
                    "questions": found["n"] // len(values),
                    "needed": {str(effect): seeds_needed(spread, effect) for effect in EFFECTS},
                }
            )
    return rows


def seeds_needed(sd: float, effect: float) -> int:
    """Number of seeds to find a paired effect with 80 % power, two-sided at 5 %; at least 2.

    >>> seeds_needed(0.02, 0.02), seeds_needed(0.02, 0.01)
    (10, 34)
    """
    exact = (sum(Z) * sd / effect) ** 2 + Z[0] ** 2 / 2
    return max(2, int(-(-exact // 1)))
