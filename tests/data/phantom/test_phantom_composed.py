"""Questions about sides, composed questions, their thoughts and their oracle."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medrft.data import read_data
from medrft.data.phantom import grade_answer, looks
from medrft.data.phantom.composed import (
    TYPES,
    draw_composed,
    free_form_words,
    is_usual,
    right_answer,
    think_looking,
    think_shortcut,
    think_usual_sides,
    think_wrong,
)
from medrft.data.phantom.flips import is_flipped
from medrft.data.phantom.lessons import IN_FORM, UNDER_THINK, draw_lesson, fact_names, facts_of
from medrft.data.phantom.sides import ask_sides, both_sides, draw_pair, draw_twins, side_sentence
from medrft.data.phantom.world import Finding, Scene
from medrft.errors import DataError
from medrft.types import Example

NODULE = Finding(type="nodule", side="right", place="upper zone", size="small")
MIDDLE = Finding(type="consolidation", side="left", place="middle zone", size="large")
FLUID = Finding(type="effusion", side="left", size="large")
BOTH = Finding(type="effusion", side="both", size="small", count=2)
TWO = Finding(type="nodule", side="left", count=2)


def row(attribute, *findings, **about):
    scene = Scene(modality="xray", findings=findings)
    return Example(
        id="phantom_composed/test/0",
        dataset="phantom_composed",
        split="test",
        images=(Path("x.png"),),
        question="?",
        references=("x",),
        kind="open",
        metadata={"facts": {**scene.facts(), "asked": {"attribute": attribute, **about}}},
    )


CASES = [
    (
        row("opposite", NODULE, FLUID, to=0),
        "effusion, left pleural effusion, a large effusion",
        "nodule, nothing, right effusion, yes",
    ),
    (row("opposite", NODULE, to=0), "nothing, no abnormality, no finding", "effusion, left, nodule, normal"),
    (
        row("opposite_larger", NODULE, FLUID, to=1),
        "nodule, small right nodule",
        "effusion, large nodule, nodule and effusion",
    ),
    (
        row("larger_place", NODULE, MIDDLE, to=1),
        "left middle zone, in the left middle zone",
        "middle zone, left, right upper zone, right middle zone",
    ),
    (
        row("opposite_place", NODULE, MIDDLE, to=1),
        "right upper zone, upper zone of the right lung",
        "left middle zone, right lower zone",
    ),
    (
        row("total", NODULE, TWO, value="nodule"),
        "three, 3, three nodules",
        "two, one, four, three masses, three on the left",
    ),
    (row("total", value="nodule"), "none, zero, 0, no nodules, nothing", "one, two, no masses"),
    (row("side_finding", NODULE, FLUID, on="left"), "effusion, left effusion", "nodule, nothing, right effusion"),
    (row("side_finding", NODULE, on="left"), "nothing", "nodule"),
    (row("side_finding", BOTH, on="left"), "effusion", "nothing"),
    (row("side_count", TWO, on="left", value="nodule"), "two, 2, two nodules", "none, three"),
    (row("side_count", TWO, on="right", value="nodule"), "none, zero", "two, one"),
]


@pytest.mark.parametrize(("example", "right", "wrong"), CASES)
def test_the_oracle_knows_what_is_meant(example, right, wrong):
    for answer in right.split(", "):
        assert grade_answer(example, answer).correct, answer
    for answer in wrong.split(", "):
        assert not grade_answer(example, answer).correct, answer


def test_flips_are_about_what_is_meant():
    assert is_flipped(CASES[3][0], "right middle zone").side
    assert is_flipped(CASES[0][0], "nothing").polarity
    assert not is_flipped(CASES[0][0], "pneumothorax").polarity
    assert not is_flipped(CASES[1][0], "nothing").polarity


@pytest.mark.parametrize("type_", TYPES)
def test_wordings_are_right_and_answers_balanced(type_):
    rng = np.random.default_rng(3)
    said, usual = Counter(), 0
    for number in range(400):
        scene, asked = draw_composed(rng, type_, shifted=number % 2 == 1)
        example = row(
            type_, *scene.findings, **{key: value for key, value in asked.about.items() if key != "attribute"}
        )
        example.metadata["facts"]["modality"] = scene.modality
        assert all(grade_answer(example, wording).correct for wording in asked.wordings), (scene, asked)
        said[scene.modality, asked.wordings[0]] += 1
        usual += is_usual(scene, asked)
    seen = Counter(modality for modality, _ in said.elements())
    assert len(said) >= 8 and max(count / seen[modality] for (modality, _), count in said.items()) < 0.36
    assert usual / 400 < 0.33


def test_thoughts_look_or_do_not():
    rng = np.random.default_rng(4)
    for type_ in TYPES:
        for _ in range(40):
            scene, asked = draw_composed(rng, type_)
            looks, guesses, errs = (
                think_looking(scene, asked),
                think_shortcut(scene, asked),
                think_wrong(rng, scene, asked),
            )
            assert looks.startswith(both_sides(scene)) and "sually" in guesses
            assert errs != looks and errs.startswith("On the right")


def test_long_shortcuts_are_as_long_as_looking_and_say_nothing_of_the_picture():
    rng = np.random.default_rng(6)
    lengths: dict[str, list[int]] = {"looking": [], "short": [], "long": []}
    said = set()
    for number in range(500):
        scene, asked = draw_composed(rng, TYPES[number % len(TYPES)])
        short, long = think_shortcut(scene, asked), think_usual_sides(scene, asked)
        assert long.endswith(short)
        said.add((scene.modality, asked.type == "total", long.removesuffix(short)))
        for kind, thought in (("looking", think_looking(scene, asked)), ("short", short), ("long", long)):
            lengths[kind].append(len(thought.split()))
    means = {kind: np.mean(words) for kind, words in lengths.items()}
    assert abs(means["long"] / means["looking"] - 1) < 0.1 and means["short"] < means["looking"] / 2
    assert len(said) == len({key[:2] for key in said})  # the same words whatever the picture shows


@pytest.mark.parametrize(
    ("findings", "side", "sentence"),
    [
        ((NODULE, FLUID), "right", "On the right there is a small nodule in the upper zone."),
        ((NODULE, FLUID), "left", "On the left there is a large pleural effusion."),
        ((NODULE,), "left", "On the left there is nothing."),
        ((TWO,), "left", "On the left there are two nodules."),
        ((BOTH,), "right", "On the right there is a small pleural effusion."),
    ],
)
def test_sides_are_described(findings, side, sentence):
    assert side_sentence(Scene(modality="xray", findings=findings), side) == sentence


@pytest.mark.parametrize("draw", [draw_pair, draw_twins])
def test_questions_about_sides_have_right_wordings(draw):
    rng = np.random.default_rng(5)
    for _ in range(150):
        scene = draw(rng)
        assert all(finding.side in ("right", "left") for finding in scene.findings)
        for asked in ask_sides(rng, scene):
            if asked.type == "side_description":
                continue
            about = {key: value for key, value in asked.about.items() if key != "attribute"}
            example = row(asked.type, *scene.findings, **about)
            example.metadata["facts"]["modality"] = scene.modality
            assert all(grade_answer(example, wording).correct for wording in asked.wordings), (scene, asked)


def test_lessons_ask_no_composed_question_and_seldom_write_the_form():
    lessons = [draw_lesson(7, number, 32) for number in range(300)]
    pairs = [pair for lesson in lessons for pair in lesson.pairs]
    formed = [answer for _, answer in pairs if answer.startswith("<think>")]
    composed = ("opposite", "larger", "in all", "together")
    assert not [question for question, _ in pairs if any(word in question for word in composed)]
    assert 0.6 * IN_FORM * UNDER_THINK < len(formed) / len(pairs) < IN_FORM * UNDER_THINK
    assert set().union(*(facts_of(lesson.scene) for lesson in lessons)) <= set(fact_names())
    again = draw_lesson(7, 5, 32)
    assert again.pairs == lessons[5].pairs and (again.pixels == lessons[5].pixels).all()


def test_the_data_set_has_few_thoughts_and_many_answers(tmp_path):
    options = {"thoughts": 60, "answers": 40, "validation_images": 10, "test_images": 12, "size": 32}
    found = read_data("phantom_composed", tmp_path, seed=3, options=options).examples
    train = [example for example in found if example.split == "train"]
    kinds = Counter(example.metadata["thought"] for example in train)
    assert len(train) == 160 and kinds[None] == 40 and kinds["single"] == 60 and 12 <= kinds["looking"] <= 36
    assert all((example.rationale is None) == (example.metadata["thought"] is None) for example in train)
    assert len({example.images for example in train}) == 100
    sets = Counter(example.dataset for example in found if example.split == "test")
    assert sets == {"phantom_composed": 12, "phantom_composed_ood": 12, "phantom_sides": 12}
    for example in found:
        wrong = example.metadata["teacher_error"] == "wrong_guess"
        assert grade_answer(example, example.references[0]).correct != wrong
    assert found == read_data("phantom_composed", tmp_path, seed=3, options=options).examples


def test_shortcuts_are_long_where_asked(tmp_path):
    options = {"thoughts": 30, "answers": 0, "validation_images": 0, "test_images": 0, "size": 32}
    short, long = (
        read_data("phantom_composed", tmp_path, options={**options, **more}).examples
        for more in ({}, {"long_shortcuts": True})
    )
    for one, other in zip(short, long, strict=True):
        taken = one.metadata["thought"] == "shortcut"
        assert other.rationale.endswith(one.rationale) and (other.rationale != one.rationale) == taken
        assert other.references == one.references and other.metadata == one.metadata


@pytest.mark.parametrize("type_", TYPES)
def test_free_form_answers_are_many_and_right(type_):
    rng = np.random.default_rng(8)
    for _ in range(60):
        scene, asked = draw_composed(rng, type_)
        wordings = free_form_words(right_answer(scene, asked), asked)
        example = row(asked.type, *scene.findings, **{k: v for k, v in asked.about.items() if k != "attribute"})
        example.metadata["facts"]["modality"] = scene.modality
        assert len(set(wordings)) == len(wordings) >= 7
        assert [wording for wording in wordings if not grade_answer(example, wording).correct] == []


def test_answers_in_free_form_where_asked(tmp_path):
    options = {"thoughts": 60, "answers": 20, "validation_images": 5, "test_images": 20, "size": 32}
    short, free = (
        read_data("phantom_composed", tmp_path, options={**options, **more}).examples
        for more in ({}, {"free_form": True})
    )
    longer = 0
    for one, other in zip(short, free, strict=True):
        assert (one.id, one.images) == (other.id, other.images)
        if not one.id.endswith("side"):  # whose question about one side is drawn after the answer
            assert replace(other, references=one.references) == one
        assert grade_answer(other, other.references[0]).correct == (one.metadata["teacher_error"] != "wrong_guess")
        longer += len(other.references[0].split()) > 3
    assert longer > 60


@pytest.mark.parametrize("options", [{"looking": 1.5}, {"teacher_errors": -0.1}, {"answers": -1}, {"size": 8}])
def test_values_out_of_range_are_named(tmp_path, options):
    with pytest.raises(DataError, match=next(iter(options))):
        read_data("phantom_composed", tmp_path, options=options)


@pytest.mark.parametrize("type_", TYPES)
def test_a_thought_that_looks_is_told_from_a_shortcut(type_):
    asked_of = row("opposite", NODULE, FLUID, to=0)
    for number in range(20):
        scene, asked = draw_composed(np.random.default_rng(number), type_)
        assert looks(asked_of, think_looking(scene, asked)) is True
        assert looks(asked_of, think_shortcut(scene, asked)) is False
        assert looks(asked_of, think_usual_sides(scene, asked)) is False
    assert looks(asked_of, None) is False
    assert looks(replace(asked_of, dataset="phantom_sides"), both_sides(scene)) is None
