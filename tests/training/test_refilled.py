"""Training with a few completions at a time, refilled as they end, is training with all of a batch at once."""

import statistics
from functools import partial

import pytest

from interrupted import differences, rollouts_of, rows_of, train_with_stops
from medrft.errors import RecipeError
from medrft.models import refill
from medrft.rundir import RunDir, read_json, read_jsonl
from medrft.training.arguments import check_stage
from medrft.training.grpo import run_grpo

ENDS = {"exponential_decay_length_penalty": [2, 1.3]}
"""Makes completions of a random model end, at different lengths."""


def stage(recipe, size=None, keys=None, **more):
    table = {
        **recipe().stages[1].trl,
        **{"per_device_train_batch_size": 16, "max_completion_length": 24, "generation_kwargs": ENDS},
        **{"max_steps": 3, "eval_steps": 3, "save_steps": 3, **more},
    }
    return {"name": "grpo", "kind": "grpo", "rollout_batch_size": size, "trl": table, **(keys or {})}


def without_idle(rows):
    return [{key: value for key, value in row.items() if "idle_slots" not in key} for row in rows]


def idle_of(run):
    return statistics.fmean(row["idle_slots"] for row in read_jsonl(run.metrics) if "idle_slots" in row)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 8},
        {"num_iterations": 2, "temperature": 0.7, "repetition_penalty": 1.1},
    ],
    ids=str,
)
def test_the_same_run_however_many_are_written_at_a_time(trained, recipe, tmp_path, monkeypatch, more):
    """The same completions in the same places, and with them the same rewards, losses and weights."""
    most, true = [], refill.continue_rows

    def watched(model, rows, ids):
        most.append(len(rows.place))
        return true(model, rows, ids)

    monkeypatch.setattr(refill, "continue_rows", watched)
    runs, held = [], []
    for size in (None, 5):
        runs.append(RunDir.create(tmp_path / str(size)))
        most.clear()
        trained(run_grpo, recipe(stages=[stage(recipe, size, **more)]), run=runs[-1])
        held.append(max(most))
    assert held[0] == 16 and held[1] == 5
    assert repr(rollouts_of(runs[0])) == repr(rollouts_of(runs[1]))
    assert repr(without_idle(rows_of(runs[0]))) == repr(without_idle(rows_of(runs[1])))
    weights = [(run.final("grpo") / "model.safetensors").read_bytes() for run in runs]
    assert weights[0] == weights[1]
    assert idle_of(runs[1]) < idle_of(runs[0])
    assert read_json(runs[1].stage("grpo") / "stage.json")["prefix"]["fallbacks"] == {}


def test_it_goes_on_from_a_checkpoint(trained, recipe, tmp_path):
    made = recipe(stages=[stage(recipe, 5, save_steps=1, eval_steps=1)])
    whole, run = RunDir.create(tmp_path / "whole"), RunDir.create(tmp_path / "run")
    trained(run_grpo, made, run=whole)
    train_with_stops(partial(trained, run_grpo, made, run=run), run)
    assert differences(run, whole, stages=["grpo"]) == []


def test_where_generate_writes_them_it_is_told_that_the_number_does_not_hold(trained, run, recipe, capsys):
    """Here `generate` stops after some seconds, which shared rollouts cannot."""
    ends = {**ENDS, "max_time": 600.0}
    trained(run_grpo, recipe(stages=[stage(recipe, 5, generation_kwargs=ends)]), run=run)
    assert capsys.readouterr().err.count("rollout_batch_size 5 does not hold") == 1
    found = read_json(run.stage("grpo") / "stage.json")["prefix"]
    assert "max_time" in found["fallbacks"]["rollouts"] and found["completions"]["rollouts/plain"] >= 48


@pytest.mark.parametrize(
    ("keys", "more"), [({"share_prefix": False}, {}), ({}, {"use_transformers_continuous_batching": True})]
)
def test_it_is_refused_where_it_has_no_effect(recipe, keys, more):
    made = recipe(stages=[stage(recipe, 5, keys, **more)])
    with pytest.raises(RecipeError, match="rollout_batch_size has no effect"):
        check_stage(made.stages[0], made)
