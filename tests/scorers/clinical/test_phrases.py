"""The many ways in which a report says that something is there or not, and which way things went (`phrases.tsv`)."""

import csv
from pathlib import Path

import pytest

from medrft.scorers.clinical import explain, score_pair

with (Path(__file__).parent / "phrases.tsv").open(encoding="utf-8", newline="") as file:
    ROWS = [(row["means"], row["phrase"]) for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]
PRESENCE = [row for row in ROWS if row[0] in ("present", "absent")]
COURSES = [row for row in ROWS if row not in PRESENCE]
OTHER = {"present": "no X", "absent": "X"}
SAME = {"present": "X", "absent": "no X"}
TOLD = {"increased": "larger than before", "decreased": "smaller than before", "unchanged": "the same as before"}


@pytest.mark.parametrize("thing", ["pneumothorax", "ulceration"])
@pytest.mark.parametrize(("means", "phrase"), PRESENCE)
def test_present_or_absent(thing, means, phrase):
    said = phrase.replace("X", thing)
    assert score_pair(SAME[means].replace("X", thing), said) >= 0.6
    assert score_pair(OTHER[means].replace("X", thing), said) <= 0.1


@pytest.mark.parametrize(("means", "phrase"), COURSES)
def test_which_way_things_went(means, phrase):
    """A statement of the course elsewhere in the text contradicts the other two courses, and not its own."""
    for course, told in TOLD.items():
        notes = explain(f"Cyst of the left kidney; the spleen is {told}", f"Left renal cyst; {phrase}").notes
        assert any(note.startswith("in the whole text, change") for note in notes) == (course != means), course
