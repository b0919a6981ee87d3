from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from medrft.data.phantom import grade_answer, load_phantom
from medrft.evaluation.controls import rewording
from medrft.evaluation.controls.rewording import (
    mirrored_side,
    negated_example,
    other_side,
    reordered_options,
    rephrased_examples,
)
from medrft.types import Example


def make(question, *references, kind="open", options=(), dataset="toy", **metadata):
    return Example(
        id="toy/test/1",
        dataset=dataset,
        split="test",
        images=(Path("a.png"),),
        question=question,
        references=references,
        kind=kind,
        options=options,
        metadata=metadata,
    )


def closed(question, answer="yes", **more):
    return make(question, answer, kind="closed", **more)


def test_a_negation_exchanges_yes_and_no():
    made = negated_example(closed("Is there a mass?", "Yes"))
    assert (made.question, made.references) == ("Is it true that there is no mass?", ("No",))
    assert negated_example(closed("Is there a mass?", "no")).references == ("yes",)
    assert negated_example(make("Where is it?", "lung")) == rewording.NOT_CLOSED
    assert negated_example(closed("Is there a mass?", "maybe")) == rewording.NOT_YES_NO


@pytest.mark.parametrize(
    ("example", "expected"),
    [
        (closed("Is there a mass in the left lung?"), "Is there a mass in the right lung?"),
        (closed("Is the Right kidney visible?"), "Is the Left kidney visible?"),
        (closed("Is there a mass?"), rewording.NO_SIDE),
        (closed("Are the left and right lungs clear?"), rewording.UNSAFE_SIDE),
        (closed("Is this the right diagnosis?"), rewording.UNSAFE_SIDE),
        (make("Which side?", "left"), rewording.NOT_CLOSED),
    ],
)
def test_sides_of_a_question_are_exchanged_and_its_answer_is_not_known(example, expected):
    made = other_side(example)
    assert made == expected if isinstance(made, str) else made.question == expected
    assert isinstance(made, str) or made.references == ()  # no mass on the left says nothing of the right


@pytest.mark.parametrize(
    ("example", "expected"),
    [
        (make("Where is the mass?", "Left Lung", modality="CT"), ("Right Lung",)),
        (make("Where is the mass?", "left", "left side", modality="MRI"), ("right", "right side")),
        (make("Left or right?", "Right", modality="X-Ray"), ("Left",)),
        (make("Where is the mass?", "left", dataset="vqa_rad"), ("right",)),  # nothing but radiographs, CT and MR
        (make("Side?", "left", kind="choice", options=("left", "right"), modality="MR"), ("right",)),
        (make("Side?", "left", kind="choice", options=("left", "middle"), modality="MR"), rewording.NO_FLIPPED_OPTION),
        (closed("Is the mass on the left?", modality="CT"), ()),  # unknown: the other side may have one too
        (closed("Is there a mass?", modality="CT"), rewording.NO_SIDE),
        (make("Where is the mass?", "left", modality="fundus photography"), rewording.NOT_MIRRORED),
        (make("Where is the mass?", "left", modality="OCT"), rewording.NOT_MIRRORED),
        (make("Where is the mass?", "left"), rewording.NOT_MIRRORED),
        (make("Where is the mass?", "both sides, left more", modality="CT"), rewording.UNSAFE_SIDE),
        (make("Where is the mass?", "liver", modality="CT"), rewording.NO_SIDE),
        (make("What is in the left lung?", "a mass", modality="CT"), rewording.NO_SIDE),
        (make("Where in the left lung?", "left apex", modality="CT"), rewording.TWO_SIDES),
    ],
)
def test_what_the_mirror_does_to_the_right_answer(example, expected):
    made = mirrored_side(example)
    assert (made if isinstance(made, str) else made.references) == expected


def test_options_change_places_and_keep_their_texts():
    options = ("CT", "MRI", "X-ray", "ultrasound")
    example = make("Which modality?", "MRI", kind="choice", options=options)
    orders = {reordered_options(replace(example, id=f"toy/test/{i}"), seed=0).options for i in range(60)}
    assert len(orders) > 10 and options not in orders
    assert all(sorted(order) == sorted(options) for order in orders)
    assert (
        reordered_options(example, seed=0) == reordered_options(example, seed=0) != reordered_options(example, seed=3)
    )
    assert reordered_options(example, seed=0).references == ("MRI",)


@pytest.mark.parametrize(
    ("example", "reason"),
    [
        (make("Which?", "CT", kind="choice", options=("CT", "MRI", "none of the above")), rewording.POINTING),
        (make("Which?", "CT", kind="choice", options=("CT", "MRI", "Both A and B")), rewording.POINTING),
        (make("Which? (A) CT (B) MRI", "CT", kind="choice", options=("CT", "MRI")), rewording.SPELLED_OUT),
        (make("Which?", "CT", kind="choice", options=("CT", "ct.")), rewording.ALIKE),
        (make("Which?", "CT"), rewording.NOT_CHOICE),
    ],
)
def test_options_that_cannot_change_places(example, reason):
    assert reordered_options(example, seed=0) == reason


def pair(relation="strict agreement", other="Yes"):
    """VQA-RAD's two wordings of one question, each with the other's text."""
    first = closed("Is the heart enlarged?", "Yes", phrase_type="test_freeform", qid_linked_id="x")
    second = closed("Is there cardiomegaly?", other, phrase_type="test_para", qid_linked_id="x")
    return [
        replace(
            one,
            id=f"vqa_rad/test/{i}",
            metadata={**one.metadata, "question_relation": relation, "question_rephrase": text},
        )
        for i, (one, text) in enumerate([(first, second.question), (second, first.question)])
    ]


def test_a_rephrased_pair_is_asked_one_way():
    made = rephrased_examples(pair())
    assert (made[0].question, made[0].references) == ("Is there cardiomegaly?", ("Yes",))
    assert made[1] == rewording.IS_REPHRASING
    assert rephrased_examples(pair()[:1])[0].question == "Is there cardiomegaly?"  # the pair's other row was not drawn


@pytest.mark.parametrize("relation", ["inversion", "conversion", "Subsumes", "not similar"])
def test_rephrasings_that_ask_something_else_are_left_out(relation):
    assert rephrased_examples(pair(relation))[0] == f"its rephrasing asks something else ({relation.lower()})"


def test_a_pair_whose_answers_differ_is_left_out():
    assert rephrased_examples(pair(other="no"))[0] == rewording.ANOTHER_ANSWER
    assert rephrased_examples([closed("Is there a mass?")]) == [rewording.NO_REPHRASING]


@pytest.mark.parametrize("change", [negated_example, other_side, mirrored_side])
def test_the_phantoms_own_judge_agrees_with_every_changed_reference(change, tmp_path):
    examples = load_phantom(tmp_path, images=0, validation_images=0, test_images=60, size=32).examples
    made = [(one, new) for one in examples if isinstance(new := change(one), Example)]
    assert len(made) > 12
    for one, new in made:
        assert grade_answer(new, new.references[0]).correct, (new.question, new.references)
        if new.references != one.references:
            assert not grade_answer(new, one.references[0]).correct, (new.question, one.references)
        assert grade_answer(one, one.references[0]).correct  # the original is as it was
