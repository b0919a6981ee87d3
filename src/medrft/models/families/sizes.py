"""Sizes of tiny models, and the config entries that all families name alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

PATCH = 8
"""Pixels per side of a patch, where the vision tower is a plain transformer."""
SPARE_ROWS = 8
"""Rows of the embedding that no token uses: hub models pad their vocabulary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TinySizes:
    """What makes a tiny model tiny; about a million parameters by default."""

    image: int = 64
    """Side of a picture as the model sees it, in pixels. Families that cut a picture into tiles see tiles of half of
    it."""
    patch: int = 4
    vision_hidden: int = 128
    vision_layers: int = 4
    hidden: int = 128
    layers: int = 4
    heads: int = 4
    mlp: int = 384
    vocab: int = 2048
    """At most; a small data set yields fewer tokens."""
    positions: int = 2048

    @property
    def tile(self) -> int:
        """Side of a tile, in pixels."""
        return self.image // 2


Built = tuple[Any, Any]
"""A transformers config and the processor that fits it."""


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
    """The same as hub checkpoints have it: fewer key-value heads than heads, and a padded vocabulary."""
    grouped = {"num_key_value_heads": max(1, sizes.heads // 2), "vocab_size": len(tokenizer) + SPARE_ROWS}
    return {**text_sizes(sizes, tokenizer), **grouped, **more}


def vision_sizes(sizes: TinySizes, *, image: int | None = None, more_layers: int = 0) -> dict[str, Any]:
    """Entries of a vision transformer's config; `image` is the side of what it sees where that is not the picture."""
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
    """Width of an attention head where the config may choose it: rotary positions want a few dimensions."""
    return max(16, sizes.hidden // sizes.heads)


def rotary_sections(half: int) -> list[int]:
    """Rotary frequencies of time, height and width, in Qwen2-VL's proportions; they sum to `half`.

    >>> rotary_sections(64), rotary_sections(4)
    ([16, 24, 24], [2, 1, 1])
    """
    side = 3 * half // 8
    return [half - 2 * side, side, side]


def pixel_settings(side: int) -> dict[str, Any]:
    """Settings of an image processor for grey pictures with much black: centred near their mean, about unit spread."""
    return {
        "size": {"height": side, "width": side},
        "image_mean": [0.4] * 3,
        "image_std": [0.3] * 3,
        "do_convert_rgb": True,
    }
