"""Rows for TRL: built on demand, pictures shared and bounded, thoughts never invented."""

import pickle
from pathlib import Path

import pytest

from medrft.errors import DataError
from medrft.models.prompts import get_prompt
from medrft.training.rows import Lost, Pictures, Rows, TaughtRows, lazy_dataset, teachable_examples
from medrft.types import Example


def example(number, *, images=(), rationale="The heart is wide."):
    return Example(
        id=f"toy/train/{number}",
        dataset="toy",
        split="train",
        images=tuple(images),
        question="Is the heart large?",
        references=("yes",),
        kind="closed",
        rationale=rationale,
        metadata={"facts": {"side": "left"}},
    )


@pytest.fixture
def two(tmp_path, image_file):
    return [example(i, images=[image_file(tmp_path / f"{i}.png", i, size=(20, 10))]) for i in range(2)]


def test_an_sft_row_has_prompt_pictures_and_target(two):
    rows = TaughtRows(prompt=get_prompt("think"), pictures=Pictures(max_pixels=None), lost=Lost(Path("unused")))
    row = lazy_dataset(two, rows)[1]
    assert set(row) == {"prompt", "images", "completion"}
    assert row["completion"][0]["content"][0]["text"] == "<think>The heart is wide.</think><answer>yes</answer>"
    assert [block["type"] for block in row["prompt"][-1]["content"]] == ["image", "text"]
    assert row["images"][0].size == (20, 10)


def test_a_grpo_row_carries_its_example(two):
    rows = Rows(prompt=get_prompt("direct"), pictures=Pictures(max_pixels=50))
    found = lazy_dataset(two, rows).__getitems__([0, 0, 1])
    assert [row["example"] for row in found] == [two[0], two[0], two[1]]
    assert found[0]["images"][0] is found[1]["images"][0]  # a group shares its picture
    width, height = found[0]["images"][0].size
    assert width * height <= 50


def test_pictures_are_opened_only_when_asked_for():
    rows = Rows(prompt=get_prompt("direct"), pictures=Pictures(max_pixels=None))
    assert len(lazy_dataset([example(0, images=[Path("absent.png")])], rows)) == 1


def test_the_cache_forgets_the_oldest(tmp_path, image_file):
    paths = [image_file(tmp_path / f"{i}.png", i, size=(10, 10)) for i in range(3)]
    pictures = Pictures(max_pixels=None, cached_pixels=200)
    first = pictures(example(0, images=paths[:1]))[0]
    assert pictures(example(0, images=paths[:1]))[0] is first
    for path in paths[1:]:
        pictures(example(0, images=[path]))
    assert pictures(example(0, images=paths[:1]))[0] is not first


def test_pictures_travel_without_what_they_hold(two):
    pictures = Pictures(max_pixels=50)
    pictures(two[0])
    again = pickle.loads(pickle.dumps(pictures))
    assert again.max_pixels == 50 and again(two[0])[0].size == pictures(two[0])[0].size


def test_blanked_pictures_are_grey_and_of_the_same_size(two):
    pictures = Pictures(max_pixels=50, blanked=True)
    for each in (pictures, pickle.loads(pickle.dumps(pictures))):
        (shown,) = each(two[0])
        assert shown.size == Pictures(max_pixels=50)(two[0])[0].size
        assert shown.getcolors() == [(shown.width * shown.height, (127, 127, 127))]


def test_an_example_without_rationale_is_left_out_of_think_and_named():
    kept, left = teachable_examples(
        [example(0), example(1, rationale=None), example(2, rationale=" ")], get_prompt("think")
    )
    assert [e.id for e in kept] == ["toy/train/0"] and left == ["toy/train/1", "toy/train/2"]


def test_the_answer_alone_needs_no_rationale():
    kept, left = teachable_examples([example(0, rationale=None)], get_prompt("direct"))
    assert len(kept) == 1 and left == []


def test_no_rationale_at_all_is_an_error_with_the_way_out():
    with pytest.raises(DataError, match="use prompt: direct"):
        teachable_examples([example(0, rationale=None)], get_prompt("think"))
