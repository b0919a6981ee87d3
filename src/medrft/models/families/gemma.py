"""Tiny Gemma 3, Gemma 4 and PaliGemma 2: sizes and texts go in, a config and its processor come out.

Their image tokens attend to each other both ways. In Gemma 3 a picture is pooled to a fixed number of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from medrft.models.families.config_entries import head_width, hub_text_sizes, pixel_settings, text_sizes, vision_sizes
from medrft.models.families.sizes import PATCH, Built, TinySizes
from medrft.models.families.templates import plain_template, shipped_template
from medrft.models.families.tokens import train_hub_tokenizer, train_tokenizer

IMAGE_TOKENS = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}


def build_gemma3(sizes: TinySizes, texts: Iterable[str]) -> Built:
    """Gemma 3 with medrft's own template."""
    from transformers import Gemma3TextConfig, SiglipVisionConfig
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

    tokenizer = train_tokenizer(texts, vocab=sizes.vocab, extra=IMAGE_TOKENS)
    image_tokens = (sizes.image // PATCH) ** 2
    text = Gemma3TextConfig(
        **text_sizes(sizes, tokenizer),
        head_dim=sizes.hidden // sizes.heads,
        query_pre_attn_scalar=sizes.hidden // sizes.heads,
        sliding_window=512,
        layer_types=_layer_types(sizes),
    )
    return _gemma3(
        (text, SiglipVisionConfig(**vision_sizes(sizes), vision_use_head=False)),
        tokenizer,
        Gemma3ImageProcessorPil(**pixel_settings(sizes.image)),
        image_tokens=image_tokens,
        ends=tokenizer.eos_token_id,
        template=plain_template("<start_of_image>"),
    )


def build_gemma3_it(sizes: TinySizes, texts: Iterable[str]) -> Built:
    """Gemma 3 IT and MedGemma: the hub's template, pooled image tokens, a sliding window shorter than most prompts."""
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

    template = shipped_template("gemma3")
    tokenizer = _gemma_tokenizer(
        texts, sizes, named=IMAGE_TOKENS, special=("<start_of_turn>", "<end_of_turn>"), template=template
    )
    ends = [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<end_of_turn>")]
    width, image_tokens = head_width(sizes), (sizes.image // (2 * PATCH)) ** 2
    text = hub_text_sizes(
        sizes,
        tokenizer,
        head_dim=width,
        query_pre_attn_scalar=width,
        sliding_window=32,
        layer_types=_layer_types(sizes),
        eos_token_id=ends,
    )
    return _gemma3(
        (text, {**vision_sizes(sizes), "vision_use_head": False}),
        tokenizer,
        Gemma3ImageProcessorPil(size={"height": sizes.image, "width": sizes.image}),
        image_tokens=image_tokens,
        ends=ends,
        template=template,
    )


def _gemma3(
    parts: tuple[Any, Any], tokenizer: Any, pixels: Any, *, image_tokens: int, ends: int | list[int], template: str
) -> Built:
    """Config and processor of Gemma 3; `parts` are the configs of its language model and of its vision tower."""
    from transformers import Gemma3Config, Gemma3Processor

    text, vision = parts
    config = Gemma3Config(
        text_config=text,
        vision_config=vision,
        mm_tokens_per_image=image_tokens,
        tie_word_embeddings=True,
        eos_token_id=ends,
        **{f"{key}_index": tokenizer.convert_tokens_to_ids(token) for key, token in IMAGE_TOKENS.items()},
    )
    processor = Gemma3Processor(
        image_processor=pixels, tokenizer=tokenizer, image_seq_length=image_tokens, chat_template=template
    )
    return config, processor


def build_gemma4(sizes: TinySizes, texts: Iterable[str]) -> Built:
    """Gemma 4 E2B and E4B: pictures of any size, an embedding per layer, and keys shared between layers."""
    from transformers import Gemma4Config, Gemma4Processor
    from transformers.models.gemma4.feature_extraction_gemma4 import Gemma4AudioFeatureExtractor
    from transformers.models.gemma4.image_processing_pil_gemma4 import Gemma4ImageProcessorPil
    from transformers.models.gemma4.video_processing_gemma4 import Gemma4VideoProcessor

    template = shipped_template("gemma4")
    named = {f"{kind}_token": f"<|{kind}|>" for kind in ("image", "audio", "video")}
    named |= {"boi_token": "<|image>", "eoi_token": "<image|>", "boa_token": "<|audio>", "eoa_token": "<audio|>"}
    tokenizer = _gemma_tokenizer(
        texts,
        sizes,
        named=named,
        special=("<|turn>", "<turn|>", "<|channel>", "<channel|>", "<|think|>"),
        template=template,
    )
    most = 70  # image tokens: the smallest number that its processor accepts
    reading = {"patch_size": PATCH, "pooling_kernel_size": 2}
    processor = Gemma4Processor(
        feature_extractor=Gemma4AudioFeatureExtractor(),
        image_processor=Gemma4ImageProcessorPil(max_soft_tokens=most, **reading),
        tokenizer=tokenizer,
        video_processor=Gemma4VideoProcessor(**reading),
        image_seq_length=most,
        chat_template=template,
    )
    ids = {f"{name}_id": tokenizer.convert_tokens_to_ids(token) for name, token in named.items()}
    ids["eoa_token_index"] = ids.pop("eoa_token_id")
    vision = {
        **vision_sizes(sizes),
        **reading,
        "num_key_value_heads": sizes.heads,
        "head_dim": sizes.vision_hidden // sizes.heads,
        "position_embedding_size": 64,
    }
    config = Gemma4Config(
        text_config=_gemma4_text(sizes, tokenizer),
        vision_config=vision,
        audio_config=None,
        tie_word_embeddings=True,
        **ids,
    )
    return config, processor


def _gemma4_text(sizes: TinySizes, tokenizer: Any) -> dict[str, Any]:
    width = head_width(sizes)
    text = hub_text_sizes(
        sizes,
        tokenizer,
        head_dim=width,
        global_head_dim=2 * width,
        sliding_window=32,
        layer_types=[*_layer_types(sizes)[:-1], "full_attention"],
        use_bidirectional_attention="vision",
        hidden_size_per_layer_input=16,
        num_kv_shared_layers=2 if sizes.layers >= 4 else 0,
        final_logit_softcapping=30.0,
        eos_token_id=[tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<turn|>")],
    )
    return {**text, "vocab_size_per_layer_input": text["vocab_size"]}


def build_paligemma(sizes: TinySizes, texts: Iterable[str]) -> Built:
    """PaliGemma 2, which has no chat template: a test holds that medrft refuses it and says why."""
    from transformers import PaliGemmaConfig, PaliGemmaProcessor
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    tokenizer = _gemma_tokenizer(texts, sizes, named={"image_token": "<image>"})
    pixels = SiglipImageProcessorPil(size={"height": sizes.image, "width": sizes.image})
    pixels.image_seq_length = (sizes.image // PATCH) ** 2
    processor = PaliGemmaProcessor(image_processor=pixels, tokenizer=tokenizer)
    tokenizer, width = processor.tokenizer, head_width(sizes)  # the processor has added tokens for places and segments
    text = hub_text_sizes(sizes, tokenizer, head_dim=width, query_pre_attn_scalar=width, sliding_window=32)
    vision = {**vision_sizes(sizes), "vision_use_head": False, "projection_dim": sizes.hidden}
    config = PaliGemmaConfig(
        text_config={"model_type": "gemma2", **text},
        vision_config={"model_type": "siglip_vision_model", **vision},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        projection_dim=sizes.hidden,
        hidden_size=sizes.hidden,
        tie_word_embeddings=True,
    )
    return config, processor


def _gemma_tokenizer(
    texts: Iterable[str],
    sizes: TinySizes,
    *,
    named: Mapping[str, str],
    special: tuple[str, ...] = (),
    template: str | None = None,
) -> Any:
    marks = {"pad": "<pad>", "end": "<eos>", "begin": "<bos>"}
    return train_hub_tokenizer(texts, vocab=sizes.vocab, special=special, named=named, template=template, **marks)


def _layer_types(sizes: TinySizes) -> list[str]:
    return ["full_attention" if i % 2 else "sliding_attention" for i in range(sizes.layers)]
