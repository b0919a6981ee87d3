"""Loading, freezing, adapters, saving: what comes out must load in plain transformers."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from medrft.config import ModelConfig
from medrft.errors import ModelError, UnknownNameError
from medrft.models.encode import encode_chats
from medrft.models.generate import Generation, generate
from medrft.models.load import load_policy, resolve_base
from medrft.models.parts import freeze_parts, lora_config, part_of
from medrft.models.policy import Policy, pick_device
from medrft.models.prompts import get_prompt, with_images
from medrft.models.saved import save_final
from medrft.models.tokens import end_ids, placeholder_ids

FAMILIES = ("llava", "gemma3", "idefics3")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_an_absent_gpu_is_said_before_anything_is_loaded(tmp_path):
    config = ModelConfig(id="no/such-model", device="cuda")
    with pytest.raises(ModelError, match="no GPU here"):
        resolve_base(config, texts=iter(()), output=tmp_path / "base", seed=0)
    with pytest.raises(ModelError, match="no GPU here"):
        load_policy(config, "no/such-model")
    assert pick_device("auto").type == "cpu"


@pytest.mark.parametrize("family", FAMILIES)
def test_final_loads_in_plain_transformers_and_writes_the_same(family, saved, examples, pictures, tmp_path):
    policy = load_policy(ModelConfig(id=f"tiny:{family}"), saved(family))
    final = save_final(policy, tmp_path / "final")
    names = {path.name for path in final.iterdir()}
    assert names >= {"config.json", "generation_config.json", "chat_template.jinja", "tokenizer.json"}
    assert names >= {"model.safetensors", "processor_config.json"}
    model = AutoModelForImageTextToText.from_pretrained(final)
    processor = AutoProcessor.from_pretrained(final)
    chat = with_images(get_prompt("direct").messages(examples[0]), pictures(examples[0]))
    inputs = processor.apply_chat_template(
        chat, tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    before = policy.model.generate(**encode_chats(policy, [chat]), max_new_tokens=8)
    assert torch.equal(model.generate(**inputs, max_new_tokens=8), before)
    assert model.generation_config.eos_token_id == end_ids(policy)[0]


def test_merged_adapters_change_the_saved_weights(policy, examples, pictures, tmp_path):
    from peft import get_peft_model

    config = ModelConfig(id="tiny:llava", lora={"r": 4, "init_lora_weights": False})
    chats = [with_images(get_prompt("short").messages(examples[0]), pictures(examples[0]))]
    policy.model.eval()
    with torch.no_grad():
        before = policy.model(**encode_chats(policy, chats)).logits
    torch.manual_seed(0)
    adapted = get_peft_model(policy.model, lora_config(config)).eval()
    policy = Policy(adapted, policy.processor, policy.id, policy.device)
    with torch.no_grad():
        expected = adapted(**encode_chats(policy, chats)).logits
    merged = load_policy(ModelConfig(id="tiny:llava"), save_final(policy, tmp_path / "final"))
    merged.model.eval()
    with torch.no_grad():
        found = merged.model(**encode_chats(merged, chats)).logits
    # x W + x A B and x (W + A B) are rounded in another order, which the layers after them carry on
    assert (found - expected).norm() < 1e-4 * (expected - before).norm()


def test_saving_keeps_what_else_is_in_the_folder(policy, tmp_path):
    (tmp_path / "final").mkdir()
    (tmp_path / "final" / "README.md").write_text("card")
    save_final(policy, tmp_path / "final")
    save_final(policy, tmp_path / "final")
    assert (tmp_path / "final" / "README.md").read_text() == "card"
    assert [path.name for path in tmp_path.iterdir()] == ["final"]


def test_frozen_parts_of_a_model_get_no_adapters(policy):
    from peft import get_peft_model

    config = ModelConfig(id="tiny:llava", freeze=("vision", "projector"), lora={"r": 2})
    adapted = get_peft_model(policy.model, lora_config(config))
    parts = {part_of(name) for name, p in adapted.named_parameters() if p.requires_grad}
    assert parts == {"language"}


def test_an_unknown_lora_key_gets_the_nearest_name():
    with pytest.raises(UnknownNameError, match="lora_alpha"):
        lora_config(ModelConfig(id="tiny:llava", lora={"lora_alfa": 4}))
    assert lora_config(ModelConfig(id="tiny:llava")) is None


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("part", ["vision", "projector", "language"])
def test_freeze_by_part(family, part, saved):
    policy = load_policy(ModelConfig(id=f"tiny:{family}", freeze=(part,)), saved(family))
    frozen = {part_of(name) for name, p in policy.model.named_parameters() if not p.requires_grad}
    assert frozen == {part}
    assert {part_of(name) for name, _ in policy.model.named_parameters()} == {"vision", "projector", "language"}


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("model.visual.blocks.0.attn.qkv.weight", "vision"),  # Qwen2.5-VL
        ("model.visual.merger.mlp.0.weight", "projector"),
        ("model.connector.modality_projection.proj.weight", "projector"),  # Idefics 3
        ("model.text_model.layers.0.mlp.up_proj.weight", "language"),
        ("model.multi_modal_projector.mm_input_projection_weight", "projector"),  # Gemma 3
        ("model.vision_tower.encoder.layers.0.layer_norm1.weight", "vision"),
        ("model.language_model.norm.weight", "language"),
        ("lm_head.weight", "lm_head"),
    ],
)
def test_part_of(name, part):
    assert part_of(name) == part


def test_freezing_too_much_or_nothing(policy):
    with pytest.raises(ModelError, match="tied to the embeddings; freeze language"):
        freeze_parts(policy.model, ["lm_head"])
    with pytest.raises(ModelError, match="nothing is left to train"):
        freeze_parts(policy.model, ["vision", "projector", "language"])


def test_placeholders_and_end(policy):
    tokenizer = policy.processor.tokenizer
    assert tokenizer.convert_ids_to_tokens(list(placeholder_ids(policy))) == ["<image>"]
    assert tokenizer.convert_ids_to_tokens(list(end_ids(policy))) == ["<|end|>"]
    policy.model.generation_config.eos_token_id = [1, 4]
    assert end_ids(policy) == (1, 4)


def test_a_base_is_built_once(tmp_path):
    config = ModelConfig(id="tiny:llava", tiny={"layers": 1, "vision_layers": 1, "hidden": 16, "vision_hidden": 16})
    first = resolve_base(config, texts=["the heart is large"], output=tmp_path / "base", seed=1)
    before = (tmp_path / "base" / "model.safetensors").read_bytes()
    assert resolve_base(config, texts=iter(()), output=tmp_path / "base", seed=2) == first
    assert (tmp_path / "base" / "model.safetensors").read_bytes() == before
    assert (
        resolve_base(ModelConfig(id="some/hub-model"), texts=iter(()), output=tmp_path / "x", seed=0)
        == "some/hub-model"
    )


def test_what_cannot_be_loaded_is_said_in_one_line(saved, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match=r"cannot load .* '/no/such/folder'") as caught:
        load_policy(ModelConfig(id="/no/such/folder"), "/no/such/folder")
    assert "\n" not in str(caught.value)
    text_only = tmp_path / "text"
    shutil.copytree(saved("llava"), text_only)
    (text_only / "files.json").unlink()  # as the hub has it: nobody listed its files
    (text_only / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(ModelError, match="is a llama model"):
        load_policy(ModelConfig(id=str(text_only)), text_only)


def test_a_revision_is_pinned_to_its_folder(saved, tmp_path, monkeypatch):
    """A hub cache as the hub client lays it out: TRL loads its reference model by name, without the revision."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    repo = tmp_path / "models--some--model"
    shutil.copytree(saved("llava"), repo / "snapshots" / commit)
    (repo / "refs").mkdir()
    (repo / "refs" / "v1").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    config = ModelConfig(id="some/model", revision="v1")
    source = resolve_base(config, texts=iter(()), output=tmp_path / "base", seed=0)
    policy = load_policy(config, source)
    assert source == policy.model.config._name_or_path == str(repo / "snapshots" / commit)
    assert policy.id == "some/model"
    with pytest.raises(ModelError, match="cannot load model 'some/model@v2'"):
        resolve_base(ModelConfig(id="some/model", revision="v2"), texts=iter(()), output=tmp_path / "base", seed=0)


def test_a_base_model_without_template_is_told_what_to_do(saved, tmp_path):
    bare = Path(shutil.copytree(saved("llava"), tmp_path / "bare"))
    (bare / "files.json").unlink()
    (bare / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match=r"has no chat template.*instruct or chat version"):
        load_policy(ModelConfig(id=str(bare)), bare)


def test_a_policy_from_a_path_is_named_by_it(saved, examples, pictures):
    folder = saved("llava")
    policy = load_policy(ModelConfig(id=folder, dtype="bfloat16"), folder)
    assert policy.id == folder
    assert policy.model.dtype == torch.bfloat16
    assert policy.processor.image_processor.__class__.__name__.endswith("Pil")
    written = generate(policy, get_prompt("short"), examples[:2], Generation(max_new_tokens=3), images=pictures)
    assert [len(completions) for completions in written] == [1, 1]
