"""From two whole texts to a facet on which each says one thing that excludes what the other says.

    "Right nephrectomy: chromophobe carcinoma" / "The left kidney was removed for a chromophobe carcinoma"  -> side
    "The ulcers have healed since May"         / "Larger ulcers than in May"                                -> change

Findings that are told in quite other words may find no counterpart, and then none contradicts another. What is said of
them can still be compared: if all else that both texts say on a facet agrees, and what is left over on either side is
one value or number which excludes the other's, then one text is wrong. So it is if one denies what the
other affirms as part of something else. Of the development pairs this holds for nineteen times as many contradictions
as paraphrases.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from medrft.scorers.clinical.concepts import places_meet
from medrft.scorers.clinical.facets import RESTRICTING
from medrft.scorers.clinical.lexicon import Lexicon
from medrft.scorers.clinical.quantities import closeness, same_number
from medrft.scorers.clinical.reading import Finding, Line, Reading
from medrft.scorers.clinical.values import facet_of, values_relation

COURSE = {
    **dict.fromkeys(
        ("decreased", "healing", "involuting", "ulcer_healed_state", "complete_response", "good_response"), "decreased"
    ),
    "partial_treatment_response": "decreased",
    **dict.fromkeys(("increased", "new", "recurrent", "progressive_disease"), "increased"),
    **dict.fromkeys(("unchanged", "known", "not increased", "not decreased", "stable_disease"), "unchanged"),
    "poor_response": "unchanged",
}
"""Value -> which way things went. One word for it stands for another over a whole text."""
WIDE = frozenset(("bilateral", "unilateral", "midline"))
"""Sides that are said of many things in one text: "midline trachea, both lungs aerated"."""
BY_PLACE = frozenset(("organ_size", "normality", "number", "trend", "novelty"))
"""Axes that are not compared as they are: what one organ is says nothing of another; COURSE compares the last two."""
NEAR = 0.87
"""Numbers as close as this (three quarters of one another) may be rounded, and are no contradiction here."""
OPPOSED, DENIED = 0.2, 0.12
"""Factors for two texts that say opposite things on one facet, and of which one denies what the other affirms."""


def opposed_line(made: Lexicon, reference: Reading, candidate: Reading) -> Line | None:
    """The first facet on which the two texts are left with one value each that excludes the other's, or `None`."""
    mine, yours = _said(reference.findings), _said(candidate.findings)
    for axis in [axis for axis in mine if axis in yours]:  # in order, so that every run names the same one
        left, right = mine[axis] - yours[axis], yours[axis] - mine[axis]
        if len(left) != 1 or len(right) != 1:
            continue
        (one,), (other,) = left, right
        if axis == "course" or values_relation(made, axis, one, (other,)) == 0:
            facet = "change" if axis == "course" else facet_of(made, axis)
            return Line(facet, left, right, "clash", OPPOSED)
    numbers, others = _numbers(reference.findings), _numbers(candidate.findings)
    for unit in numbers:
        if len(numbers[unit]) != len(others.get(unit, ())):
            continue
        alone, apart = _left_over(numbers[unit], others[unit]), _left_over(others[unit], numbers[unit])
        if len(alone) == len(apart) == 1 and closeness(alone[0], apart[0]) < NEAR:
            return Line("quantity", f"{alone[0]:g} {unit}".strip(), f"{apart[0]:g} {unit}".strip(), "clash", OPPOSED)
    denied = _denied(made, reference, candidate) or _denied(made, candidate, reference)
    return Line("polarity", *(_signs(denied, reference)), "clash", DENIED) if denied else None


def _denied(made: Lexicon, one: Reading, other: Reading) -> str:
    """A finding that one text only denies and the other only affirms, be it as part of another finding; else empty.

    "Stones without cholecystitis" denies the inflammation in "stones in an inflamed gallbladder".
    """
    for finding in one.findings:
        if not finding.negative or any(axis in RESTRICTING for axis in finding.values):
            continue
        for name in sorted(finding.names - made.generic):
            if any(not mine.negative and _names(made, mine, name) for mine in one.findings):
                continue
            if any(yours.negative and name in yours.names for yours in other.findings):
                continue
            for yours in other.findings:
                sure = not yours.negative and yours.certainty == 1.0
                if sure and _names(made, yours, name) and places_meet(made, finding, yours):
                    return name
    return ""


def _names(made: Lexicon, finding: Finding, name: str) -> bool:
    """Whether a finding names it, or a kind of it."""
    return any(name == own or name in made.ancestors.get(own, ()) for own in finding.names)


def _signs(name: str, reference: Reading) -> tuple[str, str]:
    """What the reference and the answer say of a finding that one of them denies."""
    said, told = f"no {name}".replace("_", " "), name.replace("_", " ")
    return (said, told) if any(mine.negative and name in mine.names for mine in reference.findings) else (told, said)


def _said(findings: Iterable[Finding]) -> dict[str, frozenset[str]]:
    """All values that are stated and not denied, by axis; which way things went, under `course`."""
    found: dict[str, set[str]] = defaultdict(set)
    for finding in findings:
        if finding.negative:
            continue
        for axis, values in finding.values.items():
            found["course"].update(COURSE[value] for value in values if value in COURSE)
            if axis not in BY_PLACE:
                found[axis].update(value for value in values if not value.startswith("not ") and value not in WIDE)
    return {axis: frozenset(values) for axis, values in found.items() if values}


def _numbers(findings: Iterable[Finding]) -> dict[str, list[float]]:
    """All different numbers, by unit, apart from bounds ("under 1 cm"); bare ones under the empty unit."""
    found: dict[str, list[float]] = defaultdict(list)
    for finding in findings:
        if "bound" in finding.values:
            continue
        for unit, values in (("", tuple(finding.counts)), *finding.measures):
            for number in values:
                if not any(same_number(number, other) for other in found[unit]):
                    found[unit].append(number)
    return found


def _left_over(numbers: list[float], others: list[float]) -> list[float]:
    return [number for number in numbers if not any(same_number(number, other) for other in others)]
