"""The causes on made numbers, each on and off; when a warning begins, ends and comes back."""

import json

import pytest

from medrft.training.monitor.causes import CAUSES, LEAST
from medrft.training.monitor.watch import Watch, diagnose_run, diagnose_stage

CALM = {
    "reward_std": 0.2,
    "ties": 0.3,
    "part/a/calibrated_std": 0.2,
    "part/a/ties": 0.3,
    "part/a/top": 0.4,
    "part/a/dominance": 0.1,
    "part/b/calibrated_std": 0.2,
    "part/b/ties": 0.3,
    "part/b/top": 0.4,
    "part/b/dominance": -0.1,
    "part/a/failed": 0.0,
    "calibration/a/saturated": 0.0,
    "format/b": 0.5,
    "truth_correlation": 0.6,
    "correct": 0.4,
    "truncated": 0.02,
    "completion_length": 40.0,
    "entropy": 0.4,
    "kl": 0.02,
    "unscored": 0.0,
    "same_answer": 0.4,
    "same_reference": 0.35,
}


def rows_of(*parts):
    """Rows of a log: so many steps each with these changes to a calm one."""
    changes = [change for count, change in parts for _ in range(count)]
    return [
        {"kind": "grpo", "stage": "grpo", "split": "train", "step": step, **CALM, **change}
        for step, change in enumerate(changes, 1)
    ]


def found_in(*parts):
    return [(f.cause, f.part, f.step) for f in diagnose_stage(rows_of(*parts), stage="grpo").findings]


# Cause, part, what makes it so, and numbers near it that do not.
CASES = [
    ("spread_floor", "reward", {"reward_std": 0.002}, {"reward_std": 0.02}),
    ("spread_floor", "a", {"part/a/calibrated_std": 0.002}, {"part/a/calibrated_std": 0.0, "part/a/top": 0.95}),
    ("ties", "reward", {"ties": 0.95}, {"ties": 0.85}),
    ("ties", "b", {"part/b/ties": 0.95}, {"part/b/ties": 1.0, "part/b/top": 1.0}),
    ("dominance", "a", {"part/a/dominance": 0.6}, {"part/a/dominance": 0.4}),
    ("calibration_saturated", "a", {"calibration/a/saturated": 1.0}, {"calibration/a/saturated": 0.5}),
    ("truth_uncorrelated", "", {"truth_correlation": 0.02}, {"truth_correlation": 0.3}),
    ("truth_uncorrelated", "", {"truth_correlation": -0.5}, {"truth_correlation": None}),
    ("truncation", "", {"truncated": 0.3}, {"truncated": 0.05}),
    ("entropy_floor", "", {"entropy": 0.01}, {"entropy": 0.1}),
    ("kl_runaway", "", {"kl": 2.0}, {"kl": 0.3}),
    ("unscored", "", {"unscored": 0.2}, {"unscored": 0.01}),
    ("answer_collapse", "", {"same_answer": 0.9}, {"same_answer": 0.9, "same_reference": 0.8}),
    ("judge_outage", "a", {"part/a/failed": 0.5}, {"part/a/failed": 0.05}),
]


@pytest.mark.parametrize(("cause", "part", "wrong", "calm"), CASES)
def test_a_cause_is_on_beyond_its_threshold_and_off_before_it(cause, part, wrong, calm):
    window = next(c.window for c in CAUSES if c.name == cause)
    assert found_in((12, wrong)) == [(cause, part, min(LEAST, window))]
    assert found_in((12, calm)) == []


# What is compared with the first steps of the stage.
DRIFTS = [
    ("length_drift", "", {"completion_length": 80.0}, {"completion_length": 50.0}),
    ("length_drift", "", {"completion_length": 20.0}, {"completion_length": 35.0}),
    ("format_saturated", "b", {"format/b": 1.0}, {"format/b": 1.0, "correct": 0.5}),
]


@pytest.mark.parametrize(("cause", "part", "wrong", "calm"), DRIFTS)
def test_a_drift_is_one_from_the_first_steps(cause, part, wrong, calm):
    assert [found[:2] for found in found_in((5, {}), (10, wrong))] == [(cause, part)]
    assert found_in((5, {}), (10, calm)) == []
    assert found_in((15, wrong)) == []  # it has been so from the start


def test_every_cause_has_a_case_and_a_row_in_the_docs():
    from pathlib import Path

    page = (Path(__file__).parents[2] / "docs" / "monitor.md").read_text(encoding="utf-8")
    assert {case[0] for case in CASES + DRIFTS} == {cause.name for cause in CAUSES}
    for cause in CAUSES:
        row = next(line for line in page.splitlines() if line.startswith(f"| `{cause.name}`"))
        assert f"{cause.threshold:g}" in row, cause.name


def test_a_few_tokens_more_are_no_drift():
    assert found_in((5, {"completion_length": 4.0}), (10, {"completion_length": 9.0})) == []


def test_a_reward_of_one_part_is_told_once():
    rows = [{k: v for k, v in row.items() if "/b" not in k} for row in rows_of((6, {"reward_std": 0.0, "ties": 1.0}))]
    flat = [row | {"part/a/calibrated_std": 0.0, "part/a/ties": 1.0} for row in rows]
    found = diagnose_stage(flat, stage="grpo").findings
    assert [(f.cause, f.part) for f in found] == [("spread_floor", "reward"), ("ties", "reward")]


def test_a_warning_comes_once_and_again_only_after_it_ended():
    rows = rows_of((8, {"kl": 2.0}), (8, {}), (6, {"kl": 3.0}))
    watch = Watch("grpo")
    begun = [row["step"] for row in rows for finding in watch.take(row["step"], row) if finding.cause == "kl_runaway"]
    first, second = diagnose_stage(rows, stage="grpo").findings
    assert begun == [5, 17] == [first.step, second.step]
    assert (first.ended, first.last, second.ended, second.last) == (True, 12, False, 22)
    assert (first.worst, second.worst) == (2.0, 3.0)


def test_a_number_that_wavers_about_its_threshold_does_not_begin_again():
    assert found_in((6, {"truncated": 0.11}), (10, {"truncated": 0.09}), (10, {"truncated": 0.11})) == [
        ("truncation", "", 5)
    ]


def test_a_number_that_goes_missing_neither_begins_nor_ends_a_cause():
    found = diagnose_stage(rows_of((6, {"unscored": 1.0}), (30, {"unscored": None})), stage="grpo").findings
    assert [(f.cause, f.ended) for f in found] == [("unscored", False)]


def test_steps_that_reuse_a_batch_are_passed_over():
    every_second = [
        row if row["step"] % 2 else {k: v for k, v in row.items() if k != "ties"}
        for row in rows_of((20, {"ties": 1.0}))
    ]
    assert [(f.cause, f.step) for f in diagnose_stage(every_second, stage="grpo").findings] == [("ties", 9)]


def test_the_trackers_get_a_number_per_cause_that_was_judged():
    watch = Watch("grpo")
    for row in rows_of((6, {"truncated": 0.5})):
        watch.take(row["step"], {k: v for k, v in row.items() if k != "kl"})
    metrics = watch.metrics()
    assert metrics["warning/truncation"] == 1.0 and metrics["warning/ties"] == 0.0
    assert "warning/kl_runaway" not in metrics


@pytest.mark.parametrize("cut", [3, 7, 12])
def test_a_watch_goes_on_from_its_state(cut):
    rows = rows_of((6, {"kl": 2.0}), (6, {"completion_length": 90.0}), (8, {"kl": 2.0, "format/b": 1.0}))
    whole, first = Watch("grpo"), Watch("grpo")
    expected = [whole.take(row["step"], row) for row in rows]
    said = [first.take(row["step"], row) for row in rows[:cut]]
    second = Watch("grpo", state=json.loads(json.dumps(first.state_dict())))
    said += [second.take(row["step"], row) for row in rows[cut:]]
    assert said == expected and second.state_dict() == whole.state_dict()


def test_what_could_not_be_judged_says_why():
    short = diagnose_stage(rows_of((2, {})), stage="grpo")
    assert short.not_judged["truncation"] == "2 logged steps, and it takes 5"
    no_kl = diagnose_stage([row | {"kl": None} for row in rows_of((12, {}))], stage="grpo")
    assert list(no_kl.not_judged) == ["kl_runaway"] and "beta above 0" in no_kl.not_judged["kl_runaway"]


def test_only_grpo_stages_are_judged_and_each_for_itself():
    other = [row | {"stage": "again", "step": 1 + row["step"]} for row in rows_of((4, {"kl": 2.0}))]
    sft = {"kind": "sft", "stage": "sft", "split": "train", "step": 1, "loss": 1.0}
    validation = {"kind": "grpo", "stage": "grpo", "split": "validation", "step": 1, "kl": 9.0}
    found = diagnose_run([sft, *rows_of((4, {"kl": 2.0})), validation, *other])
    assert [(one.stage, one.rows, one.findings) for one in found] == [("grpo", 4, ()), ("again", 4, ())]


def test_a_finding_is_one_line_with_all_of_it():
    line = diagnose_stage(rows_of((6, {"truncated": 0.25})), stage="grpo").findings[0].line()
    assert line.startswith(
        "truncation (grpo, steps 5 to 6): share of answers cut off at the token limit 0.25 (warns at least 0.1); "
    )
    assert "\n" not in line and "raise max_completion_length" in line
