"""Checks whether an update will move the weights: a model and a learning rate go in, a preflight `Check` comes out.

No training step is needed. AdamW changes a weight by about the learning rate at each step, whatever its gradient is. A
weight whose dtype cannot hold so small a change stays as it is. In bfloat16, whose numbers near 0.02 lie 0.0001 apart,
hardly any weight moves at 1e-6.
"""

from __future__ import annotations

from typing import Any

from medrft.training.preflight import Check

REFUSED, WARNED = 0.05, 0.5
"""Shares of weights that move: below the first a stage is refused, below the second the user is warned."""
SAMPLED = 65_536
"""About how many entries are looked at in each tensor of weights, evenly spread."""
ADAPTIVE = ("adam", "lion", "ademamix", "stable_adamw")
"""Optimizers whose steps are about as long as the learning rate, by parts of their names."""
NAME = "update_moves"


def moving_share(weights: Any, learning_rate: float) -> float:
    """The share of entries of a tensor that a step of `learning_rate` changes in the tensor's dtype, up or down.

    >>> import torch
    >>> moving_share(torch.full((4,), 0.02), 1e-6), moving_share(torch.full((4,), 0.02, dtype=torch.bfloat16), 1e-6)
    (1.0, 0.0)
    """
    flat = weights.detach().flatten()
    few = flat[:: max(1, len(flat) // SAMPLED)]
    steps = [(few.double() + sign * learning_rate).to(few.dtype) != few for sign in (-1, 1)]
    return float(sum(step.double().mean() for step in steps)) / 2


def update_moves(model: Any, *, learning_rate: float, optimizer: str, lora: bool, sharded: bool) -> Check:
    """Whether one step of the optimizer changes the trained weights in the dtype that they are kept in.

    Adapters of LoRA are float32 and start at zero, and DeepSpeed and FSDP keep float32 copies (`sharded`): there
    nothing is measured.
    """
    why = None
    if lora or sharded:
        why = "adapters are float32 and start at zero" if lora else "sharded weights have float32 copies"
    elif learning_rate <= 0:
        why = f"learning_rate is {learning_rate:g}, so nothing is to move"
    elif not any(name in optimizer for name in ADAPTIVE):
        why = f"how far {optimizer} moves a weight depends on its gradient"
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad and parameter.numel()]
    if why is not None or not trained:
        why = why or "nothing is trained"
        return Check(name=NAME, passed=None, measured=None, limit=None, detail=why, fix="")
    total = sum(parameter.numel() for parameter in trained)
    share = sum(moving_share(parameter, learning_rate) * parameter.numel() for parameter in trained) / total
    kinds = sorted({str(parameter.dtype).removeprefix("torch.") for parameter in trained})
    short = kinds != ["float32"]
    return Check(
        name=NAME,
        passed=share >= REFUSED,
        measured=round(share, 6),
        limit=REFUSED,
        detail=f"share of the trained weights ({', '.join(kinds)}) that one step of learning_rate {learning_rate:g} "
        "changes at all",
        fix="set model.master_dtype: float32" if short else "raise the stage's trl.learning_rate",
    )


def update_warning(check: Check) -> str | None:
    """A warning if fewer weights move than should, though enough to start; `None` otherwise."""
    if not check.passed or check.measured is None or check.measured >= WARNED:
        return None
    return f"{NAME}: only {check.measured:.1%} of {check.detail.removeprefix('share of ')}; {check.fix}"
