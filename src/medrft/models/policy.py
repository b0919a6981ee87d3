"""`Policy`, a model with its processor, and what makes a loaded model fit for training.

`pick_device` says where it runs. `make_checkpointable` and `make_head_fast` change a model in place to get around
defects of some families.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from medrft.errors import ModelError, naming_extras

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Policy:
    """A model with the processor that makes its inputs."""

    model: Any
    """A transformers image-text-to-text model."""
    processor: Any
    id: str
    """Hub id, path, or `tiny:<family>`: what a reader of the run should see."""
    device: torch.device


@naming_extras()
def pick_device(name: str) -> torch.device:
    """`auto`, `cpu` or `cuda` as a device; under a launcher (torchrun, accelerate) this process's own GPU.

    Raises `ModelError` for `cuda` where torch sees no GPU.
    """
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise ModelError("model.device is cuda, but torch sees no GPU here; set model.device to cpu or auto")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    rank = os.environ.get("LOCAL_RANK")
    return torch.device(f"cuda:{rank}" if name == "cuda" and rank else name)


def make_checkpointable(model: Any) -> None:
    """Make gradient checkpointing work on a Swin vision tower.

    transformers hooks a tower's input embeddings to make their output require a gradient. Swin's own
    `get_input_embeddings` names a module that returns a tuple, on which the hook fails.
    """
    for module in model.modules():
        inner = getattr(getattr(module, "embeddings", None), "patch_embeddings", None)
        if hasattr(inner, "projection") and str(getattr(module.config, "model_type", "")).startswith("swin"):
            module.get_input_embeddings = partial(getattr, inner, "projection")


def make_head_fast(model: Any) -> None:
    """Make the head's input contiguous.

    Torch multiplies a strided batch by a frozen weight row by row, which makes batched generation several times
    slower.
    """
    head = model.get_output_embeddings()
    if head is not None:
        head.register_forward_pre_hook(_contiguous)


def _contiguous(module: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    return (args[0].contiguous(), *args[1:])
