"""Tiny InternVL and Aya Vision: sizes and texts go in, a config and its processor come out.

Both see a picture as tiles of one size and a small copy of the whole.
"""

from __future__ import annotations

from collections.abc import Iterable

from medrft.models.families.config_entries import hub_text_sizes, vision_sizes
from medrft.models.families.sizes import PATCH, Built, TinySizes
from medrft.models.families.templates import AYA_VISION, INTERNVL
from medrft.models.families.tokens import train_hub_tokenizer, train_qwen_tokenizer

CELL = 2 * PATCH
"""Pixels per side of the square that one image token stands for."""


def build_internvl(sizes: TinySizes, texts: Iterable[str]) -> Built:
    """InternVL 3 (the -hf checkpoints) with its default tiling: up to twelve tiles and a small copy."""
    return _internvl(sizes, texts, side=sizes.tile, most=12)


def build_internvl_one_tile(sizes: TinySizes, texts: Iterable[str]) -> Built:
    """InternVL 3 with the whole picture as its one tile: `max_patches: 1` in its preprocessor."""
    return _internvl(sizes, texts, side=sizes.image, most=1)


def _internvl(sizes: TinySizes, texts: Iterable[str], *, side: int, most: int) -> Built:
    from transformers import InternVLConfig, InternVLProcessor
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
    from transformers.models.internvl.video_processing_internvl import InternVLVideoProcessor

    image = "<IMG_CONTEXT>"
    named = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": image}
    named["video_token"] = "<video>"
    tokenizer = train_qwen_tokenizer(texts, vocab=sizes.vocab, named=named, template=INTERNVL)
    size = {"height": side, "width": side}
    tokens = (side // CELL) ** 2
    vision = {**vision_sizes(sizes), "image_size": [side, side], "patch_size": [PATCH, PATCH]}
    config = InternVLConfig(
        text_config={"model_type": "qwen2", **hub_text_sizes(sizes, tokenizer)},
        vision_config=vision,
        image_token_id=tokenizer.convert_tokens_to_ids(image),
        image_seq_length=tokens,
        downsample_ratio=0.5,
        tie_word_embeddings=True,
    )
    processor = InternVLProcessor(
        image_processor=GotOcr2ImageProcessorPil(size=size, crop_to_patches=True, max_patches=most),
        tokenizer=tokenizer,
        video_processor=InternVLVideoProcessor(size=size),
        image_seq_length=tokens,
        chat_template=INTERNVL,
    )
    return config, processor


def build_aya_vision(sizes: TinySizes, texts: Iterable[str]) -> Built:
    """Aya Vision: SigLIP tiles and Cohere's language model, where every second layer sees a sliding window."""
    from transformers import AyaVisionConfig, AyaVisionProcessor
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

    side, image = sizes.tile, "<|IMG_PATCH|>"
    roles = ("USER", "CHATBOT", "SYSTEM")
    tokenizer = train_hub_tokenizer(
        texts,
        vocab=sizes.vocab,
        pad="<PAD>",
        end="<|END_OF_TURN_TOKEN|>",
        begin="<BOS_TOKEN>",
        special=(
            *("<|START_OF_TURN_TOKEN|>", *(f"<|{role}_TOKEN|>" for role in roles)),
            *("<|START_RESPONSE|>", "<|END_RESPONSE|>", "<image>", image, "<|IMG_LINE_BREAK|>"),
            *("<|START_OF_IMG|>", "<|END_OF_IMG|>", "TILE", "TILE_GLOBAL"),
        ),
        template=AYA_VISION,
    )
    text = hub_text_sizes(
        sizes,
        tokenizer,
        sliding_window=16,
        layer_types=["full_attention" if i % 2 else "sliding_attention" for i in range(sizes.layers)],
    )
    config = AyaVisionConfig(
        text_config={"model_type": "cohere2", **text},
        vision_config={
            "model_type": "siglip_vision_model",
            **vision_sizes(sizes, image=side),
            "vision_use_head": False,
        },
        image_token_index=tokenizer.convert_tokens_to_ids(image),
        downsample_factor=2,
        tie_word_embeddings=True,
    )
    processor = AyaVisionProcessor(
        image_processor=GotOcr2ImageProcessorPil(
            size={"height": side, "width": side}, crop_to_patches=True, max_patches=4
        ),
        tokenizer=tokenizer,
        patch_size=CELL,
        img_size=side,
        downsample_factor=1,
        chat_template=AYA_VISION,
    )
    return config, processor
