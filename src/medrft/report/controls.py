"""The controls of a report: the same model asked otherwise, and what its answers lean towards, from `metrics.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medrft.errors import naming_extras
from medrft.evaluation.controls.table import CONTROLS, FREQUENT_QUESTION, FREQUENT_TYPE
from medrft.evaluation.metrics import cluster_of, values_of
from medrft.evaluation.run_files import RunFiles
from medrft.intervals import mean_interval, paired_difference
from medrft.report import wording
from medrft.report.charts import ends_of, interval_mark
from medrft.report.results import BASE, subject_of
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
"""What a good model does under each sort of control."""
UNKNOWN = "may answer otherwise"
"""What it does where the right answer is not known."""
EITHER = "is right as often"
"""What it does where the right answer is known and may be either: a mass may be on both sides, or on none."""


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
    """The controls of one data set's subject."""

    dataset: str
    stage: str
    groups: tuple[Group, ...]
    left_out: tuple[tuple[str, Mapping[str, int]], ...]
    """What each control changes, and how many examples it left out for which reason."""
    biases: Mapping[str, Any]


def controls_of(run: RunFiles) -> list[Controls]:
    """One entry per data set whose subject was read against anything; the subject is the report's own."""
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
    reach = _reach([figures["difference"] for _, _, figures in found])
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
                mark=_mark(figures["difference"], reach),
            )
            for name, control, figures in found
        ),
    )


def _good(name: str, sort: str, kind: str, *, known: bool) -> str:
    """What a good model does, told to a reader."""
    if kind == "closed" and name in ("flip", "sides"):
        return EITHER if known else UNKNOWN
    return GOOD[sort] if known else UNKNOWN


def _start(run: RunFiles, dataset: str, stage: str, kind: str) -> Figure | None:
    """The start model's row: its score, and the difference from the stage, over the questions that both answered."""
    if stage == BASE or BASE not in run.evaluations[dataset]:
        return None
    plain, start = run.answers(stage, dataset), run.answers(BASE, dataset)
    shared = sorted(key for key in plain.keys() & start.keys() if plain[key]["kind"] == kind)
    metric = "truth" if shared and "truth" in plain[shared[0]]["scores"] else "correct"
    both = [(values_of(start[k]).get(metric), values_of(plain[k]).get(metric), cluster_of(plain[k])) for k in shared]
    scored = [(theirs, ours, image) for theirs, ours, image in both if theirs is not None and ours is not None]
    if not scored:
        return None
    theirs, ours, images = zip(*scored, strict=True)
    return {
        "n": len(shared),
        "metric": metric,
        "score": mean_interval(theirs, clusters=images).as_json(),
        "difference": paired_difference(theirs, ours, clusters=images).as_json(),
    }


def _reach(differences: Sequence[Figure | None]) -> float:
    """How far the scale of differences goes to either side."""
    ends: list[float] = [abs(end) for difference in differences for end in ends_of(difference)]
    return max([0.05, *ends]) * 1.05


def _mark(difference: Figure | None, reach: float) -> Markup | None:
    if difference is None:
        return None
    mean, low, high = (difference[key] for key in ("mean", "low", "high"))
    said = [wording.percent_points(value) for value in (mean, low, high)]
    says = f"{said[0]} points, 95 % interval {said[1]} to {said[2]}"
    return interval_mark(mean, low, high, scale=(-reach, reach), says=f"{says}, n {difference['n']}", zero=True)
