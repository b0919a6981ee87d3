"""What a study costs: measured of the arms that are done, expected of the others; and whether the arms spent alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from medrft.pipeline.arms import Arm
from medrft.pipeline.study import Budget, Study
from medrft.rundir import read_json

if TYPE_CHECKING:
    from medrft.pipeline.grid import Grid

Result = Mapping[str, Any]
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
    """Cost of each arm, the mean over its seeds, and whether those that trained kept to the budget's rule."""
    rows: list[dict[str, Any]] = []
    for name, found in arms.items():
        each = [own_cost(result) for result in found]
        rows.append(
            {"arm": name, "seeds": len(each), **{key: round(fmean(c[key] for c in each), 1) for key in each[0]}}
        )
    spent = [row[SPENT[budget.rule]] for row in rows if row["steps"]]
    ratio = max(spent) / min(spent) if spent and min(spent) > 0 else None
    return {
        "rule": budget.rule,
        "statement": budget.statement,
        "tolerance": budget.tolerance,
        "ratio": None if ratio is None else round(ratio, 4),
        "kept": ratio is None or ratio <= 1 + budget.tolerance + 1e-9,
        "arms": rows,
        "hours": round(sum((r["seconds"] + r["evaluation_seconds"]) * r["seeds"] for r in rows) / 3600, 2),
    }


def forecast(study: Study, grid: Grid, arms: Sequence[Arm]) -> dict[str, Any]:
    """Arms, shared stages and hours before anything is run: measured where result files are, else as stated."""
    done = [arm for arm in arms if grid.is_done(arm)]
    known = [own_cost(read_json(grid.result(arm))) for arm in done]
    measured = fmean(cost["seconds"] + cost["evaluation_seconds"] for cost in known) if known else None
    each = measured or study.table.budget.seconds_per_arm
    left = [arm for arm in arms if arm not in done]
    shared = {one.key: one for arm in left for one in arm.shared if not _trained(grid, one.key, one.stage.name)}
    stages = {s["shared"]: s["seconds"] for arm in done for s in read_json(grid.result(arm))["cost"] if s["shared"]}
    per_stage = fmean(stages.values()) if stages else None
    hours = None if each is None else round(len(left) * each / 3600 + len(shared) * (per_stage or 0) / 3600, 2)
    return {
        "study": study.name,
        "arms": [{"arm": arm.label, "key": arm.key, "done": arm in done, "stages": _stages(arm)} for arm in arms],
        "shared": [{"key": key, "stage": one.stage.name, "seed": one.recipe.seed} for key, one in shared.items()],
        "left": len(left),
        "seconds_per_arm": None if each is None else round(each, 1),
        "seconds_from": "measured" if measured else "stated" if each else "unknown",
        "seconds_per_shared_stage": None if per_stage is None else round(per_stage, 1),
        "hours": hours,
        "budget": study.table.budget.statement,
        "primary": study.table.primary.model_dump(),
    }


def _stages(arm: Arm) -> list[str]:
    return [*(f"{one.stage.name} (shared)" for one in arm.shared), *(stage.name for stage in arm.recipe.stages)]


def _trained(grid: Grid, key: str, stage: str) -> bool:
    path = grid.cache / key / "stages" / stage / "stage.json"
    return path.is_file() and read_json(path).get("status") == "done"
