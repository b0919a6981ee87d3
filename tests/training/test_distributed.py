"""Two processes that share each group: gathered, combined alike, stored once."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from medrft.rundir import RunDir, read_json, read_jsonl
from medrft.store import read_rollouts

WORKER = """
import pickle, sys
from medrft.torchvision_ops import declare_missing_operators
declare_missing_operators()
sys.path.insert(0, {tests!r})
from conftest import GRPO, toy_recipe
from pathlib import Path
from medrft.rundir import RunDir
from medrft.training.grpo import run_grpo

trl = {{**GRPO, "per_device_train_batch_size": 2, "num_generations": 4, "num_generations_eval": 4, "max_steps": 2}}
recipe = toy_recipe(stages=[{{"name": "grpo", "kind": "grpo", "trl": trl}}])
drawn = pickle.loads(Path({drawn!r}).read_bytes())
run_grpo(recipe.stages[0], recipe, start={base!r}, run=RunDir(Path({run!r})), **drawn)
"""


@pytest.mark.slow
def test_a_group_may_span_two_processes(tmp_path, base, drawn):
    run = RunDir.create(tmp_path / "run")
    (tmp_path / "drawn").write_bytes(pickle.dumps(drawn))
    worker = tmp_path / "worker.py"
    places = {"tests": str(Path(__file__).parent), "drawn": str(tmp_path / "drawn")}
    worker.write_text(WORKER.format(**places, base=str(base), run=str(run.path)))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(worker)]
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=400)
    assert done.returncode == 0, done.stderr[-9000:]
    rows = read_rollouts(run.path, "SELECT * FROM rollouts WHERE split = 'train' ORDER BY step, group_id, sample")
    assert [row["sample"] for row in rows] == [0, 1, 2, 3] * 2  # each group once, though it lay on both processes
    for group in (rows[:4], rows[4:]):
        assert len({row["example_id"] for row in group}) == 1
        assert sum(row["advantage"] for row in group) == pytest.approx(0.0, abs=1e-4)
    steps = [row["step"] for row in read_jsonl(run.metrics) if row["split"] == "train"]
    assert steps == [1, 2]
    assert read_json(run.stage("grpo") / "stage.json")["status"] == "done"
