"""The controls of a report: the same model asked otherwise, and what its answers lean towards, from `metrics.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from medrft.evaluation.controls import CONTROLS, FREQUENT_QUESTION, FREQUENT_TYPE
from medrft.report import wording
from medrft.report.charts import interval_mark
from medrft.report.files import RunFiles
from medrft.report.results import subject_of
from medrft.types import KINDS

Figure = Mapping[str, Any]

NAMES = {
    FREQUENT_TYPE: "train's most frequent answer for the question type",
    FREQUENT_QUESTION: "train's most frequent answer for the exact question",
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
            groups = [_group(kind, table, metrics["results"]["none"]) for kind in KINDS]
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


def _group(kind: str, table: Mapping[str, Figure], plain: Mapping[str, Figure]) -> Group | None:
    found = [(name, control, control["kinds"][kind]) for name, control in table.items() if kind in control["kinds"]]
    if not found or kind not in plain:
        return None
    metric = found[0][2]["metric"]
    reach = _reach([figures["difference"] for _, _, figures in found])
    return Group(
        kind=kind,
        metric=metric,
        plain=plain[kind][metric],
        rows=tuple(
            Row(
                control=name,
                name=NAMES.get(name, name),
                good=GOOD[control["good"]] if figures["score"] else UNKNOWN,
                figures=figures,
                mark=_mark(figures["difference"], reach),
            )
            for name, control, figures in found
        ),
    )


def _reach(differences: Sequence[Figure | None]) -> float:
    """How far the scale of differences goes to either side."""
    ends: list[float] = [abs(d[key]) for d in differences if d for key in ("mean", "low", "high") if d[key] is not None]
    return max([0.05, *ends]) * 1.05


def _mark(difference: Figure | None, reach: float) -> Markup | None:
    if difference is None:
        return None
    mean, low, high = (difference[key] for key in ("mean", "low", "high"))
    says = f"{wording.points(mean)} points, 95 % interval {wording.points(low)} to {wording.points(high)}"
    return interval_mark(mean, low, high, scale=(-reach, reach), says=f"{says}, n {difference['n']}", zero=True)
