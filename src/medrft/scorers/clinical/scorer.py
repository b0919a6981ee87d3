"""The scorer `clinical`: does the answer say what the reference says, in whatever words?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from medrft.scorers.base import AnswerScorer, Pair
from medrft.scorers.clinical.score import compare_answers, score_pair
from medrft.text import chosen
from medrft.types import Item, Score

REMEMBERED = 2_048
"""Longer answers are scored anew each time, so that the memory stays small."""


@dataclass(frozen=True)
class Clinical(AnswerScorer):
    """Findings and their facets compared: 1 the same meaning, 0 a contradiction, partial for less or more.

    Needs no model and no network; the rules and the lexicon are described in docs/clinical.md. Over several references
    the best counts, so that a contradiction needs all of them contradicted.
    """

    name: ClassVar[str] = "clinical"
    cache: bool = True
    """Remember pairs (bounded); off to time the bare work."""

    def can_score(self, reference: str, item: Item) -> bool:
        """Always: a reference without words falls back to a lexical match."""
        return True

    def score_pairs(self, pairs: Sequence[Pair]) -> list[Score]:
        """One score per distinct pair."""
        return [self._score(pair) for pair in pairs]

    def _score(self, pair: Pair) -> float:
        answer = pair.answer
        if pair.options and (option := chosen(answer, pair.options)) is not None:
            answer = option
        if self.cache and len(answer) <= REMEMBERED:
            return score_pair(pair.reference, answer, pair.question)
        return compare_answers(pair.reference, answer, pair.question).score
