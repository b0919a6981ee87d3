"""Lets the processes of one training agree: all of them share prompts, or none does.

A process that fell back alone would run another number of forward passes than the others, and with sharded weights
each pass waits for all processes: the training would hang.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from accelerate.utils import gather_object

from medrft.models.faults import FAULTS, why_failed
from medrft.training.sharing.fallback import Sharing
from medrft.training.timing.clock import Timed

Found = TypeVar("Found")


class Agrees(Timed):
    """Mixin for trainers that have an accelerator and a `sharing`."""

    sharing: Sharing

    @property
    def _sharded(self) -> bool:
        """Whether each process holds only a share of the weights."""
        me: Any = self
        return bool(me.is_fsdp_enabled or me.is_deepspeed_enabled)

    def _tried(self, work: Callable[[], Found]) -> tuple[Found | None, str | None]:
        """What `work` returns, or why it failed in a model's code; other errors are raised (`faults.why_failed`)."""
        try:
            return work(), None
        except FAULTS as error:
            return None, why_failed(error, self.sharing.log)

    def _together(self, why: str | None) -> str | None:
        """Why any process cannot share, `None` if all can; every process must call this at the same point."""
        accelerator: Any = self.accelerator  # type: ignore[attr-defined]
        if accelerator.num_processes == 1:
            return why
        with self._part("waiting"):
            well = torch.tensor([float(why is None)], device=accelerator.device)
            if bool(accelerator.gather(well).min() > 0):
                return None
            reasons: list[str | None] = gather_object([why])
        return next(told for told in reasons if told is not None)

    def _in_step(self, parts: list[Found]) -> list[Found]:
        """The parts, repeated so that with sharded weights every process runs the model equally often.

        The caller throws away the results of repeated parts.
        """
        if not self._sharded:
            return parts
        accelerator: Any = self.accelerator  # type: ignore[attr-defined]
        counts = accelerator.gather(torch.tensor([len(parts)], device=accelerator.device))
        return parts + parts[-1:] * (int(counts.max()) - len(parts))
