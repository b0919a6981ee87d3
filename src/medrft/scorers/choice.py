"""Scores for questions with a closed set of answers: yes/no match and choice match."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from medrft.scorers.base import AnswerScorer, Pair
from medrft.text import normalize, yes_no
from medrft.types import Item, Score

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
LEAD_IN = re.compile(
    r"^\s*(?:the\s+)?(?:correct\s+|final\s+|right\s+|best\s+)?(?:answer|choice|option)\b\s*(?:is\b)?\s*[:=]?\s*(?:option\b|choice\b)?",
    re.IGNORECASE,
)
LETTER = re.compile(r"^\W*([A-Za-z])\s*(?:[).:\]\-—–]|$)")
BARE_CAPITALS = re.compile(r"(?<![\w'])([A-Z])(?![\w'])")
NEGATED = frozenset(("not", "no", "neither", "nor", "without", "except", "excluding"))
MAX_LENGTH = 2_048
"""A longer answer chooses nothing."""


@dataclass(frozen=True)
class YesNoMatch(AnswerScorer):
    """1 where the answer says the reference's yes or no and not the other, else 0; for closed questions."""

    name: ClassVar[str] = "yes_no_match"

    def applies(self, item: Item) -> bool:
        """Closed questions only."""
        return item.kind == "closed"

    def can_score(self, reference: str, item: Item) -> bool:
        """Whether the reference is a yes or a no."""
        return yes_no(reference) is not None

    def score_pairs(self, pairs: Sequence[Pair]) -> list[Score]:
        """Equality of what both sides say."""
        return [float(yes_no(pair.answer) == yes_no(pair.reference)) for pair in pairs]


@dataclass(frozen=True)
class ChoiceMatch(AnswerScorer):
    """1 where the answer chooses the right option by letter, by text or by both, else 0; for questions with options."""

    name: ClassVar[str] = "choice_match"

    def applies(self, item: Item) -> bool:
        """Items with options only."""
        return bool(item.options)

    def can_score(self, reference: str, item: Item) -> bool:
        """Whether the reference is one of the options, or the letter of one."""
        return chosen(reference, item.options) is not None

    def score_pairs(self, pairs: Sequence[Pair]) -> list[Score]:
        """Equality of the chosen options' texts."""
        return [float(chosen(p.answer, p.options) == chosen(p.reference, p.options)) for p in pairs]


@lru_cache(maxsize=8_192)
def chosen(text: str, options: tuple[str, ...]) -> str | None:
    """Normalised text of the one option that `text` chooses; `None` when it chooses none or is ambiguous.

    >>> options = ("CT", "CT with contrast", "MRI")
    >>> [chosen(text, options) for text in ("B", "(b)", "B. CT with contrast", "mri", "The answer is C.", "C: MRI")]
    ['ct with contrast', 'ct with contrast', 'ct with contrast', 'mri', 'mri', 'mri']
    >>> [chosen(text, options) for text in ("CT or MRI", "B. MRI", "A and B", "not MRI", "ultrasound", "")]
    [None, None, None, None, None, None]
    """
    if len(text) > MAX_LENGTH:
        return None
    names = [_name(option, index) for index, option in enumerate(options)]
    text = text.strip()
    exact = {name for name in names if name == normalize(text)}
    body = LEAD_IN.sub("", text) or text
    letter = LETTER.match(body)
    index = LETTERS.index(letter[1].upper()) if letter else len(names)
    if letter is None or index >= len(names):
        return _only(exact or _mentioned(body, names))
    rest = body[letter.end() :]
    others = {found.upper() for found in BARE_CAPITALS.findall(rest) if found.upper() in LETTERS[: len(names)]}
    claims = exact | _mentioned(rest, names) | {names[index]} | {names[LETTERS.index(other)] for other in others}
    return _only(claims)


def _name(option: str, index: int) -> str:
    """An option's normalised text without its own letter ("B: MRI" at the second place)."""
    return normalize(re.sub(rf"^\s*\(?{LETTERS[index % 26]}[).:]\s*", "", option)) or normalize(option)


def _only(names: set[str]) -> str | None:
    return next(iter(names)) if len(names) == 1 else None


def _mentioned(text: str, names: Sequence[str]) -> set[str]:
    """Options that a text contains word for word, the longer of two that overlap; none where one is negated."""
    words = f" {normalize(text)} "
    found = {name for name in names if name and f" {name} " in words}
    outside = words
    kept = set()
    for name in sorted(found, key=len, reverse=True):
        if f" {name} " in outside:
            kept.add(name)
            before = outside.split(f" {name} ")[:-1]
            if any(part.split()[-1:] and part.split()[-1] in NEGATED for part in before):
                return set()
            outside = outside.replace(f" {name} ", " | ")
    return kept
