"""From result files to pairs of a start and the arm trained from it by GRPO: does pass@k of a start predict the result?

Which arm started from which is read from the shared stages in its cost, not from its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from statistics import fmean
from typing import Any

from medrft.studies.result_files import Arms, Result, datasets_of, lead_of, mean_of, metric_column, paired_over_seeds

Pairs = Sequence[tuple[str, str]]
"""(arm of the start, arm that GRPO trained from it)."""


def compare_starts(arms: Arms) -> list[dict[str, Any]]:
    """Each start that has sampled answers, with every arm that was trained by GRPO from exactly that start."""
    rows = []
    for dataset in datasets_of(arms):
        for start, after in _pairs(arms, dataset):
            where: dict[str, Any] = {"dataset": dataset, "kind": "all", "metric": lead_of(arms[start], dataset)}
            seeds = {result["seed"] for result in arms[after]} & {result["seed"] for result in arms[start]}
            curves = [result["pass_at"][dataset] for result in arms[start] if result["seed"] in seeds]
            rows.append(
                {
                    "dataset": dataset,
                    "start": start,
                    "after": after,
                    "seeds": len(seeds),
                    "greedy": mean_of([result for result in arms[start] if result["seed"] in seeds], **where),
                    "pass_at": {k: round(fmean(curve[k] for curve in curves), 4) for k in curves[0]},
                    "reached": mean_of([result for result in arms[after] if result["seed"] in seeds], **where),
                    "gain": paired_over_seeds(arms[after], arms[start], **where),
                }
            )
    return rows


def start_predictors(arms: Arms) -> list[dict[str, Any]]:
    """How often a figure of two starts, within a seed, orders them as the greedy accuracy after GRPO does.

    Ties are not counted. Half of the pairs agree by chance.
    """
    rows = []
    for dataset in datasets_of(arms):
        pairs = _pairs(arms, dataset)
        if len({start for start, _ in pairs}) < 2:
            continue
        for name in start_figures(arms[pairs[0][0]][0], dataset):
            of = _ordered(arms, pairs, name, dataset)
            rows.append({"dataset": dataset, "predictor": name, "agree": sum(of), "of": len(of)})
    return rows


def start_figures(result: Result, dataset: str) -> dict[str, float]:
    """A result's greedy accuracy and its pass@k, by name."""
    values = metric_column(result, dataset=dataset, kind="all", metric=lead_of([result], dataset)).values()
    passed = result["pass_at"].get(dataset, {})
    return {"greedy": fmean(value for value, _ in values), **{f"pass@{k}": value for k, value in passed.items()}}


def _pairs(arms: Arms, dataset: str) -> Pairs:
    """Pairs of arms that share all stages before GRPO in every seed that both have, where the first has pass@k."""
    found = []
    for start, after in ((a, b) for a in arms for b in arms if a != b):
        before = {result["seed"]: result for result in arms[start]}
        both = [(before[result["seed"]], result) for result in arms[after] if result["seed"] in before]
        if both and all(
            _began(one, two) and dataset in one["pass_at"] and dataset in two["answers"] for one, two in both
        ):
            found.append((start, after))
    return found


def _began(start: Result, after: Result) -> bool:
    """Whether `after` was trained by GRPO from exactly the model that `start` is."""
    return not _own(start) and "grpo" in _own(after) and _shared(start) == _shared(after)


def _own(result: Result) -> list[str]:
    return [str(stage["kind"]) for stage in result["cost"] if stage["shared"] is None]


def _shared(result: Result) -> list[str]:
    return [str(stage["shared"]) for stage in result["cost"] if stage["shared"] is not None]


def _ordered(arms: Arms, pairs: Pairs, name: str, dataset: str) -> list[bool]:
    """For each two starts and each seed, ties left out: whether the figure orders them as their outcomes do."""
    by = {
        arm: {result["seed"]: start_figures(result, dataset) for result in arms[arm]} for pair in pairs for arm in pair
    }
    of = []
    for (start, after), (other, other_after) in combinations(pairs, 2):
        if start == other:
            continue
        for seed in by[start].keys() & by[after].keys() & by[other].keys() & by[other_after].keys():
            before = by[start][seed][name] - by[other][seed][name]
            then = by[after][seed]["greedy"] - by[other_after][seed]["greedy"]
            if before and then:
                of.append(before * then > 0)
    return of
