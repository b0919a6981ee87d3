"""From the counts and measures of two findings to lines: 2 = two, single against multiple, 8 cm = 80 mm within 10 %."""

from __future__ import annotations

from medrft.scorers.clinical.reading import Finding, Line, Measure

TOLERANCE = 0.10
FEW = (2, 6)
UNIT_FACET = {"mm": "size", "ml": "size", "hu": "density"}


def compare_counts(reference: Finding, candidate: Finding) -> list[Line]:
    """Compare how many: numbers with numbers, and numbers with single, few and multiple."""
    left, right = reference.counts, candidate.counts
    if not left and not right:
        return []
    shown = _numbers(left) or _word(reference), _numbers(right) or _word(candidate)
    if left and right:
        same = left == right
        met = bool(left & right)
        return [Line("quantity", *shown, "same" if same else "near" if met else "clash", 1.0 if same else 0.5 * met)]
    numbers, word = (left, candidate.values.get("number")) if left else (right, reference.values.get("number"))
    if not word:
        return [Line("quantity", *shown, "less" if left else "more", 0.7 if left else 0.9)]
    fits = all(_fits(number, value) for number in numbers for value in word)
    exact = fits and "single" in word
    return [Line("quantity", *shown, "same" if exact else "near" if fits else "clash", 1.0 if exact else 0.8 * fits)]


def _fits(number: float, word: str) -> bool:
    if word == "single":
        return number == 1
    return FEW[0] <= number <= FEW[1] if word == "few" else number > 1


def _word(finding: Finding) -> str:
    return ", ".join(sorted(finding.values.get("number", ())))


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
        else:
            factor = _fit(left[unit], right[unit])
            lines.append(Line(facet, *shown, "same" if factor == 1 else "near" if factor else "clash", factor))
    return lines


def _by_unit(measures: tuple[Measure, ...]) -> dict[str, tuple[float, ...]]:
    units: dict[str, tuple[float, ...]] = {}
    for unit, values in measures:
        units[unit] = (*units.get(unit, ()), *values)
    return units


def _fit(left: tuple[float, ...], right: tuple[float, ...]) -> float:
    """1 if every number has its equal, 0.8 if one side gives fewer numbers, 0 if numbers differ."""
    short, long = sorted((list(left), list(right)), key=len)
    rest = list(long)
    for number in short:
        like = next((other for other in rest if abs(number - other) <= TOLERANCE * max(abs(number), abs(other))), None)
        if like is None:
            return 0.0
        rest.remove(like)
    return 0.8 if rest else 1.0


def _shown(unit: str, values: tuple[float, ...]) -> str:
    return f"{' x '.join(f'{value:g}' for value in values)} {unit}" if values else ""
