"""Wrong answers that say the opposite: the other side, or yes for no. Told by the phantom's oracle alone."""

from __future__ import annotations

import re
from typing import NamedTuple

from medrft.data.phantom.grammar import read_answer
from medrft.data.phantom.relations import RELATIONS, find_wanted
from medrft.data.phantom.truth import grade_answer
from medrft.types import Example

OTHER = {"left": "right", "right": "left", "yes": "no", "no": "yes"}


class Flips(NamedTuple):
    """How a wrong answer contradicts the facts; both may hold, and neither does for a right one."""

    side: bool
    """With left and right exchanged the answer would be right."""
    polarity: bool
    """It says yes for no or no for yes, calls a picture with a finding normal, or finds something in a normal one."""


def is_flipped(example: Example, answer: str | None) -> Flips:
    """Whether a wrong answer that the grammar reads is flipped; an answer it cannot read is not.

    Raises `KeyError` for an example that is not of the phantom data.
    """
    verdict = grade_answer(example, answer)
    if answer is None or verdict.correct or not verdict.in_grammar:
        return Flips(side=False, polarity=False)
    turned = re.sub(r"\b(left|right)\b", lambda found: OTHER[found[0].lower()], answer, flags=re.IGNORECASE)
    side = turned != answer and grade_answer(example, turned).correct
    return Flips(side=side, polarity=_polarity(example, answer))


def _polarity(example: Example, answer: str) -> bool:
    if example.kind == "closed":
        turned = re.sub(r"^\W*(yes|no)\b", lambda found: OTHER[found[1].lower()], answer, flags=re.IGNORECASE)
        return turned != answer and grade_answer(example, turned).correct
    reading = read_answer(answer)
    if reading is None:  # a letter of a choice, which names no polarity
        return False
    facts = example.metadata["facts"]
    if facts["asked"]["attribute"] in RELATIONS:  # about one side: the other findings do not matter
        findings = [finding] if (finding := find_wanted(facts).finding) is not None else []
    else:
        findings = facts["findings"]
    clear = [claim.get("w") is not None or claim.get("W") is not None for claim in reading.claims]
    denies = any(
        says != claim.negated and claim.form in ("normal", "abnormal", "nothing", "image")
        for claim, says in zip(reading.claims, clear, strict=True)
    )
    finds = any(claim.form == "finding" and not claim.negated for claim in reading.claims)
    return denies if findings else finds
