"""A run's results from its evaluations: the sources of answers, their metrics, and whether the model got better.

"Did it get better?" is asked of pairs: the same test questions answered by two models, with an interval over images.
The subject is the last GRPO stage, or the last stage without one. It is compared with

- a stage that trained as long in another way, if the recipe has one;
- its own start, and the start model asked for a short answer;
- train's most frequent answers, and itself on blank images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medrft.evaluation.compare.paired import mean_difference, pair_rows, scored_pairs
from medrft.evaluation.compare.sides import Pair, rows_by_key
from medrft.evaluation.controls.table import FREQUENT_QUESTION, FREQUENT_TYPE
from medrft.evaluation.metrics import RIGHT, repeats_accuracy
from medrft.evaluation.run_files import RunFiles
from medrft.intervals import Interval
from medrft.report.wording import metric_label, percent_points
from medrft.types import KINDS

Metric = Mapping[str, Any]

BASE = "base"


@dataclass(frozen=True, kw_only=True)
class Source:
    """One set of answers: those of a stage's model under one control, or a baseline that needs no model."""

    stage: str
    source: str
    """A key of `metrics.json`: `none`, `sampled`, `blank`, `shuffled`, `frequent_type`, `frequent_question`."""
    name: str
    """Its name in the report."""

    @property
    def is_control(self) -> bool:
        """Whether this is a baseline or control that trained models are compared with."""
        return self.source not in ("none", "sampled") or self.stage == BASE


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The subject minus something else, on one data set, kind and metric."""

    dataset: str
    kind: str
    metric: str
    subject: str
    against: Source
    difference: Interval

    @property
    def verdict(self) -> str:
        """`better`, `worse` or `unclear`, by whether the interval holds 0."""
        if self.difference.low > 0:
            return "better"
        return "worse" if self.difference.high < 0 else "unclear"


def sources_of(run: RunFiles, dataset: str) -> list[Source]:
    """All sources of answers on a data set: baselines without a model first, then stage by stage."""
    stages = run.evaluations[dataset]
    last = list(stages)[-1]
    found = [
        Source(stage=last, source=source, name=name)
        for source, name in (
            (FREQUENT_TYPE, "most frequent answer per question type"),
            (FREQUENT_QUESTION, "most frequent answer per exact question"),
        )
        if source in stages[last]["results"]
    ]
    for stage, metrics in stages.items():
        names = {
            "none": _stage_name(stage, metrics),
            "blank": f"{stage} on blank images",
            "shuffled": f"{stage} on wrong images",
        }
        names["sampled"] = f"{stage}, sampled"
        found += [Source(stage=stage, source=key, name=names[key]) for key in names if key in metrics["results"]]
    return found


def _stage_name(stage: str, metrics: Mapping[str, Any]) -> str:
    """A stage's name in tables; a sample of the test questions is called one."""
    name = "start model, short prompt" if stage == BASE else stage
    drawn = metrics.get("drawn_of")
    return f"{name} ({metrics['examples']} of {drawn} questions, drawn)" if drawn else name


def lead_metric(kind: str, metrics: Mapping[str, Metric]) -> str | None:
    """The metric that leads a kind's table: the oracle's `truth` if there is one, else the one for right or wrong."""
    for name in RIGHT:
        if name in metrics and (kind != "all" or name == "truth"):
            return name
    return None


def kinds_of(run: RunFiles, dataset: str) -> list[str]:
    """Kinds that were evaluated on a data set; `all` first where the phantom's oracle pools several."""
    results = [metrics["results"] for metrics in run.evaluations[dataset].values()]
    present = {kind for result in results for source in result.values() for kind in source}
    kinds: list[str] = [kind for kind in KINDS if kind in present]
    return ["all", *kinds] if "all" in present and len(kinds) > 1 else kinds


def subject_of(run: RunFiles, dataset: str) -> str | None:
    """The stage that the report is about: the last GRPO stage that was evaluated, else the last stage trained."""
    evaluated = [stage for stage in run.recipe.stages if stage.name in run.evaluations[dataset]]
    grpo = [stage.name for stage in evaluated if stage.kind == "grpo"]
    names = grpo or [stage.name for stage in evaluated]
    return names[-1] if names else None


def rivals_of(run: RunFiles, dataset: str, subject: str) -> list[Source]:
    """What the subject is compared with; the most informative comparison comes first."""
    stages = run.evaluations[dataset]
    recipe = {stage.name: stage for stage in run.recipe.stages}
    rivals = [
        Source(stage=name, source="none", name=f"{name} (trained as long as {subject})")
        for name, stage in recipe.items()
        if stage.wall_clock_of == subject and name in stages
    ]
    start = run.recipe.start_of(recipe[subject])
    if start in stages and start != BASE:
        rivals.append(Source(stage=start, source="none", name=f"{start}, which it started from"))
    writer = recipe[start].curate if start in recipe else None
    if writer in stages and writer not in (start, BASE):
        rivals.append(Source(stage=str(writer), source="none", name=f"{writer}, whose thoughts {start} learned"))
    if BASE in stages:
        rivals.append(Source(stage=BASE, source="none", name=_stage_name(BASE, stages[BASE])))
    own = {FREQUENT_QUESTION: "most frequent answers of train", "blank": "itself on blank images"}
    own["shuffled"] = "itself on wrong images"
    present = stages[subject]["results"]
    return rivals + [Source(stage=subject, source=key, name=name) for key, name in own.items() if key in present]


def compare_stages(run: RunFiles, dataset: str) -> list[Comparison]:
    """The subject against each rival, for each kind's leading metric; the pooled or first kind first."""
    subject = subject_of(run, dataset)
    if subject is None:
        return []
    found = []
    rivals = {rival: pair_with(run, dataset, subject, rival) for rival in rivals_of(run, dataset, subject)}
    for kind in kinds_of(run, dataset):
        metric = lead_metric(kind, run.evaluations[dataset][subject]["results"]["none"].get(kind, {}))
        if metric is None:
            continue
        for rival, pairs in rivals.items():
            scored = scored_pairs([pair for pair in pairs if kind in (pair.kind, "all")], metric)
            if scored:
                found.append(
                    Comparison(
                        dataset=dataset,
                        kind=kind,
                        metric=metric,
                        subject=subject,
                        against=rival,
                        difference=mean_difference(scored),
                    )
                )
    return found


WORDS = {"better": "is better than", "worse": "is worse than", "unclear": "is not clearly different from"}


def verdict_lines(run: Path) -> list[str]:
    """Whether the run's last model got better, a sentence for each data set and kind, as the report's page opens.

    Raises `DataError` for a folder that holds no run.
    """
    files = RunFiles(run)
    lines = []
    for dataset in files.evaluations:
        found = compare_stages(files, dataset)
        pooled = (
            found[:1] if found and found[0].kind == "all" else [one for one in found if one.against == found[0].against]
        )
        for one in pooled:
            apart = one.difference
            points = f"{percent_points(apart.mean)} points"
            bounds = (
                f", 95 % interval {percent_points(apart.low)} to {percent_points(apart.high)}"
                if apart.low == apart.low
                else ""
            )
            kind = "all questions" if one.kind == "all" else f"{one.kind} questions"
            lines.append(
                f"{one.subject} {WORDS[one.verdict]} {one.against.name}: {points}{bounds} in "
                f"{metric_label(one.metric)} ({dataset}, {kind}, n = {apart.n})"
            )
    return lines


def pair_with(run: RunFiles, dataset: str, stage: str, rival: Source) -> list[Pair]:
    """Pairs of rows (rival, stage) for the questions that both were asked alike, as `medrft compare` pairs them."""
    before, after = run.answers(rival.stage, dataset, rival.source), run.answers(stage, dataset)
    return pair_rows(rows_by_key(before.values()), rows_by_key(after.values()))[0]


SHOWN = ("truth", "accuracy", "correct", "average")
"""Metrics of the short table, with the recipe's own scorers; the report and `metrics.json` have all metrics."""


def result_rows(run: Path) -> list[dict[str, Any]]:
    """One row per data set, kind, metric and stage: mean, 95 % interval and n, in [0, 1], beside the controls.

    `frequent` is the most frequent answer of train for the exact question, `blank` the same model on blank images;
    both are `None` where they were not made. Raises `DataError` for a folder that holds no run.
    """
    files = RunFiles(run)
    rows = []
    for dataset, stages in files.evaluations.items():
        for kind in kinds_of(files, dataset):
            own = dict.fromkeys(name for metrics in stages.values() for name in metrics.get("scorers", {}))
            for metric in (*SHOWN, *own):
                for stage, metrics in stages.items():
                    row = _row(metrics["results"], kind, metric)
                    if row is not None:
                        rows.append({"data set": dataset, "kind": kind, "metric": metric, "stage": stage, **row})
    return rows


def _row(results: dict[str, Any], kind: str, metric: str) -> dict[str, Any] | None:
    """The model's figure and its controls; `None` if the metric does not exist or repeats another."""
    own = results.get("none", {}).get(kind, {}).get(metric)
    if own is None or repeats_accuracy(metric, kind):
        return None

    def control(source: str) -> float | None:
        return _short(results.get(source, {}).get(kind, {}).get(metric, {}).get("mean"))

    return {
        "mean": _short(own["mean"]),
        "low": _short(own["low"]),
        "high": _short(own["high"]),
        "n": own["n"],
        "frequent": control(FREQUENT_QUESTION),
        "blank": control("blank"),
    }


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
