"""Makes the completion a policy would write from a bare answer: a thought of varying length, then the answer.

    "left" in the form `think`  ->  "<think>I look at the whole image first.</think><answer>left</answer>"

The thoughts say nothing about the answer, so whatever a reward pays for length or style shows up as noise.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from medrft.scorers.base import item_of
from medrft.types import Completion, Example, Form, Item

SENTENCES = (
    "I look at the whole image first.",
    "The borders of the organs can be followed.",
    "I compare both sides with each other.",
    "The technique is adequate for the question.",
    "Nothing else in the picture bears on this.",
    "The contrast between the tissues is good.",
    "I check the edges of the picture as well.",
    "This fits what the question asks for.",
)
MAX_TOKENS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One completion that a reward is to score, and where it comes from."""

    example: Example
    item: Item
    source: str
    """`right`, `paraphrase`, `contradiction`, `wrong`, `prediction` or `hack`; in some checks `tagged` or the like."""
    attribute: str = ""
    """The facet changed, the type of paraphrase, or the name of the hack."""
    right: bool | None = None
    """`None` where nobody has said."""
    group: str = ""
    """Answers to be compared with each other, as GRPO would, share this name."""

    @property
    def answer(self) -> str:
        """What is shown to people: the answer, or the whole completion if no answer can be read."""
        return self.item.answer if self.item.answer is not None else (self.item.completion or "")

    def as_json(self) -> dict[str, Any]:
        """The case as findings and pages show it, with long texts cut."""
        return {
            "source": self.source,
            "attribute": self.attribute,
            "right": self.right,
            "question": self.example.question,
            "reference": self.example.references[0],
            "answer": self.answer[:300],
            "completion": (self.item.completion or "")[:600],
        }


def completion_of(answer: str, *, form: Form, rng: random.Random) -> str:
    """An answer written in a prompt's form; the form `think` puts one to six sentences of thought before it."""
    if form == "short":
        return answer
    if form == "direct":
        return f"<answer>{answer}</answer>"
    return f"<think>{made_up_thought(rng)}</think><answer>{answer}</answer>"


def made_up_thought(rng: random.Random) -> str:
    """One to six sentences that say nothing about any answer."""
    return " ".join(rng.sample(SENTENCES, rng.randint(1, 6)))


def make_case(
    example: Example,
    text: str,
    *,
    form: Form,
    rng: random.Random | None = None,
    **more: Any,
) -> Case:
    """A case from a text. With `rng` the text is an answer and is put into the form; without, a whole completion."""
    written = completion_of(text, form=form, rng=rng) if rng is not None else text
    completion = Completion(text=written, n_tokens=max(1, len(written.split())), truncated=False)
    return Case(example=example, item=item_of(example, completion, form=form, max_tokens=MAX_TOKENS), **more)
