"""Mixins that measure the steps of TRL's trainers, and log them.

`TimesSteps` overrides these hooks of transformers' Trainer: `get_batch_samples` opens a step,
`_maybe_log_save_evaluate` ends it before anything is logged, and in between `training_step`, `_prepare_inputs` and
`compute_loss` say what is being done. A step's log gets `step_time`, `time/<part>`, and rates by `SaysSpeed`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import Trainer
from trl.trainer.utils import get_peak_flops

from medrft.training.timing.clock import StepClock, Timed
from medrft.training.timing.flops import watch_model
from medrft.training.timing.slowest import PARTS

TOKENS, FLOPS = "time_tokens", "time_flops"
"""What a step's rates are made of; not logged themselves."""


class TimesSteps(Timed):
    """Goes before TRL's trainer among the bases."""

    parts: Sequence[str] = tuple(PARTS)
    """The parts that a step of this trainer can have."""

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """Called by the Trainer for the batches of each optimizer step."""
        if self.clock is None:
            self.clock = self._begin_timing()
        self.clock.begin()
        with self._part("data"):
            return super().get_batch_samples(*args, **kwargs)  # type: ignore[misc]

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """Called by the Trainer for each batch: what it does beside inputs and loss is to compute gradients."""
        me: Any = self
        with self._part("backward"):
            loss = super().training_step(*args, **kwargs)  # type: ignore[misc]
        if self.clock is not None and me.accelerator.sync_gradients:
            self.clock.rest("optimizer")
        return loss

    def _prepare_inputs(self, *args: Any, **kwargs: Any) -> Any:
        with self._part("other"):
            return super()._prepare_inputs(*args, **kwargs)  # type: ignore[misc]

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        """Called by the Trainer for each batch."""
        with self._part("loss"):
            return super().compute_loss(*args, **kwargs)  # type: ignore[misc]

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> Any:
        seconds = self.clock.end() if self.clock is not None else None
        if seconds is not None:
            self._note_step(seconds)
        return super()._maybe_log_save_evaluate(*args, **kwargs)  # type: ignore[misc]

    def _begin_timing(self) -> StepClock:
        me: Any = self
        clock = StepClock(me.accelerator.device)
        if not me.args.torch_compile:  # hooks would break the compiled graph
            for model in (me.model, getattr(me, "ref_model", None)):
                if model is not None:
                    watch_model(model, clock)
        return clock

    def _note_step(self, seconds: dict[str, float]) -> None:
        """Put a step's seconds among what TRL averages until the next log."""
        me: Any = self
        metrics = me._metrics["train"]
        # TRL's own `step_time` leaves out the data and the optimizer.
        del metrics["step_time"][len(metrics["time/other"]) :]
        metrics["step_time"].append(sum(seconds.values()))
        for name in self.parts:
            metrics[f"time/{name}"].append(seconds.get(name, 0.0))
        assert self.clock is not None
        metrics[TOKENS].append(self.clock.tokens)
        metrics[FLOPS].append(self.clock.flops)


class SaysSpeed(Trainer):  # type: ignore[misc]
    """Goes after TRL's trainer among the bases: it gets the log with TRL's means, and adds rates to it."""

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add rates, the share of the device's peak, and the share of a step that waits for the reward."""
        took = logs.get("step_time")
        tokens, flops = logs.pop(TOKENS, None), logs.pop(FLOPS, None)
        if took and tokens:
            logs["tokens_per_second"] = tokens / took
        if took and flops:
            logs["flops_per_second"] = flops / took
            peak = self._peak()
            if peak:
                logs["mfu"] = flops / took / peak
        if took and "reward" in logs:
            logs["reward_wait"] = logs["time/reward"] / took
        super().log(logs, start_time)

    def _peak(self) -> float | None:
        """Operations a second that the device can do at most, in the precision in use; `None` where TRL has none."""
        device = self.accelerator.device
        mixed = {"bf16": "bfloat16", "fp16": "float16"}.get(self.accelerator.mixed_precision)
        kind = mixed or str(self.model.dtype).removeprefix("torch.")
        return get_peak_flops(torch.cuda.get_device_name(device), kind) if device.type == "cuda" else None
