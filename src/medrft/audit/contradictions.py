"""Makes wrong answers: from a reference, texts that contradict it in exactly one facet.

    "small left pleural effusion"  ->  side "small right pleural effusion", size "large left …", polarity "no small …"

Rules write candidates for the facets that the reference has. A candidate is kept only if the lexicon reads it as a
change of that facet and of no other, so that none is a paraphrase by accident or wrong in two ways at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from medrft.audit.terms import changed_facet, names_finding
from medrft.audit.words import NUMBERS, OPPOSITES
from medrft.text import yes_no
from medrft.types import Example

THERE = re.compile(r"^(there (?:is|are)) (?:(?:a|an|some|any) )?(?!no\b)(?P<rest>.+)$", re.IGNORECASE)
DENIED = re.compile(r"^(?P<there>there (?:is|are) )?no (?:evidence of )?(?P<rest>.+)$", re.IGNORECASE)
PRESENT = re.compile(
    r"^(?P<rest>.+?) (?P<is>is|are) (?P<word>present|seen|visible|identified|noted)\.?$", re.IGNORECASE
)
ARTICLE = re.compile(r"^(?:a|an|the|some) ", re.IGNORECASE)
SENTENCE = re.compile(r"\b(?:is|are|was|were|has|have|shows?|measures?|cannot|may|it)\b", re.IGNORECASE)
LIST = re.compile(r",|\band\b")
DIMENSIONS = re.compile(r"\d\s?(?:cm|mm)?\s?[x×]\s?\d")
LENGTH = re.compile(r"\b(\d+(?:\.\d+)?)\s?(mm|cm)\b")
COUNT = re.compile(rf"\b({'|'.join(NUMBERS[1:])}|[1-9]|10)\b(?!\s?(?:mm|cm|ml|%|\.\d))", re.IGNORECASE)
ALONE = re.compile(r"\b(single|solitary|multiple|numerous)\b (.+)$", re.IGNORECASE)


def make_contradictions(example: Example) -> Iterator[tuple[str, str]]:
    """(facet, answer) pairs that contradict the first reference, one per facet."""
    reference = example.references[0].strip()
    if example.kind == "closed":
        said = yes_no(reference)
        if said is not None:
            yield "polarity", "no" if said == "yes" else "yes"
    elif example.kind == "choice":
        # The options that differ from the right one in one facet: nobody answers a choice with anything else.
        facets = {changed_facet(reference, option): option for option in reversed(example.options)}
        yield from ((facet, option) for facet, option in facets.items() if facet is not None)
    else:
        yield from one_facet_changes(reference)


@lru_cache(maxsize=4096)
def one_facet_changes(reference: str) -> tuple[tuple[str, str], ...]:
    """All one-facet contradictions of a text, as (facet, text) pairs; the first candidate of a facet is kept."""
    found: dict[str, str] = {}
    for facet, candidate in (*_swaps(reference), *_measures(reference), *_counts(reference), *_denials(reference)):
        if facet not in found and changed_facet(reference, candidate) == facet:
            found[facet] = candidate
    return tuple(found.items())


def _swaps(text: str) -> Iterator[tuple[str, str]]:
    """The text with a word swapped for its opposite. A pair is skipped if both words are in the text."""
    for facet, pairs in OPPOSITES.items():
        for pair in pairs:
            found = [word for word in pair if has_word(text, word)]
            if len(found) == 1 and count_word(text, found[0]) == 1:
                other = pair[1] if found[0] == pair[0] else pair[0]
                yield facet, replace_word(text, found[0], other)


def _measures(text: str) -> Iterator[tuple[str, str]]:
    """The text with its only length made four times as long; dimensions such as "3 x 4 cm" are skipped."""
    if len(LENGTH.findall(text)) == 1 and not DIMENSIONS.search(text):
        yield "size", LENGTH.sub(lambda match: f"{float(match[1]) * 4:g} {match[2]}", text)


def _counts(text: str) -> Iterator[tuple[str, str]]:
    """The text with another number of the same things, as a digit or a word like before.

    "single" and "multiple" change places, and the noun becomes plural or singular with them.
    """
    found = COUNT.findall(text)
    words = text.split()
    if len(found) == 1 and (found[0].lower() not in ("one", "1") or len(words) == 1):
        yield "quantity", COUNT.sub(lambda match: _other_number(match[1]), text)
    alone = ALONE.search(text)
    if alone and len(alone[2].split()) <= 2:
        many = alone[1].lower() in ("multiple", "numerous")
        noun = alone[2].removesuffix("s") if many else f"{alone[2]}s"
        before = re.sub(r"\ban? $", "", text[: alone.start()])
        yield "quantity", f"{before}{'single' if many else 'multiple'} {noun}"


def _other_number(number: str) -> str:
    value = int(number) if number.isdigit() else NUMBERS.index(number.lower())
    other = value + 3 if value <= 7 else value - 5
    return str(other) if number.isdigit() else NUMBERS[other]


def _denials(text: str) -> Iterator[tuple[str, str]]:
    """The text with its finding denied, or with its denial removed; texts that count or list things are skipped."""
    if COUNT.search(text) or LIST.search(text):
        return
    if match := DENIED.match(text):
        yield "polarity", (match["there"] or "") + match["rest"]
    elif match := PRESENT.match(text):
        yield "polarity", f"{match['rest']} {match['is']} not {match['word']}"
    elif match := THERE.match(text):
        yield "polarity", f"{match[1]} no {match['rest']}"
    elif names_finding(text) and not SENTENCE.search(text):
        bare = ARTICLE.sub("", text)
        yield "polarity", f"no {bare[0].lower() if bare[:2].istitle() else bare[0]}{bare[1:]}"


def has_word(text: str, word: str) -> bool:
    """Whether a text contains a word or phrase as a whole."""
    return _word(word).search(text) is not None


def count_word(text: str, word: str) -> int:
    """How often a text contains a word or phrase as a whole."""
    return len(_word(word).findall(text))


def replace_word(text: str, word: str, other: str) -> str:
    """The text with every occurrence of a word replaced; an article before it and a capital at the start are adapted.

    >>> replace_word("an enlarged heart", "enlarged heart", "cardiomegaly"), replace_word("Left lung", "left", "right")
    ('cardiomegaly', 'Right lung')
    >>> replace_word("a tumor in the liver", "tumor", "opacity")
    'an opacity in the liver'
    """

    def fit(match: re.Match[str]) -> str:
        capital = match[2][0].isupper() and match.start() == 0 and not match[1]
        word = other[0].upper() + other[1:] if capital else other
        if not match[1]:
            return word
        if other in WITHOUT_ARTICLE:
            return word
        return f"{'an' if other[0].lower() in 'aeiou' else 'a'} {word}"

    return _word(word).sub(fit, text)


WITHOUT_ARTICLE = frozenset(
    ("cardiomegaly", "hepatomegaly", "splenomegaly", "ascites", "abdominal fluid", "pleural fluid", "hydrocephalus")
) | frozenset(("dilated ventricles", "gallstones", "cholelithiasis", "bleeding", "enlarged lymph nodes"))


@lru_cache(maxsize=1024)
def _word(word: str) -> re.Pattern[str]:
    # No hyphen before it: "displaced" is not a word of "non-displaced".
    return re.compile(rf"(?<![\w-])(?:(an?) )?({re.escape(word)})(?![\w])", re.IGNORECASE)
