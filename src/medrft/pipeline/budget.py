"""What a study costs: measured of the arms that are done, expected of the others; and whether the arms spent alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any

from medrft.pipeline.answers import Result, read_result
from medrft.pipeline.arms import Arm, Shared
from medrft.pipeline.grid import Grid, is_trained
from medrft.pipeline.study import Budget, Study
from medrft.rundir import RunDir

SPENT = {"steps": "steps", "examples": "seen", "tokens": "tokens", "wall_clock": "seconds"}
"""Rule of a budget -> key of a stage's cost."""


def own_cost(result: Result) -> dict[str, float]:
    """What an arm spent on its own stages, with its evaluation; shared stages apart."""
    own = [stage for stage in result["cost"] if stage["shared"] is None]
    shared = [stage for stage in result["cost"] if stage["shared"] is not None]
    total = {key: float(sum(stage.get(key, 0) for stage in own)) for key in ("steps", "seen", "tokens", "seconds")}
    return {
        **total,
        "completions": float(sum(stage.get("completions", 0) for stage in own)),
        "evaluation_seconds": float(result["evaluation_seconds"]),
        "shared_seconds": float(sum(stage["seconds"] for stage in shared)),
    }


def costs(arms: Mapping[str, Sequence[Result]], budget: Budget) -> dict[str, Any]:
    """Cost of each arm, the median over its seeds, and whether those that trained kept to the budget's rule.

    A median, because a machine that others use, or that was stopped, makes one arm ten times as long by the clock.
    """
    each = {name: [own_cost(result) for result in found] for name, found in arms.items()}
    rows: list[dict[str, Any]] = [
        {"arm": name, "seeds": len(own), **{key: round(median(cost[key] for cost in own), 1) for key in own[0]}}
        for name, own in each.items()
    ]
    spent = [row[SPENT[budget.rule]] for row in rows if row["steps"]]
    ratio = max(spent) / min(spent) if spent and min(spent) > 0 else None
    apart = ratio is not None and ratio > 1 + budget.tolerance + 1e-9
    return {
        "rule": budget.rule,
        "statement": budget.statement,
        "tolerance": budget.tolerance,
        "ratio": None if ratio is None else round(ratio, 4),
        "kept": not apart and (ratio is not None or len(spent) < 2),  # nothing spent by one, such as tokens in SFT
        "arms": rows,
        "hours": round(sum(c["seconds"] + c["evaluation_seconds"] for own in each.values() for c in own) / 3600, 2),
    }


def forecast(study: Study, grid: Grid, arms: Sequence[Arm]) -> dict[str, Any]:
    """Arms, shared stages and hours before anything is run: measured where result files are, else as stated."""
    results = {arm.label: read_result(grid.result(arm)) for arm in arms if grid.is_done(arm)}
    left = [arm for arm in arms if arm.label not in results]
    shared = {one.key: one for arm in left for one in arm.shared if not is_trained(RunDir(grid.cache / one.key), one)}
    stages = {s["shared"]: s for result in results.values() for s in result["cost"] if s["shared"]}
    stage_seconds = {key: _stage_seconds(one, stages) for key, one in shared.items()}
    seconds = [_arm_seconds(arm, results, study.table.budget.seconds_per_arm) for arm in left]
    known = [value for value in seconds if value is not None]
    each = fmean(known) if known else None
    total = sum(known) + sum(value for value in stage_seconds.values() if value is not None)
    return {
        "study": study.name,
        "arms": [
            {"arm": arm.label, "key": arm.key, "done": arm.label in results, "stages": _stages(arm)} for arm in arms
        ],
        "shared": [
            {"key": key, "stage": one.stage.name, "seed": one.recipe.seed, "seconds": stage_seconds[key]}
            for key, one in shared.items()
        ],
        "left": len(left),
        "seconds_per_arm": None if each is None else round(each, 1),
        "seconds_from": "measured" if results else "stated" if each else "unknown",
        "hours": None if len(known) < len(left) else round(total / 3600, 2),
        "budget": study.table.budget.statement,
        "primary": study.table.primary.model_dump(),
    }


def _stages(arm: Arm) -> list[str]:
    return [*(f"{one.stage.name} (shared)" for one in arm.shared), *(stage.name for stage in arm.recipe.stages)]


def _arm_seconds(arm: Arm, results: Mapping[str, Result], stated: float | None) -> float | None:
    """What an arm will take: as its other seeds did, else as arms that train (or do not) alike, else as stated."""
    costs = {label: (result["arm"], own_cost(result)) for label, result in results.items()}
    same = [cost for name, cost in costs.values() if name == arm.name]
    alike = [cost for _, cost in costs.values() if bool(cost["steps"]) == bool(arm.recipe.stages)]
    measured = same or alike
    return median(cost["seconds"] + cost["evaluation_seconds"] for cost in measured) if measured else stated


def _stage_seconds(shared: Shared, stages: Mapping[str, Mapping[str, Any]]) -> float | None:
    """What a shared stage took when it was trained for a result that is there, else what stages of its name took."""
    if shared.key in stages:
        return float(stages[shared.key]["seconds"])
    alike = [stage["seconds"] for stage in stages.values() if stage["stage"] == shared.stage.name]
    return round(median(alike), 1) if alike else None
