"""Tiny models of the LLaVA families: sizes and texts go in, a config and its processor come out.

They have a vision tower and a projector, whose features take the place of placeholder tokens in the prompt.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from medrft.models.families.config_entries import hub_text_sizes, pixel_settings, text_sizes, vision_sizes
from medrft.models.families.sizes import PATCH, Built, TinySizes
from medrft.models.families.templates import LLAVA_1_5, LLAVA_ONEVISION, plain_template, shipped_template
from medrft.models.families.tokens import train_hub_tokenizer, train_qwen_tokenizer, train_tokenizer


def build_llava(sizes: TinySizes, texts: Iterable[str]) -> Built:
    """LLaVA with a Swin tower and medrft's own template; the family that our recipes train on the phantom."""
    from transformers import LlamaConfig, LlavaConfig, LlavaProcessor, SwinConfig
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    tokenizer = train_tokenizer(texts, vocab=sizes.vocab, extra={"image_token": "<image>"})
    cell = 4 * sizes.patch  # two of the three stages halve the grid
    widths = [sizes.vision_hidden // 4, sizes.vision_hidden // 2, sizes.vision_hidden]
    vision = SwinConfig(
        image_size=sizes.image,
        patch_size=sizes.patch,
        embed_dim=widths[0],
        depths=[1, max(1, sizes.vision_layers - 2), 1],
        num_heads=[max(1, width // 16) for width in widths],
        window_size=min(4, sizes.image // cell),
        mlp_ratio=3.0,
        drop_path_rate=0.0,
        use_absolute_embeddings=True,
        initializer_range=sizes.vision_hidden**-0.5,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=LlamaConfig(**text_sizes(sizes, tokenizer)),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(sizes.image // cell) ** 2,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        tie_word_embeddings=True,
    )
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessorPil(**pixel_settings(sizes.image), do_center_crop=False),
        tokenizer=tokenizer,
        patch_size=cell,
        vision_feature_select_strategy="full",
        chat_template=plain_template("<image>"),
    )
    return config, processor


def build_llava_1_5(sizes: TinySizes, texts: Iterable[str]) -> Built:
    """LLaVA 1.5 and LLaVA-Med: features of CLIP's second to last layer, without the class token."""
    from transformers import LlavaConfig, LlavaProcessor
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    tokenizer = _llama_tokenizer(texts, sizes, LLAVA_1_5)
    config = LlavaConfig(
        vision_config={"model_type": "clip_vision_model", **_clip_sizes(sizes, sizes.image)},
        text_config={"model_type": "llama", **hub_text_sizes(sizes, tokenizer, tie_word_embeddings=False)},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(sizes.image // PATCH) ** 2,
        tie_word_embeddings=False,
    )
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessorPil(
            size={"shortest_edge": sizes.image}, crop_size={"height": sizes.image, "width": sizes.image}
        ),
        tokenizer=tokenizer,
        patch_size=PATCH,
        num_additional_image_tokens=1,
        vision_feature_select_strategy="default",
        chat_template=LLAVA_1_5,
    )
    return config, processor


def build_llava_next(sizes: TinySizes, texts: Iterable[str]) -> Built:
    """LLaVA-NeXT 1.6 with Mistral: the picture and its tiles, whose padding is taken away again."""
    from transformers import LlavaNextConfig, LlavaNextProcessor
    from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

    template, side = shipped_template("llava_next"), sizes.tile
    tokenizer = _llama_tokenizer(texts, sizes, template, special=("[INST]", "[/INST]"))
    canvases = [[side, 2 * side], [2 * side, side], [2 * side, 2 * side]]
    text = hub_text_sizes(sizes, tokenizer, tie_word_embeddings=False, sliding_window=None)
    config = LlavaNextConfig(
        vision_config={"model_type": "clip_vision_model", **_clip_sizes(sizes, side)},
        text_config={"model_type": "mistral", **text},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=canvases,
        tie_word_embeddings=False,
    )
    processor = LlavaNextProcessor(
        image_processor=LlavaNextImageProcessorPil(
            size={"shortest_edge": side},
            crop_size={"height": side, "width": side},
            image_grid_pinpoints=canvases,
        ),
        tokenizer=tokenizer,
        patch_size=PATCH,
        num_additional_image_tokens=1,
        vision_feature_select_strategy="default",
        chat_template=template,
    )
    return config, processor


def build_llava_onevision(sizes: TinySizes, texts: Iterable[str]) -> Built:
    """LLaVA-OneVision with Qwen2, SigLIP and tiles."""
    from transformers import LlavaOnevisionConfig, LlavaOnevisionProcessor
    from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
        LlavaOnevisionImageProcessorPil,
    )
    from transformers.models.llava_onevision.video_processing_llava_onevision import LlavaOnevisionVideoProcessor

    side = sizes.tile
    named = {"image_token": "<image>", "video_token": "<video>"}
    tokenizer = train_qwen_tokenizer(texts, vocab=sizes.vocab, named=named, template=LLAVA_ONEVISION)
    canvases = [[a * side, b * side] for a in (1, 2) for b in (1, 2)]
    vision = {**vision_sizes(sizes, image=side, more_layers=1), "vision_use_head": False}
    config = LlavaOnevisionConfig(
        vision_config={"model_type": "siglip_vision_model", **vision},
        text_config={"model_type": "qwen2", **hub_text_sizes(sizes, tokenizer)},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=canvases,
        tie_word_embeddings=True,
    )
    processor = LlavaOnevisionProcessor(
        image_processor=LlavaOnevisionImageProcessorPil(
            size={"height": side, "width": side}, image_grid_pinpoints=canvases
        ),
        tokenizer=tokenizer,
        video_processor=LlavaOnevisionVideoProcessor(size={"height": side, "width": side}),
        num_image_tokens=(side // PATCH) ** 2,
        vision_feature_select_strategy="full",
        chat_template=LLAVA_ONEVISION,
    )
    return config, processor


def _llama_tokenizer(texts: Iterable[str], sizes: TinySizes, template: str, special: tuple[str, ...] = ()) -> Any:
    return train_hub_tokenizer(
        texts,
        vocab=sizes.vocab,
        pad="<pad>",
        end="</s>",
        begin="<s>",
        special=special,
        named={"image_token": "<image>"},
        template=template,
    )


def _clip_sizes(sizes: TinySizes, side: int) -> dict[str, Any]:
    """Sizes of a CLIP tower; its last layer is not used, so it gets one more."""
    return {**vision_sizes(sizes, image=side, more_layers=1), "projection_dim": sizes.vision_hidden}
