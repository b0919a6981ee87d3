"""Tiny models of every family whose prompts are shared, with inputs of prompts that differ in length."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import GenerationConfig

from medrft.models.encode import encode_chats
from medrft.models.load import load_policy
from medrft.models.prompts import get_prompt, with_images
from medrft.training.sharing.groups import take_rows
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
WRITING = [*FAMILIES, "qwen3_5"]
"""And one with linear attention, for what writes completions."""
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
    return Toy(policy.model, policy.processor.tokenizer.pad_token_id, encode_chats(policy, chats), [images] * 3)


def generated(found, copies, **settings):
    """What stock `generate` writes, cut after the end token."""
    place = [prompt for prompt, count in enumerate(copies) for _ in range(count)]
    fields = take_rows(found.fields, place)
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
