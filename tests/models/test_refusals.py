"""Checkpoints that cannot be loaded: one line that always says what to do, whoever raised."""

import json
import shutil
from pathlib import Path

import pytest

from medrft.config import ModelConfig
from medrft.errors import ModelError
from medrft.models.load import check_start, load_policy
from medrft.models.refusals import SHOWN, cannot_load, missing_package

REMOTE = [
    ({"model_type": "internvl_chat", "auto_map": {"AutoModel": "m.M"}}, "InternVL3-1B-hf"),
    ({"model_type": "minicpmv", "auto_map": {"AutoModel": "m.M"}}, "openbmb/MiniCPM-V-4.6"),
    ({"model_type": "kimi_vl", "auto_map": {"AutoModelForCausalLM": "m.M"}}, None),
    ({"model_type": "ovis", "auto_map": {"AutoModelForCausalLM": "m.M"}}, "thisisiron/Ovis2-2B-hf"),
    ({"model_type": "something_new", "auto_map": {"AutoConfig": "c.C"}}, None),
]


def folder_with(config, folder):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def refusal(folder, **options):
    with pytest.raises(ModelError) as caught:
        load_policy(ModelConfig(id=str(folder), device="cpu", **options), folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("config", "instead"), REMOTE)
def test_code_of_its_own(config, instead, tmp_path):
    folder = folder_with(config, tmp_path / ("a" * 100))  # a long path must not push out what to do
    told = refusal(folder)
    assert "set model.trust_remote_code: true" in told
    assert instead is None or instead in told
    trusted = refusal(folder, trust_remote_code=True)  # none of them is an image-text-to-text model for transformers
    assert "AutoModelForImageTextToText" in trusted
    assert (instead or "take another checkpoint") in trusted


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"model_type": "llava_qwen"}, "llava-hf/llava-onevision-qwen2-7b-ov-hf"),
        ({"model_type": "llava", "mm_vision_tower": "openai/clip"}, "llava-hf/llava-1.5-7b-hf"),
        ({"model_type": "next_year"}, "newer transformers"),
    ],
)
def test_layouts_that_transformers_does_not_read(config, told, tmp_path):
    assert told in refusal(folder_with(config, tmp_path / "model"))


def test_trusted_code_that_breaks_is_one_line(saved, tmp_path):
    folder = Path(shutil.copytree(saved("llava"), tmp_path / "own"))
    (folder / "files.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModelForImageTextToText": "own.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text("from transformers import PreTrainedConfig\nPreTrainedConfig.of_version_4\n")
    assert "of_version_4" in refusal(folder, trust_remote_code=True)


@pytest.mark.parametrize(
    ("told", "package"),
    [
        (
            "Package `num2words` is required to run SmolVLM processor. Install it with `pip install num2words`.",
            "num2words",
        ),
        (
            "Qwen2VLVideoProcessor requires the Torchvision library but it was not found in your environment.",
            "torchvision",
        ),
        ("No module named 'timm'", "timm"),
        ("Image features and image tokens do not match", None),
        ("model torchvision/x is 404", None),
    ],
)
def test_the_missing_package_is_named(told, package):
    assert missing_package(told) == package
    error = str(cannot_load("model", ".", ImportError(told)))
    assert package is None or error.endswith(f"pip install {package}")


def test_a_long_message_is_cut_before_what_to_do():
    error = str(cannot_load("model", ".", OSError("x" * 5000 + " requires the timm library")))
    assert len(error) < SHOWN + 100
    assert error.endswith("pip install timm")


def test_a_start_model_that_is_nowhere(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match=r"'no/such-model': HF_HUB_OFFLINE is set.*give the folder"):
        check_start(ModelConfig(id="no/such-model", device="cpu"))
    with pytest.raises(ModelError, match="no folder at /no/such/folder"):
        check_start(ModelConfig(id="/no/such/folder", device="cpu"))
    with pytest.raises(ModelError, match=r"no chat template at x\.jinja"):
        check_start(ModelConfig(id="tiny:llava", device="cpu", chat_template="x.jinja"))
    check_start(ModelConfig(id="tiny:llava", device="cpu"))
