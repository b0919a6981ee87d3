"""The same rollouts in one process and in two: the same rewards, calibration, advantages and gradients."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from medrft.store import read_rollouts

CASES = {
    "whole_groups": {"batch": 8, "group": 4, "loss": "dapo"},
    "split_group": {"batch": 4, "group": 4, "loss": "dapo"},  # two completions of each group on each process
    "split_ranked": {"batch": 4, "group": 4, "loss": "grpo", "calibrate": "rank"},
    "split_accumulated": {"batch": 4, "group": 8, "accumulate": 2, "loss": "dapo"},
    "split_normalised": {"batch": 4, "group": 4, "loss": "dr_grpo", "combine": "normalize_then_sum"},
}
KEYS = ("example_id", "sample", "completion", "reward", "raw", "calibrated", "applicable", "correct", "unscored_reason")


@pytest.fixture(scope="module")
def replayed(tmp_path_factory, base, drawn):
    """Folders of one process and of two, from the same rollouts."""
    folder = tmp_path_factory.mktemp("replay")
    (folder / "examples").write_bytes(pickle.dumps(drawn["train"]))
    script = [str(Path(__file__).parent / "replay.py"), str(folder)]
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    launch = {"one": [], "two": ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]}
    for name, prefix in launch.items():
        (folder / name).mkdir()
        command = [sys.executable, *prefix, *script, str(folder / name), str(base), json.dumps(CASES)]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=400)
        assert done.returncode == 0, done.stderr[-6000:]
    return folder / "one", folder / "two"


def rollouts(folder, case):
    return read_rollouts(folder / case, "SELECT * FROM rollouts ORDER BY generation_step, group_id, sample")


def kept(folder, case, rank=0):
    return torch.load(folder / f"{case}-{rank}.pt")


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_rewards_calibrated_scores_and_advantages_are_the_same(replayed, case):
    one, two = (rollouts(folder, case) for folder in replayed)
    assert [[row[key] for key in KEYS] for row in one] == [[row[key] for key in KEYS] for row in two]
    assert [row["advantage"] for row in two] == pytest.approx([row["advantage"] for row in one], abs=1e-6)
    assert any(row["advantage"] for row in one)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_the_calibration_learns_the_same_on_every_process(replayed, case):
    one, two = replayed
    states = kept(one, case)["states"]
    assert len(states) == 3
    assert states == kept(two, case, 0)["states"] == kept(two, case, 1)["states"]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_gradients_of_all_parameters_are_the_same_within_float_error(replayed, case):
    one, two = replayed
    alone, left, right = kept(one, case), kept(two, case, 0), kept(two, case, 1)
    for step in range(3):
        names = set(alone["gradients"][step])
        assert names and names == set(left["gradients"][step])
        a, b, c = (
            torch.cat([found["gradients"][step][name].flatten() for name in sorted(names)])
            for found in (alone, left, right)
        )
        assert torch.equal(b, c)  # all-reduced
        assert a.norm() > 0 and float((a - b).norm() / a.norm()) < 5e-5, (step, float((a - b).norm() / a.norm()))
