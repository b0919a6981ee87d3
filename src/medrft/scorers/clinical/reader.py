"""From a text to its findings (`Reading`), by a small grammar of negation, doubt, lists and attachment."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Literal

from medrft.scorers.clinical.clauses import DIVIDERS, DIVIDING, Clause
from medrft.scorers.clinical.compile import load_lexicon
from medrft.scorers.clinical.lexicon import Entry, Lexicon
from medrft.scorers.clinical.reading import Finding, Reading
from medrft.scorers.clinical.tagging import Mention, tag_mentions
from medrft.scorers.clinical.words import COLON, COMMA, MAX_CHARACTERS, PAUSES, SLASH, STOP, cut_tokens

MAX_FINDINGS = 48
"""The most findings that are read from one text; the rest of a very long answer is ignored."""
MARKS = frozenset((COMMA, COLON, STOP, SLASH))
SENTENCES = re.compile(r"(?<!\d)\.(?=\s|$)|(?<=\d)\.(?=\s+[A-Za-z]|\s*$)|[!?\n。]+")
TOOTH_NUMBERS = frozenset(f"{quadrant}{place}" for quadrant in range(1, 5) for place in range(1, 9))
"""Teeth by their FDI numbers: 36 is the lower left first molar."""
DENTAL = frozenset(("tooth", "periodontium", "jaw", "dental_arch"))
DENTAL_AXES = frozenset(("decay", "eruption", "impaction_angle", "pulp_state", "tooth_surface", "caries_depth", "bite"))
WORDLESS = frozenset(("carrier", "prepositions", "verbs", "presence", "joins", "breaks", "alternatives"))


@lru_cache(maxsize=32_768)
def read_findings(text: str, context: frozenset[str] = frozenset(), lexicon: Lexicon | None = None) -> Reading:
    """The reading of a text by a lexicon (ours, if none is given). Cached, with a bound.

    `context` holds concepts that decide what ambiguous words mean.
    """
    return read_fresh(text, context, lexicon)


def read_fresh(text: str, context: Collection[str] = (), lexicon: Lexicon | None = None) -> Reading:
    """The reading of a text, computed anew."""
    made = lexicon or load_lexicon()
    tokens = cut_tokens(text)
    mentions = tag_mentions(made, tokens)
    kinds = {mention.kind for mention in mentions}
    ambiguous = "ambiguous" in kinds
    if ambiguous:
        mentions = _settle(made, mentions, context)
    if not TOOTH_NUMBERS.isdisjoint(tokens) and any(map(_teeth_of, mentions)):
        named = _name_teeth(made, mentions, context)
        ambiguous = ambiguous or named is None
        mentions = named or mentions
    answer, mentions = _answer(mentions)
    findings: list[Finding] = []
    divided = not (kinds.isdisjoint(DIVIDING) and DIVIDERS.isdisjoint(tokens))
    for clause in _clauses(mentions) if "breaks" in kinds or not mentions else [mentions]:
        for draft in Clause(made, clause, divided=divided).drafts():
            finding = draft.finding(made)
            if not finding.empty or finding.negative:
                findings.append(finding)
        if len(findings) >= MAX_FINDINGS:
            break
    if len(findings) > 1:
        findings = [finding for finding in findings if not finding.empty] or findings[:1]
    words = tokens if MARKS.isdisjoint(tokens) else [token for token in tokens if token not in MARKS]
    return Reading(
        text=text,
        tokens=tuple(words),
        findings=tuple(findings[:MAX_FINDINGS]),
        answer=answer,
        states="verbs" in kinds or "presence" in kinds,
        ambiguous=ambiguous,
        sentences=_count_sentences(text[:MAX_CHARACTERS]),
        shortened=len(text) > MAX_CHARACTERS,
        lexicon=made,
    )


def _count_sentences(text: str) -> int:
    """How many sentences hold a letter; at least one, also for a text without any."""
    if "." not in text[:-1] and not ("!" in text or "?" in text or "\n" in text or "。" in text):
        return 1
    return max(1, sum(any(map(str.isalpha, part)) for part in SENTENCES.split(text)))


def content_words(text: str, made: Lexicon) -> tuple[str, ...]:
    """The words of a text without verbs, prepositions, joins and other words that carry no content."""
    return tuple(
        word
        for mention in tag_mentions(made, cut_tokens(text))
        if mention.kind not in WORDLESS
        for word in mention.text.split()
    )


def _settle(made: Lexicon, mentions: Sequence[Mention], context: Collection[str]) -> list[Mention]:
    """Give each ambiguous word the sense whose neighbours the text or the context names, else its first sense."""
    named = set(context)
    for mention in mentions:
        if mention.entry is not None and mention.kind in ("term", "level"):
            named.update(atom.value for atom in mention.entry.atoms)
    named |= {above for concept in named for above in made.ancestors.get(concept, ())}
    settled = []
    for mention in mentions:
        if mention.kind == "ambiguous" and mention.entry is not None:
            senses = mention.entry.senses
            atoms = next((atoms for atoms, near in senses if near & named), senses[0][0])
            mention = Mention("term", mention.text, Entry("term", atoms))
        settled.append(mention)
    return settled


def _name_teeth(made: Lexicon, mentions: Sequence[Mention], context: Collection[str]) -> list[Mention] | None:
    """The mentions with tooth numbers read as teeth; `None` if neither the text nor the context speaks of teeth."""
    atoms = [atom for mention in mentions if mention.entry is not None for atom in mention.entry.atoms]
    values = {value for axis in DENTAL_AXES if axis in made.axes for value in made.axes[axis].values}
    told = {*context, *(atom.value for atom in atoms)}
    if told.isdisjoint(values) and not any(
        concept in DENTAL or made.ancestors.get(concept, frozenset()) & DENTAL for concept in told
    ):
        return None
    return [
        Mention("term", mention.text, Entry("term", tuple(dict.fromkeys(teeth)))) if teeth else mention
        for mention in mentions
        for teeth in [[atom for number in _teeth_of(mention) for atom in made.terms["tooth", number].atoms]]
    ]


def _teeth_of(mention: Mention) -> list[str]:
    """The tooth numbers that a mention of numbers without a unit may be: "36", "11 and 21"."""
    if mention.kind not in ("count", "measure") or mention.measure[0]:
        return []
    words = mention.text.split()
    return words[::2] if TOOTH_NUMBERS.issuperset(words[::2]) and set(words[1::2]) <= {"and"} else []


def _answer(mentions: list[Mention]) -> tuple[Literal["yes", "no"] | None, list[Mention]]:
    """The yes or no that leads a text and stands apart from what follows (else `None`), and the other mentions."""
    start = 0
    while start < len(mentions) and mentions[start].kind in ("carrier", "verbs", "joins"):
        start += 1
    if start == len(mentions):
        return None, mentions
    first = mentions[start]
    if first.kind != "yes" and first.kind != "no" and first.text != "no":
        return None, mentions
    said: Literal["yes", "no"] = "yes" if first.kind == "yes" else "no"
    apart = start + 1 == len(mentions) or mentions[start + 1].kind in ("breaks", "alternatives")
    apart = apart or mentions[start + 1].text in PAUSES or mentions[start + 1].kind == "verbs" or first.kind == "yes"
    return (said, mentions[start + 1 :]) if apart else (None, mentions)


def _clauses(mentions: Sequence[Mention]) -> list[list[Mention]]:
    clauses: list[list[Mention]] = [[]]
    for mention in mentions:
        if mention.kind == "breaks":
            clauses.append([])
        else:
            clauses[-1].append(mention)
    return [clause for clause in clauses if clause]
