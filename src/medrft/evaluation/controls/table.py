"""The table of controls, and the baseline of train's most frequent answers; every score is to be read against both.

A control takes the examples and how their pictures are opened, and changes one of the two. Examples that it does not
apply to are left out with the reason. What a good model does is known beforehand: its score falls, its answer stays, or
its answer turns. docs/evaluation.md has the table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from medrft.errors import unknown_name
from medrft.evaluation.controls import pictures, rewording
from medrft.evaluation.controls.rewording import Changed
from medrft.text import normalize
from medrft.types import Example, Kind

if TYPE_CHECKING:
    from medrft.models.encode import Images

Good = Literal["falls", "stays", "turns"]
"""What a good model does: it is right less often, it answers the same, or it answers the opposite."""

QUESTION_ONLY = "question_only"
FREQUENT_TYPE = "frequent_type"
FREQUENT_QUESTION = "frequent_question"


@dataclass(slots=True)
class FrequentAnswers:
    """Answers counted on train: per question type, and per exact question text."""

    by_type: dict[Hashable, Counter[str]] = field(default_factory=dict)
    by_question: dict[Hashable, Counter[str]] = field(default_factory=dict)
    written: dict[str, Counter[str]] = field(default_factory=dict)
    """Normalised answer -> how it was written in train, counted."""

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
        """Most frequent answer of the example's kind and question type, or of its kind where train lacks the type.

        Empty where train lacks the kind as well. For a choice question, the option that was most often right in train;
        the first option where none ever was.
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
        """The most counted answer in its most frequent spelling, ties by alphabet; of the options if there are any."""
        if example.options:
            return max(example.options, key=lambda option: counts[normalize(option)])
        answer = _top(counts)
        return _top(self.written[answer])


def _top(counts: Counter[str]) -> str:
    return min(counts, key=lambda answer: (-counts[answer], answer))


def _question_key(example: Example) -> Hashable:
    return (example.kind, normalize(example.question))


def _type_keys(example: Example) -> list[tuple[Kind, str]]:
    """The keys to look up, in order: kind with question type, then kind alone."""
    question_type = str(example.metadata.get("question_type") or "")
    return [(example.kind, question_type), (example.kind, "")] if question_type else [(example.kind, "")]


def _as_is(examples: Sequence[Example], seed: int) -> list[Changed]:
    return list(examples)


def _same_pictures(images: Images, examples: Sequence[Example], seed: int) -> Images:
    return images


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """One control: what it changes, and what a good model does under it."""

    says: str
    """What is changed, for the report."""
    good: Good
    examples: Callable[[Sequence[Example], int], Sequence[Changed]] = _as_is
    """(examples, seed) -> each of them as it is asked, or the reason why it is left out."""
    pictures: Callable[[Images, Sequence[Example], int], Images] = _same_pictures
    """(how pictures are opened, all examples, seed) -> how they are opened here."""


def _without_images(examples: Sequence[Example], seed: int) -> list[Changed]:
    """No picture at all, to see how much the question alone gives away. A good model's score falls."""
    return [replace(example, images=()) for example in examples]


def _with_partner(examples: Sequence[Example], seed: int) -> list[Changed]:
    """The examples for which there is another patient's picture of their modality. A good model's score falls."""
    without = pictures.no_partner(examples)
    return [without.get(example.id, example) for example in examples]


CONTROLS: dict[str, Control] = {
    "blank": Control(
        says="grey pictures", good="falls", pictures=lambda images, examples, seed: pictures.blank_pictures(images)
    ),
    "shuffled": Control(
        says="another question's picture",
        good="falls",
        pictures=lambda images, examples, seed: pictures.shuffled_pictures(images, examples, seed=seed),
    ),
    QUESTION_ONLY: Control(says="no picture", good="falls", examples=_without_images),
    "same_modality": Control(
        says="another patient's picture of the same modality and organ",
        good="falls",
        examples=_with_partner,
        pictures=lambda images, examples, seed: pictures.same_modality(images, examples, seed=seed),
    ),
    "blur": Control(
        says="pictures a little blurred",
        good="stays",
        pictures=lambda images, examples, seed: pictures.blurred_pictures(images),
    ),
    "contrast": Control(
        says="pictures with less or more contrast",
        good="stays",
        pictures=lambda images, examples, seed: pictures.contrasted_pictures(images, seed=seed),
    ),
    "options": Control(
        says="options in another order",
        good="stays",
        examples=lambda examples, seed: [rewording.reordered_options(example, seed=seed) for example in examples],
    ),
    "paraphrase": Control(
        says="a clinician's rephrasing",
        good="stays",
        examples=lambda examples, seed: rewording.rephrased_examples(examples),
    ),
    "flip": Control(
        says="pictures mirrored, where a side is stated",
        good="turns",
        examples=lambda examples, seed: [rewording.mirrored_side(example) for example in examples],
        pictures=lambda images, examples, seed: pictures.mirrored_pictures(images),
    ),
    "negated": Control(
        says="yes/no questions negated",
        good="turns",
        examples=lambda examples, seed: [rewording.negated_example(example) for example in examples],
    ),
    "sides": Control(
        says="left and right exchanged in yes/no questions",
        good="turns",
        examples=lambda examples, seed: [rewording.other_side(example) for example in examples],
    ),
}
"""Controls by name, in the order of the tables."""


def apply_control(
    control: str, examples: Sequence[Example], images: Images, *, seed: int
) -> tuple[list[Example], Images]:
    """The examples as a control asks them, without those it leaves out, and how their pictures are opened.

    Ids stay. `none` changes nothing. Raises `UnknownNameError` for another name.
    """
    if control == "none":
        return list(examples), images
    found = _control(control)
    asked = [changed for changed in found.examples(examples, seed) if isinstance(changed, Example)]
    return asked, found.pictures(images, examples, seed)


def left_out(control: str, examples: Sequence[Example], *, seed: int) -> dict[str, int]:
    """How many examples a control leaves out, by reason; most frequent first."""
    if control == "none":
        return {}
    reasons = Counter(changed for changed in _control(control).examples(examples, seed) if isinstance(changed, str))
    return dict(sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0])))


def _control(name: str) -> Control:
    if name not in CONTROLS:
        raise unknown_name("control", name, CONTROLS)
    return CONTROLS[name]
