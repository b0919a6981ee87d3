import pytest

from medrft.scorers import SCORERS, build_scorer
from medrft.scorers.base import is_readable
from score_items import item

OUTSIDE = {"radgraph_f1", "ratescore", "green", "chexbert", "crimson"}  # see test_radiology.py
LEXICAL = ["bleu1", "rouge1", "exact_match", "precision", "recall", "set_match"]


@pytest.mark.parametrize(
    ("answer", "readable"),
    [
        ("effusion", True),
        ("", False),
        (" ", False),
        ("-", False),
        ("...!?", False),
        ("x", False),  # one letter
        ("7", True),
        ("肺", True),
        ("your answer", False),
        ("[Answer]", False),
        ("N/A", False),
        ("none", True),
    ],
)
def test_readable(answer, readable):
    assert is_readable(answer, reference="pleural effusion") is readable


def test_readable_against_the_reference_and_options():
    assert is_readable("n/a", reference="N/A")  # equal is always readable
    assert is_readable("b", reference="MRI", options=("CT", "MRI"))
    assert not is_readable("yes, no", reference="no")
    assert is_readable("yes, no effusion", reference="effusion is absent")
    assert not is_readable("CT and MRI", reference="MRI", options=("CT", "MRI"))
    assert is_readable("CT with contrast", reference="CT", options=("CT", "CT with contrast"))


@pytest.mark.parametrize("name", LEXICAL)
def test_scored_0_and_unscored(name):
    scorer = build_scorer(name)
    items = [
        item(None, "lung"),  # no answer in the completion
        item("-", "lung"),
        item("lung", "!!"),  # the reference cannot be scored
        item(None, "..."),
        item("lung", "", "lung"),  # one of two can
        item("Lung.", "the lung"),
    ]
    assert scorer(items) == [0.0, 0.0, None, None, 1.0, 1.0]
    assert scorer([]) == []


@pytest.mark.parametrize("name", LEXICAL)
def test_order_and_company_change_nothing(name):
    scorer = build_scorer(name)
    items = [item(a, r) for a in ("left lung", "lung", "no mass", "x") for r in ("right lung", "a mass", "lung, liver")]
    together = scorer(items)
    assert [scorer([one])[0] for one in items] == together
    assert scorer(items[::-1]) == together[::-1]


@pytest.mark.parametrize("name", LEXICAL)
def test_a_letter_stands_for_its_option(name):
    rows = [item("B", "MRI", options=("CT", "MRI")), item("mri", "B", options=("CT", "MRI")), item("B", "MRI")]
    assert build_scorer(name)(rows) == [1.0, 1.0, 0.0]


def test_unknown_names_and_options():
    with pytest.raises(ValueError, match="did you mean 'bleu1'"):
        build_scorer("blue1")
    with pytest.raises(ValueError, match="no option 'n'"):
        build_scorer("bleu1", n=2)


@pytest.mark.parametrize("name", sorted(set(SCORERS) - {"judge", "nli", "clinical"} - OUTSIDE))
def test_every_name_builds_a_scorer(name):
    scorer = build_scorer(name)
    assert scorer.name == name
    assert scorer.range in ((0.0, 1.0), (-1.0, 0.0))
    assert scorer([]) == []
