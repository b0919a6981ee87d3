"""Makes right answers in other words: from a reference, texts that mean the same.

    "small left pleural effusion"  ->  order "small pleural effusion on the left", synonym "small left pleural fluid"

A rewording is kept only if the lexicon reads it like the reference. A reward that pays it less looks at words, not at
meaning.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from medrft.audit.contradictions import DIMENSIONS, SENTENCE, WITHOUT_ARTICLE, has_word, replace_word
from medrft.audit.terms import changed_facet, names_finding, same_meaning
from medrft.audit.words import ABBREVIATIONS, BRITISH, COUNTED, NUMBERS, SYNONYMS
from medrft.types import Example

LENGTH = re.compile(r"\b(\d+(?:\.\d+)?)\s?(mm|cm)\b")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
ON_SIDE = re.compile(r"^(?P<what>.+) on the (?P<side>left|right)$", re.IGNORECASE)
BEFORE_SIDE = re.compile(r"^(?P<size>(?:small|large|mild|severe|acute|chronic) )?(?P<side>left|right) (?P<what>.+)$")
THERE_IN = re.compile(r"^(?P<there>there (?:is|are) .+?) (?P<where>in the .+)$", re.IGNORECASE)
LIST = re.compile(r",\s*(?:and\s+)?|\s+and\s+", re.IGNORECASE)
LEAD = re.compile(r"^(?:in|on|at|there|no|not|it)\b", re.IGNORECASE)


def make_paraphrases(example: Example) -> Iterator[tuple[str, str]]:
    """(type of paraphrase, answer) pairs that mean the same as the first reference."""
    reference = example.references[0].strip()
    yield "case_punctuation", f"{reference.upper()}." if len(reference) > 1 else f"{reference}."
    if example.kind == "choice" and reference in example.options:
        yield "letter", LETTERS[example.options.index(reference) % 26]
        yield "letter", f"{LETTERS[example.options.index(reference) % 26]}. {reference}"
        return
    first = reference[0].lower() if reference[:2].istitle() else reference[0]
    yield "sentence", f"The answer is {first}{reference[1:]}."
    if example.kind != "closed":
        yield from all_rewordings(reference)


@lru_cache(maxsize=4096)
def all_rewordings(text: str) -> tuple[tuple[str, str], ...]:
    """(type, rewording) pairs of a text that the lexicon confirms, one of each type."""
    found: dict[str, str] = {}
    rules = (_words, _order, _plural, _units, _numbers, _stated)
    for kind, candidate in (pair for rule in rules for pair in rule(text)):
        if kind in found or candidate.casefold() == text.casefold() or changed_facet(text, candidate) is not None:
            continue
        # An abbreviation is right whether the lexicon knows it or not.
        if kind == "abbreviation" or same_meaning(text, candidate):
            found[kind] = candidate
    return tuple(found.items())


def _words(text: str) -> Iterator[tuple[str, str]]:
    """The text with a word replaced by its synonym, abbreviation or British spelling."""
    for kind, sets in (("synonym", SYNONYMS), ("abbreviation", ABBREVIATIONS), ("spelling", BRITISH)):
        for names in sets:
            for name in names:
                if has_word(text, name):
                    fit = [other for other in names if other != name and _fits(text, name, other)]
                    yield from ((kind, replace_word(text, name, other)) for other in fit)
                    break


def _fits(text: str, name: str, other: str) -> bool:
    """Whether `other` fits in place of `name`: no "mild enlarged heart", and in a sentence articles must agree."""
    if other.startswith(("enlarged", "dilated")) and re.search(rf"\b(?!an?\b|no\b|and\b)\w+ {re.escape(name)}", text):
        return False
    return not SENTENCE.search(text) or (name in WITHOUT_ARTICLE) == (other in WITHOUT_ARTICLE)


def _order(text: str) -> Iterator[tuple[str, str]]:
    """The text with a side moved before or behind its finding, a place moved to the front, or a list reversed."""
    if (match := ON_SIDE.match(text)) and not SENTENCE.search(text) and " and " not in text:
        yield "order", f"{match['side']} {match['what']}"
    elif match := THERE_IN.match(text):
        yield "order", f"{match['where']} {match['there']}"
    elif (match := BEFORE_SIDE.match(text)) and names_finding(match["what"]) and not re.search(r"\b(?:in|and)\b", text):
        yield "order", f"{match['size'] or ''}{match['what']} on the {match['side']}"
    members = [member for member in LIST.split(text) if member]
    if (
        len(members) > 1
        and not SENTENCE.search(text)
        and len(text) < 120
        and not re.search(r"\b(?:left|right)\b", text, re.IGNORECASE)
    ):
        yield "list_order", ", ".join(reversed(members))


def _plural(text: str) -> Iterator[tuple[str, str]]:
    """The singular where a number already says that there are several, and one for both of a pair ("lungs", "lung")."""
    counted = re.search(rf"\b(?:{'|'.join(COUNTED)}|[2-9]) (\w+s)$", text, re.IGNORECASE)
    if counted and not counted[1].endswith(("ss", "us", "is")):
        yield "plural", text[:-1]
    for many in ("lungs", "kidneys", "ribs", "ventricles"):
        if has_word(text, many) and not counted:
            yield "plural", replace_word(text, many, many[:-1])


def _units(text: str) -> Iterator[tuple[str, str]]:
    """A length in centimetres given in millimetres, or the other way round."""
    if len(LENGTH.findall(text)) == 1 and not DIMENSIONS.search(text):
        yield (
            "units",
            LENGTH.sub(lambda m: f"{float(m[1]) * 10:g} mm" if m[2] == "cm" else f"{float(m[1]) / 10:g} cm", text),
        )


def _numbers(text: str) -> Iterator[tuple[str, str]]:
    """A number word as a digit (two as 2), or the other way round."""
    for value, word in enumerate(NUMBERS):
        if has_word(text, word):
            yield "number", replace_word(text, word, str(value))
        elif re.search(rf"(?<![\d.-]){value}(?![\d.])(?!\s?(?:mm|cm|ml|%))", text):
            yield "number", re.sub(rf"(?<![\d.-]){value}(?![\d.])", word, text)


def _stated(text: str) -> Iterator[tuple[str, str]]:
    """The finding put into a sentence."""
    if names_finding(text) and not SENTENCE.search(text) and not LEAD.match(text):
        yield "sentence", f"There is evidence of {text}."
        yield "sentence", f"The image shows {text}."
