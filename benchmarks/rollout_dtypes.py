"""What a rollout in TRL's own way (`generate`, prompts not shared) costs in bfloat16, by how its weights come to it.

    python benchmarks/rollout_dtypes.py [--family qwen2_5_vl] [--repeats 5]

The same random model writes the same number of tokens for a batch of prompts, in turn: with float32 weights under one
autocast around all tokens, as medrft does; with an autocast around each forward pass, as accelerate does by itself; and
with a bfloat16 copy of the weights. Medians over the repeats, and each way's ratio to the copy. One thread:
`OMP_NUM_THREADS=1`.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from contextlib import nullcontext
from functools import partial, wraps
from typing import Any

import torch
from PIL import Image
from transformers import GenerationConfig

from medrft.models.tiny import build_tiny

SIZES = {"image": 128, "vision_hidden": 192, "vision_layers": 4, "hidden": 512, "layers": 4, "heads": 8, "mlp": 2048}
QUESTION = "Is there evidence of a pneumothorax in the left lung?"


def autocast() -> Any:
    return torch.autocast("cpu", dtype=torch.bfloat16)


def each_pass(model: Any) -> Any:
    """The model with an autocast of its own around every forward pass."""
    plain = model.forward

    @wraps(plain)  # `generate` reads its parameters
    def forward(*args: Any, **kwargs: Any) -> Any:
        with autocast():
            return plain(*args, **kwargs)

    model.forward = forward
    return model


def inputs_of(processor: Any, rows: int) -> dict[str, Any]:
    chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTION}]}]
    text = processor.apply_chat_template(chat, add_generation_prompt=True)
    picture = Image.new("RGB", (SIZES["image"],) * 2, "gray")
    return dict(processor(text=[text] * rows, images=[picture] * rows, return_tensors="pt"))


def write(model: Any, inputs: dict[str, Any], tokens: int, *, outer: bool) -> float:
    """Seconds of the processor for one rollout; what else runs counts for less in them than by the clock."""
    config = GenerationConfig(do_sample=True, max_new_tokens=tokens, min_new_tokens=tokens, pad_token_id=0)
    began = time.process_time()
    with torch.no_grad(), autocast() if outer else nullcontext():
        made = model.generate(**inputs, generation_config=config)
    assert made.shape[1] == inputs["input_ids"].shape[1] + tokens
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", default="qwen2_5_vl")
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=5)
    told = parser.parse_args()
    model, processor = build_tiny(told.family, texts=[QUESTION] * 3, sizes=SIZES, seed=0)
    model = model.eval().float()
    whole = inputs_of(processor, told.rows)
    half = {key: value.bfloat16() if value.is_floating_point() else value for key, value in whole.items()}
    low, wrapped = copy.deepcopy(model).bfloat16(), each_pass(copy.deepcopy(model))
    ways = {
        "one autocast around all tokens": partial(write, model, whole, told.tokens, outer=True),
        "an autocast around each forward pass": partial(write, wrapped, whole, told.tokens, outer=False),
        "a bfloat16 copy": partial(write, low, half, told.tokens, outer=False),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(told.repeats + 1):
        for name, way in ways.items():
            seconds = way()
            if repeat:  # the first warms up
                found[name].append(seconds)
    best = statistics.median(found["a bfloat16 copy"])
    millions = sum(weight.numel() for weight in model.parameters()) / 1e6
    print(f"{told.family}, {millions:.0f} M parameters, {told.rows} rows, {told.tokens} tokens, {told.repeats} repeats")
    for name, seconds in found.items():
        middle = statistics.median(seconds)
        print(f"{name}: {middle:.2f} s ({min(seconds):.2f} to {max(seconds):.2f}), {middle / best:.2f} of the copy")


if __name__ == "__main__":
    main()
