"""From two texts that share most of their words to how much the few words that differ change what is said.

    "small mass in the left lung"        / "small mass in the right lung"         -> 0.16
    "no mass in the left lung"           / "mass in the left lung"                -> 0.09
    "a small tumour of the left kidney"  / "a small neoplasm of the left kidney"  -> 1.0

Facets tell what the lexicon knows. This looks at the rest: where a sentence is repeated with one or two words
exchanged, the exchanged words are the answer. Unless the lexicon knows that they mean the same, they are more often a
contradiction than a paraphrase. What is only added or left out changes nothing here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from difflib import SequenceMatcher

from medrft.scorers.clinical.facets import Match, match_findings
from medrft.scorers.clinical.lexicon import Lexicon
from medrft.scorers.clinical.quantities import closeness, same_number
from medrft.scorers.clinical.reader import read_findings
from medrft.scorers.clinical.reading import Reading
from medrft.scorers.clinical.tagging import NUMBER
from medrft.scorers.clinical.words import word_likeness

Edit = tuple[str, int, int, int, int]
"""What to do, from where to where in one text, and from where to where in the other, as `difflib` has it."""
SHARED = 0.45
"""The share of the words that both texts must have in common, in order."""
REPEATED = 0.65
"""That share for a list of findings: lists that share less are two lists, and not one with a word exchanged."""
AT_LEAST = 2
"""How many words they must share."""
LONGEST = 60
"""Longer texts are not compared word by word."""
EXCHANGED, DENIED, HALFWAY = 0.08, 0.04, 0.6
"""Factors for words that mean something else, a negation in place of something, and words that mean nearly the same."""
STEP, SCALES = 0.3, frozenset(("severity", "size", "quantity"))
"""Factor for one step on a scale ("moderate" in place of "severe"), and the facets that have scales."""
LOOSE = 0.5
"""Texts that share half of their words lose no more than this half; those that share 90 % nearly all."""
KEPT = 0.75
"""Exchanged words with at least this score mean the same, or say a little more or less."""
OPPOSED = {
    "on": "off",
    "off": "on",
    "in": "out",
    "out": "in",
    "up": "down",
    "down": "up",
    "yes": "no",
    "before": "after",
}
"""Small words that are opposites: "macula on", "macula off"."""
NEGATIONS = frozenset(("no", "not", "without", "absent", "none", "never", "neither", "nor", "non", "negative"))


def exchanged_words(made: Lexicon, reference: Reading, candidate: Reading, *, shared: float = SHARED) -> float:
    """The factor in (0, 1] for the words of one text that stand in place of others; 1 if they share too few words."""
    mine, yours = reference.tokens, candidate.tokens
    if max(len(mine), len(yours)) > LONGEST:
        return 1.0
    common = set(mine) & set(yours)
    if len(common) < AT_LEAST:
        return 1.0
    alike, edits = compare_in_order(mine, yours, common)
    if alike < shared:
        return 1.0
    unread = frozenset(word for one in (*reference.findings, *candidate.findings) for word in one.words)
    stretches = _stretches(edits, mine, yours)
    factor = min((_exchange(made, *stretch, unread) for stretch in stretches), default=1.0)
    # The more the texts are alike, the surer it is that the exchanged words are meant to say something else.
    return max(factor, min(1.0, LOOSE * (1 - alike)))


def compare_in_order(
    mine: tuple[str, ...], yours: tuple[str, ...], common: Collection[str]
) -> tuple[float, Sequence[Edit]]:
    """How alike two texts are by the words that they share in order, in [0, 1], and what turns one into the other.

    Texts that differ in one place and repeat no word are compared from both ends, which is the same and much faster.
    """
    whole = len(mine) + len(yours)
    if 2 * sum(min(mine.count(word), yours.count(word)) for word in common) / whole < SHARED:
        return 0.0, ()  # whatever their order
    start, end, shortest = 0, 0, min(len(mine), len(yours))
    while start < shortest and mine[start] == yours[start]:
        start += 1
    while end < shortest - start and mine[-1 - end] == yours[-1 - end]:
        end += 1
    if start + end == len(common) and len(set(mine)) == len(mine) and len(set(yours)) == len(yours):
        left, right = len(mine) - end, len(yours) - end
        if start == left == right:
            return 1.0, ()
        kind = "replace" if start < left and start < right else "delete" if start < left else "insert"
        return 2 * len(common) / whole, [(kind, start, left, start, right)]
    matcher = SequenceMatcher(None, mine, yours, autojunk=False)
    alike = matcher.ratio()
    return alike, matcher.get_opcodes() if alike >= SHARED else ()


def opposed_words(reference: Reading, candidate: Reading) -> bool:
    """Whether one text has a small word in place of its opposite in the other."""
    mine, yours = set(reference.tokens), set(candidate.tokens)
    return any(word in OPPOSED and OPPOSED[word] in yours - mine for word in mine - yours)


def _stretches(
    edits: Sequence[Edit], mine: tuple[str, ...], yours: tuple[str, ...]
) -> Iterator[tuple[list[str], list[str], list[str]]]:
    """The words that stand in place of one another, or a lone negation of one text, and the word behind them."""
    denied = [sum(word in NEGATIONS for word in words) for words in (mine, yours)]
    for kind, a, b, c, d in edits:
        left, right = list(mine[a:b]), list(yours[c:d])
        # As many negations on both sides: one only stands elsewhere ("cultures were negative", "negative cultures").
        alone = kind != "equal" and denied[0] != denied[1] and NEGATIONS.issuperset(left or right)
        if kind == "replace" or alone:
            yield left, right, list(mine[b : b + 1]) if mine[b : b + 1] == yours[d : d + 1] else []


def _exchange(made: Lexicon, left: list[str], right: list[str], behind: list[str], unread: frozenset[str]) -> float:
    """The factor for words that stand in place of others, of which the whole texts leave those in `unread` unknown."""
    if bool(NEGATIONS.intersection(left)) != bool(NEGATIONS.intersection(right)):
        other = [word for word in (left if NEGATIONS.intersection(right) else right) if word not in NEGATIONS]
        return DENIED if not _denies(made, other) else 1.0
    if any(OPPOSED.get(word) in right for word in left):
        return EXCHANGED
    left = [word for word in left if word not in right]
    right = [word for word in right if word not in left]
    numbers = [[float(word) for word in words if NUMBER.match(word) and "^" not in word] for words in (left, right)]
    if all(numbers) and not any(same_number(a, b) for a in numbers[0] for b in numbers[1]):
        return EXCHANGED + 0.1 * max(closeness(a, b) for a in numbers[0] for b in numbers[1])
    found, unknown = _compared(made, left, right)
    if unknown and behind and not unread.intersection(unknown):  # parts of names: "og" of "og tube"
        named, _ = _compared(made, left + behind, right + behind)
        found = named if named is not None and named.score >= KEPT else found
    if found is None or found.score >= KEPT or found.score == found.rest == 1.0:
        return 1.0
    if unknown and any(word_likeness(a, b) >= HALFWAY for a in left for b in right):
        return 1.0
    if found.clashes or unknown or not found.shared:
        return EXCHANGED
    if any(line.verdict == "near" and line.facet in SCALES and line.factor <= 0.5 for line in found.lines):
        return STEP
    return HALFWAY if found.substituted else 1.0


def _compared(made: Lexicon, left: list[str], right: list[str]) -> tuple[Match | None, list[str]]:
    """The best match of what some words say with what others say, and the unknown words; `None` if one says nothing."""
    said, told = read_findings(" ".join(left), lexicon=made), read_findings(" ".join(right), lexicon=made)
    matches = (match_findings(made, one, other) for one in said.findings for other in told.findings)
    unknown = [word for finding in (*said.findings, *told.findings) for word in finding.words]
    return max(matches, key=lambda match: match.score, default=None), unknown


def _denies(made: Lexicon, words: list[str]) -> bool:
    """Whether words without a negation of their own say that something is absent or normal: "free of", "clear"."""
    reading = read_findings(" ".join(words), lexicon=made)
    return bool(reading.findings) and all(
        finding.negative or "normal" in finding.values.get("normality", ()) for finding in reading.findings
    )
