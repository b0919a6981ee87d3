"""From texts to the words that the lexicon does not know, how often they occur, and what to add for each.

    "retinal drusen" -> 1 content word known ("retinal"), 1 unknown ("drusen")

A word's form may suggest an entry in the form of a pack (`own`): a spelling near a known term, or a suffix such as
-itis. For any other word there is only a hint.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml

from medrft.progress import Advance
from medrft.scorers.clinical.explain import CONFIDENT
from medrft.scorers.clinical.lexicon import Lexicon
from medrft.scorers.clinical.score import reading_confidence
from medrft.scorers.clinical.tagging import tag_mentions
from medrft.scorers.clinical.words import cut_tokens

CONTENT = frozenset(("term", "negated", "ambiguous", "dimension", "count", "measure", "level"))
"""Mentions that say something; all others but `word` join, deny or fill."""
ALIKE = 0.85
"""A spelling is near a known term from this ratio of `difflib` on."""
ROOT = 4
"""Letters that must stand before a suffix."""
BY_HAND = "by what it is: findings, anatomy, attributes or carriers"
FORMS = """findings:   {WORD: {is_a: lesion, names: [ANOTHER NAME]}}        # what is found
anatomy:    {WORD: {part_of: chest}}                             # where
attributes: {category: {AXIS: {values: {WORD: [], OPPOSITE: []}}}}  # how it is: values that exclude each other
definitions: {enlarged heart: [WORD]}                            # one word for a phrase of known words
grammar:    {carriers: [WORD]}                                   # says nothing"""
"""The entries that words without a suggestion may take, to copy from."""
CAPITALS = re.compile(r"\b[A-Z][A-Z0-9]{1,5}\b")


class Content(NamedTuple):
    """The content words of a text: how many are known, and those that are not."""

    known: int
    unknown: tuple[str, ...]


def content_words(text: str, made: Lexicon) -> Content:
    """The content words of a text. Articles, verbs, negations and the like are none, and single letters neither."""
    known, unknown = 0, []
    for mention in tag_mentions(made, cut_tokens(text)):
        if mention.kind in CONTENT:
            known += len(mention.text.split())
        elif mention.kind == "word" and len(mention.text) > 1:
            unknown.append(mention.text)
    return Content(known, tuple(unknown))


class Source(NamedTuple):
    """A text of a data set, and where it stands."""

    id: str
    text: str
    is_reference: bool = True
    """`False` for an option: its words count, but not its share of known words."""


@dataclass(kw_only=True)
class UnknownWord:
    """A word that the lexicon does not know."""

    word: str
    count: int = 0
    example: Source
    """A text that holds it."""
    entry: Mapping[str, Any] = field(default_factory=dict)
    """What its form suggests, as sections of a pack; empty if it suggests nothing."""
    hint: str = ""

    def as_json(self) -> dict[str, Any]:
        """Plain data; `entry` as YAML that can be pasted."""
        return {
            **{"word": self.word, "count": self.count, "id": self.example.id, "text": self.example.text},
            **{"add": paste([self]) if self.entry else None, "hint": self.hint},
        }


@dataclass(frozen=True, kw_only=True)
class Survey:
    """How much of a data set's references the lexicon knows."""

    references: int
    known: int
    """References whose content words are all known."""
    mostly_unknown: int
    """References of which the lexicon does not know a third or more, so that a gate lets every answer to them pass."""
    words: Sequence[UnknownWord]
    """The most frequent first."""

    def as_json(self) -> dict[str, Any]:
        """Plain data, with all words."""
        return {
            "references": self.references,
            "fully_known": self.known,
            "share_fully_known": self.known / self.references if self.references else None,
            "over_a_third_unknown": self.mostly_unknown,
            "words": [word.as_json() for word in self.words],
        }


def survey_words(sources: Iterable[Source], made: Lexicon, *, on_progress: Advance | None = None) -> Survey:
    """The unknown words of references and options, by frequency; each distinct text is read once."""
    counts: Counter[tuple[str, bool]] = Counter()
    first: dict[str, Source] = {}
    for source in sources:
        counts[source.text, source.is_reference] += 1
        first.setdefault(source.text, source)
    found: dict[str, UnknownWord] = {}
    references = known = mostly = 0
    for done, ((text, is_reference), times) in enumerate(counts.items()):
        content = content_words(text, made)
        if is_reference:
            references += times
            known += times * (not content.unknown)
            mostly += times * (reading_confidence(text, made) < CONFIDENT)
        for word in content.unknown:
            found.setdefault(word, UnknownWord(word=word, example=first[text])).count += times
        if on_progress is not None:
            on_progress(done + 1, len(counts))
    ranked = sorted(found.values(), key=lambda one: (-one.count, one.word))
    names = [key[0] for key, entry in made.terms.items() if len(key) == 1 and len(key[0]) > 4 and entry.kind == "term"]
    for one in ranked:
        one.entry, one.hint = suggest_entry(one.word, made, names=names, text=one.example.text)
    return Survey(references=references, known=known, mostly_unknown=mostly, words=ranked)


def suggest_entry(word: str, made: Lexicon, *, names: Sequence[str], text: str = "") -> tuple[dict[str, Any], str]:
    """Sections of a pack that make a word known, empty if its form suggests none; and a hint what else to do.

    `names` are the one-word terms to look for near spellings in.
    """
    if any(word == found.lower() for found in CAPITALS.findall(text)):
        return {}, f"an abbreviation: definitions: {{WHAT IT STANDS FOR: [{word}]}}, in words that are known"
    if len(word) > ROOT and (near := difflib.get_close_matches(word, names, n=1, cutoff=ALIKE)):
        return {"definitions": {near[0]: [word]}}, f"spelt like {near[0]!r}; if it is something else, add it by itself"
    for suffix in sorted(made.morphology["suffixes"], key=len, reverse=True):
        phrase = made.morphology["suffixes"][suffix]
        if word.endswith(suffix) and len(word) - len(suffix) >= ROOT:
            return _by_suffix(word, suffix, phrase, made)
    return {}, BY_HAND


def _by_suffix(word: str, suffix: str, phrase: str, made: Lexicon) -> tuple[dict[str, Any], str]:
    """The entry for a word of an unknown root and a known suffix, such as "disease of {}"."""
    head = phrase.partition(" of ")[0]
    entry = made.terms.get((head,))
    if " of " in phrase and head in made.ancestors and entry is not None and entry.atoms[0].facet == "finding":
        return {"findings": {word: {"is_a": head}}}, f"ends in -{suffix}; with sites: {{PLACE: [{word}]}} where it is"
    if phrase == "{}":
        return {}, f"an adjective in -{suffix}: " + BY_HAND
    root = word.removesuffix(suffix)
    return {}, f"ends in -{suffix} ({phrase.format('…')}): morphology: {{roots: {{{root}: PLACE}}}}"


def paste(words: Iterable[UnknownWord]) -> str:
    """The suggested entries of several words as one YAML file in the form of a pack."""
    whole: dict[str, Any] = {}
    for word in words:
        for section, table in word.entry.items():
            there = whole.setdefault(section, {})
            for key, value in table.items():
                there[key] = [*there.get(key, ()), *value] if isinstance(value, list) else value
    return yaml.safe_dump(whole, sort_keys=True, allow_unicode=True, default_flow_style=None, width=120)
