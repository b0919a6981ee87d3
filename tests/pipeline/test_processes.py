"""`medrft run` under a launcher: one process writes, all of them train."""

import json
import os
import subprocess
import sys

import pytest
import yaml

from medrft.rundir import read_json, read_jsonl
from toys import TABLE


@pytest.mark.slow
def test_two_processes_make_one_run(tmp_path):
    grpo = {**TABLE["stages"][1], "trl": {**TABLE["stages"][1]["trl"], "per_device_train_batch_size": 4}}
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump({**TABLE, "stages": [TABLE["stages"][0], grpo]}))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "medrft"]
    command = [*launch, "run", str(tmp_path / "toy.yaml"), "--output", str(tmp_path / "run"), "--json"]
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr[-9000:]
    assert json.loads(done.stdout)["results"]  # printed once
    run = tmp_path / "run"
    assert (run / "report.html").is_file()
    for stage in ("sft", "grpo"):
        assert read_json(run / "stages" / stage / "stage.json")["status"] == "done"
        rows = [(r["split"], r["step"]) for r in read_jsonl(run / "metrics.jsonl") if r["stage"] == stage]
        assert len(rows) == len(set(rows)) > 0  # each step once
