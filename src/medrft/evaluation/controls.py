"""What any figure must be read against: the most frequent answers of train, and pictures that show nothing or lie.

A model that only learned which answers are common beats chance by far; one that scores the same on a blank image does
not look at the image at all.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from medrft.text import normalize
from medrft.types import Example, Kind

if TYPE_CHECKING:
    from PIL.Image import Image

    Images = Callable[[Example], list[Image]]

FREQUENT_TYPE = "frequent_type"
FREQUENT_QUESTION = "frequent_question"


@dataclass(slots=True)
class FrequentAnswers:
    """Answers counted on train: per question type, and per exact question text."""

    by_type: dict[Hashable, Counter[str]] = field(default_factory=dict)
    by_question: dict[Hashable, Counter[str]] = field(default_factory=dict)
    written: dict[str, Counter[str]] = field(default_factory=dict)
    """How each normalised answer was written."""

    @classmethod
    def learn(cls, train: Sequence[Example]) -> FrequentAnswers:
        """Count the first reference of every train example, after normalisation."""
        counts = cls()
        for example in train:
            answer = normalize(example.references[0])
            counts.written.setdefault(answer, Counter())[example.references[0]] += 1
            for key in _type_keys(example):
                counts.by_type.setdefault(key, Counter())[answer] += 1
            counts.by_question.setdefault(_question_key(example), Counter())[answer] += 1
        return counts

    def for_type(self, example: Example) -> str:
        """Most frequent answer of the example's kind and question type; of its kind where the type is new to train.

        Empty where the kind is new as well. Of a choice, the offered option that was most often right; the first
        where none ever was.
        """
        for key in _type_keys(example):
            if key in self.by_type:
                return self._pick(example, self.by_type[key])
        return example.options[0] if example.options else ""

    def for_question(self, example: Example) -> str:
        """Most frequent answer of exactly this question; `for_type` where train never asks it."""
        counts = self.by_question.get(_question_key(example))
        if counts is None or (example.options and not counts.keys() & {normalize(o) for o in example.options}):
            return self.for_type(example)
        return self._pick(example, counts)

    def _pick(self, example: Example, counts: Counter[str]) -> str:
        """The most counted answer as it is mostly written, ties by alphabet; among the options where there are any."""
        if example.options:
            return max(example.options, key=lambda option: counts[normalize(option)])
        answer = _top(counts)
        return _top(self.written[answer])


def _top(counts: Counter[str]) -> str:
    return min(counts, key=lambda answer: (-counts[answer], answer))


def _question_key(example: Example) -> Hashable:
    return (example.kind, normalize(example.question))


def _type_keys(example: Example) -> list[tuple[Kind, str]]:
    """Question type within kind, then kind alone."""
    question_type = str(example.metadata.get("question_type") or "")
    return [(example.kind, question_type), (example.kind, "")] if question_type else [(example.kind, "")]


def blank(images: Images) -> Images:
    """The same examples with every picture replaced by a blank one of its size."""
    from medrft.data.images import blank_like

    return lambda example: [blank_like(image) for image in images(example)]


def shuffled(images: Images, examples: Sequence[Example], *, seed: int) -> Images:
    """The same examples, each with the pictures of another one: the questions no longer fit them.

    The other example has as many pictures but not the same ones, where the data have such an example.
    """
    order = list(examples)
    random.Random(seed).shuffle(order)
    partner: dict[str, Example] = {}
    for i, example in enumerate(order):
        others = (order[(i + step) % len(order)] for step in range(1, len(order)))
        fits = (o for o in others if len(o.images) == len(example.images) and o.images != example.images)
        partner[example.id] = next(fits, example)
    return lambda example: images(partner[example.id])
