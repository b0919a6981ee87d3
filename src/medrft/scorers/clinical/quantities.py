"""From the counts and measures of two findings to lines: 2 = two, single against multiple, 8 cm = 80 mm within 10 %."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from medrft.scorers.clinical.reading import Finding, Line, Measure, Verdict

TOLERANCE = 0.10
EXACT = {"gestday": 0.015, "second": 0.05, "bpm": 0.05}
"""Units of which less than 10 % matters: days of a pregnancy, intervals and rates of a heart."""
FEW = (2, 6)
OTHER_NUMBER = 0.3
"""How near one and many are to each other."""
BEFORE = "earlier"
"""Stands before the unit of a number that is said of an earlier image."""
OPPOSITE_CHANGE = 0.3
UNIT_FACET = {"mm": "size", "ml": "size", "hu": "density"}


def compare_counts(reference: Finding, candidate: Finding) -> list[Line]:
    """Compare how many: numbers with numbers, and numbers with single, few and multiple."""
    left, right = reference.counts, candidate.counts
    if not left and not right:
        return []
    shown = _numbers(left) or _word(reference), _numbers(right) or _word(candidate)
    if left and right:
        same = left == right
        if left & right:
            return [Line("quantity", *shown, "same" if same else "near", 1.0 if same else 0.5)]
        return [Line("quantity", *shown, "clash", max(closeness(a, b) for a in left for b in right))]
    numbers, word = (left, candidate.values.get("number")) if left else (right, reference.values.get("number"))
    if not word:
        return [Line("quantity", *shown, "less" if left else "more", 0.7 if left else 0.9)]
    fits = all(_fits(number, value) for number in numbers for value in word)
    exact = fits and "single" in word
    return [
        Line(
            "quantity",
            *shown,
            "same" if exact else "near" if fits else "clash",
            1.0 if exact else 0.8 if fits else OTHER_NUMBER,
        )
    ]


def _fits(number: float, word: str) -> bool:
    if word == "single":
        return number == 1
    return FEW[0] <= number <= FEW[1] if word == "few" else number > 1


def _word(finding: Finding) -> str:
    return ", ".join(sorted(finding.values.get("number", ())))


@lru_cache(maxsize=4_096)  # nearly all counts are one small number
def _numbers(numbers: frozenset[float]) -> str:
    return ", ".join(f"{number:g}" for number in sorted(numbers))


def compare_measures(reference: Finding, candidate: Finding) -> list[Line]:
    """Compare measures of one unit: equal within 10 %, with the dimensions in any order; fewer dimensions earn 0.8."""
    lines: list[Line] = []
    left, right = _by_unit(reference.measures), _by_unit(candidate.measures)
    for unit in dict.fromkeys((*left, *right)):
        facet = UNIT_FACET.get(unit, "quantity")
        shown = _shown(unit, left.get(unit, ())), _shown(unit, right.get(unit, ()))
        if unit not in right:
            lines.append(Line(facet, *shown, "less", 0.7))
        elif unit not in left:
            lines.append(Line(facet, *shown, "more", 0.9))
        elif unit.startswith(BEFORE) and _turned(left, right, unit):
            lines.append(Line("change", *shown, "clash", OPPOSITE_CHANGE))
        else:
            fit = _fit(left[unit], right[unit], EXACT.get(unit, TOLERANCE))
            held = fit[0] == "clash" and (_holds(reference, candidate, unit) or _holds(candidate, reference, unit))
            lines.append(Line(facet, *shown, *(("near", 0.8) if held else fit)))
    return lines


def compare_bare(reference: Finding, candidate: Finding) -> list[Line]:
    """One line if one gives numbers without a unit and the other the same ones with it: "HR 60", "60 bpm"."""
    for one, other in ((reference, candidate), (candidate, reference)):
        if not one.counts or one.measures or other.counts or len(other.measures) != 1:
            continue
        unit, numbers = other.measures[0]
        found = _without_unit(one.counts, unit, numbers, named=bool(one.names & other.names))
        shown = _numbers(one.counts), _shown(unit, numbers)
        if found is not None:
            return [Line(UNIT_FACET.get(unit, "quantity"), *(shown if one is reference else shown[::-1]), *found)]
    return []


def _without_unit(
    counts: frozenset[float], unit: str, numbers: tuple[float, ...], *, named: bool
) -> tuple[Verdict, float] | None:
    """How numbers without a unit compare with those that have one; `None` if that cannot be told.

    A ratio is a share: 0.8 is 80 %. A rate has no other unit than beats a minute, so of a finding that both have
    `named` another number is another rate.
    """
    if len(counts) != len(numbers):
        return None
    scale = 10.0 if unit == "mm" else 1.0  # lengths are said in cm, or in mm
    if all(any(same_number(count * by, number) for count in counts for by in (1.0, scale)) for number in numbers):
        return ("same", 1.0) if unit == "bpm" else ("near", 0.7)  # elsewhere the unit is missing
    if len(numbers) > 1:
        return None
    count, number = min(counts), numbers[0]
    if unit == "percent" and 0 < count < 1:
        same = same_number(100 * count, number)
        return ("same", 1.0) if same else ("clash", closeness(100 * count, number))
    return ("clash", closeness(count, number)) if unit == "bpm" and named else None


def _holds(bounded: Finding, other: Finding, unit: str) -> bool:
    """Whether a size of one finding lies within the bound that the other gives: 7 mm is less than 1 cm."""
    limits, sizes = _by_unit(bounded.measures).get(unit, ()), _by_unit(other.measures).get(unit, ())
    said = bounded.values.get("bound", frozenset())
    if not said or "bound" in other.values or not limits or not sizes:
        return False
    if said & {"strictly_under", "at_most"}:
        return max(sizes) <= min(limits)
    return min(sizes) >= max(limits)


def _turned(left: Mapping[str, tuple[float, ...]], right: Mapping[str, tuple[float, ...]], unit: str) -> bool:
    """Whether one side grew and the other shrank since the earlier image."""
    now = unit.removeprefix(BEFORE).strip()
    if now not in left or now not in right:
        return False
    return (max(left[now]) - max(left[unit])) * (max(right[now]) - max(right[unit])) < 0


def _by_unit(measures: tuple[Measure, ...]) -> dict[str, tuple[float, ...]]:
    units: dict[str, tuple[float, ...]] = {}
    for unit, values in measures:
        units[unit] = (*units.get(unit, ()), *values)
    return units


def _fit(left: tuple[float, ...], right: tuple[float, ...], tolerance: float) -> tuple[Verdict, float]:
    """The same if every number has its equal, near if one side gives fewer numbers, else a clash and how near it is."""
    short, long = sorted((list(left), list(right)), key=len)
    rest = list(long)
    for number in short:
        like = next((other for other in rest if same_number(number, other, tolerance)), None)
        if like is None:
            return "clash", max(closeness(number, other) for other in rest)
        rest.remove(like)
    return ("near", 0.8) if rest else ("same", 1.0)


def same_number(left: float, right: float, tolerance: float = TOLERANCE) -> bool:
    """Whether two numbers are equal within a share of the larger one."""
    return abs(left - right) <= tolerance * max(abs(left), abs(right))


def closeness(left: float, right: float) -> float:
    """How near two different numbers are, in [0, 0.9]: the root of their ratio; 4 cm for 5 cm is nearer than 2 cm.

    >>> [round(closeness(5, other), 2) for other in (4, 2, -5)]
    [0.89, 0.63, 0.0]
    """
    small, large = sorted((abs(left), abs(right)))
    return min(0.9, (small / large) ** 0.5) if large and left * right > 0 else 0.0


def _shown(unit: str, values: tuple[float, ...]) -> str:
    return f"{' x '.join(f'{value:g}' for value in values)} {unit}" if values else ""
