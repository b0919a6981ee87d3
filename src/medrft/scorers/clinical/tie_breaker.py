"""Scores pairs whose reference the lexicon hardly knows with the help of an NLI model, by the share that is unknown.

    u = share of what the reference names that the lexicon does not know
    score = clinical                                          if u <= 1/3
          = (1 - u) clinical + u min(P(a -> r), P(r -> a))    else, and at most 0.1 if either direction contradicts

P is the model's probability of entailment. So a few unknown words change nothing, and where nothing is known the model
decides alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medrft.scorers.base import Pair
from medrft.scorers.clinical.explain import CONFIDENT
from medrft.scorers.clinical.lexicon import Lexicon
from medrft.scorers.clinical.score import reading_confidence
from medrft.types import Score

if TYPE_CHECKING:
    from medrft.scorers.nli import Nli

CONTRADICTED = 0.1
"""The most that an answer earns if the NLI model finds that it contradicts the reference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """How the score of one pair came about."""

    score: Score
    """`None` if the model's output is not a number."""
    unknown: float
    """The share of the reference that the lexicon does not know, in [0, 1]."""
    entailment: float
    contradiction: float
    """The model's probabilities: the smaller of both directions, and the larger."""

    def text(self, model: str) -> str:
        """One line for `--explain`."""
        score = "unscored" if self.score is None else f"{self.score:.2f}"
        return (
            f"{score} with nli {model}: {self.unknown:.0%} of the reference unknown to the lexicon, entailment "
            f"{self.entailment:.2f}, contradiction {self.contradiction:.2f}"
        )


def break_ties(pairs: Sequence[Pair], clinical: Mapping[Pair, float], made: Lexicon, model: str) -> dict[Pair, Broken]:
    """The pairs whose reference is more than a third unknown, with their scores; `clinical` holds those of all.

    A pair of equal texts, and an answer too long for the model, keep their clinical scores and are not among them.
    Raises `ModelError` for a model that was not trained for NLI.
    """
    nli = nli_of(model)
    unknown = {pair: 1 - reading_confidence(pair.reference, made) for pair in pairs}
    asked = [
        pair
        for pair in pairs
        if unknown[pair] > 1 - CONFIDENT and clinical[pair] < 1.0 and len(pair.answer) <= nli.max_chars
    ]
    return {
        pair: _mixed(clinical[pair], unknown[pair], forth, back, gate=nli.gate or 1.0)
        for pair, (forth, back) in (nli.infer_both_ways(asked) if asked else {}).items()
    }


def _mixed(
    clinical: float, unknown: float, forth: tuple[float, float], back: tuple[float, float], *, gate: float
) -> Broken:
    """One pair's score from both directions' (entailment, contradiction)."""
    entailment, contradiction = min(forth[0], back[0]), max(forth[1], back[1])
    mixed = (1 - unknown) * clinical + unknown * entailment
    if contradiction >= gate:
        mixed = min(CONTRADICTED, mixed)
    lost = any(math.isnan(value) for value in (*forth, *back))
    return Broken(score=None if lost else mixed, unknown=unknown, entailment=entailment, contradiction=contradiction)


def nli_of(model: str) -> Nli:
    """The NLI scorer; imported here alone, so that the clinical scorer needs no torch without it."""
    from medrft.scorers.nli import Nli

    return Nli(model=model)
