from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from PIL import Image, ImageOps

import medrft
from medrft.config import ControlName
from medrft.errors import RecipeError, UnknownNameError
from medrft.evaluation.controls.pictures import (
    CONTRAST,
    blank_pictures,
    blurred_pictures,
    contrasted_pictures,
    mirrored_pictures,
    shuffled_pictures,
)
from medrft.evaluation.controls.table import CONTROLS, FrequentAnswers, apply_control, left_out
from medrft.evaluation.runner import plan_passes
from medrft.recipes import parse_recipe
from medrft.types import Example


def example(number, question, answer, *, kind="open", options=(), question_type=None, image="a.png"):
    return Example(
        id=f"toy/train/{number}",
        dataset="toy",
        split="train",
        images=(Path(image),),
        question=question,
        references=(answer,),
        kind=kind,
        options=options,
        metadata={"question_type": question_type} if question_type else {},
    )


TRAIN = [
    example(1, "Which organ?", "Lung", question_type="organ"),
    example(2, "Which organ?", "the lung", question_type="organ"),
    example(3, "Which organ is seen?", "liver", question_type="organ"),
    example(4, "What is abnormal?", "effusion", question_type="finding"),
    example(5, "What is abnormal?", "effusion", question_type="finding"),
    example(6, "What is abnormal?", "mass", question_type="finding"),
    example(7, "Where?", "left", question_type="place"),
    example(8, "Is there a mass?", "no", kind="closed"),
    example(9, "Is there a mass?", "no", kind="closed"),
    example(10, "Is it normal?", "yes", kind="closed"),
    example(11, "Which plane?", "axial", kind="choice", options=("coronal", "axial")),
]


@pytest.mark.parametrize(
    ("asked", "by_type", "by_question"),
    [
        (example(0, "which organ is seen", "?", question_type="organ"), "Lung", "liver"),
        (example(0, "New question?", "?", question_type="finding"), "effusion", "effusion"),
        (example(0, "Where?", "?", question_type="unheard of"), "effusion", "left"),  # a new type: its kind
        (example(0, "Is it normal?", "?", kind="closed"), "no", "yes"),
        (example(0, "Which plane?", "?", kind="choice", options=("sagittal", "axial")), "axial", "axial"),
        (example(0, "Which plane?", "?", kind="choice", options=("sagittal", "oblique")), "sagittal", "sagittal"),
    ],
)
def test_most_frequent_answers(asked, by_type, by_question):
    frequent = FrequentAnswers.learn(TRAIN)
    assert frequent.for_type(asked) == by_type
    assert frequent.for_question(asked) == by_question


def test_nothing_learned_says_nothing():
    frequent = FrequentAnswers.learn([])
    assert frequent.for_question(example(0, "What?", "?")) == ""


def test_order_of_train_changes_nothing():
    asked = [example(0, "Which organ?", "?", question_type="organ"), example(0, "Is it?", "?", kind="closed")]
    forth, back = FrequentAnswers.learn(TRAIN), FrequentAnswers.learn(TRAIN[::-1])
    assert [forth.for_question(e) for e in asked] == [back.for_question(e) for e in asked]


def named(example):
    return [Image.new("RGB", (8, 6), color=path.stem) for path in example.images]


def test_blank_keeps_the_size_and_nothing_else():
    picture = example(0, "What?", "?", image="red.png")
    [image] = blank_pictures(named)(picture)
    assert image.size == (8, 6)
    assert len(image.getcolors()) == 1
    assert image.getpixel((0, 0)) != named(picture)[0].getpixel((0, 0))


def test_shuffled_gives_every_example_another_picture():
    examples = [
        example(i, "What?", "?", image=f"{color}.png") for i, color in enumerate(["red", "red", "blue", "green"])
    ]
    images = shuffled_pictures(named, examples, seed=0)
    again = shuffled_pictures(named, examples, seed=0)
    for one in examples:
        assert images(one)[0].tobytes() != named(one)[0].tobytes()
        assert images(one)[0].tobytes() == again(one)[0].tobytes()


def half_lit(example):
    """A picture that is bright on one side: its mirror image is another one."""
    images = []
    for number, _ in enumerate(example.images):
        image = Image.new("RGB", (40, 20), (20 + number, 20, 20))
        image.paste((220, 220, 220), (0, 0, 10, 20))
        images.append(image)
    return images


def test_the_mirror_turns_left_and_right_alone():
    picture = example(0, "Where?", "left")
    [image] = mirrored_pictures(half_lit)(picture)
    assert image.getpixel((39, 5)) == (220, 220, 220) and image.getpixel((0, 5)) == (20, 20, 20)
    assert ImageOps.mirror(image).tobytes() == half_lit(picture)[0].tobytes()


def test_blur_and_contrast_keep_size_and_mode_and_come_again():
    picture = example(0, "Where?", "left")
    for images in (blurred_pictures(half_lit), contrasted_pictures(half_lit, seed=0)):
        [image] = images(picture)
        assert (image.size, image.mode) == ((40, 20), "RGB")
        assert image.tobytes() != half_lit(picture)[0].tobytes()
        assert image.tobytes() == images(picture)[0].tobytes()


def test_contrast_draws_both_ways_and_a_picture_has_one():
    spreads = set()
    for number in range(20):
        [image] = contrasted_pictures(half_lit, seed=0)(example(number, "Where?", "left", image=f"{number}.png"))
        low, high = image.convert("L").getextrema()
        spreads.add(high - low > 200)
    assert spreads == {True, False} and len(CONTRAST) == 2
    same = [contrasted_pictures(half_lit, seed=0)(example(n, "Where?", "left"))[0].tobytes() for n in range(4)]
    assert len(set(same)) == 1  # questions about one picture see one picture


def cases():
    """Three CT of two organs, two X-rays of one patient, and one picture of no known sort."""
    sorts = [
        ("CT", "lung", "a"),
        ("CT", "lung", "b"),
        ("CT", "liver", "c"),
        ("X-Ray", "lung", "d"),
        ("X-Ray", "lung", "e"),
    ]
    found = [
        replace(
            example(i, "Where?", "left", image=f"{i}.png"),
            metadata={"modality": modality, "organ": organ, "image_case_url": "case" if modality == "X-Ray" else name},
        )
        for i, (modality, organ, name) in enumerate(sorts)
    ]
    return [*found, example(9, "Where?", "left", image="9.png")]


def test_same_modality_borrows_from_another_patient_and_says_where_it_cannot():
    shown = {}

    def opened(one):
        shown[one.id] = one.images
        return [one.images]

    asked, images = apply_control("same_modality", cases(), opened, seed=0)
    assert [one.id for one in asked] == ["toy/train/0", "toy/train/1"]
    assert images(asked[0]) == [(Path("1.png"),)] and images(asked[1]) == [(Path("0.png"),)]
    assert left_out("same_modality", cases(), seed=0) == {
        "no other picture of its modality and organ": 3,  # one liver; two X-rays of one case
        "its modality is not known": 1,
    }


def test_question_only_has_no_picture_in_the_prompt_and_keeps_the_rest():
    from medrft.models.prompts import get_prompt

    asked, _ = apply_control("question_only", TRAIN[:2], named, seed=0)
    assert [one.id for one in asked] == [one.id for one in TRAIN[:2]]
    blocks = get_prompt("direct").messages(asked[0])[0]["content"]
    assert {block["type"] for block in blocks} == {"text"}


@pytest.mark.parametrize("control", sorted(CONTROLS))
def test_every_control_keeps_ids_counts_what_it_leaves_and_is_the_same_again(control):
    asked, _ = apply_control(control, TRAIN, named, seed=1)
    assert len(asked) + sum(left_out(control, TRAIN, seed=1).values()) == len(TRAIN)
    assert {one.id for one in asked} <= {one.id for one in TRAIN}
    assert asked == apply_control(control, TRAIN, named, seed=1)[0]


def test_no_control_changes_nothing():
    assert apply_control("none", TRAIN, named, seed=0) == (TRAIN, named)
    assert left_out("none", TRAIN, seed=0) == {}


def test_a_wrong_name_gets_the_right_one():
    with pytest.raises(UnknownNameError, match="blank"):
        apply_control("blanc", TRAIN, named, seed=0)


def evaluation(controls):
    return parse_recipe({"name": "t", "model": {"id": "tiny:llava"}, "data": {"name": "table"}, "eval": controls}).eval


def test_a_recipe_names_controls_or_all_of_them():
    assert get_args(ControlName) == tuple(CONTROLS)
    assert evaluation({}).controls == ("blank",)
    assert evaluation({"controls": "all"}).controls == tuple(CONTROLS)
    with pytest.raises(RecipeError, match=r"eval\.controls"):
        evaluation({"controls": ["mirror"]})


def test_a_control_named_twice_is_asked_once():
    recipe = parse_recipe(
        {"name": "t", "model": {"id": "tiny:llava"}, "data": {"name": "table"}, "eval": {"controls": ["flip", "flip"]}}
    )
    assert [one.control for one in plan_passes(recipe, stage="sft")] == ["none", "flip"]


@pytest.mark.parametrize("package", ["data", "models", "pipeline", "training"])
def test_training_never_mirrors_a_picture(package):
    mirrors = re.compile(r"ImageOps\.(?:mirror|flip)|FLIP_LEFT_RIGHT|fliplr|horizontal_?flip", re.IGNORECASE)
    paths = list((Path(medrft.__file__).parent / package).rglob("*.py"))
    assert paths and not [path for path in paths if mirrors.search(path.read_text(encoding="utf-8"))]
