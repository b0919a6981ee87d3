"""Tiny models of the Qwen-VL families and GLM-4.1V: sizes and texts go in, a config and its processor come out.

They read pictures of any size as patches that are merged two by two, with positions in three dimensions (M-RoPE).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from medrft.models.families.config_entries import head_width, hub_text_sizes, rotary_sections
from medrft.models.families.sizes import PATCH, Built, TinySizes
from medrft.models.families.templates import GLM4V, qwen3_vl_thinking, shipped_template
from medrft.models.families.tokens import train_hub_tokenizer, train_qwen_tokenizer

TURN_TOKENS = ("<|im_start|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
CELL = 2 * PATCH
"""Pixels per side of the square that one image token stands for."""


def build_qwen2_vl(sizes: TinySizes, texts: Iterable[str]) -> Built:
    """Qwen2-VL-Instruct."""
    from transformers import Qwen2VLConfig, Qwen2VLProcessor

    tokenizer = _tokenizer(texts, sizes, shipped_template("qwen2_5_vl"))
    vision = {
        "depth": sizes.vision_layers,
        "embed_dim": sizes.vision_hidden,
        "hidden_size": sizes.hidden,
        "num_heads": sizes.heads,
        "mlp_ratio": 3,
        "patch_size": PATCH,
        "initializer_range": sizes.vision_hidden**-0.5,
    }
    text = hub_text_sizes(sizes, tokenizer, rope_parameters=_rope(sizes.hidden // sizes.heads))
    config = Qwen2VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True, **_token_ids(tokenizer))
    return config, _processor(Qwen2VLProcessor, tokenizer, sizes)


def build_qwen2_5_vl(sizes: TinySizes, texts: Iterable[str]) -> Built:
    """Qwen2.5-VL-Instruct: the vision tower attends within windows, but for its last layer."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLProcessor

    tokenizer = _tokenizer(texts, sizes, shipped_template("qwen2_5_vl"))
    vision = {
        **_vision(sizes),
        "window_size": 2 * CELL,
        "fullatt_block_indexes": [sizes.vision_layers - 1],
    }
    text = hub_text_sizes(sizes, tokenizer, rope_parameters=_rope(sizes.hidden // sizes.heads))
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True, **_token_ids(tokenizer))
    return config, _processor(Qwen2_5_VLProcessor, tokenizer, sizes)


def build_qwen3_vl(sizes: TinySizes, texts: Iterable[str]) -> Built:
    """Qwen3-VL-Instruct: features of several vision layers are added to the first layers of the language model."""
    return _qwen3_vl(sizes, texts, shipped_template("qwen3_vl"))


def build_qwen3_vl_thinking(sizes: TinySizes, texts: Iterable[str]) -> Built:
    """Qwen3-VL-Thinking: its template opens `<think>` at the start of an answer."""
    return _qwen3_vl(sizes, texts, qwen3_vl_thinking())


def _qwen3_vl(sizes: TinySizes, texts: Iterable[str], template: str) -> Built:
    from transformers import Qwen3VLConfig, Qwen3VLProcessor

    tokenizer = _tokenizer(texts, sizes, template, tags=("<think>", "</think>"))
    width = head_width(sizes)
    deep = list(range(min(2, sizes.vision_layers, sizes.layers)))
    vision = {**_vision(sizes), **_positions(sizes), "deepstack_visual_indexes": deep}
    rope = {**_rope(width), "mrope_interleaved": True}
    text = hub_text_sizes(sizes, tokenizer, head_dim=width, rope_parameters=rope)
    config = Qwen3VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True, **_token_ids(tokenizer))
    return config, _processor(Qwen3VLProcessor, tokenizer, sizes)


def build_qwen3_5(sizes: TinySizes, texts: Iterable[str]) -> Built:
    """Qwen3.5 without thinking: linear attention in all layers but every fourth and the last."""
    from transformers import Qwen3_5Config, Qwen3VLProcessor

    tokenizer = _tokenizer(texts, sizes, shipped_template("qwen3_5_nothink"), tags=("<think>", "</think>"))
    layers = max(2, sizes.layers)
    whole = [(i + 1) % 4 == 0 or i == layers - 1 for i in range(layers)]
    width = head_width(sizes)
    rope = {**_rope(width // 4), "partial_rotary_factor": 0.25, "mrope_interleaved": True}
    text = hub_text_sizes(
        sizes,
        tokenizer,
        head_dim=width,
        rope_parameters=rope,
        num_hidden_layers=layers,
        layer_types=["full_attention" if full else "linear_attention" for full in whole],
        linear_key_head_dim=16,
        linear_value_head_dim=16,
        linear_num_key_heads=2,
        linear_num_value_heads=4,
    )
    vision = {**_vision(sizes), **_positions(sizes)}
    config = Qwen3_5Config(text_config=text, vision_config=vision, tie_word_embeddings=True, **_token_ids(tokenizer))
    return config, _processor(Qwen3VLProcessor, tokenizer, sizes)


def build_glm4v(sizes: TinySizes, texts: Iterable[str]) -> Built:
    """GLM-4.1V: reads pictures as Qwen2.5-VL does, with GLM as its language model."""
    from transformers import Glm4vConfig, Glm4vProcessor
    from transformers.models.glm4v.image_processing_pil_glm4v import Glm4vImageProcessorPil
    from transformers.models.glm4v.video_processing_glm4v import Glm4vVideoProcessor

    marks = {
        "image_start_token_id": "<|begin_of_image|>",
        "image_token_id": "<|image|>",
        "image_end_token_id": "<|end_of_image|>",
        "video_start_token_id": "<|begin_of_video|>",
        "video_token_id": "<|video|>",
        "video_end_token_id": "<|end_of_video|>",
    }
    turns = ("[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>")
    tokenizer = train_hub_tokenizer(
        texts,
        vocab=sizes.vocab,
        pad="<|endoftext|>",
        end="<|endoftext|>",
        special=(*turns, *marks.values()),
        tags=("<think>", "</think>", "<answer>", "</answer>"),
        template=GLM4V,
    )
    ids = {name: tokenizer.convert_tokens_to_ids(mark) for name, mark in marks.items()}
    width = head_width(sizes)
    rope = {**_rope(width // 2), "partial_rotary_factor": 0.5}
    ends = [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|user|>")]
    text = hub_text_sizes(
        sizes, tokenizer, head_dim=width, rope_parameters=rope, eos_token_id=ends, tie_word_embeddings=False
    )
    vision = {**_vision(sizes), "image_size": sizes.image}
    config = Glm4vConfig(text_config=text, vision_config=vision, tie_word_embeddings=False, **ids)
    small, large = 4 * CELL**2, 2 * sizes.image**2  # its processor counts the pixels of two frames, for a picture too
    processor = Glm4vProcessor(
        image_processor=Glm4vImageProcessorPil(patch_size=PATCH, size={"shortest_edge": small, "longest_edge": large}),
        tokenizer=tokenizer,
        video_processor=Glm4vVideoProcessor(patch_size=PATCH, size={"shortest_edge": small, "longest_edge": large}),
        chat_template=GLM4V,
    )
    return config, processor


def _vision(sizes: TinySizes) -> dict[str, Any]:
    return {
        "depth": sizes.vision_layers,
        "hidden_size": sizes.vision_hidden,
        "out_hidden_size": sizes.hidden,
        "num_heads": sizes.heads,
        "intermediate_size": 3 * sizes.vision_hidden,
        "patch_size": PATCH,
        "initializer_range": sizes.vision_hidden**-0.5,
    }


def _positions(sizes: TinySizes) -> dict[str, int]:
    """Size of the learned grid of positions, which is interpolated to each picture's grid."""
    return {"num_position_embeddings": (sizes.image // PATCH) ** 2}


def _rope(width: int) -> dict[str, Any]:
    return {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": rotary_sections(width // 2)}


def _tokenizer(texts: Iterable[str], sizes: TinySizes, template: str, tags: tuple[str, ...] = ()) -> Any:
    return train_qwen_tokenizer(texts, vocab=sizes.vocab, special=TURN_TOKENS, tags=tags, template=template)


def _token_ids(tokenizer: Any) -> dict[str, int]:
    names = {
        "image_token_id": "<|image_pad|>",
        "video_token_id": "<|video_pad|>",
        "vision_start_token_id": "<|vision_start|>",
        "vision_end_token_id": "<|vision_end|>",
    }
    return {name: tokenizer.convert_tokens_to_ids(token) for name, token in names.items()}


def _processor(kind: Any, tokenizer: Any, sizes: TinySizes) -> Any:
    """A processor that shrinks pictures to at most `sizes.image` squared pixels."""
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    pixels = {"patch_size": PATCH, "min_pixels": CELL**2, "max_pixels": sizes.image**2}
    if kind.__name__ == "Qwen3VLProcessor":
        from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor as Video

        video = Video(patch_size=PATCH)
    else:
        from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor as Video

        video = Video(**pixels)
    return kind(
        image_processor=Qwen2VLImageProcessorPil(**pixels),
        tokenizer=tokenizer,
        video_processor=video,
        chat_template=tokenizer.chat_template,
    )
