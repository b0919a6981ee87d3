"""From items to scores by the scorer `clinical`: does the answer say what the reference says, in whatever words?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from medrft.scorers.base import AnswerScorer, Pair
from medrft.scorers.clinical.explain import explain_best
from medrft.scorers.clinical.score import compare_answers, score_pair
from medrft.text import chosen
from medrft.types import Item, Score

REMEMBERED = 2_048
"""Scores of answers with more characters are not remembered, so that the memory stays small."""


@dataclass(frozen=True)
class Clinical(AnswerScorer):
    """Compares findings and their facets: 1 for the same meaning, 0 for a contradiction, between them for less or more.

    Needs no model and no network; docs/clinical.md describes the rules and the lexicon. Over several references the
    best counts, so an answer gets 0 for a contradiction only if it contradicts all of them.
    """

    name: ClassVar[str] = "clinical"
    cache: bool = True
    """Whether to remember pairs, with a bound; `False` to time the work itself."""

    def can_score(self, reference: str, item: Item) -> bool:
        """Always: a reference without words falls back to a lexical match."""
        return True

    def score_pairs(self, pairs: Sequence[Pair]) -> list[Score]:
        """One score per distinct pair."""
        return [self._score(pair) for pair in pairs]

    def explain(self, item: Item) -> list[str]:
        """Lines for `medrft score --explain`: the comparison with the best reference, facet by facet.

        Empty for an answer that gets 0 because it cannot be read.
        """
        pairs = self._pairs(item)
        if not pairs:
            return []
        # All pairs of one item hold the same answer and question.
        best = explain_best([pair.reference for pair in pairs], _compared(pairs[0]), item.question)
        return best.text().splitlines()

    def _score(self, pair: Pair) -> float:
        answer = _compared(pair)
        if self.cache and len(answer) <= REMEMBERED:
            return score_pair(pair.reference, answer, pair.question)
        return compare_answers(pair.reference, answer, pair.question).score


def _compared(pair: Pair) -> str:
    """The text to compare: the option that the answer chooses, else the answer itself."""
    option = chosen(pair.answer, pair.options) if pair.options else None
    return pair.answer if option is None else option
