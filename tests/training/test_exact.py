"""A resumed run gives the same bits as one never stopped, also within a generation's reuse and in a second epoch."""

import math
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from transformers import TrainerControl, TrainerState

from interrupted import at_step, crash, differences, equal
from medrft.errors import DataError, StorageError
from medrft.rundir import RunDir, read_jsonl
from medrft.training import grpo
from medrft.training.exact import Boundaries, _load, _plain
from medrft.training.grpo import GRPO, run_grpo


@pytest.fixture(scope="module")
def reused(trained, drawn, recipe, reusing):
    """`reused(run, resume=…, at=…, act=…, **trl)` trains the GRPO stage that reuses its generations."""
    few = {"train": drawn["train"][:9], "validation": drawn["validation"][:4]}

    def train(run, *, resume=False, at=None, act=None, lora=None, **trl):
        stage = {"name": "grpo", "kind": "grpo", "trl": {**reusing, **trl}}
        model = {**recipe().model.model_dump(), "lora": lora}
        with pytest.MonkeyPatch.context() as patch:
            if act is not None:
                patch.setattr(grpo, "GRPO", at_step(GRPO, at, act))
            trained(run_grpo, recipe(stages=[stage], model=model), 0, run=run, resume=resume, **few)

    return train


@pytest.fixture(scope="module")
def whole(reused, tmp_path_factory):
    """The stage that nothing disturbed."""
    run = RunDir.create(tmp_path_factory.mktemp("runs") / "whole")
    reused(run)
    return run


def test_interrupted_in_reuse_at_an_epochs_end_and_in_the_second(reused, whole, run):
    with pytest.raises(RuntimeError, match="power cut"):
        reused(run, at=5, act=crash)  # goes on from step 3, within a generation's reuse
    with pytest.raises(SystemExit):
        reused(run, resume=True, at=8, act=lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(RuntimeError, match="power cut"):
        reused(run, resume=True, at=12, act=crash)  # goes on from step 9, in the second epoch and within reuse
    reused(run, resume=True)
    assert differences(run, whole, stages=["grpo"]) == []
    assert max(row["epoch"] for row in read_jsonl(whole.metrics)) > 1


VARIANTS = {
    "by epoch": {"eval_strategy": "epoch", "save_strategy": "epoch", "logging_strategy": "epoch"},
    "evaluated by epoch, saved by step": {"eval_strategy": "epoch", "load_best_model_at_end": False},
    "one checkpoint, a moving reference": {"save_total_limit": 1, "sync_ref_model": True, "ref_model_sync_steps": 2},
    "adapters": {"lora": {"r": 2, "lora_dropout": 0.1, "target_modules": ["q_proj", "v_proj"]}},
}


@pytest.mark.slow
@pytest.mark.parametrize("trl", VARIANTS.values(), ids=VARIANTS)
def test_the_same_however_the_stage_is_saved(reused, tmp_path, trl):
    whole, run = RunDir.create(tmp_path / "whole"), RunDir.create(tmp_path / "run")
    trl = {"max_steps": 10, "save_steps": 3, "eval_on_start": True, **trl}
    reused(whole, **trl)
    with pytest.raises(SystemExit):
        reused(run, at=5, act=lambda: signal.raise_signal(signal.SIGTERM), **trl)
    with pytest.raises(RuntimeError, match="power cut"):
        reused(run, resume=True, at=9, act=crash, **trl)  # after the first epoch's end
    reused(run, resume=True, **trl)
    assert differences(run, whole, stages=["grpo"]) == []


def fill_the_disk():
    """No file may grow beyond 20 kB, the weights among them."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def test_a_full_disk_and_a_file_cut_short_cost_one_checkpoint(reused, whole, run, capfd):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(StorageError, match=r"could not write all of .*checkpoint-6: the disk .* --resume"):
            reused(run, at=5, act=fill_the_disk)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    folder = run.checkpoints("grpo")
    assert [path.name for path in folder.iterdir()] == ["checkpoint-3"]
    with pytest.raises(RuntimeError, match="power cut"):
        reused(run, resume=True, at=11, act=crash)
    weights = folder / "checkpoint-9" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    reused(run, resume=True)
    told = [line for line in capfd.readouterr().err.splitlines() if line.startswith("medrft: ")]
    assert len(told) == 1 and "checkpoint-9 is damaged: model.safetensors has 1000 bytes" in told[0]
    assert told[0].endswith("going on from checkpoint-3 before it")  # the best and the last were kept
    assert differences(run, whole, stages=["grpo"]) == []


MARKED = """
import sys
from pathlib import Path
from medrft.recipes import load_recipe
from medrft.pipeline.run import run_recipe
from medrft.training import grpo, sft

recipe, output, moment, before = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), {"sft": 0, "grpo": 6}


def marked(cls, stage):
    class Marked(cls):
        def training_step(self, *args, **kwargs):
            if before[stage] + self.state.global_step >= moment:
                print("now", flush=True)
            return super().training_step(*args, **kwargs)

    return Marked


sft.SFT, grpo.GRPO = marked(sft.SFT, "sft"), marked(grpo.GRPO, "grpo")
if moment < 0:
    print("now", flush=True)
run_recipe(load_recipe(recipe), output=output, resume=True)
"""


def go_on(recipe, output, *, moment=99, delay=0.0):
    """Run until `delay` seconds after step `moment` of both stages, then kill; True when it ended before that."""
    command = [sys.executable, "-c", MARKED, str(recipe), str(output), str(moment)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        if process.stdout.readline() == "now\n":
            time.sleep(delay)
            process.kill()
        error = process.communicate()[1]
    assert process.returncode in (0, -signal.SIGKILL), error[-4000:]
    return process.returncode == 0


@pytest.mark.slow
def test_ten_kills_at_random_moments_change_nothing(tmp_path, recipe, reusing, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    supervised = {"max_steps": 6, "eval_steps": 2, "logging_steps": 4, "per_device_train_batch_size": 4}
    stages = [
        {"name": "sft", "kind": "sft", "trl": supervised, "limit": 9, "validation_limit": 4, "evaluate": False},
        {"name": "grpo", "kind": "grpo", "trl": reusing, "limit": 9, "validation_limit": 4},
    ]
    table = recipe(stages=stages, eval={"limit": 2, "base": "skip", "max_new_tokens": 8})
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(table.model_dump(mode="json")))
    runs = [RunDir(tmp_path / name) for name in ("whole", "killed")]
    assert go_on(file, runs[0].path)
    chance = random.Random(0)
    moments = sorted(chance.choices(range(-1, 20), k=10))
    for moment in moments:
        go_on(file, runs[1].path, moment=moment, delay=chance.uniform(0, 1.5))
    assert moments[-1] >= 6 + 8  # in GRPO's second epoch
    assert go_on(file, runs[1].path)
    assert differences(*reversed(runs), stages=["sft", "grpo"]) == []
    answers = [sorted(Path(run.path).glob("eval/*/*/predictions.jsonl")) for run in runs]
    assert answers[0] and [path.read_bytes() for path in answers[0]] == [path.read_bytes() for path in answers[1]]


@pytest.mark.parametrize(
    ("epoch", "stops", "waits"), [(0.5, False, False), (1.0, False, True), (0.5, True, True)], ids=str
)
def test_the_last_step_of_an_epoch_is_saved_after_its_evaluation(epoch, stops, waits):
    boundaries, state = Boundaries(None), TrainerState(epoch=epoch)
    control = TrainerControl(should_save=True, should_training_stop=stops)
    boundaries.on_step_end(None, state, control)
    assert control.should_save is not waits
    boundaries.on_epoch_end(None, state, control)
    assert control.should_save


def test_a_resumed_epoch_has_its_own_order():
    told = []
    loader = SimpleNamespace(set_epoch=told.append)
    Boundaries(None).on_epoch_begin(SimpleNamespace(), TrainerState(epoch=1.25), None, train_dataloader=loader)
    assert told == [1]


@pytest.mark.parametrize(
    "value", [{"a": [torch.arange(4)[::2], None], "b": [[torch.ones(2)], (1, 2.5)]}, [torch.full((2, 3), math.nan)]]
)
def test_nested_buffers_come_back_as_they_were(tmp_path, value):
    torch.save(_plain(value), tmp_path / "x.pt")
    assert equal(_load(tmp_path / "x.pt", torch.device("cpu")), value)


def test_only_plain_values_are_saved_and_loaded(tmp_path):
    with pytest.raises(TypeError, match=r"got \w*Path"):
        _plain({"where": tmp_path})
    torch.save({"where": tmp_path}, tmp_path / "x.pt")
    with pytest.raises(DataError, match="not a state that medrft wrote"):
        _load(tmp_path / "x.pt", torch.device("cpu"))
