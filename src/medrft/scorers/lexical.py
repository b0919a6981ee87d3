"""From the words of an answer and a reference to BLEU-1, ROUGE-1, token precision and recall, exact and set match."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from medrft.scorers.base import AnswerScorer, Pair
from medrft.text import normalize, tokens
from medrft.types import Score


def bleu1(answer: Sequence[str], reference: Sequence[str]) -> float:
    """Sentence BLEU of order 1 with brevity penalty and no smoothing (Papineni et al. 2002), in [0, 1].

    Clipped unigram precision, times `exp(1 - len(reference) / len(answer))` if the answer is the shorter of the two.

    >>> bleu1("no bleeding in cerebellum".split(), "bleeding in posteroinferior cerebellum".split())
    0.75
    """
    if not answer or not reference:
        return 0.0
    precision = _overlap(answer, reference) / len(answer)
    return precision * min(1.0, math.exp(1 - len(reference) / len(answer)))


def rouge1(answer: Sequence[str], reference: Sequence[str]) -> float:
    """ROUGE-1 F (Lin 2004): harmonic mean of unigram precision and recall, in [0, 1]; the same as token F1.

    >>> rouge1(["left", "lung"], ["lung"])
    0.6666666666666666
    """
    if not answer or not reference:
        return 0.0
    shared = _overlap(answer, reference)
    precision, recall = shared / len(answer), shared / len(reference)
    return 2 * precision * recall / (precision + recall) if shared else 0.0


def precision(answer: Sequence[str], reference: Sequence[str]) -> float:
    """The share of the answer's tokens that are in the reference; a repeated token counts as often as it is there."""
    return _overlap(answer, reference) / len(answer) if answer else 0.0


def recall(answer: Sequence[str], reference: Sequence[str]) -> float:
    """The share of the reference's tokens that are in the answer; a repeated token counts as often as it is there."""
    return _overlap(answer, reference) / len(reference) if reference else 0.0


def _overlap(answer: Sequence[str], reference: Sequence[str]) -> int:
    """The number of tokens in common; each counts as often as it is in both."""
    if len(answer) == 1:
        return int(answer[0] in reference)
    counts = Counter(reference)
    return sum(min(n, counts[word]) for word, n in Counter(answer).items() if word in counts)


class TokenScorer(AnswerScorer):
    """Base of the scorers on normalised tokens; a subclass names its `measure`, from both token lists to [0, 1]."""

    measure: ClassVar[staticmethod[[Sequence[str], Sequence[str]], float]]

    def score_pairs(self, pairs: Sequence[Pair]) -> list[Score]:
        """One score per pair, from the tokens of both sides."""
        return [self.measure(_tokens(pair.answer), _tokens(pair.reference)) for pair in pairs]


@dataclass(frozen=True)
class Bleu1(TokenScorer):
    """BLEU-1 on normalised tokens."""

    name: ClassVar[str] = "bleu1"
    measure = staticmethod(bleu1)


@dataclass(frozen=True)
class Rouge1(TokenScorer):
    """ROUGE-1 F on normalised tokens, which is the token F1 of SQuAD and of VQA papers."""

    name: ClassVar[str] = "rouge1"
    measure = staticmethod(rouge1)


@dataclass(frozen=True)
class TokenPrecision(TokenScorer):
    """Token precision."""

    name: ClassVar[str] = "precision"
    measure = staticmethod(precision)


@dataclass(frozen=True)
class TokenRecall(TokenScorer):
    """Token recall, the usual figure for open medical VQA."""

    name: ClassVar[str] = "recall"
    measure = staticmethod(recall)


@dataclass(frozen=True)
class ExactMatch(AnswerScorer):
    """1 if answer and reference are equal after normalisation, else 0."""

    name: ClassVar[str] = "exact_match"

    def score_pairs(self, pairs: Sequence[Pair]) -> list[Score]:
        """Equality after normalisation."""
        return [float(normalize(pair.answer) == normalize(pair.reference)) for pair in pairs]


LIST_BREAK = re.compile(r"[,;/\n、，；]|\band\b|&|\bas well as\b", re.IGNORECASE)


def list_members(text: str) -> frozenset[str]:
    """The normalised members of a list answer.

    >>> sorted(list_members("Lung, Spinal Cord")) == sorted(list_members("spinal cord and lung"))
    True
    """
    return frozenset(member for part in LIST_BREAK.split(text) if (member := normalize(part)))


@dataclass(frozen=True)
class SetMatch(AnswerScorer):
    """1 if answer and reference list the same things in any order, else 0."""

    name: ClassVar[str] = "set_match"

    def score_pairs(self, pairs: Sequence[Pair]) -> list[Score]:
        """Equality of the sets of members."""
        return [float(list_members(pair.answer) == list_members(pair.reference)) for pair in pairs]


@lru_cache(maxsize=65_536)
def _short_tokens(text: str) -> tuple[str, ...]:
    return tuple(tokens(text))


def _tokens(text: str) -> Sequence[str]:
    """The tokens of a text; only those of short texts are remembered."""
    return _short_tokens(text) if len(text) <= 512 else tokens(text)
