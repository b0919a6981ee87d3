"""The parts of each family by their names, and freezing them."""

import pytest

from medrft.config import ModelConfig
from medrft.models.load import load_policy
from medrft.models.parts import NAMES, part_of

TIED = {"vision", "projector", "language"}
HEADED = {*TIED, "lm_head"}
FAMILIES = {
    "qwen2_5_vl": TIED,
    "qwen3_vl": TIED,
    "internvl": TIED,
    "gemma3_it": TIED,
    "gemma4": TIED,
    "smolvlm": TIED,
    "llava_next": HEADED,
    "mllama": HEADED,
    "glm4v": HEADED,
    "aya_vision": TIED,
    "mistral3": HEADED,
}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_is_of_a_part_and_each_part_freezes(family, saved):
    policy = load_policy(ModelConfig(id=f"tiny:{family}", device="cpu", freeze=("vision", "projector")), saved(family))
    found = {name: part_of(name) for name, _ in policy.model.named_parameters()}
    assert set(found.values()) == FAMILIES[family]
    frozen = {found[name] for name, value in policy.model.named_parameters() if not value.requires_grad}
    assert frozen == {"vision", "projector"}


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("model.visual.deepstack_merger_list.0.norm.weight", "projector"),  # Qwen3-VL
        ("model.embed_vision.embedding_projection.weight", "projector"),  # Gemma 4
        ("model.image_newline", "projector"),  # LLaVA-NeXT, LLaVA-OneVision
        ("model.projector.linear_1.weight", "projector"),  # PaddleOCR-VL, Video-LLaMA 3
        ("model.language_projection.weight", "projector"),  # BLIP-2
        ("model.qformer.encoder.layer.0.attention.query.weight", "projector"),
        ("model.visual_embeddings_table.weight", "projector"),  # Ovis 2
        ("model.high_res_vision_model.neck.conv1.weight", "vision"),  # DeepSeek-VL
        ("model.image_tower.embeddings.class_embedding", "vision"),  # Video-LLaVA
        ("model.language_model.layers.1.cross_attn_attn_gate", "language"),  # Llama 3.2 Vision
    ],
)
def test_names_of_other_families(name, part):
    assert part_of(name) == part


def test_no_name_stands_for_two_parts():
    names = [name for part in NAMES.values() for name in part]
    assert len(names) == len(set(names))
