"""Counts the floating-point operations of a model's weights while it runs, by hooks on its decoder and vision tower.

A weight of a matrix costs two operations for each token that passes it, two more for the gradient of its input and two
for its own, where there are any (Kaplan et al. 2020, arXiv 2001.08361, section 2.1). Attention's own products are left
out. A token that is computed again because of checkpointing counts once; one that sharing spares does not count.
"""

from __future__ import annotations

from typing import Any

import torch

from medrft.models.picture_memory import vision_tower
from medrft.models.prefix import plain_model, text_config
from medrft.training.timing.clock import StepClock

EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")
"""Entries of a config by which a token passes only some of the weights; operations are not counted then."""
PATCHERS = (torch.nn.Conv2d, torch.nn.Conv3d, torch.nn.Linear)
"""What makes patches of a picture: the first module of these kinds in a vision tower."""
WRITING = ("prefill", "decode")
"""Parts in which the head computes one token's logits for each row."""


def watch_model(model: Any, clock: StepClock) -> None:
    """Count the operations of a model's passes in `clock`, and the time of its vision tower as a part of their own."""
    plain, tower = plain_model(model), vision_tower(model)
    if tower is not None:
        _count_tower(tower, clock)
    if not any(getattr(text_config(model), name, None) for name in EXPERTS):
        _count_decoder(plain, clock)


def _count_tower(tower: Any, clock: StepClock) -> None:
    weights, learning = weights_passed(tower)

    def before(module: Any, inputs: Any) -> None:
        if clock.now_in is not None:
            clock.enter("vision")

    def after(module: Any, inputs: Any, output: Any) -> None:
        if clock.now_in == "vision":
            clock.leave()

    def looked(module: Any, inputs: Any, output: torch.Tensor) -> None:
        if clock.now_in is not None:
            patches = output.numel() // module.weight.shape[0]
            learns = learning > 0 and torch.is_grad_enabled()
            clock.flops += 2.0 * patches * (weights + (weights + learning if learns else 0))

    tower.register_forward_pre_hook(before)
    tower.register_forward_hook(after, always_call=True)
    # Patches are counted where they come in: the tower itself is also called for pictures that are only remembered.
    patcher = next((module for module in tower.modules() if isinstance(module, PATCHERS)), None)
    if patcher is not None:
        patcher.register_forward_hook(looked)


def _count_decoder(model: Any, clock: StepClock) -> None:
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else None
    if decoder is None:
        return
    weights, learning = weights_passed(decoder)
    head = getattr(model.get_output_embeddings(), "weight", None)
    size = 0 if head is None else _size(head)
    head_learns = head is not None and head.requires_grad

    def after(module: Any, inputs: Any, output: Any) -> None:
        hidden = _hidden(output) if clock.now_in is not None else None
        if hidden is not None:
            scored = hidden[:, -1:] if clock.now_in in WRITING else hidden
            clock.flops += _operations(hidden, weights, learning) + _operations(scored, size, size * head_learns)

    decoder.register_forward_hook(after)


def _operations(hidden: torch.Tensor, weights: int, learning: int) -> float:
    """Operations that made `hidden`, (…, width), and that its gradient will take, if it has one."""
    tokens = hidden.shape[:-1].numel()
    return float(2 * tokens * (weights + (weights + learning if hidden.requires_grad else 0)))


def weights_passed(module: Any) -> tuple[int, int]:
    """How many weights a token passes in a module, and how many of them learn; tables of embeddings do not multiply."""
    tables = {id(table.weight) for table in module.modules() if isinstance(table, torch.nn.Embedding)}
    own = [weight for weight in module.parameters() if id(weight) not in tables]
    return sum(map(_size, own)), sum(_size(weight) for weight in own if weight.requires_grad)


def _size(weight: Any) -> int:
    """Numbers in a weight, those that DeepSpeed keeps elsewhere included."""
    return int(getattr(weight, "ds_numel", weight.numel()))


def _hidden(output: Any) -> torch.Tensor | None:
    """The last hidden states of a module's output; `None` for an output of another layout, or none after an error."""
    found = getattr(output, "last_hidden_state", None)
    if found is None and isinstance(output, tuple) and output:
        found = output[0]
    return found if isinstance(found, torch.Tensor) and found.ndim > 1 else None
