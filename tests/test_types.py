"""Values of items and examples, checked where they are made."""

from pathlib import Path

import pytest

from medrft.errors import DataError, UnknownNameError
from medrft.types import Example, Item

ITEM = {"references": ("left lung",), "kind": "open", "answer": "left"}
EXAMPLE = {"id": "t/test/0", "dataset": "t", "split": "test", "images": (), "question": "?", "references": ("a",)}


@pytest.mark.parametrize("references", ["left lung", ["left lung"], ("left lung",)])
def test_one_text_is_one_reference(references):
    assert Item(**{**ITEM, "references": references}).references == ("left lung",)
    assert Example(**{**EXAMPLE, "references": references}, kind="open").references == ("left lung",)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"kind": "Open"}, UnknownNameError, "did you mean 'open'"),
        ({"form": "Short"}, UnknownNameError, "did you mean 'short'"),
        ({"references": (1,)}, DataError, r"Item\.references is a tuple of texts, got int 1"),
        ({"references": None}, DataError, "got NoneType"),
        ({"options": "CT"}, DataError, r"Item\.options is a tuple of texts, got str 'CT'"),
        ({"answer": 3}, DataError, r"Item\.answer is text or None"),
        ({"n_tokens": "3"}, DataError, "whole number"),
        ({"metadata": []}, DataError, "mapping"),
    ],
)
def test_items_refuse_other_values(change, error, message):
    with pytest.raises(error, match=message):
        Item(**{**ITEM, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"references": (None,)}, r"Example\.references is a tuple of texts"),
        ({"kind": "Closed"}, "did you mean 'closed'"),
        ({"images": 3}, "tuple of paths"),
        ({"question": None}, r"Example\.question is text"),
        ({"options": "CT"}, "tuple of texts"),
        ({"history": ("a", "b")}, "pairs of text"),
    ],
)
def test_examples_refuse_other_values(change, message):
    with pytest.raises((DataError, UnknownNameError), match=message):
        Example(**{**EXAMPLE, "kind": "open", **change})


def test_paths_and_turns_are_put_right():
    example = Example(**{**EXAMPLE, "images": ["a.png"]}, kind="open", history=[["Is it?", "Yes"]])
    assert example.images == (Path("a.png"),) and example.history == (("Is it?", "Yes"),)
