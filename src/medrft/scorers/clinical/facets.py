"""From two findings to a `Match`: for each facet whether it is the same, less, more or a clash, and one score."""

from __future__ import annotations

from collections.abc import Collection
from itertools import chain
from typing import NamedTuple

from medrft.scorers.clinical.concepts import SAME_ORGAN, VAGUE, concept_relation, nearness, one_of, places_meet
from medrft.scorers.clinical.lexicon import Lexicon
from medrft.scorers.clinical.quantities import compare_bare, compare_counts, compare_measures
from medrft.scorers.clinical.reading import Finding, Line, Said, Verdict
from medrft.scorers.clinical.values import EXTRA, HALF, LESS_PRECISE, MISSING, OPPOSITE, compare_shares, compare_values
from medrft.scorers.clinical.words import word_likeness

LISTED = 0.42
"""Factor for each other organ or modality that the answer lists beside the right one."""
NAME_MISSING, NAME_EXTRA = 0.35, 0.9
SUBSTITUTED = 0.6
OTHER_STATE = 0.25
"""Factor for a finding in place of the state of an organ: "pneumonia of the right lung" for "hyperexpanded lungs"."""
STATES = frozenset(("category", "density", "size"))
HEADS = frozenset(("finding", "anatomy", "modality"))
NO_RELATION: tuple[Verdict, float] = ("clash", -1.0)
"""Below what any two concepts have."""
WRONG = 0.3
"""The most that a pair with a clash can earn, below all that says less without being wrong."""
NARROWER = 0.2
"""Factor for present against something narrower that is absent: "effusion", "no large effusion"."""
WEIGHTY = 4
"""Up to so many facets each counts in full."""
ALIKE = 0.5
"""Two unknown words of at least this likeness count as the same word."""
NEGATIVE_PREFIXES = frozenset(("non", "un", "in", "im", "ir", "dis", "a", "an", "mal"))
LESIONS = frozenset(
    (
        "enlarged",
        "dilated",
        "narrowed",
        "small_organ",
        "thick",
        "occluded",
        "displaced",
        "ruptured",
        "blunted",
        "malignant",
    )
)
RESTRICTING = frozenset(
    ("magnitude", "severity", "acuity", "novelty", "fracture_position", "extent", "completeness", "trend")
)


class Match(NamedTuple):
    """The result of comparing a finding of the reference with one of the candidate."""

    lines: tuple[Line, ...]
    score: float
    """The product of the factors; 0 if a facet clashes, or if nothing is shared."""
    shared: bool
    """Whether both say the same, or nearly so, on at least one facet; true if there is no facet to compare."""
    clashes: tuple[str, ...] = ()
    """Facets that contradict."""
    rest: float = 1.0
    """The product of the other factors, as if there were no clash."""
    substituted: bool = False
    """Something is missing and something else stands in its place, which may be a synonym or another thing."""
    anchored: bool = True
    """Whether both are surely about the same thing: a finding, place, modality or quality that both name."""
    firm: bool = True
    """Whether a clash is surely one: the two name the same thing, not only something general or something related."""
    near_miss: float = 0.0
    """What a clash still earns, in [0, WRONG]: more for a near size or a sibling, 0 for present against absent."""

    @property
    def worth(self) -> float:
        """What the pair earns: the score, or what is left of it after a clash."""
        return self.near_miss if self.clashes else self.score


def match_findings(
    made: Lexicon, reference: Finding, candidate: Finding, known: Collection[str] = (), *, strict: bool = False
) -> Match:
    """Compare two findings. Concepts that the question names (`known`) may be left out or added at no cost.

    Where much is said of one finding, each facet weighs less, unless `strict`.
    """
    normality = None
    if "normality" in reference.values or "normality" in candidate.values:
        normality = _normal_against_finding(made, reference, candidate)
    lines = [normality] if normality is not None else []
    if (reference.names or candidate.names) and normality is None:
        soft = known if "behavior" not in reference.values else {*known, "tumor"}
        lines += _concepts(made, "finding", reference.names, candidate.names, soft)
    if reference.places or candidate.places:
        free = known
        if reference.places != candidate.places and (sites := _natural_places(made, reference, candidate)):
            free = frozenset(known).union(*sites)
        extra = EXTRA if reference.names or candidate.names else LISTED
        lines += _concepts(made, "anatomy", reference.places, candidate.places, free, extra=extra)
    for (axis, place), way in reference.bound.items():
        if axis in ("way", "where") and (other := candidate.bound.get((axis, place), way)) != way:
            lines.append(Line("position", way, other, "clash", OPPOSITE))
    if reference.levels or candidate.levels:
        lines += _sets("anatomy", reference.levels, candidate.levels)
    if reference.kinds or candidate.kinds:
        aside = bool(reference.names or "brightness" in reference.values)
        lines += _concepts(made, "modality", reference.kinds, candidate.kinds, known, aside=aside, extra=HALF)
    if reference.values or candidate.values:
        skip = ["normality"] if normality is not None else []
        if bool(reference.counts) != bool(candidate.counts):
            skip.append("number")
        lines += compare_values(made, reference, candidate, skip=skip)
    numbers = compare_bare(reference, candidate) if reference.counts or candidate.counts else []
    if numbers:
        lines += numbers
    elif reference.counts or candidate.counts:
        lines += compare_counts(reference, candidate)
    if not numbers and (reference.measures or candidate.measures):
        lines += compare_measures(reference, candidate)
        lines += compare_shares(reference, candidate)
    if reference.words or candidate.words:
        lines += _words(reference, candidate)
    return _weigh(made, reference, candidate, lines, signed=normality is None, strict=strict)


def _natural_places(made: Lexicon, reference: Finding, candidate: Finding) -> list[frozenset[str]]:
    """The places where the findings are by their nature, and those that what is said of them belongs to."""
    said = chain(reference.names, candidate.names, *reference.values.values(), *candidate.values.values())
    return [made.sites[one] for one in said if one in made.sites]


def _weigh(
    made: Lexicon, reference: Finding, candidate: Finding, lines: list[Line], *, signed: bool, strict: bool
) -> Match:
    """The match that the compared facets make: the product of their factors, and the facets that contradict."""
    shared = not lines
    lost = new = renamed = False
    rest, nearness, clashes = 1.0, 1.0, []
    for facet, said, told, verdict, factor in lines:
        if verdict == "clash":
            clashes.append(facet)
            nearness *= factor
            continue
        # What a report adds to a finding of the list is a detail; what an answer adds was not asked.
        rest *= factor ** (1 / 6) if strict and verdict == "more" and facet != "finding" else factor
        if verdict == "less":
            lost = True
        elif verdict == "more":
            new = True
        if said and told:
            shared = shared or factor > 0
            renamed = renamed or (verdict == "near" and facet == "finding" and factor < ALIKE)
    anchored = _anchored(reference, candidate, lines)
    polarity = _polarity(reference, candidate, clash=bool(clashes) or not anchored) if signed else None
    if polarity is not None:
        lines.append(polarity)
        if polarity.verdict == "clash":
            clashes.append("polarity")
            nearness = 0.0
        else:
            rest *= polarity.factor
    substituted = (lost and new) or renamed
    if substituted:
        rest *= OTHER_STATE if _state_for_finding(reference, candidate, lines) else SUBSTITUTED
    if not strict and len(lines) > WEIGHTY:  # the more is said of a finding, the less each part of it weighs
        rest **= WEIGHTY / len(lines)
    near_miss = WRONG * rest * nearness if clashes else 0.0
    score = 0.0 if clashes or not shared else rest
    firm = not clashes or _same_thing(made, reference, candidate, clashes)
    return Match(tuple(lines), score, shared, tuple(clashes), rest, substituted, anchored, firm, near_miss)


def _state_for_finding(reference: Finding, candidate: Finding, lines: list[Line]) -> bool:
    """Whether the reference only gives the state of a place, and the candidate names a finding and no such state."""
    stated = [line for line in lines if line.facet in STATES and line.reference]
    return not reference.names and bool(candidate.names and stated) and not any(line.candidate for line in stated)


def _same_thing(made: Lexicon, reference: Finding, candidate: Finding, clashes: list[str]) -> bool:
    """Whether two findings that clash surely speak of one thing.

    They do if one names what the other names or a kind of it; where nothing is named, a part of its place. "No lesion"
    denies a polyp only where both are said to be in one place, and "normal vein" no thrombus of which no place is said.
    """
    if reference.names and candidate.names:
        if one_of(made, reference.names - made.generic, candidate.names - made.generic):
            return True
        return bool(reference.places and candidate.places) and one_of(made, reference.places, candidate.places)
    if reference.names or candidate.names:
        if not reference.places and not candidate.places:
            return not reference.words and not candidate.words  # "healthy based" need not deny "granulating"
        return bool(reference.places and candidate.places) and places_meet(made, reference, candidate)
    mine, yours = (finding.places | finding.levels | finding.kinds for finding in (reference, candidate))
    if "polarity" in clashes:
        denied = reference if reference.negative else candidate
        other = candidate if reference.negative else reference
        if denied.words and not any(word_likeness(a, b) >= ALIKE for a in denied.words for b in other.text.split()):
            return False
    return (not mine and not yours) or one_of(made, mine, yours) or "anatomy" in clashes


def _anchored(reference: Finding, candidate: Finding, lines: list[Line]) -> bool:
    """Whether two findings name the same finding, or else the same place or modality, or else the same quality.

    Only then can they contradict each other: "no calcification" does not deny "a 5 mm lesion".
    """
    facet = ""
    if reference.names and candidate.names:
        facet = "finding"
    elif (reference.places or reference.levels) and (candidate.places or candidate.levels):
        facet = "anatomy"
    elif reference.kinds and candidate.kinds:
        facet = "modality"
    if facet:
        return any(line.facet == facet and line.verdict != "clash" and line.reference for line in lines)
    if reference.words or candidate.words:
        return any(line.facet == "finding" and line.factor >= ALIKE and line.candidate for line in lines)
    both = [line for line in lines if line.reference and line.candidate]
    return not lines or (bool(both) and not (reference.names or candidate.names)) or "normality" in reference.values


def _polarity(reference: Finding, candidate: Finding, *, clash: bool) -> Line | None:
    """Compare present with absent; `None` if both are stated as present, equally surely.

    To negate something narrower is no contradiction ("no large effusion", "effusion"), nor to negate something else.
    """
    if (
        reference.negative == candidate.negative
        and reference.certainty == candidate.certainty
        and not reference.negative
    ):
        return None
    said, told = _sign(reference), _sign(candidate)
    if reference.negative != candidate.negative:
        sure = min(reference.certainty, candidate.certainty)
        negative, positive = (reference, candidate) if reference.negative else (candidate, reference)
        narrower = any(axis in RESTRICTING and axis not in positive.values for axis in negative.values)
        if sure <= HALF:
            return Line("polarity", said, told, "near", 0.25)
        if clash or narrower:
            return Line("polarity", said, told, "near", NARROWER)
        return Line("polarity", said, told, "clash", 0.0)
    apart = abs(reference.certainty - candidate.certainty)
    if apart:
        verdict: Verdict = "less" if candidate.certainty < reference.certainty else "more"
        return Line("polarity", said, told, verdict, 1 - apart)
    return Line("polarity", said, told, "same", 1.0)


def _sign(finding: Finding) -> str:
    if finding.certainty < 1:
        return "likely" if finding.certainty > HALF else "possible"
    return "absent" if finding.negative else "present"


def _concepts(
    made: Lexicon,
    facet: str,
    reference: frozenset[str],
    candidate: frozenset[str],
    known: Collection[str],
    *,
    aside: bool = False,
    extra: float = EXTRA,
) -> list[Line]:
    """Compare two sets of concepts; sets that have nothing in common clash. One said `aside` costs less if left out."""
    if not reference and not candidate:
        return []
    if reference == candidate:
        return [Line(facet, reference, candidate, "same", 1.0)]
    missing = NAME_MISSING if facet == "finding" else EXTRA if aside else MISSING
    if not candidate:
        factor = 1.0 if reference.issubset(known) else EXTRA if reference <= made.generic else missing
        return [Line(facet, reference, "", "less", factor)]
    if not reference:
        return [Line(facet, "", candidate, "more", 1.0 if candidate.issubset(known) else NAME_EXTRA)]
    return [_pair_up(made, facet, (reference, candidate), known, extra=extra)]


def _pair_up(
    made: Lexicon, facet: str, shown: tuple[frozenset[str], frozenset[str]], known: Collection[str], *, extra: float
) -> Line:
    """Compare two sets that are not empty: equal concepts first, then the rest, which clash if they are unrelated."""
    reference, candidate = shown
    same = reference & candidate
    wanted, given = reference - same, candidate - same
    if not given:
        free = wanted.issubset(known)
        return Line(facet, *shown, "same" if free else "less", 1.0 if free else LESS_PRECISE)
    if not wanted:
        others = given.difference(known)
        return Line(facet, *shown, "more" if others else "same", extra ** len(others))
    factors: list[float] = []
    verdict: Verdict = "same"
    met: set[str] = set()
    offered = sorted(given)
    for concept in sorted(wanted):
        found, best = "", NO_RELATION
        for other in offered:
            relation = concept_relation(made, concept, other)
            if relation[1] > best[1]:
                found, best = other, relation
        if best[1] == 0:
            if not same and not factors and len(wanted) == 1:
                return Line(facet, *shown, "clash", nearness(made, facet, wanted, given))
            factors.append(0.0)
            continue
        met.add(found)
        factors.append(best[1])
        verdict = best[0]
    if 0.0 in factors and (given - met or len(factors) == factors.count(0.0)):
        return Line(facet, *shown, "clash", nearness(made, facet, wanted, given))
    factor = (sum(factors) + len(same)) / (len(factors) + len(same)) * extra ** len(given - met)
    return Line(facet, *shown, "less" if 0.0 in factors else verdict, factor)


def _sets(facet: str, reference: frozenset[str], candidate: frozenset[str]) -> list[Line]:
    """Compare numbered places: all of them, only some, or others, which clash."""
    if not reference and not candidate:
        return []
    shown = reference, candidate
    if reference == candidate:
        return [Line(facet, *shown, "same", 1.0)]
    if not candidate or candidate < reference:
        return [Line(facet, *shown, "less", MISSING)]
    if not reference or reference < candidate:
        return [Line(facet, *shown, "more", EXTRA)]
    return [Line(facet, *shown, "clash", SAME_ORGAN)]


def _normal_against_finding(made: Lexicon, reference: Finding, candidate: Finding) -> Line | None:
    """Compare "normal" with a finding at the same place, either way round; `None` if the two are not such a pair."""
    for mine, other, swapped in ((reference, candidate, False), (candidate, reference, True)):
        said = mine.values.get("normality")
        if not said or mine.names or "normality" in other.values:
            continue
        ill = any(value in LESIONS for values in other.values.values() for value in values)
        well = any(value.startswith("normal_") for values in other.values.values() for value in values)
        if not (other.names or ill or well) or not places_meet(made, mine, other):
            continue
        shown: tuple[Said, Said] = (said, other.names or "a finding")
        if swapped:
            shown = (shown[1], shown[0])
        negative = other.negative or (well and not other.names)
        if "normal" in said:
            flawed = bool(other.names or ill) and not negative
            return Line("category", *shown, "clash" if flawed else "near", 0.0 if flawed else LESS_PRECISE)
        if negative:
            return Line("category", *shown, "near", 0.3)
        return Line("category", *shown, "less", VAGUE) if swapped else Line("category", *shown, "more", 0.85)
    return None


def _words(reference: Finding, candidate: Finding) -> list[Line]:
    """Compare words that the lexicon does not know, by the share that has a similar word on the other side."""
    shown = " ".join(reference.words), " ".join(candidate.words)
    said, given = reference.text.split(), (*candidate.text.split(), *candidate.words)
    extra = [word for word in candidate.words if not any(word_likeness(word, other) >= ALIKE for other in said)]
    cost = max(0.7, 0.95 ** len(extra))
    if not reference.words:
        return [Line("finding", "", shown[1], "more", cost)]
    if any(_opposite(word, other) for word in reference.words for other in candidate.words):
        return [Line("category", *shown, "clash", OPPOSITE)]
    met = [max((word_likeness(word, other) for other in given), default=0.0) for word in reference.words]
    share = sum(value for value in met if value >= ALIKE) / len(met)
    known = bool(reference.heads or reference.values)
    factor = (0.3 + 0.7 * share if known else share) * (cost if candidate.words and share else 1.0)
    if share == 1 and not extra:
        return [Line("finding", *shown, "same", 1.0)]
    verdict: Verdict = "near" if candidate.words else "less"
    return [Line("finding", *shown, verdict, factor)]


def _opposite(left: str, right: str) -> bool:
    """Whether two unknown words differ only by a negative prefix ("functional", "nonfunctional")."""
    short, long = (left, right) if len(left) <= len(right) else (right, left)
    return len(short) > 3 and long.endswith(short) and long.removesuffix(short) in NEGATIVE_PREFIXES
