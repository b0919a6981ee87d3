"""What training tells: rows of metrics.jsonl, state in checkpoints."""

import math

import pytest
from transformers import TrainerControl, TrainerState

from medrft.rundir import RunDir, read_jsonl
from medrft.training.callbacks import MetricsLog, StageState, metrics_row
from medrft.training.stop import Clock

GRPO_LOG = {
    "loss": 0.0,
    "grad_norm": 0.4,
    "learning_rate": 1e-5,
    "num_tokens": 900.0,
    "completions/mean_length": 31.0,
    "completions/min_length": 20.0,
    "completions/clipped_ratio": 0.25,
    "rewards/reward/mean": 0.5,
    "rewards/reward/std": 0.2,
    "reward": 0.5,
    "reward_std": 0.2,
    "frac_reward_zero_std": 0.5,
    "spread": 0.05,
    "zero_spread": 0.5,
    "part/bleu1/raw_std": 0.1,
    "kl": 0.01,
    "entropy": 0.3,
    "epoch": 0.5,
}


def test_trls_names_become_ours_and_its_batch_std_gives_way():
    split, row = metrics_row(GRPO_LOG)
    assert split == "train"
    assert row == {
        "loss": 0.0,
        "grad_norm": 0.4,
        "learning_rate": 1e-5,
        "num_tokens": 900.0,
        "completion_length": 31.0,
        "truncated": 0.25,
        "reward": 0.5,
        "reward_std": 0.05,  # within the group
        "zero_spread": 0.5,
        "part/bleu1/raw_std": 0.1,
        "kl": 0.01,
        "entropy": 0.3,
    }


def test_validation_rows_lose_their_prefix_and_timing():
    logs = {"eval_loss": 0.7, "eval_runtime": 3.0, "eval_samples_per_second": 2.0, "epoch": 1.0}
    assert metrics_row(logs) == ("validation", {"loss": 0.7})


@pytest.mark.parametrize("logs", [{}, {"train_runtime": 3.0, "train_loss": 0.1}])
def test_the_closing_summary_is_no_row(logs):
    assert metrics_row(logs) is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_none_becomes_null(value):
    assert metrics_row({"loss": 1.0, "grad_norm": value}) == ("train", {"loss": 1.0, "grad_norm": None})


def test_each_row_names_stage_split_and_step(tmp_path):
    run = RunDir(tmp_path)
    log = MetricsLog(run, stage="grpo", kind="grpo", clock=Clock(before=12.0, now=lambda: 0.0))
    state = TrainerState(global_step=3, epoch=0.5, is_world_process_zero=True)
    log.on_log(None, state, TrainerControl(), logs={"loss": 0.5})
    log.on_log(None, state, TrainerControl(), logs={"train_runtime": 1.0})
    assert list(read_jsonl(run.metrics)) == [
        {"stage": "grpo", "kind": "grpo", "split": "train", "step": 3, "epoch": 0.5, "seconds": 12.0, "loss": 0.5}
    ]


def test_only_the_main_process_writes(tmp_path):
    run = RunDir(tmp_path)
    log = MetricsLog(run, stage="sft", kind="sft", clock=Clock())
    log.on_log(None, TrainerState(is_world_process_zero=False), TrainerControl(), logs={"loss": 0.5})
    assert not run.metrics.exists()


def test_state_is_collected_when_a_checkpoint_is_written():
    seconds = iter([1.0, 2.0])
    state = StageState(lambda: {"seconds": next(seconds)})
    assert state.state() == {"args": {}, "attributes": {"seconds": 1.0}}
    assert state.state()["attributes"] == {"seconds": 2.0}
