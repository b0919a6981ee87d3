"""The accelerate configs of docs/scaling.md, read by accelerate's own parser and against its launcher's options."""

import re
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
