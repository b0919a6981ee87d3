"""Callbacks of the trainers: a row of `metrics.jsonl` for each log, a progress bar, and our state in checkpoints.

`{"loss": 0.1, "completions/mean_length": 31.0, …}` of TRL becomes
`{"stage": "grpo", "split": "train", "step": 10, "loss": 0.1, "completion_length": 31.0, …}`.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from logging import ERROR, getLogger
from typing import Any

from rich.console import Console
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from medrft.progress import Meter
from medrft.rundir import RunDir
from medrft.training.monitor.watch import Watch
from medrft.training.processes import is_main
from medrft.training.stop import Clock

RENAMED: dict[str, str] = {
    "completions/mean_length": "completion_length",
    "completions/clipped_ratio": "truncated",
    "spread": "reward_std",
}
"""A metric's name in TRL -> in `metrics.jsonl`."""

DROPPED = ("rewards/", "frac_reward_zero_std", "reward_std", "total_flos", "completions/", "epoch", "model_preparation")
"""Beginnings of names that TRL logs and we drop; our own metrics say it better (its `reward_std` mixes the groups)."""


def metrics_row(logs: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """Split and metrics of one of the trainer's logs; `None` for its closing summary.

    >>> metrics_row({"eval_reward": 0.5, "eval_runtime": 2.0, "epoch": 1.0})
    ('validation', {'reward': 0.5})
    >>> metrics_row({"loss": 0.1, "grad_norm": float("nan")})
    ('train', {'loss': 0.1, 'grad_norm': None})
    """
    if any(key.startswith("eval_") for key in logs):
        split, prefix = "validation", "eval_"
    elif "loss" in logs:
        split, prefix = "train", ""
    else:
        return None
    row: dict[str, Any] = {}
    for key, value in logs.items():
        if not key.startswith(prefix):
            continue
        name = key.removeprefix(prefix)
        if name in RENAMED:
            row[RENAMED[name]] = _finite(value)
        elif not name.startswith(DROPPED) and name not in ("runtime", "samples_per_second", "steps_per_second"):
            row[name] = _finite(value)
    return split, row


def _finite(value: Any) -> Any:
    """The value, or `None` for NaN and infinity, which JSON does not have."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


class MetricsLog(TrainerCallback):  # type: ignore[misc]
    """Appends each of the trainer's logs to `metrics.jsonl`."""

    def __init__(self, run: RunDir, *, stage: str, kind: str, clock: Clock):
        self.run, self.stage, self.kind, self.clock = run, stage, kind, clock

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """One row per log, written by the main process."""
        found = metrics_row(kwargs["logs"])
        if found is None or not state.is_world_process_zero:
            return
        split, row = found
        place = {
            "kind": self.kind,
            "split": split,
            "step": state.global_step,
            "epoch": state.epoch,
            "seconds": round(self.clock.seconds, 3),
        }
        lost = self.run.lost(self.stage)  # SFT rows replaced so far because their picture had vanished
        replaced = {"replaced": len(lost.read_bytes().splitlines())} if lost.is_file() else {}
        self.run.append_metrics(self.stage, place | row | replaced)


class StageState(TrainerCallback, ExportableState):  # type: ignore[misc]
    """Puts `collect()` into `trainer_state.json` of each checkpoint; `state.last_checkpoint` reads it back.

    The Trainer writes the `state()` of each callback that is an `ExportableState`, under the name of its class, which
    `state.KEY` repeats.
    """

    def __init__(self, collect: Callable[[], dict[str, Any]]):
        self.collect = collect

    def state(self) -> dict[str, Any]:
        """Called by the Trainer while it writes a checkpoint."""
        return {"args": {}, "attributes": self.collect()}


@contextmanager
def shown(label: str) -> Iterator[None]:
    """Show on standard error of the main process that work goes on which cannot be counted."""
    meter = Meter(label, console=Console(stderr=True)) if is_main() else None
    try:
        yield
    finally:
        if meter is not None:
            meter.stop()


class StageBar(TrainerCallback):  # type: ignore[misc]
    """The stage's progress on standard error, a bar or lines, with the time left and the newest figures."""

    def __init__(self, stage: str, *, clock: Clock):
        self.stage, self.clock = stage, clock
        self._meter: Meter | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Show the bar."""
        if not state.is_world_process_zero:
            return
        total = int(self.clock.budget or state.max_steps)
        self._meter = Meter(f"Training {self.stage}", console=Console(stderr=True), total=total)
        self._advance(state)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Move the bar one step on."""
        self._advance(state)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Show the newest reward or loss beside the bar."""
        logs: dict[str, Any] = kwargs["logs"]
        if self._meter is None:
            return
        shown = {"eval_reward": "validation reward", "eval_loss": "validation loss", "reward": "reward", "loss": "loss"}
        name = next((key for key in shown if isinstance(logs.get(key), float)), None)
        if name is not None and not (name == "loss" and "reward" in logs):
            self._meter.update(self._meter.done, note=f"{shown[name]} {logs[name]:.3f}")

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leave the finished bar standing."""
        self.close()

    def close(self) -> None:
        """Free the terminal, also after an error."""
        if self._meter is not None:
            self._meter.stop()
            self._meter = None

    def _advance(self, state: TrainerState) -> None:
        if self._meter is not None:
            self._meter.update(int(self.clock.seconds if self.clock.budget else state.global_step))


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep transformers, datasets and TRL from writing over the bar; their errors still come through.

    Their deprecation warnings are not shown, since no user can act on them: TRL 1.16 uses names that transformers has
    renamed.
    """
    import datasets
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), datasets.is_progress_bar_enabled()
    shown, trl = logging.is_progress_bar_enabled(), getLogger("trl")
    before = trl.level
    trl.setLevel(ERROR)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    datasets.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning)
            yield
    finally:
        logging.set_verbosity(level)
        trl.setLevel(before)
        if shown:
            logging.enable_progress_bar()
        if bars:
            datasets.enable_progress_bar()


class Watched(Trainer):  # type: ignore[misc]
    """Mixin that goes after TRL's trainer among the bases: it gets the log with TRL's metrics, before any tracker."""

    watch: Watch
    run: RunDir

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Check a training row, add `warning/<cause>` to it, and tell the user what begins to go wrong."""
        found = metrics_row(logs)
        if found is not None and found[0] == "train":
            begun = self.watch.take(self.state.global_step, found[1])
            logs |= self.watch.metrics()
            if self.is_world_process_zero():
                for finding in begun:
                    self.run.append_warning(finding.row())
                    sys.stderr.write(f"warning: {finding.line()}\n")  # the progress bar shows it above itself
        super().log(logs, start_time)
