"""From the readings of two texts to which finding answers which, what contradicts, and one score in [0, 1].

The score is 1 for the same meaning and 0 for a contradiction on the same finding. It lies between them if the answer
says less or more. A reference with several findings earns the mean over them; each finding that the answer adds costs
a little.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from medrft.scorers.clinical.facets import LISTED, Match, match_findings
from medrft.scorers.clinical.lexicon import Lexicon
from medrft.scorers.clinical.reader import content_words
from medrft.scorers.clinical.reading import Finding, Line, Reading
from medrft.scorers.clinical.words import word_likeness

Route = Literal["equal", "empty", "lexical", "yes/no", "findings"]

MATCHED = 0.2
"""A finding of the answer with at least this score answers the finding of the reference."""
PER_EXTRA, PER_PAIR = 0.1, 0.02
"""n extra findings divide the score by 1 + 0.1 n + 0.02 n^2: one costs little, a list of everything most of it."""
OPPOSED_EXTRA = 0.5
"""An extra finding that contradicts the matched one ("left, and right") halves the score."""
IN_PLACE = 0.3
"""Factor for texts that differ in a word or two which the lexicon cannot relate: most often that is a contradiction."""
IN_FULL = 0.9
NO_MATCH = Match((), 0.0, False)
TOGETHER = 0.95
"""Factor for the same facets if they are spread over other findings than in the reference."""
ANOTHER = 0.04
"""Score for another finding if nothing else contradicts: as good as 0, and below any gate."""
LEXICAL = 0.3
"""The most that words alone can earn if no facet is shared."""
HEADS = frozenset(("finding", "anatomy", "modality"))


@dataclass(frozen=True, slots=True)
class Pairing:
    """A finding of the reference, and the candidate's finding that answers or contradicts it."""

    reference: Finding
    candidate: Finding | None
    match: Match | None
    contradicted: bool = False


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that led to a score."""

    score: float
    route: Route
    contradiction: bool = False
    pairings: tuple[Pairing, ...] = ()
    extra: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()


def compare_findings(
    made: Lexicon, reference: Reading, candidate: Reading, question: Reading | None = None
) -> Comparison:
    """Compare two texts that both name findings."""
    known = question.concepts if question is not None else frozenset()
    grid = [[match_findings(made, mine, yours, known) for yours in candidate.findings] for mine in reference.findings]
    lists = len(reference.findings) > 1 or len(candidate.findings) > 1
    grid = [_without_taken(grid, index) for index in range(len(grid))] if lists else grid
    pairings = [
        _pair(mine, candidate.findings, row, lists=lists) for mine, row in zip(reference.findings, grid, strict=True)
    ]
    contradiction = any(pairing.contradicted for pairing in pairings)
    used = {id(pairing.candidate) for pairing in pairings if pairing.candidate is not None}
    extra = tuple(finding for finding in candidate.findings if id(finding) not in used)
    if contradiction:
        return Comparison(0.0, "findings", True, tuple(pairings), extra)
    scores = [pairing.match.score if pairing.match else 0.0 for pairing in pairings]
    score = sum(scores) / len(scores)
    costly = [finding for finding in extra if not (finding.heads and finding.heads <= known)]
    score /= 1 + PER_EXTRA * len(costly) + PER_PAIR * len(costly) ** 2
    opposed = [_opposing(row, pairing) for row, pairing in zip(grid, pairings, strict=True)]
    score *= OPPOSED_EXTRA ** max(both for both, _ in opposed) * LISTED ** max(listed for _, listed in opposed)
    if not lists and grid[0][0].substituted and _one_word_apart(reference.tokens, candidate.tokens):
        score *= IN_PLACE
    best = Comparison(score, "findings", False, tuple(pairings), extra)
    if lists and score < TOGETHER:
        best = max(best, _together(made, reference, candidate, best), key=lambda found: found.score)
    return best if best.score > 0 else _lexical(reference, candidate, best)


def _without_taken(grid: list[list[Match]], index: int) -> list[Match]:
    """The matches of one reference finding, without clashes against findings that answer another one in full.

    In "an enhancing tumor, a non-enhancing tumor" each tumor answers its own, and does not contradict the other.
    """
    others = [row for place, row in enumerate(grid) if place != index]
    return [
        NO_MATCH if found.clashes and any(row[place].score >= IN_FULL for row in others) else found
        for place, found in enumerate(grid[index])
    ]


def _one_word_apart(reference: tuple[str, ...], candidate: tuple[str, ...]) -> bool:
    """Whether two texts share a word and differ by one or two words on each side."""
    mine, yours = set(reference), set(candidate)
    common = [word for word in mine & yours if len(word) > 2]
    return bool(common) and 0 < len(mine - yours) <= 2 and 0 < len(yours - mine) <= 2


def _pair(mine: Finding, findings: tuple[Finding, ...], row: list[Match], *, lists: bool) -> Pairing:
    """The finding that answers `mine` best; a contradiction if the nearest clashes, or the answer has it both ways."""
    best = max(range(len(row)), key=lambda index: row[index].score, default=None)
    if best is None:
        return Pairing(mine, None, None)
    found = row[best]
    both_ways = any(other.clashes == ("polarity",) and other.rest >= max(0.6, found.rest) for other in row)
    clashing = [index for index, other in enumerate(row) if _contradicts(mine, other, lists=lists)]
    nearer = any(row[index].rest > found.score + 0.2 for index in clashing)
    if found.score >= MATCHED and not both_ways and not nearer:
        return Pairing(mine, findings[best], found)
    if both_ways or clashing:
        index = max(clashing, key=lambda i: row[i].rest) if clashing else best
        return Pairing(mine, findings[index], row[index], contradicted=True)
    if found.score > 0:
        return Pairing(mine, findings[best], found)
    return Pairing(mine, None, found if not lists else None)


def _contradicts(mine: Finding, found: Match, *, lists: bool) -> bool:
    """Whether a clash contradicts `mine`. In a list another organ or another finding is only another item."""
    clashes = set(found.clashes)
    if not clashes or ("finding" in clashes and clashes <= HEADS):
        return False
    if not lists:
        return True
    if "finding" in clashes or "modality" in clashes:
        return False
    heads = [
        line
        for line in found.lines
        if line.facet in HEADS and line.verdict != "clash" and line.reference and line.candidate
    ]
    return bool(heads) or (not mine.heads and bool(clashes - HEADS))


def _opposing(row: list[Match], pairing: Pairing) -> tuple[int, int]:
    """How many other findings of the answer say the opposite of the matched one, and how many name another place."""
    if pairing.match is None or len(row) < 2:
        return 0, 0
    others = [other for other in row if other is not pairing.match and other.clashes and other.rest > 0.6]
    opposite = sum(1 for other in others if not set(other.clashes) & HEADS)
    return opposite, 0 if pairing.reference.names else len(others) - opposite


def _together(made: Lexicon, reference: Reading, candidate: Reading, best: Comparison) -> Comparison:
    """The comparison of all findings of each side united, for texts cut differently: "left and right lung", "both"."""
    mine, yours = unite_findings(reference.findings), unite_findings(candidate.findings)
    if mine is None or yours is None:
        return best
    found = match_findings(made, mine, yours)
    if found.clashes:
        return best
    pairing = Pairing(mine, yours, found)
    return Comparison(found.score * TOGETHER, "findings", False, (pairing,), (), ("read as one finding",))


def unite_findings(findings: tuple[Finding, ...]) -> Finding | None:
    """Several findings united into one; `None` if some are negative and some are not."""
    first = findings[0]
    if any(other.negative != first.negative for other in findings):
        return None
    if len(findings) == 1:
        return first
    values: dict[str, frozenset[str]] = {}
    for finding in findings:
        for axis, said in finding.values.items():
            values[axis] = values.get(axis, frozenset()) | said
    if values.get("side", frozenset()) >= {"left", "right"}:
        values["side"] = frozenset(("bilateral",))
    return Finding(
        text=" , ".join(finding.text for finding in findings),
        names=frozenset().union(*(finding.names for finding in findings)),
        places=frozenset().union(*(finding.places for finding in findings)),
        levels=frozenset().union(*(finding.levels for finding in findings)),
        kinds=frozenset().union(*(finding.kinds for finding in findings)),
        values=values,
        bound={key: value for finding in findings for key, value in finding.bound.items()},
        counts=frozenset().union(*(finding.counts for finding in findings)),
        measures=tuple(measure for finding in findings for measure in finding.measures),
        words=tuple(dict.fromkeys(word for finding in findings for word in finding.words)),
        negative=first.negative,
        certainty=min(finding.certainty for finding in findings),
        turned=frozenset().union(*(finding.turned for finding in findings)),
    )


def _lexical(reference: Reading, candidate: Reading, best: Comparison) -> Comparison:
    """The score by similar words if no facet is shared; concepts known to exclude each other earn (almost) nothing."""
    clashes = {facet for pairing in best.pairings if pairing.match for facet in pairing.match.clashes}
    if "finding" in clashes and clashes <= HEADS:
        return Comparison(ANOTHER, "findings", False, best.pairings, best.extra, ("another finding",))
    if clashes:
        return Comparison(0.0, "findings", True, best.pairings, best.extra)
    score = LEXICAL * word_overlap(content_words(reference.text), content_words(candidate.text))
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
