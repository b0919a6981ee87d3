"""Each cause provoked for real: tiny models that train, and go wrong as the recipe makes them."""

import socket
from pathlib import Path

import pytest
from transformers import TrainerCallback
from transformers.integrations import integration_utils

from medrft.rundir import RunDir, read_jsonl
from medrft.training import grpo
from medrft.training.grpo import GRPO, run_grpo
from medrft.training.monitor.causes import CAUSES
from medrft.training.monitor.watch import diagnose_run
from medrft.training.sft import run_sft

UNWELL = f"{Path(__file__).with_name('unwell.py')}:"
ALONE = {"eval_strategy": "no", "load_best_model_at_end": False, "lr_scheduler_type": "constant"}


def part(name, weight=1.0, **more):
    return {"scorer": UNWELL + name, "weight": weight, **more}


@pytest.fixture(scope="module")
def train(base, drawn, recipe, tmp_path_factory):
    """`train(parts, start=, examples=, folder=, resume=, **trl)` runs a GRPO stage without validation."""

    def call(*parts, start=base, examples=drawn["train"], folder=None, resume=False, **trl):
        settings = {"max_steps": 6, "per_device_train_batch_size": 16, "num_generations": 4, "save_strategy": "no"}
        settings |= {"max_completion_length": 8, "learning_rate": 1e-5, **ALONE, **trl}
        made = recipe(
            reward={"parts": list(parts)},
            report={"images": "none"},
            stages=[{"name": "grpo", "kind": "grpo", "trl": settings}],
        )
        folder = folder or tmp_path_factory.mktemp("runs") / "run"
        run = RunDir(folder) if resume else RunDir.create(folder)
        run_grpo(made.stages[0], made, start=start, train=examples, validation=[], run=run, resume=resume)
        return run

    return call


@pytest.fixture(scope="module")
def closed(drawn):
    return [example for example in drawn["train"] if example.kind == "closed"]


@pytest.fixture(scope="module")
def taught(base, closed, recipe, tmp_path_factory):
    """A model that answers some questions rightly and some wrongly."""
    trl = {"max_steps": 16, "per_device_train_batch_size": 16, "learning_rate": 1e-2, "save_strategy": "no"}
    made = recipe(stages=[{"name": "sft", "kind": "sft", "trl": {**trl, "eval_strategy": "no"}}])
    run = RunDir.create(tmp_path_factory.mktemp("taught") / "run")
    return run_sft(made.stages[0], made, start=base, train=closed, validation=[], run=run)


def told(run):
    """Cause, part and step of each warning, as they came; the doctor says the same."""
    rows = [(row["cause"], row["part"], row["step"]) for row in read_jsonl(run.warnings)]
    (diagnosis,) = diagnose_run(read_jsonl(run.metrics))
    assert [(found.cause, found.part, found.step) for found in diagnosis.findings] == rows
    return {(cause, part) for cause, part, _ in rows}


@pytest.fixture(scope="module")
def greedy(train):
    """Much is paid for how a text begins, at a learning rate that tears the policy away."""
    steps = {"max_steps": 30, "per_device_train_batch_size": 32, "max_completion_length": 2}
    return train(part("early_letter"), learning_rate=3e-2, max_grad_norm=10.0, beta=0.001, **steps)


@pytest.mark.parametrize(
    ("cause", "of"),
    [("kl_runaway", ""), ("format_saturated", "early_letter"), ("truncation", "")],
)
def test_a_policy_torn_away_to_please_a_form(greedy, cause, of):
    assert (cause, of) in told(greedy)


def test_a_policy_that_is_paid_for_one_letter_gives_one_answer(train):
    steps = {"max_steps": 24, "per_device_train_batch_size": 32, "max_completion_length": 1}
    run = train(part("near_h"), learning_rate=3e-2, max_grad_norm=10.0, beta=0.0, **steps)
    assert ("answer_collapse", "") in told(run)


@pytest.fixture(scope="module")
def perverse(train, taught, closed):
    """Most of the spread comes from a small part that pays for wrong answers; another lies below its calibration."""
    parts = (part("wrong", 0.2), part("quiet", 0.8), part("low", 0.1, calibrate="adaptive"))
    size = {"per_device_train_batch_size": 32, "num_generations": 8}
    return train(*parts, start=taught, examples=closed, temperature=1.5, **size)


@pytest.mark.parametrize(
    ("cause", "of"), [("truth_uncorrelated", ""), ("dominance", "wrong"), ("calibration_saturated", "low")]
)
def test_a_reward_whose_loudest_part_pays_for_wrong_answers(perverse, cause, of):
    assert (cause, of) in told(perverse)


def test_a_constant_reward_has_no_spread_and_ties_throughout(train, capsys):
    run = train(part("constant"))
    assert told(run) >= {("spread_floor", "reward"), ("ties", "reward")}
    lines = [line for line in capsys.readouterr().err.splitlines() if "spread_floor" in line]
    assert len(lines) == 1 and lines[0].startswith("warning: spread_floor of reward (grpo, step 5): ")
    assert "use a reward that tells these answers apart" in lines[0]


def test_a_cold_policy_has_no_entropy(train):
    assert ("entropy_floor", "") in told(train(part("early_letter"), temperature=0.02))


def test_a_reward_for_length_makes_answers_longer(train, taught, closed):
    steps = {"max_steps": 16, "max_completion_length": 32, "temperature": 1.2}
    run = train(part("long"), start=taught, examples=closed, learning_rate=8e-3, **steps)
    assert ("length_drift", "") in told(run)


def test_a_scorer_that_fails_leaves_answers_unscored(train):
    assert ("unscored", "") in told(train(part("failing")))


def test_a_judge_that_is_down_is_an_outage(train):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens there
        options = {"model": "toy", "base_url": f"http://127.0.0.1:{taken.getsockname()[1]}/v1", "retries": 0}
        with pytest.warns(UserWarning, match="unscored"):
            run = train({"scorer": "judge", "weight": 1.0, "options": options}, max_steps=3)
    assert told(run) == {("judge_outage", "judge")}


def test_every_cause_is_provoked_here():
    text = Path(__file__).read_text(encoding="utf-8")
    assert [cause.name for cause in CAUSES if f'("{cause.name}", ' not in text] == []


def test_trackers_get_the_warnings_with_the_rest_of_the_log(train, monkeypatch):
    seen = []

    class Tracker(TrainerCallback):
        """As the callbacks of trackio, tensorboard and wandb: it has the log when it comes, and not later."""

        def on_log(self, args, state, control, logs=None, **kwargs):
            seen.append(dict(logs))

    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "a_tracker", Tracker)
    run = train(part("constant"), report_to="a_tracker")
    steps = [logs for logs in seen if "loss" in logs]
    assert [logs.get("warning/ties") for logs in steps] == [None] * 4 + [1.0] * 2
    assert steps[-1]["warning/unscored"] == 0.0 and steps[-1]["ties"] == 1.0
    assert [row.get("warning/ties") for row in read_jsonl(run.metrics)] == [None] * 4 + [1.0] * 2


SAVING = {"max_steps": 8, "save_strategy": "steps", "save_steps": 3, "max_completion_length": 2}


@pytest.fixture(scope="module")
def whole(train):
    """A run that nothing stopped."""
    return train(part("constant"), **SAVING)


@pytest.mark.parametrize("step", [5, 7], ids=["before its warnings", "after them"])
def test_a_resumed_run_warns_as_one_that_was_never_stopped(train, whole, tmp_path, monkeypatch, step):
    class PowerCut(GRPO):
        def training_step(self, *args, **kwargs):
            if self.state.global_step == step - 1:
                raise RuntimeError("power cut")
            return super().training_step(*args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="power cut"):
        patch.setattr(grpo, "GRPO", PowerCut)
        train(part("constant"), folder=tmp_path / "run", **SAVING)
    run = train(part("constant"), folder=tmp_path / "run", resume=True, **SAVING)
    assert list(read_jsonl(run.warnings)) == list(read_jsonl(whole.warnings)) != []
    assert told(run) == told(whole)
