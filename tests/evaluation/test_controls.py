from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from medrft.evaluation.controls import FrequentAnswers, blank, shuffled
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
    [image] = blank(named)(picture)
    assert image.size == (8, 6)
    assert len(image.getcolors()) == 1
    assert image.getpixel((0, 0)) != named(picture)[0].getpixel((0, 0))


def test_shuffled_gives_every_example_another_picture():
    examples = [
        example(i, "What?", "?", image=f"{color}.png") for i, color in enumerate(["red", "red", "blue", "green"])
    ]
    images = shuffled(named, examples, seed=0)
    again = shuffled(named, examples, seed=0)
    for one in examples:
        assert images(one)[0].tobytes() != named(one)[0].tobytes()
        assert images(one)[0].tobytes() == again(one)[0].tobytes()
