"""From the values of two findings to lines: left against right, mild against severe, bilateral against left."""

from __future__ import annotations

from collections.abc import Collection

from medrft.scorers.clinical.lexicon import Axis, Lexicon
from medrft.scorers.clinical.reading import Finding, Line, Said, Verdict

MISSING, EXTRA, NEAR, ONE_STEP, HALF, LESS_PRECISE, RELATED = 0.7, 0.9, 0.7, 0.4, 0.5, 0.75, 0.6
"""Factors for a value left out, added, close, one step away on a scale, half said, less precise, likely the same."""
HEDGED = 0.42
"""Factor for each further value of one axis ("left or right" for left): under a half, so that it cannot pay."""
OPPOSITE, OTHER_SIDE, TWO_STEPS, FARTHER = 0.3, 0.35, 0.5, 0.25
"""How near two values are that exclude each other: opposites, left and right, two steps on a scale, and more."""
SLIGHT = frozenset(
    (
        "acuity",
        "picture_side",
        "energy",
        "portability",
        "quality",
        "number",
        "exclusive",
        "completeness",
        "timing",
        "heavier_side",
    )
)
"""Axes that an answer may leave out at little cost."""
RANKS = {
    "severity": {"minimal": 0, "mild": 1, "moderate": 2, "severe": 3},
    "magnitude": {"tiny": 0, "small": 1, "medium": 2, "large": 3, "huge": 3},
    "amount": {"none_at_all": -1, "little": 1, "moderate_amount": 2, "much": 3},
}
EQUIVALENT: dict[tuple[str, str], dict[str, tuple[str, ...]]] = {
    ("enhancement", "contrast"): {"enhancing": ("with_contrast",), "nonenhancing": ("without_contrast",)},
    ("organ_size", "trend"): {
        **dict.fromkeys(("enlarged", "dilated"), ("increased",)),
        **dict.fromkeys(("small_organ", "narrowed"), ("decreased",)),
    },
    ("shade", "brightness"): {"dark_gray": ("iso", "hypo"), "light_gray": ("iso", "hyper")},
    ("patency", "organ_size"): {"occluded": ("narrowed",), "patent": ("normal_size",)},
    ("trend", "normality"): {"unchanged": ("normal",), "increased": ("abnormal",), "decreased": ("abnormal",)},
    ("rupture", "normality"): {"ruptured": ("abnormal",), "unruptured": ("normal",)},
    ("margin", "sharpness_of_angle"): {"well_defined": ("sharp_angle",), "ill_defined": ("blunted",)},
    ("number", "side"): {"single": ("left", "right", "unilateral", "midline")},
    ("side", "fracture_position"): {"midline": ("undisplaced",)},
    ("magnitude", "trend"): {
        **dict.fromkeys(("tiny", "small"), ("decreased",)),
        **dict.fromkeys(("large", "huge"), ("increased",)),
    },
    ("inside", "mediolateral"): {"external": ("lateral",), "internal": ("medial",)},
    ("novelty", "acuity"): {"new": ("acute", "subacute"), "known": ("chronic", "subacute")},
    ("proximity", "vertical"): {"proximal": ("upper",), "distal": ("lower",)},
    ("earliness", "severity"): {"early": ("minimal", "mild"), "late": ("severe",)},
    ("agent", "process_kind"): dict.fromkeys(("viral", "bacterial", "fungal", "parasitic"), ("infectious",)),
    ("completeness", "severity"): {"complete": ("severe",), "partial": ("minimal", "mild", "moderate")},
    ("completeness", "organ_size"): {"complete": ("dilated", "enlarged")},
    ("stability_of_bone", "trend"): {"stable_injury": ("unchanged",), "unstable_injury": ()},
    ("complexity", "tension"): {"simple_type": ("nontension",), "complex_type": ("tension",)},
    ("surface", "margin"): {"smooth": ("well_defined",), "irregular": ("ill_defined",)},
    ("height", "normality"): {"reduced_height": ("abnormal",), "normal_height": ("normal",)},
    ("contrast_agent", "contrast"): dict.fromkeys(
        ("gadolinium_based", "iodine_based", "barium_based"), ("with_contrast",)
    ),
}
"""For two axes, the values that say nearly the same. Any other value of the second axis clashes with those listed. An
axis of the lexicon adds its own under `equals`."""
SHARES = {"none_of": (0, 0), "less_than_half": (1, 45), "half": (45, 55), "majority_of": (55, 99), "all": (95, 100)}


def compare_values(made: Lexicon, reference: Finding, candidate: Finding, *, skip: Collection[str]) -> list[Line]:
    """One line for each axis on which either side has a value, except those in `skip`."""
    mine, yours = reference.values, candidate.values
    lines: list[Line] = []
    left: dict[str, frozenset[str]] = {}
    for axis, values in mine.items():
        if axis in yours and axis not in skip:
            lines.append(_axis(made, axis, reference, candidate))
        elif axis not in skip:
            left[axis] = values
    right = {axis: values for axis, values in yours.items() if axis not in mine and axis not in skip}
    if left and right:
        lines += _across(made, left, right)
    for axis, values in left.items():
        if axis.startswith("within:"):
            continue
        factor = EXTRA if axis in SLIGHT else MISSING
        lines.append(Line(facet_of(made, axis), values, "", "less", factor))
    for axis, values in right.items():
        if (axis not in SLIGHT or axis == "number") and not axis.startswith("within:"):
            lines.append(Line(facet_of(made, axis), "", values, "more", EXTRA if axis not in SLIGHT else 0.97))
    return lines


def facet_of(made: Lexicon, axis: str) -> str:
    """The facet an axis belongs to; an axis that was made for a prefix belongs to `category`."""
    known = made.axes.get(axis)
    return known.facet if known else "category"


def _axis(made: Lexicon, axis: str, reference: Finding, candidate: Finding) -> Line:
    """Compare the values of both sides on the same axis."""
    left, right = reference.values[axis], candidate.values[axis]
    facet = facet_of(made, axis)
    shown = left, right
    if left == right:
        if (len(left) > 1 or "bilateral" in left) and _swapped(axis, reference, candidate):
            return Line(facet, *shown, "clash", OTHER_SIDE)
        return Line(facet, *shown, "same", 1.0)
    if axis == "side" and _only_one_side(reference, candidate):
        return Line(facet, *shown, "clash", OTHER_SIDE)
    if left < right or right < left:
        both = HALF if right < left else HEDGED ** len(right - left)
        return Line(facet, *shown, "less" if right < left else "more", both)
    if left & right:
        return Line(facet, *shown, "near", HALF)
    known = made.axes.get(axis)
    found = [_value(known, a, b) for a in left for b in right]
    verdict, factor = found[0] if len(found) == 1 else max(found, key=lambda pair: (pair[0] != "clash", pair[1]))
    if verdict == "clash" and axis in (reference.turned ^ candidate.turned):
        facet = "polarity"
    return Line(facet, *shown, verdict, factor)


def _only_one_side(reference: Finding, candidate: Finding) -> bool:
    """Whether one side says both and the other says only one: "both lungs", "the right lung only"."""
    for one, other in ((reference, candidate), (candidate, reference)):
        alone = "only" in other.values.get("exclusive", ()) or "unilateral" in other.values["side"]
        if "bilateral" in one.values["side"] and alone:
            return True
    return False


def _swapped(axis: str, reference: Finding, candidate: Finding) -> bool:
    """Whether a finding or place has another value on each side: "left lung, right kidney" against the reverse."""
    mine = {head: value for (name, head), value in reference.bound.items() if name == axis}
    yours = {head: value for (name, head), value in candidate.bound.items() if name == axis}
    swapped = sum(yours.get(head, value) != value for head, value in mine.items())
    return swapped > (axis != "side")  # "basal opacity in the middle lobe" is one at the base of the middle lobe


def _value(axis: Axis | None, left: str, right: str) -> tuple[Verdict, float]:
    """Compare two different values of one axis."""
    if left.startswith("not ") or right.startswith("not "):
        opposed = left.removeprefix("not ") == right.removeprefix("not ")
        return ("clash", OPPOSITE) if opposed else ("near", RELATED)
    if axis is None:
        return "clash", OPPOSITE
    if right in axis.includes.get(left, ()):
        return "less", HALF
    if left in axis.includes.get(right, ()):
        return "more", HALF
    if axis.ordered and frozenset((left, right)) in axis.near:
        return "near", EXTRA
    if axis.ordered:
        steps = abs(axis.values.index(left) - axis.values.index(right))
        return ("near", ONE_STEP) if steps == 1 else ("clash", TWO_STEPS if steps == 2 else FARTHER)
    return ("near", NEAR) if frozenset((left, right)) in axis.near else ("clash", OPPOSITE)


def values_relation(made: Lexicon, axis: str, value: str, others: Collection[str]) -> float:
    """How well a value is said by values of its axis, in [0, 1]: 1 for the same, 0 for none or one that excludes it."""
    if value in others:
        return 1.0
    found = [_value(made.axes.get(axis), value, other) for other in others]
    return max((factor for verdict, factor in found if verdict != "clash"), default=0.0)


def _across(made: Lexicon, left: dict[str, frozenset[str]], right: dict[str, frozenset[str]]) -> list[Line]:
    """Compare values on different axes that measure the same thing, and remove those from `left` and `right`."""
    lines: list[Line] = []
    for one in [axis for axis in left if axis in RANKS]:
        for other in [axis for axis in right if axis in RANKS]:
            if one in left and other in right:
                a, b = left.pop(one), right.pop(other)
                steps = min(
                    (
                        abs(RANKS[one][x] - RANKS[other][y])
                        for x in a
                        for y in b
                        if x in RANKS[one] and y in RANKS[other]
                    ),
                    default=0,
                )
                verdict: Verdict = "same" if steps == 0 else "near" if steps == 1 else "clash"
                factor = (1.0, ONE_STEP, TWO_STEPS, FARTHER)[min(steps, 3)]
                lines.append(Line(facet_of(made, one), a, b, verdict, factor))
    for mine, yours, swapped in ((left, right, False), (right, left, True)):
        for one in [axis for axis in mine if axis in made.equivalents]:
            for other, table in made.equivalents[one].items():
                if one in mine and other in yours and any(value in table for value in mine[one]):
                    a, b = mine.pop(one), yours.pop(other)
                    alike = any(other_value in b for value in a for other_value in table.get(value, ()))
                    shown = (b, a) if swapped else (a, b)
                    verdict, factor = ("near", NEAR + 0.2) if alike else ("clash", OPPOSITE)
                    lines.append(Line(facet_of(made, other), *shown, verdict, factor))
    return lines


def compare_shares(reference: Finding, candidate: Finding) -> list[Line]:
    """Compare a percentage with "half", "most" or "all". Lines for one that has no counterpart are made elsewhere."""
    lines = []
    for one, other, swapped in ((reference, candidate, False), (candidate, reference, True)):
        percent = [values[0] for unit, values in one.measures if unit == "percent"]
        said = other.values.get("share")
        if percent and said and "share" not in one.values:
            fits = any(low <= percent[0] <= high for value in said for low, high in [SHARES[value]])
            shown: tuple[Said, Said] = (f"{percent[0]:g} percent", said)
            lines.append(
                Line(
                    "quantity",
                    shown[swapped],
                    shown[not swapped],
                    "same" if fits else "clash",
                    1.0 if fits else OPPOSITE,
                )
            )
    return lines
