"""Tiny models of every family whose prompts are shared, with inputs of prompts that differ in length."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import GenerationConfig

from medrft.models.encode import encode
from medrft.models.load import load_policy
from medrft.models.prompts import get_prompt, with_images
from medrft.training.groups import take
from medrft.types import Example

SIZES = {"image": 32, "vision_hidden": 32, "vision_layers": 2, "hidden": 32, "layers": 2, "mlp": 64, "vocab": 400}
QUESTIONS = ("Is the heart large?", "Is there a pleural effusion on the left side?", "Which plane is this?")


def picture(example):
    """A picture of its own for each image path."""
    return [
        Image.fromarray(np.random.default_rng(len(str(path)) + 7 * i).integers(0, 255, (40, 56, 3), dtype=np.uint8))
        for i, path in enumerate(example.images, start=int(example.id.rsplit("/", 1)[1]))
    ]


def make_examples(n):
    return [
        Example(
            id=f"toy/train/{i}",
            dataset="toy",
            split="train",
            images=(Path(f"{i}.png"),),
            question=QUESTIONS[i % 3],
            references=("yes", "no")[i % 2 :][:1],
            kind="closed",
            rationale="The heart is wide and the lungs are clear.",
        )
        for i in range(n)
    ]


FAMILIES = ["llava", "gemma3", "idefics3", "qwen2_5_vl"]
WINDOW = 24
"""Gemma 3's sliding window, shorter than the prompts."""


class Toy:
    """A model and three prompts: input ids and mask (3, P), padded on the left, and their multimodal inputs."""

    def __init__(self, model, pad, inputs, images):
        self.model, self.pad = model, pad
        self.ids, self.mask = inputs.pop("input_ids"), inputs.pop("attention_mask")
        self.fields = {**inputs, "num_images": images}
        with torch.no_grad():  # random models of this size hardly tell tokens apart
            for parameter in model.parameters():
                parameter.mul_(2 if parameter.ndim > 1 else 1)

    def to(self, device):
        """Itself, on another device."""
        self.model.to(device)
        self.ids, self.mask = self.ids.to(device), self.mask.to(device)
        self.fields = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in self.fields.items()}
        return self

    def config(self, **settings):
        """A generation config of 12 tokens that ends with hardly any token."""
        given = {"max_new_tokens": 12, "do_sample": True, "top_k": 0, "pad_token_id": self.pad, "eos_token_id": 1}
        return GenerationConfig(**{**given, **settings}, disable_compile=True)


def toy(family, saved, config, *, images=1):
    """A `Toy`; with `images=2` each prompt has two pictures."""
    if family == "qwen2_5_vl":
        return _qwen(images)
    policy = load_policy(config, saved(family))
    if family == "gemma3":
        policy.model.config.text_config.sliding_window = WINDOW
        for layer in policy.model.model.language_model.layers:
            layer.self_attn.sliding_window = layer.self_attn.sliding_window and WINDOW
    prompt = get_prompt("think").bound(policy.processor)
    chats = []
    for example in make_examples(3):
        pictures = [picture(example)[0], picture(make_examples(5)[4])[0]][:images]
        messages = prompt.messages(example)
        if images == 2:
            turn = messages[-1]["content"]
            turn.insert(0, dict(next(block for block in turn if block["type"] == "image")))
        chats.append(with_images(messages, pictures))
    return Toy(policy.model, policy.processor.tokenizer.pad_token_id, encode(policy, chats), [images] * 3)


def _qwen(images):
    """Qwen2.5-VL's processor wants torchvision for video, so its inputs come from the PIL image processor."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    start, stop, image = 3, 4, 5
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": 300,
            "hidden_size": SIZES["hidden"],
            "intermediate_size": SIZES["mlp"],
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]},
            "initializer_range": SIZES["hidden"] ** -0.5,
            "pad_token_id": 0,
            "bos_token_id": None,
            "eos_token_id": 1,
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "out_hidden_size": SIZES["hidden"],
            "num_heads": 2,
            "intermediate_size": 64,
            "patch_size": 8,
            "window_size": 32,
            "fullatt_block_indexes": [1],
        },
        vision_start_token_id=start,
        vision_end_token_id=stop,
        image_token_id=image,
        video_token_id=6,
    )
    torch.manual_seed(0)
    model = Qwen2_5_VLForConditionalGeneration(config)
    processor = Qwen2VLImageProcessorPil(patch_size=8, min_pixels=16 * 16, max_pixels=64 * 64)
    shown = [[picture(example)[0].resize((48 + 16 * i, 48))] * images for i, example in enumerate(make_examples(3))]
    pixels = processor(images=[one for row in shown for one in row], return_tensors="pt")
    tokens = (pixels["image_grid_thw"].prod(1) // 4).view(3, images).tolist()
    rows = []
    for i, counts in enumerate(tokens):
        seen = [token for count in counts for token in (start, *[image] * count, stop)]
        rows.append([10, 11, *seen, *range(20, 26 + 3 * i)])
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
    inputs = {"input_ids": ids, "attention_mask": (ids > 0).long(), "mm_token_type_ids": (ids == image).int(), **pixels}
    return Toy(model, 0, inputs, [images] * 3)


def generated(found, copies, **settings):
    """What stock `generate` writes, cut after the end token."""
    place = [prompt for prompt, count in enumerate(copies) for _ in range(count)]
    fields = take(found.fields, place)
    fields.pop("num_images")
    config = found.config(**settings)
    with torch.no_grad():
        whole = found.model.generate(
            input_ids=found.ids[place], attention_mask=found.mask[place], **fields, generation_config=config
        )
    rows, ends = whole[:, found.ids.shape[1] :].tolist(), settings.get("eos_token_id", [1])
    stops = [next((i + 1 for i, token in enumerate(row) if token in ends), len(row)) for row in rows]
    return [row[:stop] for row, stop in zip(rows, stops, strict=True)]


def chi_squared(one, other):
    """Two samples' statistic over its 99.9 % quantile; rare outcomes are counted together."""
    from scipy.stats import chi2

    outcomes = [outcome for outcome in set(one) if one.count(outcome) + other.count(outcome) >= 20]
    counts = [[sample.count(outcome) for outcome in outcomes] for sample in (one, other)]
    counts = [[*row, len(one) - sum(row)] for row in counts]
    counts = list(zip(*[row for row in zip(*counts, strict=True) if sum(row)], strict=True))
    statistic = sum((a - b) ** 2 / (a + b) for a, b in zip(*counts, strict=True))
    assert len(counts[0]) > 2
    return statistic / chi2.ppf(0.999, len(counts[0]) - 1)
