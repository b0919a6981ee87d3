"""Interrupting a run, and whether it is the same as another one, bit for bit, but for timings."""

import signal

import pytest
import torch

from medrft.rundir import read_json, read_jsonl
from medrft.store import read_rollouts
from medrft.training import grpo
from medrft.training.grpo import GRPO
from medrft.training.timing.slowest import PARTS

TIMES = (
    *("seconds", "step_time", "reward_time", "reward_wait", "tokens_per_second", "flops_per_second", "time_flops"),
    *(f"time/{part}" for part in PARTS),
)
"""What differs from run to run; operations do because a resumed run does not compare the shared way again."""


def crash():
    raise RuntimeError("power cut")


def at_step(cls, step, act):
    """The trainer, with something happening in its step number `step` (from 1)."""

    class Disturbed(cls):
        def training_step(self, *args, **kwargs):
            if self.state.global_step == step - 1:
                act()
            return super().training_step(*args, **kwargs)

    return Disturbed


def interrupt():
    signal.raise_signal(signal.SIGINT)


def train_with_stops(train, run):
    """`train(resume)` three times over one GRPO stage of `run`: into a crash, into Ctrl-C, and to its end."""
    for act, leaves in ((crash, RuntimeError), (interrupt, KeyboardInterrupt)):
        with pytest.MonkeyPatch.context() as patch, pytest.raises(leaves):
            patch.setattr(grpo, "GRPO", at_step(GRPO, 2, act))
            train(resume=run.stage("grpo").exists())
    train(resume=True)


def rows_of(run):
    return [{k: v for k, v in row.items() if k not in TIMES} for row in read_jsonl(run.metrics)]


def rollouts_of(run):
    return read_rollouts(run.path, "SELECT * FROM rollouts ORDER BY stage, split, generation_step, group_id, sample")


def equal(one, other):
    """Nested containers of tensors and values, bit for bit; NaN equals NaN."""
    if isinstance(one, torch.Tensor):
        return (
            one.dtype == other.dtype and one.shape == other.shape and one.numpy().tobytes() == other.numpy().tobytes()
        )
    if isinstance(one, dict):
        return list(one) == list(other) and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return repr(one) == repr(other)


def checkpoint_of(run, stage):
    """All that the newest checkpoint holds, but timings."""
    folder = max(run.checkpoints(stage).glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]))
    found = {path.name: torch.load(path, weights_only=False) for path in [*folder.glob("*.pt"), *folder.glob("*.pth")]}
    for metrics in [inner for name in found if name.startswith("exact-") for inner in found[name]["_metrics"].values()]:
        for name in TIMES:
            metrics.pop(name, None)
    weights = {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}
    return {"name": folder.name, **weights, **found}


def differences(run, other, *, stages):
    """Names of what differs between two runs; empty when nothing does."""
    found = {
        "metrics": rows_of(run) == rows_of(other),
        "rollouts": not other.rollouts.is_dir() or repr(rollouts_of(run)) == repr(rollouts_of(other)),
    }
    for stage in stages:
        finals = [(r.final(stage) / "model.safetensors").read_bytes() for r in (run, other)]
        found[f"{stage} final"] = finals[0] == finals[1]
        ours, theirs = checkpoint_of(run, stage), checkpoint_of(other, stage)
        found |= {f"{stage} {name}": equal(ours.get(name), theirs.get(name)) for name in {**ours, **theirs}}
        records = [{**read_json(r.stage(stage) / "stage.json"), "seconds": 0} for r in (run, other)]
        found[f"{stage} record"] = records[0] == records[1]
        states = [r.stage(stage) / "reward_state.json" for r in (run, other)]
        if states[1].is_file():
            found[f"{stage} calibration"] = read_json(states[0]) == read_json(states[1])
    return sorted(name for name, same in found.items() if not same)
