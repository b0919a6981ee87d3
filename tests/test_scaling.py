"""The accelerate configs of docs/scaling.md, read by accelerate's own parser and against its launcher's options."""

import json
import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DistributedType

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted((ROOT / "recipes" / "accelerate").glob("*.yaml"))
PAGE = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
EXPECTED = {
    "ddp": DistributedType.MULTI_GPU,
    "fsdp2": DistributedType.FSDP,
    "deepspeed_zero3": DistributedType.DEEPSPEED,
    "multi_node": DistributedType.FSDP,
}


def test_there_is_one_for_each_way():
    assert {path.stem for path in CONFIGS} == set(EXPECTED)
    assert all(f"{name}.yaml" in PAGE for name in EXPECTED)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_accelerate_reads_it(path):
    config = load_config_from_file(str(path))  # refuses keys that it does not know
    assert config.distributed_type == EXPECTED[path.stem]
    assert config.num_processes == 8 * config.num_machines and config.mixed_precision == "bf16"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_launcher_knows_every_nested_key_and_takes_the_command_of_the_page(path, monkeypatch):
    parser = launch_command_parser()
    monkeypatch.setattr("torch.cuda.device_count", lambda: 8)
    words = ["--config_file", str(path), "-m", "medrft", "run", "recipe.yaml", "--output", "run"]
    args = parser.parse_args(words)
    config = load_config_from_file(str(path))
    known = set(vars(args))
    assert not {*config.fsdp_config, *config.deepspeed_config} - known
    checked, _, _ = _validate_launch_command(args)
    assert checked.module and checked.training_script == "medrft"
    assert checked.training_script_args == ["run", "recipe.yaml", "--output", "run"]
    assert checked.use_fsdp == (path.stem in ("fsdp2", "multi_node"))
    assert checked.use_deepspeed == (path.stem == "deepspeed_zero3")
    if checked.use_fsdp:
        assert checked.fsdp_version == 2 and checked.fsdp_state_dict_type == "FULL_STATE_DICT"


def test_every_trl_key_on_the_page_exists():
    from trl import GRPOConfig

    known = {field.name for field in fields(GRPOConfig)}
    named = set(re.findall(r"\b((?:use_)?vllm_[a-z_]+|gradient_[a-z_]+|per_device_[a-z_]+|num_generations)\b", PAGE))
    assert len(named) > 8 and not named - known


def test_fsdp_and_deepspeed_keys_are_accelerates_own():
    """DeepSpeed cannot be installed without a GPU; its keys are those of accelerate's plugin, or its launcher's."""
    from accelerate.utils import DeepSpeedPlugin, FullyShardedDataParallelPlugin

    launcher = set(vars(launch_command_parser().parse_args(["script.py"])))
    for path in CONFIGS:
        config = load_config_from_file(str(path))
        sharded = {f"fsdp_{field.name}" for field in fields(FullyShardedDataParallelPlugin)}
        assert set(config.fsdp_config) <= sharded | launcher
        plugin = {field.name for field in fields(DeepSpeedPlugin)}
        assert set(config.deepspeed_config) <= plugin | launcher


@pytest.mark.slow
def test_the_gpu_check_runs_here_on_tiny_shapes_and_goes_on_where_it_ended(tmp_path):
    script = ROOT / "benchmarks" / "gpu_check.sh"
    update, rollout = "update_p612_c256_g8_ckpt_hybrid", "rollout_p612_c256_g8"
    cases = [update, rollout, "update_p277_c1024_g8_ckpt_internvl_flex"]
    command = ["sh", str(script), str(tmp_path), "--device", "cpu", "--tiny", "--only", *cases]
    environment = {**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    found = json.loads((tmp_path / "gpu_check.json").read_text(encoding="utf-8"))
    assert done.returncode == 0 and set(found["cases"]) == set(cases), done.stderr
    assert "on a CPU" in found["cases"].pop("update_p277_c1024_g8_ckpt_internvl_flex")["skipped"]
    for case in found["cases"].values():
        assert case["times_as_fast"] > 0 and case["logps_apart_bfloat16"] < 0.1
        assert case["not_shared"]["planned_bytes"] > case["shared"]["planned_bytes"] > 0
    assert found["cases"][update]["logps_apart_float32"] < 1e-4
    before = (tmp_path / f"{update}.json").stat().st_mtime_ns
    subprocess.run(command, env=environment, capture_output=True, timeout=600, check=True)
    assert (tmp_path / f"{update}.json").stat().st_mtime_ns == before
