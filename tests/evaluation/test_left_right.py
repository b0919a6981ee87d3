from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medrft.evaluation.controls.left_right import has_side, side_of, swap_sides


@pytest.mark.parametrize(
    ("text", "side"),
    [
        ("Left", "left"),
        ("Lower Left Lung", "left"),
        ("right-sided effusion", "right"),
        ("leftward shift of the trachea", "left"),
        ("rightmost lesion", "right"),
        ("On the patient's left", "left"),
        ("to the left of the heart", "left"),
        ("Is left lung clear?", "left"),
        ("in the RIGHT lobe, right side", "right"),  # twice the same side
        ("Is the heart enlarged?", None),
        ("left and right", None),
        ("Is it on the left or the right?", None),
        ("both sides, more on the left", None),
        ("bilateral, left worse", None),
        ("left of the midline", None),
        ("midline", None),
        ("What is left of the pancreas?", None),  # what remains
        ("Is anything left behind?", None),
        ("The patient has left", None),
        ("left untreated", None),
        ("Is this the right answer?", None),  # correct
        ("Is this right?", None),
        ("It is enlarged, right?", None),
        ("The ribs meet at a right angle", None),
        ("The patient is right-handed", None),
        ("left RUL", None),  # two sides, one of them short
        ("RUL", None),
        ("bright, upright, copyright, cleft", None),
        ("", None),
    ],
)
def test_the_side_a_text_states(text, side):
    assert side_of(text) == side


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("Upper Right Lung", "Upper Left Lung"),
        ("LEFT", "RIGHT"),
        ("left-sided and rightward", "right-sided and leftward"),
        ("a bright cleft", "a bright cleft"),
    ],
)
def test_sides_are_exchanged_in_their_case(text, other):
    assert swap_sides(text) == other


WORDS = st.sampled_from(
    ["left", "Right", "LEFT", "leftward", "right-sided", "lung", "the", "both", "answer", "of", ","]
)


@given(st.lists(WORDS).map(" ".join))
def test_twice_swapped_is_the_text_itself(text):
    assert swap_sides(swap_sides(text)) == text
    if (side := side_of(text)) is not None:
        assert has_side(text) and side_of(swap_sides(text)) in ({"left", "right"} - {side} | {None})


@given(st.text(max_size=80))
def test_any_text_has_a_side_or_none(text):
    assert side_of(text) in ("left", "right", None) and isinstance(swap_sides(text), str)
