from __future__ import annotations

from medrft.report.curves import short_log, stage_panels


def rows(n, **columns):
    return [{"split": "train", "step": i, **{k: f(i) for k, f in columns.items()}} for i in range(n)]


def by_title(found):
    return {panel.title: panel for panel in found}


def test_grpo_never_shows_its_loss():
    found = stage_panels(rows(10, loss=lambda i: 0.0, reward=lambda i: i / 10, kl=lambda i: 0.01), kind="grpo")
    assert [panel.title for panel in found] == ["Reward", "KL to the start model"]


def test_sft_shows_its_loss_and_the_validation_beside_it():
    logged = [*rows(10, loss=lambda i: 3.0 - i / 10), {"split": "validation", "step": 9, "loss": 2.5}]
    [panel] = stage_panels(logged, kind="sft")
    assert panel.title == "Loss"
    assert [name for name, _ in panel.legend] == ["train", "validation"]
    assert panel.notes == ("train 3 → 2.1", "validation 2.5 (one value)")


def test_spread_is_a_band_and_a_note():
    [panel] = stage_panels(rows(10, reward=lambda i: 0.5, reward_std=lambda i: 0.2 - i / 100), kind="grpo")
    assert "band" in panel.chart
    assert panel.notes == ("0.5 → 0.5", "spread 0.2 → 0.11", "nearly constant")


def test_a_calibrated_part_shows_what_the_reward_adds_up():
    columns = {"part/cosine/raw": lambda i: 0.9, "part/cosine/calibrated": lambda i: 0.4, "reward": lambda i: 0.5}
    found = by_title(stage_panels(rows(10, **columns), kind="grpo"))
    assert found["Part: cosine"].notes[0] == "0.4 → 0.4"
    assert "after calibration" in found["Part: cosine"].says


def test_all_spreads_come_together():
    columns = {"reward_std": lambda i: 0.1, "part/bleu1/raw_std": lambda i: 0.2, "part/bleu1/raw": lambda i: 0.5}
    panel = by_title(stage_panels(rows(10, **columns), kind="grpo"))["Spread within groups"]
    assert [name for name, _ in panel.legend] == ["reward", "BLEU-1"]


def test_short_and_odd_series_are_said_to_be_so():
    assert short_log(rows(3, reward=lambda i: i)) == "Only 3 values per curve: too few to show a trend."
    assert short_log(rows(5, reward=lambda i: i)) == short_log([]) == ""
    assert stage_panels(rows(1, reward=lambda i: 0.3), kind="grpo")[0].notes == ("0.3 (one value)",)
    assert stage_panels(rows(4, reward=lambda i: None), kind="grpo") == []
    assert stage_panels([], kind="grpo") == []


def test_a_missing_spread_costs_the_band_only():
    logged = rows(6, reward=lambda i: i / 6, reward_std=lambda i: 0.1)
    del logged[2]["reward_std"]
    [panel] = stage_panels(logged, kind="grpo")
    assert "band" not in panel.chart and panel.notes


def test_what_never_happened_is_not_drawn():
    assert stage_panels(rows(10, unscored=lambda i: 0.0), kind="grpo") == []
    assert [panel.title for panel in stage_panels(rows(10, unscored=lambda i: float(i == 4)), kind="grpo")] == [
        "Unscored"
    ]


def test_thresholds_of_calibrations_are_drawn():
    columns = {"part/cosine/raw": lambda i: 0.9, "calibration/cosine/threshold": lambda i: 0.5 + i / 100}
    panel = by_title(stage_panels(rows(10, **columns), kind="grpo"))["Calibration thresholds"]
    assert panel.legend == (("cosine", 0),)


def test_seconds_of_a_step_by_part_and_what_would_help():
    columns = {"step_time": lambda i: 2.0, "time/decode": lambda i: 1.5, "time/other": lambda i: 0.5}
    found = by_title(stage_panels(rows(10, tokens_per_second=lambda i: 40 + i, **columns), kind="grpo"))
    panel = found["Seconds of a step"]
    assert [name for name, _ in panel.legend] == ["decode", "other"]
    assert panel.notes == ("2 s a step", "decode 75 %") and "max_completion_length" in panel.says
    assert found["Tokens a second"].notes[0] == "40 → 49"
    assert "Seconds of a step" in by_title(stage_panels(rows(10, **columns), kind="sft"))
