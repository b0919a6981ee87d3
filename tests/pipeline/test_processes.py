"""`medrft run` under a launcher: one process writes, all of them train."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

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


def sharded_env(tmp_path):
    """What `accelerate launch --config_file recipes/accelerate/fsdp2.yaml` sets for two processes."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_multi_gpu_env

    config = Path(__file__).parents[2] / "recipes" / "accelerate" / "fsdp2.yaml"
    asked = ["--config_file", str(config), "--num_processes", "2", "-m", "medrft"]
    found = prepare_multi_gpu_env(_validate_launch_command(launch_command_parser().parse_args(asked))[0])
    own = {key: value for key, value in found.items() if key.startswith(("FSDP", "ACCELERATE"))}
    cache = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    return {**os.environ, **own, **cache, "ACCELERATE_USE_CPU": "true"}


def workers_of(launcher):
    return [int(pid) for pid in Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()]


@pytest.mark.slow
@pytest.mark.parametrize("lora", [None, {"r": 2}])
def test_weights_in_shares_train_share_prompts_and_survive_a_kill(tmp_path, lora):
    """FSDP2 on a bfloat16 checkpoint of Qwen2.5-VL: kill -9, resume, and a final folder that loads alone."""
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    sizes = {"image": 32, "vision_hidden": 32, "vision_layers": 1, "hidden": 64, "layers": 2, "mlp": 64}
    trl = {**TABLE["stages"][1]["trl"], "per_device_train_batch_size": 4, "max_steps": 3, "save_steps": 1}
    trl |= {"beta": 0.04, "learning_rate": 1e-3, "save_total_limit": 10, "max_completion_length": 6}
    trl |= {"eval_strategy": "no", "load_best_model_at_end": False}
    table = {
        **TABLE,
        "prompt": "short",
        "model": {"id": "tiny:qwen2_5_vl", "dtype": "bfloat16", "device": "cpu", "tiny": sizes, "lora": lora},
        "data": {**TABLE["data"], "images": 8, "validation_images": 2, "test_images": 1},
        "reward": {"parts": [{"scorer": "bertscore", "weight": 1.0}]},
        "stages": [{"name": "grpo", "kind": "grpo", "validation_limit": 2, "evaluate": False, "trl": trl}],
        "eval": {"base": "skip"},
    }
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(table))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "medrft"]
    command = [*launch, "run", str(tmp_path / "toy.yaml"), "--output", str(tmp_path / "run")]
    env, stage = sharded_env(tmp_path), tmp_path / "run" / "stages" / "grpo"
    with (tmp_path / "log").open("w") as log:
        first = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        for _ in range(3000):
            if (stage / "checkpoints" / "checkpoint-1" / "checkpoint.json").is_file() or first.poll() is not None:
                break
            time.sleep(0.1)
        assert first.poll() is None, (tmp_path / "log").read_text()[-9000:]
        os.kill(workers_of(first)[0], signal.SIGKILL)
        first.wait(timeout=120)
    done = subprocess.run([*command, "--resume"], env=env, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr[-9000:]
    record = read_json(stage / "stage.json")
    assert record["status"] == "done" and record["precision"]["trained"] == "float32"
    assert (
        not record["prefix"]["fallbacks"] and record["prefix"]["checked"]["loss"]["unproven"] == "weights are sharded"
    )
    assert record["prefix"]["completions"]["loss/shared"] > 0 and "loss/plain" not in record["prefix"]["completions"]
    rows = [(r["split"], r["step"]) for r in read_jsonl(tmp_path / "run" / "metrics.jsonl")]
    assert [step for split, step in rows if split == "train"] == [1, 2, 3]
    model = AutoModelForImageTextToText.from_pretrained(stage / "final")
    assert {value.dtype for value in model.parameters()} == {torch.bfloat16}
    base = AutoModelForImageTextToText.from_pretrained(
        tmp_path / "run" / "stages" / "base" / "final", dtype=torch.bfloat16
    )
    before, after = base.state_dict(), model.state_dict()
    assert before.keys() == after.keys() and any(not torch.equal(before[key], after[key]) for key in before)
    assert AutoProcessor.from_pretrained(stage / "final").tokenizer is not None
