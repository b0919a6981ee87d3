"""Small random models of real families, built from their configs with a tokenizer trained on the data.

They save and load like any other model, learn the phantom data on a laptop, and make every test of the pipeline a
test of the real classes. Sizes can be changed one by one: `model: {id: tiny:llava, tiny: {hidden: 192}}`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from medrft.errors import ModelError, naming_extras, unknown_name
from medrft.torchvision_ops import declare_missing_operators

PAD, END = "<|pad|>", "<|end|>"
TURNS = ("<|system|>", "<|user|>", "<|assistant|>")
PATCH = 8
"""Pixels per side of a patch, where the vision tower is a plain transformer."""
TAGS = ("<think>", "</think>", "<answer>", "</answer>")
"""One token each, but not special: decoding keeps them."""

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "<|{{ message.role }}|>"
    "{%- if message.content is string -%}{{ message.content }}{%- else -%}"
    "{%- for block in message.content -%}"
    "{%- if block.type == 'image' -%}IMAGE{%- else -%}{{ block.text }}{%- endif -%}"
    "{%- endfor -%}{%- endif -%}<|end|>"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TinySizes:
    """What makes a tiny model tiny; about a million parameters by default."""

    image: int = 64
    """Side of the picture the vision tower sees, in pixels."""
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


Built = tuple[Any, Any]
"""A transformers config and the processor that fits it."""


@naming_extras()
def build_tiny(family: str, *, texts: Iterable[str], sizes: Mapping[str, Any], seed: int) -> tuple[Any, Any]:
    """A random model of `family` and its processor.

    `texts` trains the tokenizer; `sizes` overrides `TinySizes`. Raises `UnknownNameError` for another family or size.
    """
    import torch

    declare_missing_operators()
    from transformers import AutoModelForImageTextToText, GenerationConfig

    if family not in FAMILIES:
        raise unknown_name("tiny model family", family, FAMILIES)
    config, processor = FAMILIES[family](_sizes(family, sizes), texts)
    tokenizer = processor.tokenizer
    tokenizer.name_or_path = f"tiny:{family}"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
        _open_eyes(model)
    model.generation_config = GenerationConfig(
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id, bos_token_id=None
    )
    return model, processor


def _open_eyes(model: Any) -> None:
    """Gemma 3 starts its projection at zero, so a random one would not see, and its vision tower get no gradient."""
    import torch

    for name, parameter in model.named_parameters():
        if name.endswith("mm_input_projection_weight"):
            torch.nn.init.normal_(parameter, std=parameter.shape[0] ** -0.5)


def _sizes(family: str, sizes: Mapping[str, Any]) -> TinySizes:
    known = [field.name for field in fields(TinySizes)]
    for key, value in sizes.items():
        if key not in known:
            raise unknown_name("size in model.tiny", key, known)
        if not isinstance(value, int) or value < 1:
            raise ModelError(f"model.tiny.{key} is {value!r}; it must be a whole number above 0")
    result = replace(TinySizes(), **sizes)
    heads = ("heads", result.heads)
    cell = ("4 * patch", 4 * result.patch) if family == "llava" else ("2 patches", 2 * PATCH)
    for whole, (part, value) in (("image", cell), ("hidden", heads), ("vision_hidden", heads)):
        if getattr(result, whole) % value:
            raise ModelError(f"model.tiny: {whole} = {getattr(result, whole)} is not a multiple of {part} = {value}")
    return result


def train_tokenizer(texts: Iterable[str], *, vocab: int, extra: Mapping[str, str]) -> Any:
    """A byte-level BPE tokenizer of at most `vocab` tokens.

    A word is the same token after a tag as after a space, so that a model which can copy from its thought can copy
    into its answer; any text survives encoding and decoding but for one space at its start or after a tag.
    `extra` names the family's own special tokens, such as `{"image_token": "<image>"}`.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = [PAD, END, *TURNS, *extra.values()]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    unspaced = [decoders.Replace(f"{tag} ", tag) for tag in TAGS]
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0), *unspaced])
    trainer = trainers.BpeTrainer(
        vocab_size=vocab - len(TAGS),
        min_frequency=2,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator((part for text in texts for part in _segments(text)), trainer=trainer)
    tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in TAGS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        extra_special_tokens=dict(extra),
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=1_000_000,
    )


def _segments(text: str) -> list[str]:
    """The text between tags, which are tokens of their own."""
    return [part for part in re.split("|".join(TAGS), text) if part]


def _template(image: str) -> str:
    return CHAT_TEMPLATE.replace("IMAGE", image)


def _text_sizes(sizes: TinySizes, tokenizer: Any) -> dict[str, Any]:
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
        "bos_token_id": None,
        "tie_word_embeddings": True,
        "initializer_range": sizes.hidden**-0.5,  # transformers' 0.02 is for widths of thousands
    }


def _vision_sizes(sizes: TinySizes) -> dict[str, Any]:
    return {
        "hidden_size": sizes.vision_hidden,
        "intermediate_size": 3 * sizes.vision_hidden,
        "num_hidden_layers": sizes.vision_layers,
        "num_attention_heads": sizes.heads,
        "image_size": sizes.image,
        "patch_size": PATCH,
        "initializer_range": sizes.vision_hidden**-0.5,
    }


def _pixels(sizes: TinySizes) -> dict[str, Any]:
    """Grey pictures with much black: centred near their mean, with about unit spread."""
    return {
        "size": {"height": sizes.image, "width": sizes.image},
        "image_mean": [0.4] * 3,
        "image_std": [0.3] * 3,
        "do_convert_rgb": True,
    }


def _llava(sizes: TinySizes, texts: Iterable[str]) -> Built:
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
        text_config=LlamaConfig(**_text_sizes(sizes, tokenizer)),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(sizes.image // cell) ** 2,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        tie_word_embeddings=True,
    )
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessorPil(**_pixels(sizes), do_center_crop=False),
        tokenizer=tokenizer,
        patch_size=cell,
        vision_feature_select_strategy="full",
        chat_template=_template("<image>"),
    )
    return config, processor


def _gemma3(sizes: TinySizes, texts: Iterable[str]) -> Built:
    from transformers import Gemma3Config, Gemma3Processor, Gemma3TextConfig, SiglipVisionConfig
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

    extra = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    tokenizer = train_tokenizer(texts, vocab=sizes.vocab, extra=extra)
    image_tokens = (sizes.image // PATCH) ** 2
    text = Gemma3TextConfig(
        **_text_sizes(sizes, tokenizer),
        head_dim=sizes.hidden // sizes.heads,
        query_pre_attn_scalar=sizes.hidden // sizes.heads,
        sliding_window=512,
        layer_types=["full_attention" if i % 2 else "sliding_attention" for i in range(sizes.layers)],
    )
    config = Gemma3Config(
        text_config=text,
        vision_config=SiglipVisionConfig(**_vision_sizes(sizes), vision_use_head=False),
        mm_tokens_per_image=image_tokens,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        **{f"{key}_index": tokenizer.convert_tokens_to_ids(token) for key, token in extra.items()},
    )
    processor = Gemma3Processor(
        image_processor=Gemma3ImageProcessorPil(**_pixels(sizes)),
        tokenizer=tokenizer,
        image_seq_length=image_tokens,
        chat_template=_template("<start_of_image>"),
    )
    return config, processor


def _idefics3(sizes: TinySizes, texts: Iterable[str]) -> Built:
    from transformers import Idefics3Config, Idefics3Processor, LlamaConfig
    from transformers.models.idefics3.configuration_idefics3 import Idefics3VisionConfig
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

    extra = {
        "image_token": "<image>",
        "fake_image_token": "<fake_token_around_image>",
        "global_image_token": "<global-img>",
        "end_of_utterance_token": "<end_of_utterance>",
    }
    tokenizer = train_tokenizer(texts, vocab=sizes.vocab, extra=extra)
    config = Idefics3Config(
        text_config=LlamaConfig(**_text_sizes(sizes, tokenizer)),
        vision_config=Idefics3VisionConfig(**_vision_sizes(sizes)),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
    )
    processor = Idefics3Processor(
        image_processor=Idefics3ImageProcessorPil(
            **{**_pixels(sizes), "size": {"longest_edge": sizes.image}},
            max_image_size={"longest_edge": sizes.image},
            do_image_splitting=False,
        ),
        tokenizer=tokenizer,
        image_seq_len=(sizes.image // (2 * PATCH)) ** 2,
        chat_template=_template("<image>"),
    )
    return config, processor


FAMILIES: dict[str, Callable[[TinySizes, Iterable[str]], Built]] = {
    "llava": _llava,
    "gemma3": _gemma3,
    "idefics3": _idefics3,
}
