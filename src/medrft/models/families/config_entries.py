"""The entries of a config that all families name alike, from the sizes of a tiny model."""

from __future__ import annotations

from typing import Any

from medrft.models.families.sizes import PATCH, SPARE_ROWS, TinySizes


def text_sizes(sizes: TinySizes, tokenizer: Any) -> dict[str, Any]:
    """Entries of a language model's config."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": sizes.hidden,
        "intermediate_size": sizes.mlp,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "num_key_value_heads": sizes.heads,
        "max_position_embeddings": sizes.positions,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "tie_word_embeddings": True,
        "initializer_range": sizes.hidden**-0.5,  # transformers' 0.02 is for widths of thousands
    }


def hub_text_sizes(sizes: TinySizes, tokenizer: Any, **more: Any) -> dict[str, Any]:
    """Like `text_sizes`, but as in hub checkpoints: fewer key-value heads than heads, and a padded vocabulary."""
    grouped = {"num_key_value_heads": max(1, sizes.heads // 2), "vocab_size": len(tokenizer) + SPARE_ROWS}
    return {**text_sizes(sizes, tokenizer), **grouped, **more}


def vision_sizes(sizes: TinySizes, *, image: int | None = None, more_layers: int = 0) -> dict[str, Any]:
    """Entries of a vision transformer's config; `image` is the side of its input if that is not the whole picture."""
    return {
        "hidden_size": sizes.vision_hidden,
        "intermediate_size": 3 * sizes.vision_hidden,
        "num_hidden_layers": sizes.vision_layers + more_layers,
        "num_attention_heads": sizes.heads,
        "image_size": image or sizes.image,
        "patch_size": PATCH,
        "initializer_range": sizes.vision_hidden**-0.5,
    }


def head_width(sizes: TinySizes) -> int:
    """Width of an attention head where the config may set it; rotary positions need a few dimensions."""
    return max(16, sizes.hidden // sizes.heads)


def rotary_sections(half: int) -> list[int]:
    """How many rotary frequencies time, height and width get, in Qwen2-VL's proportions; they sum to `half`.

    >>> rotary_sections(64), rotary_sections(4)
    ([16, 24, 24], [2, 1, 1])
    """
    side = 3 * half // 8
    return [half - 2 * side, side, side]


def pixel_settings(side: int) -> dict[str, Any]:
    """Settings of an image processor for grey pictures with much black: values get about mean 0 and deviation 1."""
    return {
        "size": {"height": side, "width": side},
        "image_mean": [0.4] * 3,
        "image_std": [0.3] * 3,
        "do_convert_rgb": True,
    }
