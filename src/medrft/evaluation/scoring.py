"""Scores answers for the reports: from answers to their scores, and to rows of `predictions.jsonl`.

The scorers are the same that serve as rewards. On phantom data the oracle is asked as well; it grades by the facts of
the phantom and uses no scorer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medrft.data.images import sha256_of
from medrft.errors import RecipeError
from medrft.evaluation.explaining import explanation_of
from medrft.evaluation.judge_panel import Panel
from medrft.evaluation.metrics import SCORERS
from medrft.evaluation.own_scorers import build_own
from medrft.rewards import correct_of, options_of
from medrft.scorers.clinical.lexicon import Lexicon
from medrft.scorers.clinical.own import own_lexicon
from medrft.types import KINDS, Completion, Example, Item, Score, Scorer

if TYPE_CHECKING:
    from medrft.config import Recipe

Scores = dict[str, Score]

KEPT = ("question_type", "modality", "organ", "frequency")
"""Metadata that a row of predictions keeps, where it is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer to one example, under one control."""

    example: Example
    item: Item
    completion: Completion | None
    """`None` for an answer that no model wrote."""
    control: str
    temperature: float = 0.0
    sample: int = 0
    error: str | None = None
    """The message of a failed request; `None` where there is an answer."""

    @property
    def is_greedy(self) -> bool:
        """Whether this is the model's plain answer: the true image, no control, temperature 0."""
        return self.control == "none" and not self.temperature

    @classmethod
    def bare(cls, example: Example, answer: str, *, control: str) -> Answer:
        """An answer that no model wrote, such as the most frequent one; format and length do not apply to it."""
        item = Item(
            references=example.references,
            kind=example.kind,
            answer=answer or None,
            question=example.question,
            options=example.options,
            metadata=example.metadata,
        )
        return cls(example=example, item=item, completion=None, control=control)


class Marker:
    """The scorers of a recipe's evaluation, built once and used for every data set."""

    def __init__(self, recipe: Recipe) -> None:
        from medrft.scorers import build_scorer

        self.lexicon = own_lexicon(recipe.clinical.lexicon)
        self._correct = correct_of(recipe)
        self._open = recipe.correct.scorer
        self._panel = Panel(recipe.eval.judge) if recipe.eval.judge is not None else None
        names = {name for kind in KINDS for name in SCORERS[kind]} | {"answer_format", recipe.correct.scorer}
        self._scorers: dict[str, Scorer] = {
            name: build_scorer(
                name, encoder=recipe.encoder, clinical=recipe.clinical, **options_of(recipe.reward, name)
            )
            for name in sorted(names)
        }
        check_correct(recipe.correct.scorer, self._scorers[recipe.correct.scorer])
        self._own = build_own(recipe)
        self._scorers |= self._own

    def __call__(self, answers: Sequence[Answer]) -> list[Scores]:
        """Scores of each answer by name. A scorer that does not apply is absent; `None` is unscored."""
        scores: list[Scores] = [{} for _ in answers]
        for name, scorer in self._scorers.items():
            where = [i for i, answer in enumerate(answers) if not answer.error and self._asked(name, answer.item)]
            for i, score in zip(where, scorer([answers[i].item for i in where]), strict=True):
                scores[i][name] = score
        for answer, row in zip(answers, scores, strict=True):
            # A failed request is unscored by all that would have scored the answer, so that it is counted, not missing.
            kind = answer.item.kind
            if answer.error:
                asked = (name for name, scorer in self._own.items() if scorer.applies(answer.item))
                row.update(dict.fromkeys((*SCORERS[kind], "correct", *asked)))
            else:
                decides = self._open if kind == "open" else SCORERS[kind][0]
                row["correct"] = self._correct.outcome(kind, row.get(decides))  # one binary outcome, 0 or 1
                row.update(_truth(answer))
        self._judge(answers, scores)
        return [dict(sorted(row.items())) for row in scores]

    def _judge(self, answers: Sequence[Answer], scores: Sequence[Scores]) -> None:
        """Add the judge's verdicts on greedy answers to open questions, where the recipe has a judge."""
        where = [
            i
            for i, answer in enumerate(answers)
            if answer.is_greedy and answer.item.kind == "open" and not answer.error
        ]
        if self._panel is not None and where:
            for i, verdicts in zip(where, self._panel([answers[i].item for i in where]), strict=True):
                scores[i].update(verdicts)

    def _asked(self, name: str, item: Item) -> bool:
        wanted = {*SCORERS[item.kind], "answer_format", *self._own, *((self._open,) if item.kind == "open" else ())}
        return name in wanted and self._scorers[name].applies(item)


def check_correct(name: str, scorer: Scorer) -> None:
    """Raise `RecipeError` for a `correct.scorer` that does not apply to a bare answer to an open question.

    The most frequent answers are bare answers, so such a scorer could not score them.
    """
    bare = Item(references=("pleural effusion",), kind="open", answer="pleural effusion", question="What is shown?")
    if not scorer.applies(bare):
        raise RecipeError(
            f"correct.scorer: {name!r} does not judge a plain answer to an open question; "
            "choose one that compares answer and reference, such as exact_match or clinical"
        )


def _truth(answer: Answer) -> Scores:
    """The oracle's verdict on phantom data; empty for other data."""
    from medrft.data.phantom import known_facts

    known = known_facts(answer.example, answer.item.answer, answer.item.thinking)
    return {name: float(value) for name, value in known.items()}


def as_row(answer: Answer, scores: Scores, lexicon: Lexicon | None = None) -> dict[str, Any]:
    """One line of `predictions.jsonl`; its explanation is by `lexicon`, by default ours."""
    example, completion = answer.example, answer.completion
    explained = explanation_of(answer.item, lexicon) if answer.is_greedy else {}
    row = {
        "id": example.id,
        "dataset": example.dataset,
        "split": example.split,
        "kind": example.kind,
        "images": [sha256_of(path) for path in example.images],
        "question": example.question,
        "references": list(example.references),
        "options": list(example.options),
        "sample": answer.sample,
        "temperature": answer.temperature,
        "control": answer.control,
        "prediction": completion.text if completion else answer.item.answer or "",
        "answer": answer.item.answer,
        "truncated": completion.truncated if completion else None,
        "n_tokens": completion.n_tokens if completion else None,
        "scores": scores,
        **({"explanation": explained} if explained else {}),
        "metadata": {key: example.metadata[key] for key in KEPT if example.metadata.get(key) is not None},
    }
    return {**row, "error": answer.error} if answer.error else row
