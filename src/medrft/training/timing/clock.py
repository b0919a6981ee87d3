"""Seconds of an optimizer step by part, such as `{"decode": 7.5, "backward": 2.4, …, "other": 0.1}`.

A step is cut where one part ends and the next begins, so its parts add up to it. A part within another one is counted
as itself and not as the other (the vision tower within the prefill). On CUDA each cut is an event on the stream, read
when the step is over: the host waits for the device once a step, at its end. A part is then the time in which the
device worked on it or stood idle for it. On other devices it is the wall clock, without any wait.
"""

from __future__ import annotations

import threading
import time
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from types import TracebackType
from typing import Any

import torch

REST = "other"
"""What no part claims."""


class StepClock:
    """Measures one step at a time, on the thread that opened it; what other threads do is not counted."""

    def __init__(self, device: torch.device):
        self._events = device.type == "cuda"
        self._device = device
        self._open: list[str] = []
        self._marks: list[tuple[str, Any]] = []
        self._thread = threading.get_ident()
        self.tokens = 0.0
        """Tokens of this step, of all processes."""
        self.flops = 0.0
        """Floating-point operations of this step, of this process."""

    @property
    def now_in(self) -> str | None:
        """The part that is being measured; `None` between steps and on other threads."""
        return self._open[-1] if self._open and threading.get_ident() == self._thread else None

    def begin(self) -> None:
        """Open a step."""
        self._thread = threading.get_ident()
        self._open, self._marks = [REST], []
        self.tokens = self.flops = 0.0
        self._mark()

    def part(self, name: str) -> AbstractContextManager[Any]:
        """Inside, time counts as `name`; does nothing between steps."""
        return nullcontext() if self.now_in is None else _Part(self, name)

    def enter(self, name: str) -> None:
        """Begin a part within the one that is being measured."""
        self._open.append(name)
        self._mark()

    def leave(self) -> None:
        """Go back to the part around this one."""
        if len(self._open) > 1:
            self._open.pop()
            self._mark()

    def rest(self, name: str) -> None:
        """From now on, what no part claims counts as `name`."""
        if self.now_in is not None:
            self._open[0] = name
            self._mark()

    def end(self) -> dict[str, float] | None:
        """Seconds of the step by part; `None` if none is open."""
        if self.now_in is None:
            return None
        self._mark()
        marks, self._open, self._marks = self._marks, [], []
        if self._events:
            marks[-1][1].synchronize()
        found: dict[str, float] = {}
        for (name, start), (_, stop) in pairwise(marks):
            took = start.elapsed_time(stop) / 1000 if self._events else stop - start
            found[name] = found.get(name, 0.0) + took
        return found

    def _mark(self) -> None:
        if self._events:
            now: Any = torch.cuda.Event(enable_timing=True)
            now.record(torch.cuda.current_stream(self._device))
        else:
            now = time.perf_counter()
        self._marks.append((self._open[-1], now))


class _Part:
    """One part while it is open."""

    def __init__(self, clock: StepClock, name: str):
        self.clock, self.name = clock, name

    def __enter__(self) -> None:
        self.clock.enter(self.name)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clock.leave()


class Timed:
    """Base of mixins that say what part of a step they are in; `clock` is set once a stage's first step begins."""

    clock: StepClock | None = None

    def _part(self, name: str) -> AbstractContextManager[Any]:
        """Inside, the step's time counts as `name` (`slowest.PARTS`)."""
        return nullcontext() if self.clock is None else self.clock.part(name)
