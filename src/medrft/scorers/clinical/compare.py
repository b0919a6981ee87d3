"""From the readings of two texts to which finding answers which, what contradicts, and one score in [0, 1].

The score is 1 for the same meaning. It is lower where the answer says less or more, at most 0.3 for a contradiction,
and 0 for present against absent. Several findings are matched one to one; abnormal findings that are missing,
contradicted or added cost by their clinical significance, and normal statements weigh little beside them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from operator import mul
from typing import Literal

from medrft.scorers.clinical.assignment import assign_pairs
from medrft.scorers.clinical.concepts import concept_relation
from medrft.scorers.clinical.coverage import named_share
from medrft.scorers.clinical.edits import REPEATED, SHARED, exchanged_words, opposed_words
from medrft.scorers.clinical.facets import HEADS, LISTED, Match, match_findings
from medrft.scorers.clinical.lexicon import Lexicon
from medrft.scorers.clinical.opposition import opposed_line
from medrft.scorers.clinical.reader import content_words
from medrft.scorers.clinical.reading import Finding, Line, Reading, say
from medrft.scorers.clinical.uniting import unite_findings, values_swapped
from medrft.scorers.clinical.weights import finding_weight, is_normal, says_all_normal
from medrft.scorers.clinical.words import word_likeness

Route = Literal["equal", "empty", "lexical", "yes/no", "findings"]

MATCHED = 0.2
"""A finding of the answer with at least this score answers the finding of the reference."""
PER_EXTRA, SLACK = {"answer": 0.4, "findings": 0.15}, 0.1
"""Of findings of weight a those matched earn m, and those added weigh x: (m + 0.1) / (a + 0.1 + x) / (1 + p x)."""
OPPOSED_EXTRA = 0.5
"""An extra finding that contradicts the matched one ("left, and right") halves the score."""
Mode = Literal["answer", "findings"]
"""`answer`: one wrong thing makes an answer wrong. `findings`: a report's findings, each counted by its weight."""
CONTRADICTED = {"answer": 0.12, "findings": 0.8}
DENIED = {"answer": 0.05, "findings": 0.5}
"""Factor of the whole for each contradicted finding among several, and for one that is denied or affirmed instead."""
ALONE = 1 / 3
"""Factor for a near miss that is all that was asked: there, being wrong weighs more than among several findings."""
SISTER = 2 / 3
"""Factor for another finding of the same family: no contradiction in itself, and yet another answer."""
SURE = 1.25
"""A contradiction counts in full where the rest of the two findings agrees to 1 / 1.25 or more."""
NORMAL_ASIDE = 0.15
"""Weight of a normal statement in a reference that also has abnormal findings."""
FRAGMENT = 0.3
"""Weight of an added finding that names no finding and no place the lexicon knows."""
IN_PLACE = 0.3
"""Factor for texts that differ in a word or two which the lexicon cannot relate: most often that is a contradiction."""
LONG, SHORTER, OWN_WORDS, PART = 6, 0.75, 0.75, 0.4
"""A part: at most 3/4 as long as a reference of six words or more, 3/4 of it in the reference's own words."""
NEARLY_NOTHING = {"one": 0.1, "several": 0.03}
"""Scores up to this, for one finding and for several, are not lowered for exchanged words: they are low enough."""
IN_FULL = 0.9
SURELY = 0.92
"""Two findings that agree to this share say the same; what an answer adds to one takes it below."""
NO_MATCH = Match((), 0.0, False)
APART = 0.7
"""Factor for each finding of the answer that has nothing to do with the reference, if all are read as one."""
TOGETHER = 0.95
"""Factor for the same facets if they are spread over other findings than in the reference."""
ANOTHER = 0.04
"""What a near miss must earn at least, for two findings of other names to be matched at all."""
UNMENTIONED = 0.02
"""Score of "normal" for a finding of weight 1, below every near miss; more for one that seldom matters."""
COVERED = 0.95
"""The least for normal statements that one general statement covers: "no acute cardiopulmonary abnormality"."""
NOTHING_FOUND = 0.12
"""The most for several findings of which none is mentioned: less, the more is missing and the more is added."""
LEXICAL = 0.3
"""The most that words alone can earn if no facet is shared."""


@dataclass(frozen=True, slots=True)
class Pairing:
    """A finding of the reference, and the candidate's finding that answers or contradicts it."""

    reference: Finding
    candidate: Finding | None
    match: Match | None
    contradicted: bool = False
    alone: bool = False
    """Whether it is the only pair."""

    @property
    def earned(self) -> float:
        """What the pair earns, in [0, 1]."""
        if self.match is None:
            return 0.0
        return self.match.worth * (ALONE if self.alone and self.contradicted else 1.0)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that led to a score."""

    score: float
    route: Route
    contradiction: bool = False
    pairings: tuple[Pairing, ...] = ()
    extra: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    confidence: float = 1.0
    """The share of what the reference names that the lexicon knows, in [0, 1]."""


def compare_findings(
    made: Lexicon, reference: Reading, candidate: Reading, question: Reading | None = None, *, mode: Mode = "answer"
) -> Comparison:
    """Compare two texts that both name findings."""
    known = question.concepts if question is not None else frozenset()
    strict = mode == "findings"
    grid = [
        [match_findings(made, mine, yours, known, strict=strict) for yours in candidate.findings]
        for mine in reference.findings
    ]
    if len(grid) == 1 and len(candidate.findings) == 1:
        best = _compare_one(made, reference.findings[0], candidate.findings[0], grid[0][0])
    else:
        best = _compare_several(made, reference.findings, candidate.findings, grid, known, mode)
        if not best.contradiction and best.score < TOGETHER and not strict:
            apart = sum(
                not is_normal(finding) and not any(row[place].score for row in grid)
                for place, finding in enumerate(candidate.findings)
            )
            united = _together(made, reference, candidate, best)
            united = replace(united, score=united.score * APART**apart) if united is not best else best
            best = max(best, united, key=lambda found: found.score)
    least = NEARLY_NOTHING["one" if len(grid) == 1 else "several"]
    doubtful = not _understood(best, reference, candidate) or opposed_words(reference, candidate)
    if best.score > least and doubtful:
        exchanged = exchanged_words(made, reference, candidate, shared=REPEATED if strict else SHARED)
        if strict:
            return _apart(best, exchanged)
        replaced = any(pairing.match is not None and pairing.match.substituted for pairing in best.pairings)
        replaced = replaced and not best.contradiction and _words_replaced(reference.tokens, candidate.tokens)
        best = _apart(best, min(IN_PLACE if replaced else 1.0, exchanged))
        if best.score > least and (opposed := opposed_line(made, reference, candidate)) is not None:
            best = _opposed(best, opposed)
        if (most := _most_for_a_part(made, reference, candidate)) < best.score:
            best = replace(best, score=most, notes=(*best.notes, "a part of the reference, in its own words"))
    return best if best.score > 0 else _lexical(made, reference, candidate, best)


def _most_for_a_part(made: Lexicon, reference: Reading, candidate: Reading) -> float:
    """The most that a part of a long reference in its own words can earn: by the share of the words that it repeats.

    Such an answer is read without any doubt, and would else earn more than a whole paraphrase in other words.
    """
    if len(reference.tokens) < LONG or len(candidate.tokens) > SHORTER * len(reference.tokens):
        return 1.0
    mine, yours = content_words(reference.text, made), content_words(candidate.text, made)
    if not yours or len(mine) < LONG or sum(word in mine for word in yours) < OWN_WORDS * len(yours):
        return 1.0
    return PART * sum(word in yours for word in mine) / len(mine)


def _understood(best: Comparison, reference: Reading, candidate: Reading) -> bool:
    """Whether all was read, and each finding says the same: then exchanged words are words for the same."""
    known = not any(finding.words for finding in (*reference.findings, *candidate.findings))
    alone = len(best.pairings) == len(reference.findings) == len(candidate.findings)
    return known and alone and all(pairing.match and pairing.match.score >= SURELY for pairing in best.pairings)


def _apart(best: Comparison, factor: float) -> Comparison:
    """The comparison of two texts that differ in a few words, with the factor for those words."""
    if factor == 1.0:
        return best
    return replace(best, score=best.score * factor, notes=(*best.notes, "the same words but for what was exchanged"))


def _opposed(best: Comparison, line: Line) -> Comparison:
    """The comparison of two texts that say opposite things on a facet, wherever in them they say it."""
    note = f"in the whole text, {line.facet}: {say(line.reference)} / {say(line.candidate)}: contradicts"
    return replace(best, score=best.score * line.factor, contradiction=True, notes=(*best.notes, note))


def _compare_one(made: Lexicon, mine: Finding, yours: Finding, found: Match) -> Comparison:
    """Compare one finding with one; another finding altogether is no contradiction, and earns next to nothing."""
    named = bool(mine.names or yours.names) and not mine.names & yours.names
    elsewhere = named and "anatomy" in found.clashes and HEADS.issuperset(found.clashes)
    contradiction = _contradicts(mine, found, lists=False) and not elsewhere
    other = bool(found.clashes) and not contradiction
    score = found.worth * (SISTER if other else ALONE if found.clashes else 1.0)
    if other or contradiction or not found.shared:
        weights = [0.0 if is_normal(finding) else finding_weight(made, finding) for finding in (mine, yours)]
        if not all(weights) and any(weights) and "polarity" not in found.clashes:
            score = UNMENTIONED / max(weights) ** 2  # "normal" for a finding
        elif other:
            score = max(score, NOTHING_FOUND / (1 + 2 * sum(weights)))
    notes = ("another finding",) if other else ()
    return Comparison(
        score, "findings", contradiction, (Pairing(mine, yours, found, contradiction, alone=True),), (), notes
    )


def _compare_several(
    made: Lexicon,
    mine: tuple[Finding, ...],
    yours: tuple[Finding, ...],
    grid: list[list[Match]],
    known: Collection[str],
    mode: Mode,
) -> Comparison:
    """Compare lists of findings: matched one to one, weighed by significance, with a cost for what is added."""
    grid = [_without_taken(grid, index) for index in range(len(grid))]
    normal = [is_normal(finding) for finding in mine]
    aside = not all(normal)
    weights = [
        NORMAL_ASIDE if well and aside else finding_weight(made, finding)
        for finding, well in zip(mine, normal, strict=True)
    ]
    values = [
        [weight * (found.worth if _pairable(finding, found) else 0.0) for found in row]
        for finding, weight, row in zip(mine, weights, grid, strict=True)
    ]
    pairs = assign_pairs(values)
    pairings = [
        _pair(finding, yours, row, pairs.get(index), taken={place for i, place in pairs.items() if i != index})
        for index, (finding, row) in enumerate(zip(mine, grid, strict=True))
    ]
    used = {id(pairing.candidate) for pairing in pairings if pairing.candidate is not None}
    extra = tuple(finding for finding in yours if id(finding) not in used)
    earned = [pairing.earned for pairing in pairings]
    if aside and not any(value for value, well in zip(earned, normal, strict=True) if not well):
        earned = [0.0] * len(earned)  # normal statements do not stand for the finding that they leave out
    gained, wanted = sum(map(mul, weights, earned)), sum(weights)
    cost = sum(_cost(made, finding, grid, yours.index(finding), known) for finding in extra)
    if aside and mode == "findings":
        cost += _ruled_out(made, pairings, normal)
    score = (gained + SLACK) / (wanted + SLACK + cost) if gained else 0.0
    if mode == "answer":
        named = named_share(made, mine, yours) / (1 + cost / 2)
        if min(finding.certainty for finding in yours) < min(finding.certainty for finding in mine):
            named *= min(finding.certainty for finding in yours)
        score = max(score, (score + 2 * named) / 3)
    score /= 1 + PER_EXTRA[mode] * cost
    for pairing, well in zip(pairings, normal, strict=True):
        if pairing.contradicted and pairing.match is not None:
            denied = not (well and aside) and ("polarity" in pairing.match.clashes or not pairing.match.near_miss)
            # The more the two agree otherwise, the surer it is that they speak of the same thing.
            score *= 1 - (1 - (DENIED if denied else CONTRADICTED)[mode]) * min(1.0, SURE * pairing.match.rest)
    if not aside and len(mine) > 1 and all(map(is_normal, yours)) and any(map(says_all_normal, yours)):
        score = max(score, COVERED)
    opposed = [_opposing(row, pairing) for row, pairing in zip(grid, pairings, strict=True)]
    score *= OPPOSED_EXTRA ** max(both for both, _ in opposed) * LISTED ** max(listed for _, listed in opposed)
    contradiction = any(pairing.contradicted for pairing in pairings)
    if score == 0 and (aside or contradiction):
        missing = sum(weight for weight, well in zip(weights, normal, strict=True) if not well)
        score = NOTHING_FOUND / (1 + 2 * missing + 2 * cost)
    return Comparison(score, "findings", contradiction, tuple(pairings), extra)


def _ruled_out(made: Lexicon, pairings: Sequence[Pairing], normal: Sequence[bool]) -> float:
    """What the findings weigh that normal statements rule out: no less false than what the reference leaves out."""
    return sum(
        finding_weight(made, pairing.candidate)
        for pairing, well in zip(pairings, normal, strict=True)
        if well and pairing.contradicted and pairing.candidate is not None and not is_normal(pairing.candidate)
    )


def _cost(made: Lexicon, finding: Finding, grid: list[list[Match]], place: int, known: Collection[str]) -> float:
    """What an added finding costs: nothing if it is normal, or says again what was matched; else its significance."""
    if is_normal(finding) or (finding.heads and finding.heads <= set(known)):
        return 0.0
    if not finding.names and not (finding.places or finding.kinds or finding.levels):
        return FRAGMENT * finding.certainty
    support = max(row[place].score for row in grid)
    return finding_weight(made, finding) * (1 - support)


def _pairable(mine: Finding, found: Match) -> bool:
    """Whether two findings may be matched at all: they agree, contradict each other, or are of one family."""
    return not found.clashes or _contradicts(mine, found, lists=True) or found.near_miss > ANOTHER


def _without_taken(grid: list[list[Match]], index: int) -> list[Match]:
    """The matches of one reference finding, without clashes against findings that answer another one in full.

    In "an enhancing tumor, a non-enhancing tumor" each tumor answers its own, and does not contradict the other.
    """
    others = [row for place, row in enumerate(grid) if place != index]
    return [
        NO_MATCH if found.clashes and any(row[place].score >= IN_FULL for row in others) else found
        for place, found in enumerate(grid[index])
    ]


def _words_replaced(reference: Sequence[str], candidate: Sequence[str]) -> bool:
    """Whether two texts share their words but for one or two on each side."""
    mine, yours = set(reference), set(candidate)
    common = [word for word in mine & yours if len(word) > 2]
    return bool(common) and 0 < len(mine - yours) <= 2 and 0 < len(yours - mine) <= 2


def _pair(
    mine: Finding, findings: Sequence[Finding], row: list[Match], best: int | None, *, taken: set[int]
) -> Pairing:
    """The finding that answers `mine`; a contradiction if a free one nearby clashes, or the answer has it both ways."""
    found = row[best] if best is not None else NO_MATCH
    both_ways = any(
        other.clashes == ("polarity",) and other.firm and other.rest >= max(0.6, found.rest) for other in row
    )
    clashing = [
        index for index, other in enumerate(row) if index not in taken and _contradicts(mine, other, lists=True)
    ]
    nearer = any(row[index].rest > found.score + 0.2 for index in clashing)
    if not found.clashes and found.score >= MATCHED and not both_ways and not nearer:
        return Pairing(mine, findings[best], found) if best is not None else Pairing(mine, None, None)
    if both_ways or clashing:
        every = clashing or [index for index, other in enumerate(row) if other.clashes == ("polarity",)]
        index = max(every, key=lambda i: row[i].rest)
        return Pairing(mine, findings[index], row[index], contradicted=True)
    if best is not None and found.worth > 0:
        return Pairing(mine, findings[best], found)
    return Pairing(mine, None, None)


def _contradicts(mine: Finding, found: Match, *, lists: bool) -> bool:
    """Whether a clash contradicts `mine`. In a list another organ or another finding is only another item."""
    clashes = set(found.clashes)
    if not clashes or ("finding" in clashes and clashes <= HEADS):
        return False
    if not lists:
        return True
    if "finding" in clashes or "modality" in clashes:
        return False
    return found.anchored and found.firm and found.rest >= MATCHED and bool(mine.names or clashes - HEADS)


def _opposing(row: list[Match], pairing: Pairing) -> tuple[int, int]:
    """How many other findings of the answer say the opposite of the matched one, and how many name another place."""
    if pairing.match is None or len(row) < 2 or pairing.match.clashes:
        return 0, 0
    others = [other for other in row if other is not pairing.match and other.clashes and other.rest > 0.6]
    opposite = sum(1 for other in others if not set(other.clashes) & HEADS)
    return opposite, 0 if pairing.reference.names else len(others) - opposite


def _together(made: Lexicon, reference: Reading, candidate: Reading, best: Comparison) -> Comparison:
    """The comparison of all findings of each side united, for texts cut differently: "left and right lung", "both"."""
    mine, yours = unite_findings(reference.findings), unite_findings(candidate.findings)
    if mine is None or yours is None:
        return best
    if not _of_one_kind(made, mine.names, yours.names) or values_swapped(mine, yours):
        return best
    found = match_findings(made, mine, yours)
    if found.clashes:
        return best
    pairing = Pairing(mine, yours, found)
    return Comparison(found.score * TOGETHER, "findings", False, (pairing,), (), ("read as one finding",))


def _of_one_kind(made: Lexicon, reference: Collection[str], candidate: Collection[str]) -> bool:
    """Whether every finding that the candidate names has to do with one of the reference: a list of others does not.

    Where the reference names more than "lesion", an abscess has to do with what else it names.
    """
    specific = [one for one in reference if one not in made.generic] or reference
    return all(
        other in made.generic or any(concept_relation(made, one, other)[1] > 0 for one in specific)
        for other in candidate
    )


def _lexical(made: Lexicon, reference: Reading, candidate: Reading, best: Comparison) -> Comparison:
    """The score by similar words if no facet is shared; a contradiction keeps its 0."""
    if best.contradiction or any(pairing.match and pairing.match.clashes for pairing in best.pairings):
        return replace(best, score=0.0)
    score = LEXICAL * word_overlap(content_words(reference.text, made), content_words(candidate.text, made))
    return Comparison(
        score, "lexical", False, best.pairings, best.extra, ("no facet in common: compared word by word",)
    )


def word_overlap(reference: tuple[str, ...], candidate: tuple[str, ...]) -> float:
    """F1 over words, where words that look alike count in part; in [0, 1]."""
    mine, yours = list(dict.fromkeys(reference))[:64], list(dict.fromkeys(candidate))[:64]
    if not mine or not yours:
        return 0.0
    recall = sum(max(word_likeness(word, other) for other in yours) for word in mine) / len(mine)
    precision = sum(max(word_likeness(word, other) for other in mine) for word in yours) / len(yours)
    return 2 * recall * precision / (recall + precision) if recall + precision else 0.0


def yes_line(reference: str, candidate: str, factor: float) -> Line:
    """The line that compares two yes or no answers."""
    return Line("polarity", reference, candidate, "same" if factor == 1 else "clash" if factor == 0 else "near", factor)
