"""From result files to what each arm of a study cost, and whether the arms spent the same under the budget's rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from medrft.studies.controls import ORACLE, ControlsTable
from medrft.studies.plan import Budget
from medrft.studies.result_files import Result

SPENT = {"steps": "steps", "examples": "seen", "tokens": "tokens", "wall_clock": "seconds"}
"""Rule of a budget -> key of a stage's cost."""


def own_cost(result: Result) -> dict[str, float]:
    """What an arm spent on its own stages and on its evaluation; the seconds of shared stages are listed apart."""
    own = [stage for stage in result["cost"] if stage["shared"] is None]
    shared = [stage for stage in result["cost"] if stage["shared"] is not None]
    total = {key: float(sum(stage.get(key, 0) for stage in own)) for key in ("steps", "seen", "tokens", "seconds")}
    return {
        **total,
        "completions": float(sum(stage.get("completions", 0) for stage in own)),
        "evaluation_seconds": float(result["evaluation_seconds"]),
        "shared_seconds": float(sum(stage["seconds"] for stage in shared)),
    }


def study_costs(
    arms: Mapping[str, Sequence[Result]], budget: Budget, controls: ControlsTable | None = None
) -> dict[str, Any]:
    """Cost of each arm as the median over its seeds, and whether the arms that trained kept to the budget's rule.

    A median, because on a shared or suspended machine one run can take ten times as long by the clock. Controls that
    are to spend as much of something as the oracle (`equal`) are held to that instead of to the study's rule.
    """
    each = {name: [own_cost(result) for result in found] for name, found in arms.items()}
    rows: list[dict[str, Any]] = [
        {"arm": name, "seeds": len(own), **{key: round(median(cost[key] for cost in own), 1) for key in own[0]}}
        for name, own in each.items()
    ]
    apart_from_it = controls.equal if controls else {}
    spent = [row[SPENT[budget.rule]] for row in rows if row["steps"] and row["arm"] not in apart_from_it]
    ratio = max(spent) / min(spent) if spent and min(spent) > 0 else None
    apart = ratio is not None and ratio > 1 + budget.tolerance + 1e-9
    return {
        "rule": budget.rule,
        "statement": budget.statement,
        "tolerance": budget.tolerance,
        "ratio": None if ratio is None else round(ratio, 4),
        "kept": not apart and (ratio is not None or len(spent) < 2),  # nothing spent by one, such as tokens in SFT
        "arms": rows,
        "equal": _equal({row["arm"]: row for row in rows}, controls) if controls else [],
        "hours": round(sum(c["seconds"] + c["evaluation_seconds"] for own in each.values() for c in own) / 3600, 2),
    }


def _equal(rows: Mapping[str, Mapping[str, Any]], controls: ControlsTable) -> list[dict[str, Any]]:
    """For each control that is to spend as much as the oracle: what it spent over what the oracle did, if both ran."""
    found = []
    for arm, rule in ((arm, rule) for arm, rules in controls.equal.items() for rule in rules):
        own, most = (rows[name][SPENT[rule]] if name in rows else 0 for name in (arm, ORACLE))
        if own and most:
            kept = max(own, most) / min(own, most) <= 1 + controls.tolerance + 1e-9
            found.append({"arm": arm, "rule": rule, "ratio": round(own / most, 4), "kept": kept})
    return found
