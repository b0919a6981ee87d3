from __future__ import annotations

import json

import pytest

from medrft.errors import DataError
from medrft.evaluation.run_files import RunFiles
from medrft.intervals import Interval
from medrft.report.gained_lost import held_out
from medrft.report.results import Comparison, Source, compare_stages, kinds_of, result_rows, sources_of, subject_of


def test_rows_of_the_terminal_carry_their_controls(phantom_run):
    rows = result_rows(phantom_run)
    first = {row["stage"]: row for row in rows if row["kind"] == "all" and row["metric"] == "truth"}
    assert list(first) == ["base", "sft", "grpo"]
    assert first["grpo"]["low"] < first["grpo"]["mean"] < first["grpo"]["high"]
    assert first["grpo"]["n"] == 120
    assert 0 < first["grpo"]["blank"] < first["grpo"]["mean"]
    assert first["base"]["blank"] is None and first["base"]["frequent"] == first["grpo"]["frequent"]
    assert all(row.keys() == rows[0].keys() for row in rows)


def test_kinds_are_pooled_for_the_phantom_judge_only(phantom_run, plain_run):
    assert {row["metric"] for row in result_rows(phantom_run) if row["kind"] == "all"} == {"truth"}
    assert not [row for row in result_rows(plain_run) if row["kind"] == "all"]
    assert kinds_of(RunFiles(plain_run), "vqa_rad") == ["all", "closed", "choice", "open"]


def test_the_subject_is_compared_with_its_start_first(phantom_run):
    run = RunFiles(phantom_run)
    assert subject_of(run, "phantom") == "grpo"
    found = compare_stages(run, "phantom")
    assert [one.against.source for one in found[:4]] == ["none", "none", "frequent_question", "blank"]
    assert [one.against.stage for one in found[:2]] == ["sft", "base"]
    assert (found[0].kind, found[0].metric, found[0].verdict) == ("all", "truth", "better")


def test_differences_are_those_of_the_means(phantom_run):
    found = compare_stages(RunFiles(phantom_run), "phantom")[0]
    means = {row["stage"]: row["mean"] for row in result_rows(phantom_run) if row["kind"] == "all"}
    assert found.difference.mean == pytest.approx(means["grpo"] - means["sft"], abs=1e-3)


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        (Interval(0.1, 0.01, 0.2, 9), "better"),
        (Interval(-0.1, -0.2, -0.01, 9), "worse"),
        (Interval(0.1, -0.1, 0.3, 9), "unclear"),
        (Interval(0.1, 0.0, 0.3, 9), "unclear"),  # touching 0 is not enough
        (Interval(0.1, float("nan"), float("nan"), 9), "unclear"),  # one image
    ],
)
def test_verdicts(interval, verdict):
    rival = Source(stage="sft", source="none", name="sft")
    one = Comparison(dataset="d", kind="open", metric="m", subject="grpo", against=rival, difference=interval)
    assert one.verdict == verdict


def test_gains_and_losses_add_up(plain_run):
    held = held_out(RunFiles(plain_run), "vqa_rad")
    assert sum(held.counts.values()) == 120
    assert held.counts["gained"] > held.counts["lost"]
    assert all(question.images for question in held.questions)


def test_sources_name_every_control_once(phantom_run):
    names = [source.name for source in sources_of(RunFiles(phantom_run), "phantom")]
    assert len(names) == len(set(names))
    assert "start model, short prompt" in names and "grpo on blank images" in names


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"no recipe\.yaml"):
        result_rows(tmp_path)


def test_rows_are_json(phantom_run):
    json.dumps(result_rows(phantom_run), allow_nan=False)
