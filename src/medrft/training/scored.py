"""SFT's loss from the positions that are learned alone, also on a CPU.

TRL 1.16 multiplies the language model's head with every position where there is no Triton, and only then drops those
of the prompt: fixed shapes save other accelerators a recompilation. A CPU compiles nothing. For answers of five tokens
after prompts of fifty, and a vocabulary of 49,000, that was over half of a training step.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from trl.trainer import utils


class ScoresAnswers:
    """Mixin for `SFTTrainer`."""

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        """Called by the Trainer for each batch, in training and on validation."""
        with _compact():
            return super().compute_loss(*args, **kwargs)  # type: ignore[misc]


@contextmanager
def _compact() -> Iterator[None]:
    """Let the fused head take a CPU's positions as it takes a GPU's."""
    kept = utils._use_triton
    utils._use_triton = lambda device: device.type == "cpu" or kept(device)
    try:
        yield
    finally:
        utils._use_triton = kept
