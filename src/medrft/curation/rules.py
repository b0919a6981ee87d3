"""The rules that a thought must pass: from a completion to its thought and the first rule that it breaks.

The one rule that looks at other thoughts, `near_identical`, is in `duplicates`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from medrft.config import Recipe
from medrft.curation.thoughts import CONTROL, contradicts_answer, leaked_words
from medrft.rewards import correct_of
from medrft.scorers.base import item_of
from medrft.scorers.clinical.own import own_lexicon
from medrft.text import extract, normalize, tokens
from medrft.types import Completion, Example, Item

RULES = {
    "truncated": "cut off at the token limit",
    "form": "not in the think form",
    "short": "thought empty or too short",
    "leak": "says that it was told the answer",
    "unscored": "answer could not be scored",
    "incorrect": "answer not correct",
    "contradiction": "thought contradicts the answer",
    "near_identical": "near-identical to the thought of another question",
}
"""Rule -> what is wrong, in the order in which the rules are applied; the first one broken counts."""


class Verdict(NamedTuple):
    """A thought, and the rule that it breaks; `None` if it passes."""

    thought: str
    rule: str | None


class Rules:
    """All rules except `near_identical`, applied to completions.

    Raises `UnknownNameError` for a `correct` scorer that does not exist.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.correct = correct_of(recipe)
        self.lexicon = own_lexicon(recipe.clinical.lexicon)

    def __call__(self, examples: Sequence[Example], completions: Sequence[Completion]) -> list[Verdict]:
        """A verdict on each completion for its example."""
        limit = self.recipe.eval.max_new_tokens
        items = [
            item_of(example, completion, form="think", max_tokens=limit)
            for example, completion in zip(examples, completions, strict=True)
        ]
        correct = self.correct(items)
        return [
            Verdict(item.thinking or "", self._rule(example, item, score))
            for example, item, score in zip(examples, items, correct, strict=True)
        ]

    def _rule(self, example: Example, item: Item, correct: float | None) -> str | None:
        """The first rule that a completion breaks, or `None`."""
        thought = item.thinking or ""
        if item.truncated:
            return "truncated"
        if item.answer is None or not extract(item.completion or "", "think").well_formed:
            return "form" if thought.strip() or item.answer is None else "short"
        if CONTROL.search(thought):
            return "form"
        if len(tokens(thought)) < self.recipe.curate.min_words:
            return "short"
        if leaked_words(thought) is not None:
            return "leak"
        if correct is None:
            return "unscored"
        if not correct:
            return "incorrect"
        # SFT writes the first reference after the thought, whatever the writer answered: it must fit both.
        taught = example.references[0]
        answers = [taught] if normalize(taught) == normalize(item.answer) else [taught, item.answer]
        against = any(contradicts_answer(thought, answer, example, self.lexicon) for answer in answers)
        return "contradiction" if against else None
