import pytest

from medrft.scorers import build_scorer
from medrft.text import chosen
from score_items import item

OPTIONS = ("Chest", "Abdomen", "Head and neck", "Abdomen with contrast")


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ("A", "Chest"),
        ("b", "Abdomen"),
        ("(C)", "Head and neck"),
        ("D.", "Abdomen with contrast"),
        ("B)", "Abdomen"),
        ("B: abdomen", "Abdomen"),
        ("B - Abdomen", "Abdomen"),
        ("Option B", "Abdomen"),
        ("Answer: C", "Head and neck"),
        ("the correct answer is (C) head and neck", "Head and neck"),
        ("HEAD AND NECK", "Head and neck"),
        ("It shows the chest.", "Chest"),
        ("abdomen with contrast", "Abdomen with contrast"),
        ("B. since the liver is seen", "Abdomen"),
    ],
)
def test_chosen(text, option):
    assert chosen(text, OPTIONS) == option.lower()


@pytest.mark.parametrize(
    "text",
    [
        "A or B",
        "A, B",
        "A. Abdomen",  # letter against text
        "chest and abdomen",
        "not the chest",
        "E",
        "pelvis",
        "",
        "A B C D",
        "A mass",  # an article
        "x" * 5_000,
    ],
)
def test_ambiguous_or_none(text):
    assert chosen(text, OPTIONS) is None


def test_choice_match():
    scorer = build_scorer("choice_match")
    rows = [
        ("B", "Abdomen"),
        ("A", "Abdomen"),
        ("abdomen", "B"),
        (None, "Abdomen"),
        ("A or B", "Chest"),
        ("B", "pelvis"),
    ]
    assert scorer([item(answer, reference, options=OPTIONS) for answer, reference in rows]) == [1, 0, 1, 0, 0, None]
    assert not scorer.applies(item("chest", "chest"))


def test_options_that_are_letters():
    assert chosen("B", ("B", "A")) == "b"  # the whole answer is an option's text
    assert chosen("A", ("A", "B")) == "a"


def test_repeated_options():
    assert chosen("C", ("Lung", "Heart", "lung")) == "lung"


def test_yes_no_match():
    scorer = build_scorer("yes_no_match")
    rows = [("Yes.", "yes"), ("no", "yes"), ("yes or no", "yes"), ("maybe", "no"), (None, "no"), ("No mass", "No")]
    assert scorer([item(*row) for row in rows]) == [1, 0, 0, 0, 0, 1]
    assert not scorer.applies(item("yes", "lung"))
    assert scorer([item("yes", "lung", kind="closed")]) == [None]  # the reference is no yes or no
