"""Marks the metrics that a stage was trained on: from a recipe and a stage to `{"open": {"bleu1": "reward = metric"}}`.

Where reward and metric are the same function, a gain shows that training works. Whether the answers are better only a
metric outside the reward can show.
"""

from __future__ import annotations

from medrft.config import Recipe, StageConfig
from medrft.evaluation.metrics import PAPERS_FOUR, SCORERS
from medrft.evaluation.own_scorers import Facts, short_spec
from medrft.rewards import resolve_stacks
from medrft.rewards.reward import ALL
from medrft.types import KINDS, Kind

SAME = "reward = metric"


def rewarded_metrics(recipe: Recipe, stage: str, own: Facts | None = None) -> dict[Kind, dict[str, str]]:
    """`{kind: {metric: mark}}` of the metrics that rewarded the stage, or any stage that it started from.

    The mark is `reward = metric`; the papers' average can also have `3 of 4 in the reward`. Empty for the start model
    and after SFT alone. `own` are the header's facts on the scorers that the recipe itself reports.
    """
    found: dict[Kind, dict[str, str]] = {}
    for trained in _line(recipe, stage):
        if trained.kind == "grpo":
            for kind in trained.kinds or KINDS:
                found.setdefault(kind, {}).update(_marks(recipe, kind, own or {}))
    return {kind: marks for kind, marks in found.items() if marks}


def _line(recipe: Recipe, stage: str) -> list[StageConfig]:
    """The stage and those it started from, without the start model."""
    stages = {one.name: one for one in recipe.stages}
    line = []
    while stage in stages:
        line.append(stages[stage])
        stage = recipe.start_of(stages[stage])
    return line


def _marks(recipe: Recipe, kind: Kind, own: Facts) -> dict[str, str]:
    stacks = resolve_stacks(recipe.reward)
    stack = stacks.get(kind, stacks.get(ALL))
    if stack is None:
        return {}
    names = {part.scorer for part in stack.parts} | ({stack.gate.scorer} if stack.gate is not None else set())
    outcome = recipe.correct.scorer if kind == "open" else SCORERS[kind][0]
    if "correct" in names:
        names.add(outcome)
    reported = {facts["scorer"]: name for name, facts in own.items()}
    marks = {reported.get(short_spec(name)) or _metric(name): SAME for name in names}
    if outcome in names:
        marks["correct"] = SAME
    shared = len(names & set(PAPERS_FOUR))
    if shared and kind == "open":
        marks["average"] = SAME if shared == len(PAPERS_FOUR) else f"{shared} of {len(PAPERS_FOUR)} in the reward"
    return marks


def _metric(scorer: str) -> str:
    return "accuracy" if scorer in ("yes_no_match", "choice_match") else scorer
