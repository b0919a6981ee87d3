"""Texts become tokens, word by word where words are independent of one another."""

import csv
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medrft.scorers.clinical.words import CONTEXT, _cut, _cut_words, cut_tokens
from medrft.text.normal import JOINING, LABELLED, TENS

DATA = Path(__file__).parents[2] / "data"
WORDS = (
    *(CONTEXT | TENS.keys() | JOINING | LABELLED),
    *(
        "two",
        "ten",
        "first",
        "eleven",
        "5",
        "36",
        "2.50",
        "0.5",
        "1,",
        "t2",
        "l5,",
        "w3d",
        "x3",
        "3x",
        "5mm",
        "mm",
        "cm",
    ),
    *("at", "no", "not", "than", "of", "a,", "A", "I", "(left", "right)", "lung.", "heart;", "(the", "an.", "(twenty"),
    *("x-ray", "well-the", "mid-the,", "non-contrast", "mid-lung", "twenty-two", "o'clock", "minus", "xxa", "beats"),
    *("min", "minutes", "weeks", "3d", "vitamin", "position", "B.", "%", "-", "effusion", "masses", "tumour", "oedema"),
)


@settings(max_examples=500)
@given(st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join))
def test_word_by_word_is_the_same(text):
    assert _cut_words(text) in (None, _cut(text))


def test_word_by_word_is_the_same_on_pairs():
    for path in sorted(DATA.glob("pairs_*.tsv")):
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
        for text in (row[side] for row in rows for side in ("reference", "candidate")):
            if text.isascii() and text.isprintable():
                assert _cut_words(text) in (None, _cut(text))


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("The lungs are clear.", ["lung", "are", "clear", "xxstop"]),
        ("vitamin A", ["vitamin", "a"]),
        ("a mass of the type A", ["mass", "of", "type", "a"]),  # an article at the end, or a name
        ("twenty two masses", ["22", "mass"]),  # one number in two words
        ("3 or more cysts", ["≥", "3", "cyst"]),  # a bound
        ("day 3", ["3", "day"]),
        ("3 x 4 cm", ["3", "x", "4", "cm"]),
    ],
)
def test_words_that_decide_on_one_another(text, tokens):
    assert cut_tokens(text) == tokens
