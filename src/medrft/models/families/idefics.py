"""Tiny Idefics 3 and SmolVLM2: sizes and texts go in, a config and its processor come out.

Neighbouring patches become channels of one image token (pixel shuffle), and a small copy of the picture stands beside
its tiles.
"""

from __future__ import annotations

from collections.abc import Iterable

from medrft.models.families.config_entries import hub_text_sizes, pixel_settings, text_sizes, vision_sizes
from medrft.models.families.sizes import PATCH, Built, TinySizes
from medrft.models.families.templates import plain_template, shipped_template
from medrft.models.families.tokens import train_hub_tokenizer, train_tokenizer

IMAGE_TOKENS = {
    "image_token": "<image>",
    "fake_image_token": "<fake_token_around_image>",
    "global_image_token": "<global-img>",
    "end_of_utterance_token": "<end_of_utterance>",
}


def build_idefics3(sizes: TinySizes, texts: Iterable[str]) -> Built:
    """Idefics 3 with medrft's own template, without tiles."""
    from transformers import Idefics3Config, Idefics3Processor, LlamaConfig
    from transformers.models.idefics3.configuration_idefics3 import Idefics3VisionConfig
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

    tokenizer = train_tokenizer(texts, vocab=sizes.vocab, extra=IMAGE_TOKENS)
    config = Idefics3Config(
        text_config=LlamaConfig(**text_sizes(sizes, tokenizer)),
        vision_config=Idefics3VisionConfig(**vision_sizes(sizes)),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
    )
    processor = Idefics3Processor(
        image_processor=Idefics3ImageProcessorPil(
            **{**pixel_settings(sizes.image), "size": {"longest_edge": sizes.image}},
            max_image_size={"longest_edge": sizes.image},
            do_image_splitting=False,
        ),
        tokenizer=tokenizer,
        image_seq_len=(sizes.image // (2 * PATCH)) ** 2,
        chat_template=plain_template("<image>"),
    )
    return config, processor


def build_smolvlm(sizes: TinySizes, texts: Iterable[str]) -> Built:
    """SmolVLM2 with tiles: a token says in which row and column each tile lies (`<row_1_col_2>`)."""
    from transformers import SmolVLMConfig, SmolVLMProcessor
    from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil
    from transformers.models.smolvlm.video_processing_smolvlm import SmolVLMVideoProcessor

    template, side = shipped_template("smolvlm"), sizes.tile
    places = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    tokenizer = train_hub_tokenizer(
        texts,
        vocab=sizes.vocab,
        pad="<|im_end|>",
        end="<end_of_utterance>",
        special=("<|im_start|>", *places),
        named={**IMAGE_TOKENS, "video_token": "<video>"},
        template=template,
    )
    config = SmolVLMConfig(
        text_config={"model_type": "llama", **hub_text_sizes(sizes, tokenizer)},
        vision_config=vision_sizes(sizes, image=side),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
    )
    processor = SmolVLMProcessor(
        image_processor=SmolVLMImageProcessorPil(
            size={"longest_edge": 2 * side}, max_image_size={"longest_edge": side}, do_image_splitting=True
        ),
        tokenizer=tokenizer,
        video_processor=SmolVLMVideoProcessor(size={"longest_edge": side}),
        image_seq_len=(side // (2 * PATCH)) ** 2,
        chat_template=template,
    )
    return config, processor
