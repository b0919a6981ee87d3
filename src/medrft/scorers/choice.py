"""From an answer to 1 or 0 on questions with a closed set of answers: yes/no match and choice match."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from medrft.scorers.base import AnswerScorer, Pair
from medrft.text import chosen, yes_no
from medrft.types import Item, Score


@dataclass(frozen=True)
class YesNoMatch(AnswerScorer):
    """1 if the answer says the reference's yes or no and not the other, else 0; for closed questions."""

    name: ClassVar[str] = "yes_no_match"

    def applies(self, item: Item) -> bool:
        """Closed questions only."""
        return item.kind == "closed"

    def can_score(self, reference: str, item: Item) -> bool:
        """Whether the reference is a yes or a no."""
        return yes_no(reference) is not None

    def score_pairs(self, pairs: Sequence[Pair]) -> list[Score]:
        """1 for each pair that says the same yes or no, else 0."""
        return [float(yes_no(pair.answer) == yes_no(pair.reference)) for pair in pairs]


@dataclass(frozen=True)
class ChoiceMatch(AnswerScorer):
    """1 if the answer chooses the right option by letter, by text or by both, else 0; for questions with options."""

    name: ClassVar[str] = "choice_match"

    def applies(self, item: Item) -> bool:
        """Items with options only."""
        return bool(item.options)

    def can_score(self, reference: str, item: Item) -> bool:
        """Whether the reference chooses one of the options, by text or by letter."""
        return chosen(reference, item.options) is not None

    def score_pairs(self, pairs: Sequence[Pair]) -> list[Score]:
        """1 for each pair that chooses the same option, else 0."""
        return [float(chosen(p.answer, p.options) == chosen(p.reference, p.options)) for p in pairs]
