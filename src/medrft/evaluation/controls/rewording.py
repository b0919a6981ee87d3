"""Controls on the question: negated, with sides exchanged, with options in another order, or rephrased by a clinician.

Each function takes an example and returns the changed one, or the reason why it is left out. The references are those
of the changed question; where its right answer is not known there are none, and the answer is not scored.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from medrft.data.phantom.truth import expected_yes
from medrft.evaluation.controls.left_right import OTHER, has_side, side_of, swap_sides
from medrft.evaluation.controls.negation import negate_question
from medrft.text import normalize, yes_no
from medrft.types import Example

Changed = Example | str
"""The example as it is asked under the control, or the reason why it is left out."""

NOT_CLOSED = "not a yes/no question"
NOT_YES_NO = "its reference is neither yes nor no"
NOT_CHOICE = "not a multiple-choice question"
NO_SIDE = "states no side"
TWO_SIDES = "question and answer both state a side"
UNSAFE_SIDE = "states both sides, or left and right in another sense"
ANATOMY = "its side follows from anatomy"
NOT_MIRRORED = "not known to be a radiograph, CT or MR"
NO_FLIPPED_OPTION = "no option says the other side"
SPELLED_OUT = "the question itself spells out the options"
POINTING = "an option speaks of other options"
ALIKE = "all options are alike"
NO_REPHRASING = "no human rephrasing"
IS_REPHRASING = "is itself the rephrasing"
ANOTHER_ANSWER = "its rephrasing has another answer"

RADIOLOGY = {"vqa_rad"}
"""Data sets that give no modality but hold nothing else than radiographs, CT and MR (Lau et al. 2018)."""
MIRRORABLE = re.compile(r"\b(?:x ray|xray|radiograph\w*|cr|dx|ct|computed tomography|mr|mri|magnetic resonance)\b")
OTHER_OPTIONS = re.compile(
    r"\b(?:all|none|neither|both|any|either|two|three) (?:of )?(?:these|those|the|above|options?|[a-e]\b)"
    r"|\b(?:above|below|[A-E] (?:and|or|&) [A-E])\b",
    re.IGNORECASE,
)
SAME_QUESTION = "strict agreement"
"""VQA-RAD's label for a rephrasing that asks the same; conversion, subsumption and inversion ask something else."""


def negated_example(example: Example) -> Changed:
    """A closed question turned into its negation. A good model answers the opposite: yes and no change places."""
    if example.kind != "closed":
        return NOT_CLOSED
    negation = negate_question(example.question)
    if negation.question is None:
        return negation.reason
    if any(yes_no(reference) is None for reference in example.references):
        return NOT_YES_NO
    return replace(
        example,
        question=negation.question,
        references=tuple(_other_answer(reference) for reference in example.references),
        metadata=_asked(example.metadata, negated=True),
    )


def other_side(example: Example) -> Changed:
    """A closed question about one side, asked about the other. A good model may change its answer.

    Only phantom data tell what is true of the other side; for other data the share of changed answers is all we have.
    """
    if example.kind != "closed":
        return NOT_CLOSED
    side = side_of(example.question)
    if side is None:
        return UNSAFE_SIDE if has_side(example.question) else NO_SIDE
    asked = _asked(example.metadata, value=OTHER[side])
    if "facts" in asked and asked["facts"]["asked"]["attribute"] != "side":
        return NO_SIDE
    return replace(example, question=swap_sides(example.question), references=_closed_truth(asked), metadata=asked)


def mirrored_side(example: Example) -> Changed:
    """An example whose answer, or whose yes/no question, states a side, with the reference for the mirrored picture.

    A good model's answer turns to the other side. For a yes/no question about one side, only phantom data tell the
    right answer in the mirrored picture.
    """
    modality = normalize(str(example.metadata.get("modality") or ""))
    if example.dataset not in RADIOLOGY and not MIRRORABLE.search(modality):
        return NOT_MIRRORED
    if example.kind == "closed":
        return _mirrored_closed(example)
    stated = [side_of(reference) for reference in example.references]
    if not all(stated):
        return UNSAFE_SIDE if any(map(has_side, example.references)) else NO_SIDE
    if side_of(example.question) is not None:
        return TWO_SIDES
    if not _turns(example.metadata):
        return ANATOMY
    references = tuple(swap_sides(reference) for reference in example.references)
    if example.options and not {normalize(r) for r in references} <= {normalize(o) for o in example.options}:
        return NO_FLIPPED_OPTION
    return replace(example, references=references, metadata=_in_mirror(example.metadata))


def _mirrored_closed(example: Example) -> Changed:
    if side_of(example.question) is None:
        return UNSAFE_SIDE if has_side(example.question) else NO_SIDE
    metadata = _in_mirror(example.metadata)
    if "facts" in metadata and metadata["facts"]["asked"]["attribute"] != "side":
        return NO_SIDE
    return replace(example, references=_closed_truth(metadata), metadata=metadata)


def reordered_options(example: Example, *, seed: int) -> Changed:
    """The same options in another order, drawn by seed and example id; never the original order.

    A good model chooses the same text.
    """
    if example.kind != "choice":
        return NOT_CHOICE
    if len({normalize(option) for option in example.options}) < 2:
        return ALIKE
    if any(OTHER_OPTIONS.search(option) for option in example.options):
        return POINTING
    if all(option.strip().lower() in example.question.lower() for option in example.options):
        return SPELLED_OUT
    rng = random.Random(f"{seed} {example.id}")
    options = list(example.options)
    while tuple(options) == example.options:
        rng.shuffle(options)
    return replace(example, options=tuple(options))


def rephrased_examples(examples: Sequence[Example]) -> list[Changed]:
    """Each question as another clinician rephrased it (VQA-RAD), where the rephrasing asks exactly the same.

    A good model answers the same. Each pair is asked in one direction, from the first wording to the second; otherwise
    it would count twice.
    """
    linked: dict[tuple[str, str], Example] = {}
    for example in examples:
        linked[(str(example.metadata.get("qid_linked_id")), normalize(example.question))] = example
    return [_rephrased(example, linked) for example in examples]


def _rephrased(example: Example, linked: Mapping[tuple[str, str], Example]) -> Changed:
    said, relation = example.metadata.get("question_rephrase"), example.metadata.get("question_relation")
    if not said or not relation:
        return NO_REPHRASING
    if str(relation).lower() != SAME_QUESTION:
        return f"its rephrasing asks something else ({str(relation).lower()})"
    other = linked.get((str(example.metadata.get("qid_linked_id")), normalize(str(said))))
    if str(example.metadata.get("phrase_type")).endswith("para"):
        return IS_REPHRASING
    if other is not None and {normalize(r) for r in other.references} != {normalize(r) for r in example.references}:
        return ANOTHER_ANSWER
    return replace(example, question=str(said))


def _other_answer(reference: str) -> str:
    """No for yes and yes for no; capitalised if the reference is."""
    word = {"yes": "no", "no": "yes"}[str(yes_no(reference))]
    return word.capitalize() if reference.strip()[:1].isupper() else word


# ---- what phantom data tell -----------------------------------------------------------------------------------------


def _asked(metadata: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """Metadata whose phantom facts describe the changed question; the metadata of other data stay as they are."""
    if "facts" not in metadata:
        return dict(metadata)
    facts = metadata["facts"]
    return {**metadata, "facts": {**facts, "asked": {**facts["asked"], **changes}}}


def _in_mirror(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata whose phantom findings lie on the other side; the metadata of other data stay as they are."""
    if "facts" not in metadata:
        return dict(metadata)
    facts = metadata["facts"]
    findings = [{**found, "side": OTHER.get(found["side"], found["side"])} for found in facts["findings"]]
    return {**metadata, "facts": {**facts, "findings": findings}}


def _turns(metadata: Mapping[str, Any]) -> bool:
    """Whether the side asked about turns in a mirror.

    In phantom data it does not where the finding itself has no side: an organ's own side is not a fact of the finding.
    """
    if "facts" not in metadata:
        return True
    facts = metadata["facts"]
    index = facts["asked"].get("finding")
    found = facts["findings"] if index is None else [facts["findings"][index]]
    return any(finding["side"] in OTHER for finding in found)


def _closed_truth(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """The right answer to a phantom question, from the facts; none for other data."""
    if "facts" not in metadata:
        return ()
    facts = metadata["facts"]
    target = facts["findings"][facts["asked"]["finding"]]
    return ("yes" if expected_yes(facts, facts["asked"], target) else "no",)
