"""Reads a text into the lexicon's terms, to check that a probe changes one facet and no other.

Only the dictionary is used, not the clinical scorer's verdict. Otherwise the probes that the scorer gets wrong would be
left out of its own audit.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache
from typing import NamedTuple

from medrft.scorers.clinical.compile import load_lexicon
from medrft.scorers.clinical.lexicon import Atom
from medrft.scorers.clinical.morphology import read_word
from medrft.scorers.clinical.words import cut_tokens

NUMBER = re.compile(r"\d+(?:\.\d+)?$")
LENGTHS = {"mm": 1.0, "cm": 10.0, "millimeter": 1.0, "centimeter": 10.0}
NEGATIONS = frozenset(("negation_before", "negation_after", "no", "yes", "presence"))
SILENT = frozenset(("carrier", "verbs", "presence", "prepositions", "joins", "comma", "stop", "slash", "with_words"))


class Said(NamedTuple):
    """The terms of a text, without their order."""

    atoms: Counter[Atom]
    numbers: tuple[tuple[str, float], ...]
    """(facet, value): a length in millimetres is a size, any other number a quantity."""
    cues: Counter[str]
    """Negations, doubts and the like; words without meaning of their own (`SILENT`) are left out."""
    unknown: tuple[str, ...]


@lru_cache(maxsize=16_384)
def read_terms(text: str) -> Said:
    """The terms of a text; at each word the longest term of the lexicon is taken."""
    made, tokens = load_lexicon(), cut_tokens(text)
    atoms: Counter[Atom] = Counter()
    cues: Counter[str] = Counter()
    numbers: list[tuple[str, float]] = []
    unknown: list[str] = []
    position = 0
    while position < len(tokens):
        entry, end = made.longest(tokens, position)
        token = tokens[position]
        if entry is None and NUMBER.match(token):
            unit = tokens[position + 1] if position + 1 < len(tokens) else ""
            numbers.append(("size", float(token) * LENGTHS[unit]) if unit in LENGTHS else ("quantity", float(token)))
            end = position + (2 if unit in LENGTHS else 1)
        elif entry is None and token not in SILENT:
            end = position + 1
            built = read_word(made, token) if token.isalpha() else None
            atoms.update(built.atoms if built is not None else ())
            unknown += [] if built is not None and built.atoms else [token]
        elif entry is None:
            end = position + 1
        elif entry.atoms:
            atoms.update(entry.atoms)
        else:
            cue = entry.cue or entry.kind
            if cue not in SILENT:
                cues[cue] += 1
        position = end
    return Said(atoms, tuple(sorted(numbers)), cues, tuple(sorted(unknown)))


def names_finding(text: str) -> bool:
    """Whether a text names a finding, so that denying it makes sense."""
    return any(atom.facet == "finding" for atom in read_terms(text).atoms)


def changed_facet(before: str, after: str) -> str | None:
    """The one facet in which two texts contradict each other; `None` for no facet, several, or a mere addition.

    >>> changed_facet("left pleural effusion", "right pleural effusion"), changed_facet("CT", "computed tomography")
    ('side', None)
    >>> changed_facet("3 cm mass", "12 cm mass"), changed_facet("mass", "no mass"), changed_facet("big", "left")
    ('size', 'polarity', None)
    """
    a, b = read_terms(before), read_terms(after)
    if a.unknown != b.unknown:
        return None
    lost, gained = a.atoms - b.atoms, b.atoms - a.atoms
    cues = set((a.cues - b.cues) + (b.cues - a.cues))
    if a.numbers != b.numbers:
        return _number_facet(a.numbers, b.numbers) if not (lost or gained or cues) else None
    if not (lost or gained):
        turned = cues and cues <= NEGATIONS and bool(_negations(a)) != bool(_negations(b))
        return "polarity" if turned else None
    return None if cues else _value_facet(list(lost), list(gained))


def same_meaning(before: str, after: str) -> bool:
    """Whether two texts say the same in the lexicon's terms, in any order and wording.

    >>> same_meaning("cardiomegaly", "enlarged heart"), same_meaning("cardiomegaly", "heart")
    (True, False)
    """
    a, b = read_terms(before), read_terms(after)
    return (set(a.atoms), a.numbers, a.unknown, _negations(a)) == (set(b.atoms), b.numbers, b.unknown, _negations(b))


def _negations(text: Said) -> int:
    return sum(count for cue, count in text.cues.items() if cue.startswith("negation") or cue == "no")


def _number_facet(a: tuple[tuple[str, float], ...], b: tuple[tuple[str, float], ...]) -> str | None:
    facets = {facet for facet, _ in (*a, *b)}
    return facets.pop() if len(a) == len(b) and len(facets) == 1 else None


def _value_facet(lost: list[Atom], gained: list[Atom]) -> str | None:
    """The facet in which lost and gained values exclude each other; `None` for findings, or if they do not."""
    facets = {atom.facet for atom in (*lost, *gained)}
    if len(facets) != 1 or len(lost) != len(gained) or not lost:
        return None
    facet = facets.pop()
    if {atom.axis for atom in lost} != {atom.axis for atom in gained}:
        return None
    clash = all(_excludes(a, b) for a in lost for b in gained if a.axis == b.axis)
    return facet if clash and facet != "finding" else None


def _excludes(a: Atom, b: Atom) -> bool:
    """Whether two values of one axis, or two concepts, cannot both be meant.

    On an ordered axis neighbours can (mild, moderate), and only values two steps apart exclude each other.
    """
    made = load_lexicon()
    axis = made.axes.get(a.axis)
    if axis is None:
        related = b.value in made.ancestors.get(a.value, ()) or a.value in made.ancestors.get(b.value, ())
        generic = {a.value, b.value} & (made.generic | made.vague)
        return not (related or generic or frozenset((a.value, b.value)) in made.related)
    if b.value in axis.includes.get(a.value, ()) or a.value in axis.includes.get(b.value, ()):
        return False
    if axis.ordered:
        return abs(axis.values.index(a.value) - axis.values.index(b.value)) >= 2
    return frozenset((a.value, b.value)) not in axis.near
