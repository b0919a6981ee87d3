"""Random strings through every reader; the long run is `benchmarks/reader_faults.py`."""

import importlib.util
import sys
from pathlib import Path

import pytest

from medrft.evaluation.controls.negation import negate_question
from medrft.scorers.clinical.reader import read_fresh
from medrft.text import boxes_of, normalize, part_thought, yes_no_said

SPEC = importlib.util.spec_from_file_location(
    "reader_faults", Path(__file__).parents[2] / "benchmarks" / "reader_faults.py"
)
FAULTS = importlib.util.module_from_spec(SPEC)
sys.modules[SPEC.name] = FAULTS  # for the processes of `run_chunks`
SPEC.loader.exec_module(FAULTS)


def test_twenty_thousand_random_strings_raise_nothing():
    found = FAULTS.fuzz(20_000, seed=14, every=400, pieces=5)
    assert found["faults"] == [] and found["strings"] == 20_000


def test_chunks_go_on_where_they_were(tmp_path, monkeypatch):
    monkeypatch.setattr(FAULTS, "CHUNK", 5)
    whole = FAULTS.run_chunks(20, tmp_path / "whole", seed=3)
    FAULTS.run_chunks(10, tmp_path / "cut", seed=3)
    kept = tmp_path / "cut" / "chunks_3.jsonl"
    before = kept.read_text()
    resumed = FAULTS.run_chunks(20, tmp_path / "cut", seed=3)
    assert kept.read_text().startswith(before) and len(kept.read_text().splitlines()) == 4
    assert {**resumed, "seconds": 0} == {**whole, "seconds": 0} and whole["strings"] == 20


@pytest.mark.parametrize("piece", ["1", "-", "1 ", "1,", "no", "is ", "- ", "(", "½", "+", "<", "\\boxed{", "a ", "是"])
def test_long_texts_are_read_in_bounded_pieces(piece):
    """What grew with the square of the text is bounded: negation refuses it, yes and no read its beginning."""
    text = "Is there " + piece * (200_000 // len(piece))
    assert negate_question(text).question is None
    assert yes_no_said(text) is not None


def test_many_comparisons_nest_nothing():
    assert read_fresh("than " * 3_000).tokens == ("than",) * 3_000
    assert read_fresh("larger mass than lung than " * 500).findings


def test_nested_boxes_close_where_they_should():
    assert boxes_of("\\boxed{a \\boxed{b} c} \\boxed{d") == ["a \\boxed{b} c", "b"]
    assert boxes_of("} {x} \\boxed{{1}{2}} }") == ["{1}{2}"]
    assert boxes_of("\\boxed{" + "a" * 511 + "}") == ["a" * 511] and boxes_of("\\boxed{" + "a" * 512 + "}") == []


def steps(reader, text):
    """Lines of Python that a reading takes: the same on every machine, however busy."""
    count = 0

    def step(frame, event, argument):
        nonlocal count
        count += event == "line"
        return step

    before = sys.gettrace()
    sys.settrace(step)
    try:
        reader(text)
    finally:
        sys.settrace(before)
    return count


COUNTED = {
    "clinical read": read_fresh,
    "boxes_of": boxes_of,
    "part_thought": part_thought,
    "normalize": normalize,
    "yes_no": yes_no_said,
}


@pytest.mark.parametrize("name", COUNTED)
@pytest.mark.parametrize(
    "piece", ["\\boxed{", "no ", "resolved ", "left lung not ", "than ", "</think>", "1½ cm, ", "a ", "yes or ", "(C) "]
)
def test_twice_the_text_takes_twice_the_steps(name, piece):
    """Loops of Python, which is where text is read twice over; patterns are timed in benchmarks/reader_faults.py."""
    reader = COUNTED[name]
    reader(piece * 3)  # what is remembered of words, and the lexicon
    short, long = (steps(reader, piece * count) for count in (75, 150))
    assert long <= 2.1 * short + 50
