"""Grading while the policy still writes changes nothing but the time that it takes."""

import os
import signal
import threading
import time
from contextlib import suppress
from functools import partial

import pytest

from interrupted import differences, train_with_stops
from loopback import Loopback, say
from medrft.rewards import Reward
from medrft.rundir import RunDir, read_jsonl
from medrft.training.ahead import GradesAhead
from medrft.training.grading_thread import GradingThread
from medrft.training.grpo import run_grpo

ENDS = {"exponential_decay_length_penalty": [2, 1.3]}
"""Makes completions of a random model end, at different lengths."""


def stage(recipe, **more):
    table = {
        **recipe().stages[1].trl,
        **{"per_device_train_batch_size": 16, "max_completion_length": 24, "generation_kwargs": ENDS},
        **{"max_steps": 3, "eval_steps": 3, **more},
    }
    return {"name": "grpo", "kind": "grpo", "trl": table}


def verdict(request, number):
    """A judge whose verdict depends on what it is asked, and that takes a while."""
    time.sleep(0.01)
    return say("YES" if sum(request.text.encode()) % 2 else "NO")


def afterwards(patch):
    """Grade nothing before all completions are written and read, and then all of them in one call."""
    patch.setattr(GradesAhead, "_while_writing", lambda self, ids: None)
    begin, collected = GradesAhead._grade_rest, GradesAhead._collected

    def remember(self, ids):
        self.later = ids

    def grade_then_collect(self):
        begin(self, self.later)
        return collected(self)

    patch.setattr(GradesAhead, "_grade_rest", remember)
    patch.setattr(GradesAhead, "_collected", grade_then_collect)


@pytest.fixture
def early(monkeypatch):
    """Rows that were handed on while others were written, call by call."""
    seen, true = [], GradesAhead._while_writing

    def watching(self, ids):
        seen.append(sorted(ids))
        true(self, ids)

    monkeypatch.setattr(GradesAhead, "_while_writing", watching)
    return seen


ENCODER = {"parts": [{"scorer": "cosine", "weight": 1.0, "calibrate": {"kind": "adaptive", "t_min": 0.0}}]}


@pytest.mark.parametrize("kind", ["text", "encoder", "judge", "resampled"])
def test_the_same_files_with_and_without(trained, recipe, tmp_path, early, kind):
    with Loopback(verdict) as server:
        judge = {"scorer": "judge", "weight": 0.5, "options": {"model": "toy", "base_url": server.url}}
        reward = {"encoder": ENCODER, "judge": {"parts": [{"scorer": "bleu1", "weight": 0.5}, judge]}}.get(kind)
        changes = {"reward": reward} if reward else {}
        table = stage(recipe) | ({"resample_groups": 2} if kind == "resampled" else {})
        made = recipe(stages=[table], **changes)
        runs = [RunDir.create(tmp_path / name) for name in ("ahead", "afterwards")]
        trained(run_grpo, made, run=runs[0])
        with pytest.MonkeyPatch.context() as patch:
            afterwards(patch)
            trained(run_grpo, made, run=runs[1])
    assert differences(*runs, stages=["grpo"]) == []
    assert early and all(len(rows) >= 4 for rows in early)
    assert not any(thread.name == "grading" for thread in threading.enumerate())


def test_it_goes_on_from_a_checkpoint(trained, recipe, tmp_path, early):
    made = recipe(stages=[stage(recipe, save_steps=1, eval_steps=1)])
    whole, run = RunDir.create(tmp_path / "whole"), RunDir.create(tmp_path / "run")
    trained(run_grpo, made, run=whole)
    train_with_stops(partial(trained, run_grpo, made, run=run), run)
    assert differences(run, whole, stages=["grpo"]) == [] and early


def test_an_error_of_the_reward_is_raised_as_it_is(trained, run, recipe, monkeypatch):
    def broken(self, items):
        raise RuntimeError(f"no reward on {threading.current_thread().name}")

    monkeypatch.setattr(Reward, "score", broken)
    with pytest.raises(RuntimeError, match="no reward on grading"):
        trained(run_grpo, recipe(stages=[stage(recipe)]), run=run)
    assert not any(thread.name == "grading" for thread in threading.enumerate())


def test_a_second_ctrl_c_does_not_wait_for_the_reward(trained, run, recipe, monkeypatch):
    asked, answer = threading.Event(), threading.Event()

    def silent(self, items):
        asked.set()
        answer.wait(60)
        raise RuntimeError("nobody waits for this")

    def press_twice():
        asked.wait(60)
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.3)

    monkeypatch.setattr(Reward, "score", silent)
    presses = threading.Thread(target=press_twice)
    presses.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            trained(run_grpo, recipe(stages=[stage(recipe)]), run=run)
        assert not answer.is_set()
    finally:
        answer.set()
        presses.join()


def test_a_judge_is_asked_while_completions_are_written(trained, run, recipe, early):
    """Seconds of grading are more than the step stands still for them."""
    with Loopback(verdict) as server:
        judge = {
            "scorer": "judge",
            "weight": 0.5,
            "options": {"model": "toy", "base_url": server.url, "concurrency": 1},
        }
        made = recipe(reward={"parts": [{"scorer": "bleu1", "weight": 0.5}, judge]}, stages=[stage(recipe)])
        trained(run_grpo, made, run=run, validation=[])
    rows = [row for row in read_jsonl(run.metrics) if row["split"] == "train"]
    assert early and all(row["reward_wait"] == row["time/reward"] / row["step_time"] for row in rows)
    assert sum(row["reward_time"] for row in rows) > 0.1


class TestThread:
    def test_calls_come_in_order_and_one_at_a_time(self):
        thread, seen = GradingThread(prepare=lambda: seen.append("ready")), []
        calls = [thread.submit(lambda number=number: seen.append(number) or number) for number in range(20)]
        assert [call.result() for call in calls] == list(range(20)) and seen == ["ready", *range(20)]
        assert thread.seconds > 0
        thread.close()

    @pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt()])
    def test_what_a_call_raises_is_raised_where_it_is_awaited_and_the_next_one_runs(self, error):
        thread = GradingThread()

        def fails():
            raise error

        failing, fine = thread.submit(fails), thread.submit(lambda: 1)
        with pytest.raises(type(error)):
            failing.result()
        assert fine.result() == 1
        thread.close()

    def test_closing_drops_what_waits_and_does_not_wait_for_what_runs(self):
        thread, go = GradingThread(), threading.Event()
        running, waiting = thread.submit(lambda: go.wait(60)), thread.submit(lambda: 1)
        while not running.running():
            time.sleep(0.01)
        thread.close()
        assert waiting.cancelled() and not running.done()
        go.set()
        with suppress(TimeoutError):
            assert running.result(timeout=60)

    def test_closing_what_never_began(self):
        GradingThread().close()
