"""An interrupted stage goes on from its checkpoint as if nothing had happened, and no step is counted twice."""

import os
import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from medrft.rundir import RunDir, read_json, read_jsonl
from medrft.store import read
from medrft.training import grpo, sft
from medrft.training.grpo import GRPO, run_grpo
from medrft.training.sft import SFT, run_sft

TIMES = ("seconds", "step_time", "reward_time")
ANEW = ("num_tokens",)  # TRL's SFT counts its tokens from 0 after a resume


def rows_of(run):
    return [{k: v for k, v in row.items() if k not in (*TIMES, *ANEW)} for row in read_jsonl(run.metrics)]


def rollouts_of(run):
    return read(
        run.path, "SELECT * EXCLUDE (advantage) FROM rollouts ORDER BY split, generation_step, group_id, sample"
    )


def at_step(cls, step, act):
    """The trainer, with something happening in its step number `step` (from 1)."""

    class Disturbed(cls):
        def training_step(self, *args, **kwargs):
            if self.state.global_step == step - 1:
                act()
            return super().training_step(*args, **kwargs)

    return Disturbed


def crash():
    raise RuntimeError("power cut")


@pytest.fixture(scope="module")
def whole(trained, tmp_path_factory, recipe):
    """A GRPO stage that nothing disturbed."""
    run = RunDir.create(tmp_path_factory.mktemp("runs") / "whole")
    trained(run_grpo, recipe(), 1, run=run)
    return run


@pytest.mark.parametrize(
    ("act", "leaves"),
    [(lambda: signal.raise_signal(signal.SIGINT), KeyboardInterrupt), (crash, RuntimeError)],
    ids=["ctrl-c", "crash"],
)
def test_grpo_goes_on_as_if_nothing_had_happened(trained, whole, run, recipe, monkeypatch, act, leaves):
    with monkeypatch.context() as patch, pytest.raises(leaves):
        patch.setattr(grpo, "GRPO", at_step(GRPO, 3, act))
        trained(run_grpo, recipe(), 1, run=run)
    assert read_json(run.stage("grpo") / "stage.json")["status"] == "running"
    trained(run_grpo, recipe(), 1, run=run, resume=True)
    assert rows_of(run) == rows_of(whole)
    assert rollouts_of(run) == rollouts_of(whole)
    state = "stages/grpo/reward_state.json"
    assert read_json(run.path / state) == read_json(whole.path / state)


@pytest.mark.parametrize("step", [3, 4], ids=["in its second epoch", "after its last step"])
def test_sft_goes_on(trained, tmp_path, recipe, monkeypatch, drawn, step):
    recipe, few = recipe(), {"train": drawn["train"][:8], "validation": []}  # two steps an epoch
    whole, run = RunDir.create(tmp_path / "whole"), RunDir.create(tmp_path / "run")
    trained(run_sft, recipe, run=whole, **few)
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as left:
        patch.setattr(sft, "SFT", at_step(SFT, step, lambda: signal.raise_signal(signal.SIGTERM)))
        trained(run_sft, recipe, run=run, **few)
    assert left.value.code == 143
    trained(run_sft, recipe, run=run, resume=True, **few)
    assert rows_of(run) == rows_of(whole)
    ours, theirs = (load_file(r.final("sft") / "model.safetensors") for r in (run, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_finished_stage_is_left_as_it_is(trained, whole, recipe):
    before = {path: path.stat().st_mtime_ns for path in whole.path.rglob("*") if path.is_file()}
    assert trained(run_grpo, recipe(), 1, run=whole, resume=True) == whole.final("grpo")
    assert {path: path.stat().st_mtime_ns for path in whole.path.rglob("*") if path.is_file()} == before


KILLED = """
import os, pickle, signal, sys
sys.path.insert(0, {tests!r})
from conftest import toy_recipe
from pathlib import Path
from medrft.rundir import RunDir
from medrft.training import grpo

class Killed(grpo.GRPO):
    def training_step(self, *args, **kwargs):
        if self.state.global_step == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().training_step(*args, **kwargs)

grpo.GRPO = Killed
recipe = toy_recipe()
drawn = pickle.loads(Path({drawn!r}).read_bytes())
grpo.run_grpo(recipe.stages[1], recipe, start={base!r}, run=RunDir(Path({run!r})), **drawn)
"""


@pytest.mark.slow
def test_a_killed_process_can_be_resumed(trained, whole, run, recipe, base, drawn, tmp_path):
    import pickle
    from pathlib import Path

    (tmp_path / "drawn").write_bytes(pickle.dumps(drawn))
    code = KILLED.format(
        tests=str(Path(__file__).parent), drawn=str(tmp_path / "drawn"), base=str(base), run=str(run.path)
    )
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "HF_HUB_OFFLINE": "1"}, check=False)
    assert done.returncode == -signal.SIGKILL
    trained(run_grpo, recipe(), 1, run=run, resume=True)
    assert rows_of(run) == rows_of(whole) and rollouts_of(run) == rollouts_of(whole)
