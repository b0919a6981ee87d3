"""Compares answers to test questions before and after: how many were gained and lost, with examples of both."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from medrft.evaluation.compare.changes import is_right, outcome_of
from medrft.evaluation.run_files import Row, RunFiles
from medrft.report.html import png_address
from medrft.report.results import BASE, Source, pair_with, rivals_of, subject_of

EACH = 3
"""How many examples of each outcome are shown."""

OUTCOMES = {
    "wrong to right": "gained",
    "right to wrong": "lost",
    "both right": "both right",
    "wrong to other wrong": "both wrong",
    "both wrong alike": "both wrong",
    "unscored": "unscored",
}
"""Outcome of `medrft compare` -> its name in the report."""


@dataclass(frozen=True, kw_only=True)
class Said:
    """One model's answer to a question."""

    stage: str
    row: Row
    right: bool | None
    """`None` where the answer is unscored."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """One test question and what each model answered."""

    outcome: str
    row: Row
    images: tuple[str, ...]
    said: tuple[Said, ...]


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Questions that the subject gained and lost against another model."""

    dataset: str
    before: Source
    after: str
    counts: Mapping[str, int]
    questions: tuple[Question, ...]


def held_out(run: RunFiles, dataset: str) -> HeldOut | None:
    """Questions that the subject gained and lost against its first rival among models; `None` without both."""
    subject = subject_of(run, dataset)
    rivals = [rival for rival in rivals_of(run, dataset, subject) if rival.source == "none"] if subject else []
    if subject is None or not rivals:
        return None
    sorts: dict[str, list[str]] = {outcome: [] for outcome in OUTCOMES.values()}
    for pair in pair_with(run, dataset, subject, rivals[0]):
        sorts[OUTCOMES[outcome_of(pair.a[0], pair.b[0])]].append(pair.key[2])
    stages = [stage for stage in run.evaluations[dataset] if stage in {BASE, rivals[0].stage, subject}]
    answers = {stage: run.answers(stage, dataset) for stage in stages}
    chosen = [(outcome, key) for outcome in ("gained", "lost") for key in _draw(run, sorts[outcome], answers[subject])]
    return HeldOut(
        dataset=dataset,
        before=rivals[0],
        after=subject,
        counts={outcome: len(keys) for outcome, keys in sorts.items()},
        questions=tuple(_question(run, outcome, key, answers) for outcome, key in chosen),
    )


def _draw(run: RunFiles, keys: Sequence[str], rows: Mapping[str, Row]) -> list[str]:
    """`EACH` questions drawn by the recipe's seed; those whose image the run keeps come first."""
    order = random.Random(run.recipe.seed).sample(sorted(keys), len(keys))
    kept = [key for key in order if any((run.path / "images" / f"{sha}.png").is_file() for sha in rows[key]["images"])]
    return (kept + [key for key in order if key not in kept])[:EACH]


def _question(run: RunFiles, outcome: str, key: str, answers: Mapping[str, Mapping[str, Row]]) -> Question:
    said = [(stage, rows[key]) for stage, rows in answers.items() if key in rows]
    row = said[-1][1]
    return Question(
        outcome=outcome,
        row=row,
        images=tuple(map(png_address, run.thumbnails(row["images"]))),
        said=tuple(Said(stage=stage, row=answer, right=is_right(answer)) for stage, answer in said),
    )
