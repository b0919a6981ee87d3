"""From two concepts of the lexicon to how they relate: the same, a kind or part, said for one another, or apart."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache

from medrft.scorers.clinical.lexicon import Lexicon
from medrft.scorers.clinical.reading import Finding, Verdict
from medrft.scorers.clinical.values import LESS_PRECISE

MORE_PRECISE, RELATED, VAGUE = 0.9, 0.6, 0.5
"""Factors for a concept that is a kind or part of the reference's, is often said for it, or is too general."""
SAME_ORGAN, SAME_FAMILY, ELSEWHERE, UNRELATED = 0.4, 0.5, 0.22, 0.1
"""How near two concepts are that exclude each other: siblings in one organ or family, or anything else."""
BROAD = frozenset(
    ("chest", "abdomen", "pelvis", "head", "neck", "extremity", "trunk", "imaging", "intracranial", "cns")
)
"""Places and kinds so wide that two parts of one are not near each other."""


@lru_cache(maxsize=65_536)  # concepts are few, and the same two meet in many texts
def concept_relation(made: Lexicon, reference: str, candidate: str) -> tuple[Verdict, float]:
    """How a concept of the candidate relates to one of the reference, and its factor; 0 if it is something else."""
    if reference == candidate:
        return "same", 1.0
    if reference in made.ancestors.get(candidate, ()):
        return "more", MORE_PRECISE
    if candidate in made.ancestors.get(reference, ()):
        return "less", VAGUE if candidate in made.generic else LESS_PRECISE
    if _related(made, reference, candidate):
        return "near", RELATED
    if reference in made.generic:
        return "more", MORE_PRECISE
    if candidate in made.generic:
        return "less", VAGUE
    return "clash", 0.0


def _related(made: Lexicon, reference: str, candidate: str) -> bool:
    """Whether two concepts, or one and what the other is a kind of, are said for one another.

    Not what both are kinds of: an infection is often said for an inflammation, and yet tinea is no psoriasis.
    """
    mine = made.ancestors.get(reference, frozenset()) - made.generic
    yours = made.ancestors.get(candidate, frozenset()) - made.generic
    pairs = [(reference, candidate), *((one, candidate) for one in mine), *((reference, other) for other in yours)]
    return any(frozenset(pair) in made.related for pair in pairs)


def nearness(made: Lexicon, facet: str, reference: Collection[str], candidate: Collection[str]) -> float:
    """How near the nearest of two sets of concepts are that exclude each other, in (0, 1)."""
    siblings, others = (SAME_FAMILY, UNRELATED) if facet == "finding" else (SAME_ORGAN, ELSEWHERE)
    for one in reference:
        above = made.ancestors.get(one, frozenset()) - made.generic - BROAD
        if any(above & made.ancestors.get(other, frozenset()) for other in candidate):
            return siblings
    return others


def places_meet(made: Lexicon, left: Finding, right: Finding) -> bool:
    """Whether two findings may be in one place: one of them names none, or the two have to do with one another."""
    if not left.places or not right.places:
        return True
    return any(concept_relation(made, a, b)[1] > 0 for a in left.places for b in right.places)


def one_of(made: Lexicon, left: Collection[str], right: Collection[str]) -> bool:
    """Whether a concept of one side is the same as one of the other, or a kind or part of it, or the whole."""
    return any(a == b or a in made.ancestors.get(b, ()) or b in made.ancestors.get(a, ()) for a in left for b in right)
