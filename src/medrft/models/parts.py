"""The parts of a vision-language model, told by parameter names: which are frozen, and which get LoRA adapters.

`model.visual.merger.mlp.0.weight` belongs to the projector, `model.language_model.layers.0.mlp.up_proj.weight` to the
language model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from medrft.errors import ModelError, UnknownNameError, unknown_name

if TYPE_CHECKING:
    from peft import LoraConfig

    from medrft.config import ModelConfig

# Where families of transformers keep each part. Read top down: the first that matches owns the parameter, since Qwen-VL
# has its projector (`merger`) inside the vision tower (`visual`).
NAMES = {
    "lm_head": ("lm_head",),
    "projector": (
        *("multi_modal_projector", "mm_projector", "projector", "connector", "merger", "deepstack_merger_list"),
        *("aligner", "vision_projection", "language_projection", "image_to_text_projection", "qformer"),
        *("embed_vision", "vision_embed_tokens", "visual_embeddings_table", "resampler_model"),
        *("image_newline", "view_separator"),
    ),
    "vision": (
        *("vision_tower", "vision_model", "visual", "vision_encoder", "image_encoder", "image_tower", "video_tower"),
        "high_res_vision_model",
    ),
    "language": ("language_model", "text_model", "layers", "embed_tokens", "norm", "text_decoder"),
}
PARTS: dict[str, re.Pattern[str]] = {
    part: re.compile(rf"(^|\.)({'|'.join(names)})(\.|$)") for part, names in NAMES.items()
}

PEFT_NAMES = {**dict.fromkeys(("rank", "lora_rank", "lora_r"), "r"), "lora_target": "target_modules"}
"""Other trainers' names of adapter settings -> peft's, where peft has another key that is nearer by spelling."""


def lora_config(config: ModelConfig) -> LoraConfig | None:
    """The recipe's `model.lora` as peft's config, for a trainer's `peft_config`; `None` for full fine-tuning.

    By default every linear layer of the parts that are not frozen gets an adapter. Raises `UnknownNameError` for a key
    that peft does not have.
    """
    if config.lora is None:
        return None
    from peft import LoraConfig

    options: dict[str, Any] = {"task_type": "CAUSAL_LM", "target_modules": "all-linear", **config.lora}
    frozen = [name for part in config.freeze for name in NAMES[part]]
    if frozen and "exclude_modules" not in options:
        # peft matches the whole name of a module against a pattern in one string (`re.fullmatch`).
        options["exclude_modules"] = rf"(.*\.)?({'|'.join(frozen)})(\..*)?"
    try:
        return LoraConfig(**options)
    except TypeError as error:
        known = LoraConfig.__dataclass_fields__
        wrong = next(key for key in options if key not in known)
        if wrong in PEFT_NAMES:
            raise UnknownNameError(f"unknown model.lora key {wrong!r}; did you mean {PEFT_NAMES[wrong]!r}?") from error
        raise unknown_name("model.lora key", wrong, known) from error


def part_of(parameter: str) -> str | None:
    """Which part a parameter belongs to, by its name.

    >>> part_of("model.visual.merger.mlp.0.weight"), part_of("model.vision_tower.vision_model.post_layernorm.bias")
    ('projector', 'vision')
    >>> part_of("model.language_model.layers.0.mlp.up_proj.weight"), part_of("lm_head.weight")
    ('language', 'lm_head')
    """
    return next((part for part, pattern in PARTS.items() if pattern.search(parameter)), None)


def freeze_parts(model: Any, parts: Iterable[str]) -> None:
    """Stop training the named parts (vision, projector, language, lm_head).

    Raises `ModelError` if a part has no parameters of its own, such as a head tied to the embeddings, and if nothing
    is left to train.
    """
    for part in parts:
        own = [parameter for name, parameter in model.named_parameters() if part_of(name) == part]
        if not own:
            tied = part == "lm_head" and model.get_output_embeddings() is not None
            why = "it is tied to the embeddings; freeze language instead" if tied else "found none by their names"
            raise ModelError(f"cannot freeze {part}: {type(model).__name__} has no parameters of that part ({why})")
        for parameter in own:
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ModelError(f"nothing is left to train after freezing {', '.join(parts)}; take one out of model.freeze")
