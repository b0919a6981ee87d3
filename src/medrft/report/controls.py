"""The report's section on controls, from `metrics.json`: what the same model says when it is asked otherwise.

A control changes the picture or the question, and a good model must react to it in a known way (`GOOD`). The section
also shows the biases of the answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from medrft.errors import naming_extras
from medrft.evaluation.compare.paired import mean_difference, scored_pairs
from medrft.evaluation.controls.table import CONTROLS, FREQUENT_QUESTION, FREQUENT_TYPE
from medrft.evaluation.metrics import verdict_name
from medrft.evaluation.run_files import RunFiles
from medrft.intervals import mean_interval
from medrft.report.charts import difference_mark, scale_reach
from medrft.report.results import BASE, Source, pair_with, subject_of
from medrft.types import KINDS

with naming_extras():
    from markupsafe import Markup

Figure = Mapping[str, Any]

NAMES = {
    FREQUENT_TYPE: "train's most frequent answer for the question type",
    FREQUENT_QUESTION: "train's most frequent answer for the exact question",
    BASE: "the start model, asked for a short answer",
    **{name: control.says for name, control in CONTROLS.items()},
}
GOOD = {
    "below": "is right more often than this",
    "falls": "is right less often",
    "stays": "answers the same",
    "turns": "answers the opposite",
}
"""Sort of control -> what a good model does, compared with its plain answers."""
UNKNOWN = "may answer otherwise"
"""What it does if the right answer under the control is not known."""
EITHER = "is right as often"
"""What it does if the right answer is known but may be the same: a mass may be on both sides, or on none."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One control on one kind of question."""

    control: str
    name: str
    good: str
    figures: Figure
    mark: Markup | None
    """The difference from the plain answers, drawn."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """All controls on one kind of question, below the plain answers."""

    kind: str
    metric: str
    plain: Figure
    rows: tuple[Row, ...]


@dataclass(frozen=True, kw_only=True)
class Controls:
    """The controls of the report's subject on one data set."""

    dataset: str
    stage: str
    groups: tuple[Group, ...]
    left_out: tuple[tuple[str, Mapping[str, int]], ...]
    """What each control changes, and how many examples it left out for which reason."""
    biases: Mapping[str, Any]


def controls_of(run: RunFiles) -> list[Controls]:
    """One entry per data set that has controls or biases, for the stage that the report is about."""
    found = []
    for dataset, stages in run.evaluations.items():
        stage = subject_of(run, dataset) or list(stages)[-1]
        metrics = stages[stage]
        table: Mapping[str, Figure] = metrics.get("controls") or {}
        if table or metrics.get("biases"):
            groups = [
                _group(kind, table, metrics["results"]["none"], _start(run, dataset, stage, kind)) for kind in KINDS
            ]
            found.append(
                Controls(
                    dataset=dataset,
                    stage=stage,
                    groups=tuple(group for group in groups if group is not None),
                    left_out=tuple(
                        (NAMES.get(name, name), c["left_out"]) for name, c in table.items() if c["left_out"]
                    ),
                    biases=metrics.get("biases") or {},
                )
            )
    return found


def _group(kind: str, table: Mapping[str, Figure], plain: Mapping[str, Figure], start: Figure | None) -> Group | None:
    found = [(name, control, control["kinds"][kind]) for name, control in table.items() if kind in control["kinds"]]
    if not found or kind not in plain:
        return None
    metric = found[0][2]["metric"]
    if start is not None:
        baselines = sum(name in (FREQUENT_TYPE, FREQUENT_QUESTION) for name, _, _ in found)
        found.insert(baselines, (BASE, {"good": "below"}, start))
    reach = scale_reach(figures["difference"] for _, _, figures in found)
    return Group(
        kind=kind,
        metric=metric,
        plain=plain[kind][metric],
        rows=tuple(
            Row(
                control=name,
                name=NAMES.get(name, name),
                good=_good(name, control["good"], kind, known=bool(figures["score"])),
                figures=figures,
                mark=difference_mark(figures["difference"], reach=reach) if figures["difference"] else None,
            )
            for name, control, figures in found
        ),
    )


def _good(name: str, sort: str, kind: str, *, known: bool) -> str:
    """What a good model does under a control, in words."""
    if kind == "closed" and name in ("flip", "sides"):
        return EITHER if known else UNKNOWN
    return GOOD[sort] if known else UNKNOWN


def _start(run: RunFiles, dataset: str, stage: str, kind: str) -> Figure | None:
    """The start model's score, and the stage's difference from it, over the questions that both answered."""
    if stage == BASE or BASE not in run.evaluations[dataset]:
        return None
    plain = Source(stage=stage, source="none", name=stage)
    shared = [pair for pair in pair_with(run, dataset, BASE, plain) if pair.kind == kind]
    metric = verdict_name(shared[0].a[0]["scores"] if shared else ())
    scored = scored_pairs(shared, metric)
    if not scored:
        return None
    images = [one.pair.cluster for one in scored]
    return {
        "n": len(shared),
        "metric": metric,
        "score": mean_interval([one.after for one in scored], clusters=images).as_json(),
        "difference": mean_difference(scored).as_json(),
    }
