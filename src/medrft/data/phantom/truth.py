"""The phantom's oracle: grades any text as an answer against the drawn facts, whatever the reference says.

    question "Where is the nodule?"   facts: left upper lobe   "upper left" -> correct   "left" -> not, it is too little

An answer is correct when it settles what was asked and everything it says is true. The oracle imports no scorer and
none of the wordings that references are drawn from; what its closed grammar cannot read is wrong. What settles an open
question: `side`, `size`, `count`, `modality`, `plane` and `organ` by that fact; `place` (where) by place and side;
`abnormality` by all findings of the picture and no other; `description` by the finding with its place and side. What is
meant by a question about sides, such as what lies opposite the nodule, `relations` says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from medrft.data.phantom.grammar import Claim, Reading, read_answer, words_of
from medrft.data.phantom.relations import RELATIONS, Wanted, find_wanted
from medrft.types import Example

LETTERS = {"side": "s", "place": "l", "size": "z", "count": "c", "modality": "m", "plane": "p", "organ": "o"}
OF_FINDING = ("side", "place", "size", "count")
OF_IMAGE = ("modality", "plane", "organ")
LIES_ON = {"liver": "right", "spleen": "left"}
"""The side on which an organ lies anyway: saying so is right, and not needed."""
LIES_IN = {"stone": "kidney"}


class Truth(NamedTuple):
    """The verdict on one answer."""

    correct: bool
    in_grammar: bool
    """Whether the grammar could read the answer; report the share of those it could not."""


def grade_answer(example: Example, answer: str | None) -> Truth:
    """Grade an extracted answer (`None`: the completion held none) against the example's facts.

    Raises `KeyError` for an example that is not of the phantom data.
    """
    facts: Mapping[str, Any] = example.metadata["facts"]
    text = answer if example.kind != "choice" or answer is None else _by_letter(answer, example.options)
    reading = None if text is None else read_answer(text)
    if reading is None:
        return Truth(False, False)
    return Truth(_grade(facts, reading, example), True)


def ask_oracle(example: Example, answer: str | None) -> Truth | None:
    """The verdict on an answer to a phantom question; `None` for all other data, whose truth nobody knows.

    A data set of somebody else's that is called `phantom…` holds no drawn facts and so has no oracle.
    """
    facts = example.metadata.get("facts")
    drawn = example.dataset.startswith("phantom") and isinstance(facts, Mapping) and "asked" in facts
    return grade_answer(example, answer) if drawn else None


def _by_letter(answer: str, options: tuple[str, ...]) -> str | None:
    """The option a letter stands for; the answer itself without one, `None` when letter and text differ."""
    found = re.fullmatch(r"\s*\(?([A-Da-d])(?:[).:]+\s*(.*?)|\s*)\s*\.?\s*", answer, flags=re.DOTALL)
    if found is None:
        return answer
    position = "abcd".index(found[1].lower())
    if position >= len(options):
        return None
    option = options[position]
    return option if not found[2] or words_of(found[2]) == words_of(option) else None


def _grade(facts: Mapping[str, Any], reading: Reading, example: Example) -> bool:
    asked = facts["asked"]
    if asked["attribute"] in RELATIONS:
        return reading.polarity is None and _names_wanted(find_wanted(facts), reading)
    target = facts["findings"][asked["finding"]] if "finding" in asked else None
    if not all(_is_true(claim, facts, target) for claim in reading.claims):
        return False
    if example.kind == "closed" and reading.polarity is not None:
        return reading.polarity == ("yes" if expected_yes(facts, asked, target) else "no")
    if example.kind == "closed":
        return any(_settles(claim, asked) for claim in reading.claims)
    if reading.polarity is not None:
        return False
    if asked["attribute"] == "abnormality":
        return _names_all(facts, reading)
    return _needed(asked["attribute"], target, example.kind) <= _claimed(reading, target)


def expected_yes(facts: Mapping[str, Any], asked: Mapping[str, Any], target: Mapping[str, Any] | None) -> bool:
    """Whether the right answer to a closed question is yes; `asked["negated"]` says that it asks for the contrary."""
    attribute, value = asked["attribute"], asked["value"]
    if attribute != "presence":
        holds = bool((facts if target is None else target)[attribute] == value)
    else:
        types = {finding["type"] for finding in facts["findings"]}
        holds = {"normal": not types, "abnormal": bool(types)}.get(value, value in types)
    return holds != bool(asked.get("negated"))


# ---- is a claim true ------------------------------------------------------------------------------------------------


def _is_true(claim: Claim, facts: Mapping[str, Any], target: Mapping[str, Any] | None) -> bool:
    of_image = all(claim.get(LETTERS[name]) in (None, facts[name]) for name in OF_IMAGE)
    if claim.form in ("finding", "predicate", "fragment"):
        return of_image and claim.negated != _finding_is_true(claim, facts, target)
    if claim.form == "image" and claim.get("w") is None:
        return claim.negated != of_image
    says_normal = claim.get("w") is not None or claim.get("W") is not None
    return of_image and claim.negated != (says_normal == (not facts["findings"]))


def _finding_is_true(claim: Claim, facts: Mapping[str, Any], target: Mapping[str, Any] | None) -> bool:
    """Whether some finding is as the claim says; without a name, the finding asked about."""
    type_ = claim.get("t")
    if type_ is None:
        return target is not None and _matches(claim, target)
    return any(finding["type"] == type_ and _matches(claim, finding) for finding in facts["findings"])


def _matches(claim: Claim, finding: Mapping[str, Any]) -> bool:
    for name in OF_FINDING:
        said = claim.get(LETTERS[name])
        if said is None:
            continue
        true = {str(finding[name])}
        if name == "side" and finding["side"] is None:
            true = {LIES_ON.get(finding["place"], "")}
        if said not in true:
            return False
    return True


# ---- does it settle the question ------------------------------------------------------------------------------------


def _settles(claim: Claim, asked: Mapping[str, Any]) -> bool:
    """Whether a true claim answers a closed question without a yes or no."""
    attribute, value = asked["attribute"], asked["value"]
    if attribute != "presence":
        said = claim.get(LETTERS[attribute])
        return said is not None and (not claim.negated or said == value)
    says_normal = claim.form in ("normal", "nothing", "abnormal") or claim.get("w") is not None
    if value in ("normal", "abnormal"):
        return says_normal or (claim.form == "finding" and not claim.negated)
    if claim.form == "finding" and claim.get("t") == value:
        return not claim.negated or not any(claim.get(LETTERS[name]) for name in OF_FINDING)
    return says_normal and _denies_all(claim)


def _denies_all(claim: Claim) -> bool:
    says_normal = claim.get("w") is not None or claim.get("W") is not None
    return says_normal != claim.negated


def _names_all(facts: Mapping[str, Any], reading: Reading) -> bool:
    if not facts["findings"]:
        return any(
            claim.form not in ("finding", "predicate", "fragment") and _denies_all(claim) for claim in reading.claims
        )
    named = [claim.get("t") for claim in reading.claims if claim.form == "finding" and not claim.negated]
    return sorted(str(name) for name in named) == sorted(finding["type"] for finding in facts["findings"])


def _names_wanted(wanted: Wanted, reading: Reading) -> bool:
    """Whether an answer to a question about sides names what is wanted, and says nothing else of it that is wrong."""
    if wanted.number is not None:
        return len(reading.claims) == 1 and _counts(wanted, reading.claims[0])
    target = wanted.finding
    if target is None:
        return len(reading.claims) == 1 and _says_nothing(reading.claims[0])
    of_target = all(
        claim.form in ("finding", "predicate", "fragment")
        and not claim.negated
        and claim.get("t") in (None, target["type"])
        and _matches(claim, target)
        for claim in reading.claims
    )
    return of_target and wanted.needed <= _claimed(reading, target)


def _counts(wanted: Wanted, claim: Claim) -> bool:
    """Whether a claim says how many there are in all, and nothing of where or how large."""
    if _says_nothing(claim):
        return wanted.number == 0
    said = {name for name, _ in claim.values} - {"t", "c"}
    if said or claim.get("t") not in (None, wanted.type):
        return False
    if claim.negated:
        return wanted.number == 0 and claim.get("c") is None
    return claim.get("c") == str(wanted.number)


def _says_nothing(claim: Claim) -> bool:
    return (claim.form == "nothing" and not claim.negated) or (claim.form == "abnormal" and claim.negated)


def _needed(attribute: str, target: Mapping[str, Any] | None, kind: str) -> set[str]:
    if target is None:
        return {attribute}
    if attribute == "description":
        return {"type"} | {name for name in ("side", "place") if target[name] is not None}
    if attribute == "place" and kind == "open" and target["side"] is not None:
        return {"place", "side"}
    return {attribute}


def _claimed(reading: Reading, target: Mapping[str, Any] | None) -> set[str]:
    """The attributes that positive clauses about the target, or about the image, state."""
    out: set[str] = set()
    for claim in reading.claims:
        type_ = claim.get("t")
        if claim.negated or (type_ is not None and (target is None or type_ != target["type"])):
            continue
        out |= {name for name, letter in LETTERS.items() if claim.get(letter) is not None}
        if type_ is not None:
            out |= {"type"} | ({"place"} if type_ in LIES_IN else set())
    return out
