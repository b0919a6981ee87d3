"""Pretraining rows, formal thoughts and flipped answers of the phantom data."""

import re

import pytest

from medrft.data.phantom import load_phantom
from medrft.data.phantom.flips import is_flipped
from medrft.data.phantom.pretraining import FORMAL_THOUGHT
from medrft.errors import DataError

SMALL = {"seed": 5, "images": 60, "validation_images": 4, "test_images": 8, "size": 32}
FORM = re.compile(r"<think></think><answer>[^<]+</answer>")


def rows(tmp_path, split="train", **options):
    loaded = load_phantom(tmp_path, **{**SMALL, **options})
    return [example for example in loaded.examples if example.split == split]


def test_captions_bare_answers_and_a_share_in_the_form(tmp_path):
    found = rows(tmp_path, images=300, pretraining=0.15)
    captions = [example for example in found if "/caption" in example.id]
    formed = [example for example in found if FORM.fullmatch(example.references[0])]
    assert len(captions) == 300 and len({example.id for example in found}) == len(found)
    assert abs(len(formed) / len(found) - 0.15) < 0.03
    assert not any("<" in caption.references[0] for caption in captions)
    assert all(example.rationale is None for example in found)


def test_pretraining_leaves_questions_and_tests_as_they_are(tmp_path):
    plain, pre = rows(tmp_path), rows(tmp_path, pretraining=0.2)
    assert [e.question for e in plain] == [e.question for e in pre if "/caption" not in e.id]
    assert rows(tmp_path, split="test") == rows(tmp_path, split="test", pretraining=0.2)
    assert any(FORM.fullmatch(e.references[0]) for e in rows(tmp_path, pretraining=1.0))


def test_formal_thoughts_say_nothing(tmp_path):
    assert {example.rationale for example in rows(tmp_path, thoughts="formal")} == {FORMAL_THOUGHT}


@pytest.mark.parametrize("options", [{"thoughts": "none"}, {"pretraining": 1.5}, {"pretraining": -0.1}])
def test_values_out_of_range_are_named(tmp_path, options):
    with pytest.raises(DataError, match=next(iter(options))):
        rows(tmp_path, **options)


def test_right_answers_are_never_flipped_and_opposites_always(tmp_path):
    seen = {"side": 0, "polarity": 0}
    for example in rows(tmp_path, images=120):
        right = example.references[0]
        assert is_flipped(example, right) == (False, False)
        assert is_flipped(example, None) == is_flipped(example, "gibberish") == (False, False)
        if example.kind == "closed":
            seen["polarity"] += 1
            assert is_flipped(example, "no" if right == "yes" else "yes").polarity
        if example.kind == "open" and example.metadata["question_type"] == "side" and right in ("left", "right"):
            seen["side"] += 1
            assert is_flipped(example, "left" if right == "right" else "right") == (True, False)
        if example.kind == "open" and example.metadata["question_type"] == "abnormality":
            wrong = "no abnormality" if example.metadata["facts"]["findings"] else "there is a mass"
            assert is_flipped(example, wrong).polarity
    assert all(seen.values())
