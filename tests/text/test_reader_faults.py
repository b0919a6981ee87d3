"""Random strings through every reader; the long run is `benchmarks/reader_faults.py`."""

import importlib.util
from pathlib import Path

import pytest

from medrft.evaluation.negation import negate
from medrft.text import yes_no_said

SPEC = importlib.util.spec_from_file_location(
    "reader_faults", Path(__file__).parents[2] / "benchmarks" / "reader_faults.py"
)
FAULTS = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(FAULTS)


def test_twenty_thousand_random_strings_raise_nothing():
    found = FAULTS.fuzz(20_000, seed=14, every=200)
    assert found["faults"] == [] and found["strings"] == 20_000


@pytest.mark.parametrize("piece", ["1", "-", "1 ", "1,", "no", "is ", "- ", "(", "½", "+", "<", "\\boxed{", "a ", "是"])
def test_long_texts_are_read_in_bounded_pieces(piece):
    """What grew with the square of the text is bounded: negation refuses it, yes and no read its beginning."""
    text = "Is there " + piece * (200_000 // len(piece))
    assert negate(text).question is None
    assert yes_no_said(text) is not None
