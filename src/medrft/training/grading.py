"""Grades a batch of rollouts: completions go in, the rewards that GRPO trains on come out.

Each process grades its own completions (`Grader.grade`: answer, raw scores, correct or not). Then all of them are
gathered, and every process calibrates and combines the same whole groups into rewards (`Grader.combine`; through
`rewards.gather`, as the adapters of other trainers do), so that all of them hold the same calibration afterwards.
`Columns` turns the rewards into the table that TRL expects.

Completions of one group stand side by side, G of them. Needs no torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from medrft.errors import StrictError
from medrft.rewards import RawScores, Reward
from medrft.rewards.gather import Gather, combine_gathered, keep_alone
from medrft.rewards.reward import ALL
from medrft.scorers.base import item_of
from medrft.scorers.correct import Correct
from medrft.training.grading_thread import GradingThread
from medrft.types import Completion, Example, Form, Item, Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Graded:
    """One completion with all that depends on it alone; it is sent to the other processes, so it must pickle."""

    example: Example
    completion: Completion
    answer: str | None
    raw: RawScores
    correct: bool | None
    truth: bool | None = None
    """What the phantom's oracle says, which knows the facts; `None` for other data."""
    in_grammar: bool | None = None
    looks: bool | None = None
    """Whether the thought says first what lies on the sides; of composed questions about phantoms alone."""
    missing: str | None = None
    """Why the policy was shown a blank picture, if it was; its completion then has no score."""
    failures: tuple[str, ...] = ()
    """What went wrong in grading, by part; a reference that cannot be scored is no failure."""


class Grader:
    """Grades completions written in one prompt's answer form (`Form`); with `strict`, a failure stops training."""

    def __init__(
        self,
        reward: Reward,
        correct: Correct,
        *,
        form: Form,
        max_tokens: int,
        strict: bool = False,
        prepare: Callable[[], None] | None = None,
    ):
        """`prepare` is called once on the thread on which scorers run (`GradingThread`)."""
        self.reward, self.correct, self.form, self.max_tokens = reward, correct, form, max_tokens
        self.strict = strict
        self.thread = GradingThread(prepare)

    def grade(
        self,
        examples: Sequence[Example],
        completions: Sequence[Completion],
        *,
        missing: Sequence[str | None] | None = None,
    ) -> list[Graded]:
        """Grade each completion by itself; `missing` says why its picture was a blank one, `None` if it was not."""
        items = self._items(examples, completions)
        raws = self.reward.score(items)
        rights, why = self.correct.scored(items)
        graded = [
            Graded(
                example=example,
                completion=completion,
                answer=item.answer,
                raw=raw,
                correct=None if right is None else bool(right),
                failures=_failures(raw, why.get(number)),
                **_truth(item, example),
            )
            for number, (example, completion, item, raw, right) in enumerate(
                zip(examples, completions, items, raws, rights, strict=True)
            )
        ]
        return [_blind(row, lost) for row, lost in zip(graded, missing or [None] * len(graded), strict=True)]

    def begin(
        self,
        examples: Sequence[Example],
        completions: Sequence[Completion],
        *,
        missing: Sequence[str | None] | None = None,
    ) -> Future[list[Graded]]:
        """`grade` on the grading thread, while the caller does something else."""
        return self.thread.submit(partial(self.grade, examples, completions, missing=missing))

    def close(self) -> None:
        """End the thread; what is being graded is not waited for."""
        self.thread.close()

    def correctness(self, examples: Sequence[Example], completions: Sequence[Completion]) -> list[bool | None]:
        """Whether each completion is correct by the recipe's `correct`, without its reward; `None` where unknown."""
        rights = self.thread.submit(lambda: self.correct(self._items(examples, completions))).result()
        return [None if right is None else bool(right) for right in rights]

    def _items(self, examples: Sequence[Example], completions: Sequence[Completion]) -> list[Item]:
        return [
            item_of(example, completion, form=self.form, max_tokens=self.max_tokens)
            for example, completion in zip(examples, completions, strict=True)
        ]

    def combine(
        self, graded: list[Graded], *, group_size: int, update: bool, gather: Gather = keep_alone
    ) -> tuple[list[Graded], list[Outcome]]:
        """The whole groups of all processes, calibrated and combined; with `update` the calibration learns from them.

        Raises `StrictError` for a failure if the recipe is strict. It is raised here and not in `grade`, because after
        the gather every process raises it, and none waits for another.
        """

        def gathered(own: list[Graded]) -> tuple[list[Graded], int]:
            rows, start = gather(own)
            if self.strict:
                refuse_failures(rows)
            return rows, start

        rows, outcomes, _ = combine_gathered(
            self.reward,
            graded,
            raw_of=lambda row: row.raw,
            groups_of=lambda rows: [number // group_size for number in range(len(rows))],
            update=update,
            gather=gathered,
        )
        return rows, outcomes


def refuse_failures(graded: Sequence[Graded]) -> None:
    """Raise `StrictError` if grading any of these completions failed."""
    failed = [row for row in graded if row.failures]
    if failed:
        first = f"{failed[0].failures[0]} (first: {failed[0].example.id})"
        raise StrictError(
            f"{len(failed)} of {len(graded)} completions of a batch could not be judged: {first}, and the recipe is "
            "strict; mend that and go on with --resume, or set strict=false to count them and leave them out"
        )


def _failures(raw: RawScores, correct: str | None) -> tuple[str, ...]:
    """Each failure, with the name of the part that failed before it."""
    named = {**raw.reasons, **({"correct": correct} if correct else {})}
    return tuple(f"{name}: {why}" for name, why in named.items())


def _blind(row: Graded, lost: str | None) -> Graded:
    """A completion that was written to a blank picture, without scores and neither right nor wrong."""
    if lost is None:
        return row
    return replace(
        row,
        raw=row.raw.without(lost),
        correct=None,
        truth=None,
        in_grammar=None,
        looks=None,
        missing=lost,
        failures=(lost,),
    )


def _truth(item: Item, example: Example) -> dict[str, Any]:
    from medrft.data.phantom import known_facts

    return known_facts(example, item.answer, item.thinking)


@dataclass(frozen=True, slots=True)
class Columns:
    """The reward as TRL counts it: one named function and weight per column."""

    names: tuple[str, ...]
    weights: tuple[float, ...]
    normalise_each: bool
    """Whether TRL normalises each column in its group before the sum (`multi_objective_aggregation`)."""

    def values(self, graded: Sequence[Graded], outcomes: Sequence[Outcome]) -> list[list[float]]:
        """One row per completion; TRL leaves out a value that is NaN.

        A row with any unscored part is NaN in every column. TRL adds columns up with `nansum`, where a single NaN
        would count as 0. A part that does not concern a group's kind is NaN in the whole group.
        """
        if not self.normalise_each:
            return [[_number(outcome.reward)] for outcome in outcomes]
        rows = []
        for row, outcome in zip(graded, outcomes, strict=True):
            parts = {f"{row.example.kind}/{name}": value for name, value in outcome.calibrated.items()}
            parts |= dict(outcome.calibrated)
            unscored = outcome.reward is None
            rows.append([math.nan if unscored else _number(parts.get(name)) for name in self.names])
        return rows


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def columns_of(reward: Reward) -> Columns:
    """The columns by which TRL gets a reward: one for a weighted sum, else one for each part that it is to normalise.

    Kinds of question may weigh a part differently, so each kind has columns of its own.
    """
    if reward.combine_rule == "weighted_sum":
        return Columns(("reward",), (1.0,), False)
    weights: dict[str, float] = {}
    for key, stack in reward.stacks.items():
        for part in stack.parts:
            weights[part.name if key == ALL else f"{key}/{part.name}"] = part.weight
    return Columns(tuple(weights), tuple(weights.values()), True)
