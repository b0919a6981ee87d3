"""Small random models of real families: a family's name and texts go in, a model and its processor come out.

The tokenizer is trained on the texts. Such models save and load like any other, so that a test of the pipeline is a
test of the real classes. `llava`, `gemma3` and `idefics3` have medrft's own chat template; the others have that of
their hub checkpoints. Sizes can be changed one by one: `model: {id: tiny:llava, tiny: {hidden: 192}}`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from typing import Any

from medrft.errors import ModelError, naming_extras, unknown_name
from medrft.models.families.gemma import build_gemma3, build_gemma3_it, build_gemma4, build_paligemma
from medrft.models.families.idefics import build_idefics3, build_smolvlm
from medrft.models.families.llava import build_llava, build_llava_1_5, build_llava_next, build_llava_onevision
from medrft.models.families.mistral import build_mistral3, build_mllama
from medrft.models.families.qwen import (
    build_glm4v,
    build_qwen2_5_vl,
    build_qwen2_vl,
    build_qwen3_5,
    build_qwen3_vl,
    build_qwen3_vl_thinking,
)
from medrft.models.families.sizes import PATCH, Built, TinySizes
from medrft.models.families.tiles import build_aya_vision, build_internvl, build_internvl_one_tile
from medrft.torchvision_ops import declare_missing_operators

OWN: dict[str, Callable[[TinySizes, Iterable[str]], Built]] = {
    "llava": build_llava,
    "gemma3": build_gemma3,
    "idefics3": build_idefics3,
}
"""Families with medrft's own chat template and tokenizer."""
FAMILIES: dict[str, Callable[[TinySizes, Iterable[str]], Built]] = {
    **OWN,
    "qwen2_vl": build_qwen2_vl,
    "qwen2_5_vl": build_qwen2_5_vl,
    "qwen3_vl": build_qwen3_vl,
    "qwen3_vl_thinking": build_qwen3_vl_thinking,
    "qwen3_5": build_qwen3_5,
    "internvl": build_internvl,
    "internvl_one_tile": build_internvl_one_tile,
    "gemma3_it": build_gemma3_it,
    "gemma4": build_gemma4,
    "smolvlm": build_smolvlm,
    "llava_1_5": build_llava_1_5,
    "llava_next": build_llava_next,
    "llava_onevision": build_llava_onevision,
    "mllama": build_mllama,
    "glm4v": build_glm4v,
    "aya_vision": build_aya_vision,
    "mistral3": build_mistral3,
    "paligemma": build_paligemma,
}
TILED = ("internvl", "smolvlm", "llava_next", "llava_onevision", "mllama", "aya_vision")
"""Families that cut a picture into tiles whose side is half of `TinySizes.image`."""


@naming_extras()
def build_tiny(family: str, *, texts: Iterable[str], sizes: Mapping[str, Any], seed: int) -> tuple[Any, Any]:
    """A random model of `family` and its processor.

    `texts` trains the tokenizer; `sizes` overrides `TinySizes`. Raises `UnknownNameError` for an unknown family or
    size, and `ModelError` for sizes that do not divide each other.
    """
    import torch

    declare_missing_operators()
    from transformers import AutoModelForImageTextToText, GenerationConfig

    checked = check_tiny(family, sizes)
    config, processor = FAMILIES[family](checked, texts)
    tokenizer = processor.tokenizer
    tokenizer.name_or_path = f"tiny:{family}"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
        _open_eyes(model)
        if family == "gemma3_it":
            _open_mouth(model)
    model.generation_config = GenerationConfig(
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=config.get_text_config().eos_token_id,
        bos_token_id=tokenizer.bos_token_id,
    )
    return model, processor


def _open_eyes(model: Any) -> None:
    """Give random values to weights that start at zero and shut the picture out.

    They are Gemma 3's projection and the gates of Llama 3.2 Vision's cross-attention. With zeros there, the model would
    not see its picture, and the vision tower would get no gradient.
    """
    import torch

    for name, parameter in model.named_parameters():
        if name.endswith("mm_input_projection_weight"):
            torch.nn.init.normal_(parameter, std=parameter.shape[0] ** -0.5)
        if name.endswith(("_gate", "gate_attn", "gate_ffn")):
            torch.nn.init.constant_(parameter, 0.5)


def _open_mouth(model: Any) -> None:
    """Let the layers of a random Gemma 3 weigh more against the embedding of the last token.

    The head is tied to the embeddings, so that without this the model only repeats its last token.
    """
    import torch

    for name, parameter in model.named_parameters():
        if name.endswith(("post_attention_layernorm.weight", "post_feedforward_layernorm.weight")):
            torch.nn.init.constant_(parameter, 2.0)  # Gemma 3's norm multiplies by 1 + weight


def check_tiny(family: str, sizes: Mapping[str, Any]) -> TinySizes:
    """The sizes of a family; raises as `build_tiny`, which builds it."""
    if family not in FAMILIES:
        raise unknown_name("tiny model family", family, FAMILIES)
    known = [field.name for field in fields(TinySizes)]
    for key, value in sizes.items():
        if key not in known:
            raise unknown_name("size in model.tiny", key, known)
        if not isinstance(value, int) or value < 1:
            raise ModelError(f"model.tiny.{key} is {value!r}; it must be a whole number above 0")
    result = replace(TinySizes(), **sizes)
    heads = ("heads", result.heads)
    cell = ("4 * patch", 4 * result.patch) if family == "llava" else ("2 patches", 2 * PATCH)
    if family in TILED:
        cell = ("2 tiles of 2 patches", 4 * PATCH)
    for whole, (part, value) in (("image", cell), ("hidden", heads), ("vision_hidden", heads)):
        if getattr(result, whole) % value:
            raise ModelError(f"model.tiny: {whole} = {getattr(result, whole)} is not a multiple of {part} = {value}")
    return result
