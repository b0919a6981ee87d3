"""Ends a stage before its steps do: on a signal, or when it has trained as long as another stage (`wall_clock_of`).

After Ctrl-C or SIGTERM the step under way is finished, a checkpoint is written, and the process leaves. A second Ctrl-C
leaves at once.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from medrft.training.arguments import EVALUATIONS


class Stopped(SystemExit):
    """Raised after SIGTERM, once a checkpoint was written; exit status 143 (128 + the signal's number)."""


class Signals:
    """Notes SIGINT and SIGTERM while it is open, for the training loop to act on; the old handlers return at exit."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handlers
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number

    def leave(self) -> None:
        """Raise `KeyboardInterrupt` or `Stopped` if a signal came; call it once everything is on disk."""
        if self.received == signal.SIGINT:
            raise KeyboardInterrupt
        if self.received == signal.SIGTERM:
            raise Stopped(143)


class StopOnSignal(TrainerCallback):  # type: ignore[misc]
    """Saves and stops at the end of the step in which a signal came."""

    def __init__(self, signals: Signals):
        self.signals = signals
        self._cut_short = False

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Save and stop if any process got a signal; all must, or the others would wait for the one that left."""
        if agree_on(self.signals.received is not None, args):
            self.signals.received = self.signals.received or signal.SIGTERM  # another process has it
            control.should_save = True
            control.should_training_stop = True
            self._cut_short = state.global_step < state.max_steps and not float(state.epoch or 0).is_integer()

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Neither log nor evaluate if a signal cut the epoch short: the Trainer takes that for the epoch's end."""
        if self._cut_short:
            control.should_log = control.should_evaluate = False


class Clock(TrainerCallback):  # type: ignore[misc]
    """Counts the seconds a stage trains (evaluation and saving left out), and ends it after `budget` of them.

    With a budget it also asks for evaluations and checkpoints, at equal shares of the time.
    """

    def __init__(self, *, before: float = 0.0, budget: float | None = None, now: Callable[[], float] = time.monotonic):
        self.budget, self.now = budget, now
        self._before = before
        self._began = self._mark = now()
        self._paused = 0.0

    @property
    def seconds(self) -> float:
        """Seconds of training so far, those before a resume included."""
        return self._before + (self._mark - self._began) - self._paused

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start counting here, so that loading is left out."""
        self._began = self._mark = self.now()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Stop when the time is up; evaluate and save after each of `EVALUATIONS` equal shares of it."""
        shares = self._shares()
        self._mark = self.now()
        if self.budget is None:
            return
        if agree_on(self.seconds >= self.budget, args):
            control.should_training_stop = True
        if control.should_training_stop or agree_on(self._shares() > shares, args):
            control.should_evaluate = args.eval_strategy != "no"
            control.should_save = True

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Leave out the time of the evaluation that just ended."""
        self._pause()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Leave out the time of the checkpoint that was just written."""
        self._pause()

    def _pause(self) -> None:
        now = self.now()
        self._paused += now - self._mark
        self._mark = now

    def _shares(self) -> int:
        return int(self.seconds / self.budget * EVALUATIONS) if self.budget else 0


def agree_on(wish: bool, args: TrainingArguments) -> bool:
    """Whether any process has the wish; all must ask at the same step, and so decide alike."""
    if args.world_size == 1 or not torch.distributed.is_initialized():
        return wish
    votes = torch.tensor(int(wish), device=args.device)
    torch.distributed.all_reduce(votes, op=torch.distributed.ReduceOp.MAX)
    return bool(votes.item())
