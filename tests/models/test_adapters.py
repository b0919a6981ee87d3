"""LoRA adapters as models: merged into their base, or one line that names both."""

import json
import shutil

import pytest
import torch

from medrft.config import ModelConfig
from medrft.errors import ModelError
from medrft.models.adapters import find_adapter
from medrft.models.load import load_policy, resolve_base


@pytest.fixture(scope="module")
def adapter(saved, tmp_path_factory):
    """An adapter's folder as peft saves it, and the weights that it makes of its base."""
    from peft import LoraConfig, get_peft_model

    policy = load_policy(ModelConfig(id="tiny:qwen2_5_vl", device="cpu"), saved("qwen2_5_vl"))
    torch.manual_seed(0)
    options = LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
    adapted = get_peft_model(policy.model, options)
    folder = tmp_path_factory.mktemp("adapter") / "checkpoint-7"
    adapted.save_pretrained(folder)
    merged = adapted.merge_and_unload().state_dict()
    return folder, {key: value.clone() for key, value in merged.items()}


def largest_gap(model, weights):
    return max(float((value.float() - weights[key]).abs().max()) for key, value in model.state_dict().items())


def test_an_adapter_loads_as_its_base_with_it_merged(adapter):
    folder, merged = adapter
    policy = load_policy(ModelConfig(id=str(folder), device="cpu"), folder)
    assert largest_gap(policy.model, merged) == 0
    assert all(parameter.requires_grad for parameter in policy.model.parameters())
    assert not hasattr(policy.model, "peft_config")
    half = load_policy(ModelConfig(id=str(folder), device="cpu", dtype="bfloat16"), folder)
    rounded = {key: value.bfloat16().float() for key, value in merged.items()}
    assert largest_gap(half.model, rounded) == 0  # summed in float32, rounded once


def test_a_run_starts_from_a_whole_folder(adapter, tmp_path):
    """GRPO's reference model and vLLM load the start by its folder."""
    folder, merged = adapter
    config = ModelConfig(id=str(folder), device="cpu")
    source = resolve_base(config, texts=(), output=tmp_path / "base", seed=0)
    assert source == str(tmp_path / "base")
    assert find_adapter(source) is None
    assert largest_gap(load_policy(config, source).model, merged) == 0


def test_its_own_processor_goes_before_the_base_s(adapter, saved, tmp_path):
    folder = shutil.copytree(adapter[0], tmp_path / "with_processor")
    policy = load_policy(ModelConfig(id=str(folder), device="cpu"), folder)
    policy.processor.chat_template = "{# mine #}" + policy.processor.chat_template
    policy.processor.tokenizer.chat_template = policy.processor.chat_template
    policy.processor.save_pretrained(folder)
    again = load_policy(ModelConfig(id=str(folder), device="cpu"), folder)
    assert again.processor.chat_template.startswith("{# mine #}")


def test_a_base_beside_its_adapter(adapter, saved, tmp_path):
    shutil.copytree(saved("qwen2_5_vl"), tmp_path / "base")
    folder = shutil.copytree(adapter[0], tmp_path / "adapter")
    rewritten(folder, base_model_name_or_path="../base")
    assert load_policy(ModelConfig(id=str(folder), device="cpu"), folder).id == str(folder)


def rewritten(folder, **changes):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("/gone/qwen", r"adapter .*adapter was trained on /gone/qwen, and no such folder is here; set base_model"),
        (None, "names no base; set base_model_name_or_path"),
        ("some/base", r"cannot load the base some/base of the adapter .*adapter.*HF_HUB_OFFLINE is set"),
        ("llava", r"cannot merge the adapter .*adapter into its base .*llava"),
    ],
)
def test_a_base_that_does_not_fit(base, message, adapter, saved, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    folder = shutil.copytree(adapter[0], tmp_path / "adapter")
    rewritten(folder, base_model_name_or_path=saved("llava") if base == "llava" else base)
    with pytest.raises(ModelError, match=message) as caught:
        load_policy(ModelConfig(id=str(folder), device="cpu"), folder)
    assert "\n" not in str(caught.value)


def test_an_adapter_that_cannot_be_read(adapter, tmp_path):
    folder = shutil.copytree(adapter[0], tmp_path / "adapter")
    (folder / "adapter_config.json").write_text("{")
    with pytest.raises(ModelError, match=r"cannot read .*adapter_config\.json"):
        load_policy(ModelConfig(id=str(folder), device="cpu"), folder)
