"""From an answer to the completion a policy would write: a thought of varying length, and the answer in its form.

Thoughts say nothing about the answer, so that whatever a reward pays for length or style shows as noise.
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
    """`right`, `paraphrase`, `contradiction`, `wrong`, `prediction`, or `hack`."""
    attribute: str = ""
    right: bool | None = None
    group: str = ""

    @property
    def answer(self) -> str:
        """What people read: the answer, else the whole completion."""
        return self.item.answer if self.item.answer is not None else (self.item.completion or "")

    def as_json(self) -> dict[str, Any]:
        """The case as findings and pages show it."""
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
    """An answer in a prompt's form, after one to six sentences of thought where the form has one."""
    if form == "short":
        return answer
    if form == "direct":
        return f"<answer>{answer}</answer>"
    return f"<think>{made_up_thought(rng)}</think><answer>{answer}</answer>"


def made_up_thought(rng: random.Random) -> str:
    """One to six sentences that say nothing."""
    return " ".join(rng.sample(SENTENCES, rng.randint(1, 6)))


def make_case(
    example: Example,
    text: str,
    *,
    form: Form,
    rng: random.Random | None = None,
    **more: Any,
) -> Case:
    """A case from an answer (with `rng`, put into the form) or from a whole completion (without)."""
    written = completion_of(text, form=form, rng=rng) if rng is not None else text
    completion = Completion(text=written, n_tokens=max(1, len(written.split())), truncated=False)
    return Case(example=example, item=item_of(example, completion, form=form, max_tokens=MAX_TOKENS), **more)
