"""Rows kept as they come: what a kill leaves is gone on with, and nothing is written twice."""

import json

import pytest

from medrft.evaluation.partial import Partial, is_finished, key_of
from medrft.rundir import read_jsonl

HEADER = {"stage": "sft", "seed": 0}


def row(number, **more):
    return {"id": f"toy/test/{number}", "control": "none", "temperature": 0.0, "sample": 0, "scores": {}, **more}


def test_rows_are_taken_over_and_written_in_the_order_asked_for(tmp_path):
    path = tmp_path / "a" / "predictions.jsonl"
    first = Partial(path, HEADER)
    first.add([row(1)])
    again = Partial(path, HEADER)
    assert set(again.rows) == {key_of(row(1))}
    again.add([row(0)])
    again.finish([key_of(row(0)), key_of(row(1))])
    assert list(read_jsonl(path)) == [{**HEADER, "rows": 2}, row(0), row(1)]
    assert [p.name for p in path.parent.iterdir()] == ["predictions.jsonl"]
    assert is_finished(path, HEADER) and not is_finished(path, {**HEADER, "seed": 1})


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_line_that_was_cut_is_dropped(tmp_path, cut):
    path = tmp_path / "predictions.jsonl"
    first = Partial(path, HEADER)
    first.add([row(0), row(1)])
    first.place.write_bytes(first.place.read_bytes()[:-cut])
    again = Partial(path, HEADER)
    assert set(again.rows) == {key_of(row(0))}
    again.add([row(1)])
    assert len(Partial(path, HEADER).rows) == 2


def test_rows_of_another_header_are_not_taken_over(tmp_path):
    path = tmp_path / "predictions.jsonl"
    Partial(path, HEADER).add([row(0)])
    other = Partial(path, {**HEADER, "seed": 1})
    assert not other.rows
    assert json.loads(other.place.read_text().splitlines()[0])["seed"] == 1


def test_what_failed_is_in_the_file_and_asked_for_again(tmp_path):
    path = tmp_path / "predictions.jsonl"
    partial = Partial(path, HEADER)
    partial.add([row(0), row(1, error="HTTP 500")])
    assert set(Partial(path, HEADER).rows) == {key_of(row(0))}
    partial.finish([key_of(row(0)), key_of(row(1))])
    assert [r.get("error") for r in read_jsonl(path)][1:] == [None, "HTTP 500"]
    assert not is_finished(path, HEADER)
    assert set(Partial(path, HEADER).rows) == {key_of(row(0))}
