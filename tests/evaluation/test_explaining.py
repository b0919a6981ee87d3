from __future__ import annotations

import json

import pytest

from medrft.evaluation.explaining import MOST, WIDTH, explanation_of
from medrft.types import Item


def explained(answer, *references, kind="open"):
    return explanation_of(Item(references=references, kind=kind, answer=answer, question="What is seen?"))


def test_what_matched_and_what_clashed():
    found = explained("right pleural effusion", "left pleural effusion")
    assert found["contradiction"] is True and found["route"] == "findings"
    assert "side: left / right" in found["clashed"]
    assert any("pleura" in text for text in found["matched"])


def test_what_is_missing_and_what_is_too_much():
    assert explained("effusion", "left pleural effusion")["less"]
    assert "missing" in explained("cardiomegaly", "cardiomegaly and pneumothorax")
    assert "also" in explained("cardiomegaly and pneumothorax", "cardiomegaly")


def test_the_best_reference_is_the_one_explained():
    assert explained("lung", "heart", "the lungs")["reference"] == "the lungs"


@pytest.mark.parametrize(("answer", "kind"), [(None, "open"), ("yes", "closed"), ("-", "open"), ("x", "open")])
def test_nothing_to_explain(answer, kind):
    assert explained(answer, "pneumonia", kind=kind) == {}


def test_an_explanation_stays_short():
    long = "no effusion, " * 200 + "x" * 5_000
    found = explained(long, "left pleural effusion " * 50)
    assert len(json.dumps(found)) < 8 * MOST * (WIDTH + 20)
