"""Tokens that stand for pictures, and those that end a turn, of each family as its folder has them."""

import json
import shutil
from pathlib import Path

import pytest

from medrft.config import ModelConfig
from medrft.models.load import load_policy
from medrft.models.tokens import closing_ids, end_ids, image_token_id, placeholder_ids

VISION = {"<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"}
KNOWN = {
    "llava": ({"<image>"}, {"<|end|>"}),
    "qwen2_5_vl": (VISION, {"<|im_end|>"}),
    "qwen3_vl": (VISION, {"<|im_end|>"}),
    "internvl": ({"<img>", "</img>", "<IMG_CONTEXT>", "<video>"}, {"<|im_end|>"}),
    "gemma3_it": ({"<start_of_image>", "<end_of_image>", "<image_soft_token>"}, {"<eos>", "<end_of_turn>"}),
    "gemma4": (
        {"<|image>", "<image|>", "<|image|>", "<|audio>", "<audio|>", "<|audio|>", "<|video|>"},
        {"<eos>", "<turn|>"},
    ),
    "mllama": (set(), {"<|eot_id|>"}),  # its one image token lies beyond the head
    "glm4v": (
        {f"<|{a}{b}|>" for a in ("begin_of_", "", "end_of_") for b in ("image", "video")},
        {"<|endoftext|>", "<|user|>"},
    ),
    "aya_vision": (
        {"<image>", "<|START_OF_IMG|>", "<|END_OF_IMG|>", "<|IMG_PATCH|>", "<|IMG_LINE_BREAK|>", "TILE", "TILE_GLOBAL"},
        {"<|END_OF_TURN_TOKEN|>"},
    ),
    "mistral3": ({"[IMG]", "[IMG_BREAK]", "[IMG_END]"}, {"</s>"}),
    "llava_next": ({"<image>"}, {"</s>"}),
}


@pytest.mark.parametrize("family", KNOWN)
def test_placeholders_and_ends(family, saved):
    policy = load_policy(ModelConfig(id=f"tiny:{family}", device="cpu"), saved(family))
    words = policy.processor.tokenizer.convert_ids_to_tokens
    placeholders, ends = KNOWN[family]
    assert set(words(list(placeholder_ids(policy)))) == placeholders
    assert set(words(list(end_ids(policy)))) == ends
    assert isinstance(image_token_id(policy), int)


def test_splits_of_a_picture_are_no_words(saved):
    policy = load_policy(ModelConfig(id="tiny:smolvlm", device="cpu"), saved("smolvlm"))
    found = set(policy.processor.tokenizer.convert_ids_to_tokens(list(placeholder_ids(policy))))
    assert found >= {"<image>", "<fake_token_around_image>", "<global-img>", "<video>", "<row_1_col_1>"}
    assert "<end_of_utterance>" not in found


@pytest.mark.parametrize(("family", "end"), [("gemma3_it", "<end_of_turn>"), ("gemma4", "<turn|>")])
def test_an_end_that_only_the_template_knows(family, end, saved, tmp_path):
    """Folders of other trainers often come without generation_config.json, and with one end in config.json."""
    folder = Path(shutil.copytree(saved(family), tmp_path / "bare"))
    (folder / "files.json").unlink()
    (folder / "generation_config.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    for part in (config, config["text_config"]):
        part.pop("eos_token_id", None)
    (folder / "config.json").write_text(json.dumps(config))
    policy = load_policy(ModelConfig(id=str(folder), device="cpu"), folder)
    tokenizer = policy.processor.tokenizer
    assert closing_ids(policy.processor) == [tokenizer.convert_tokens_to_ids(end)]
    assert tokenizer.convert_tokens_to_ids(end) in end_ids(policy)
    assert set(policy.model.generation_config.eos_token_id) == set(end_ids(policy))  # where TRL looks
