"""Shows the progress of long work: `with bar("Reading") as advance: advance(3, 10)`.

On a terminal it is a bar. Elsewhere, where a bar would be nothing or noise, it is a line every ten seconds, and one at
the end of work that took more than two. Work that cannot be counted, such as the loading of weights, tells its seconds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

Advance = Callable[[int, int], None]
"""Called with how much is done and how much there is in all, in images, answers or steps."""
Bar = Callable[[str], AbstractContextManager[Advance]]
"""Opens a progress bar under a label."""

EVERY, WORTH = 10.0, 2.0
"""Seconds between two lines; work that took less than the second of these gets no closing line."""


@contextmanager
def no_bar(label: str) -> Iterator[Advance]:
    """Show nothing."""
    yield lambda done, total: None


class Meter:
    """The progress of one piece of work, on a console: a bar on a terminal, lines elsewhere."""

    def __init__(self, label: str, *, console: Console, total: int | None = None):
        self.label, self.console, self.total = label, console, total
        self.done, self.note = 0, ""
        self.begun = self.told = time.monotonic()
        self._base = (self.begun, 0)
        self._bar: Any
        self._task: Any
        self._bar, self._task = _rich_bar(label, console, total) if console.is_terminal else (None, None)
        self._ended = threading.Event()
        if self._bar is None:  # work that does not call for a while is told of all the same
            threading.Thread(target=self._remind, daemon=True).start()

    def update(self, done: int, total: int | None = None, *, note: str = "") -> None:
        """Show that `done` of `total` are done; `note` are the newest figures."""
        now = time.monotonic()
        if now - self.begun < 1:
            self._base = (now, done)  # what an earlier start had done came at once, and says nothing of the rate
        self.done, self.total, self.note = done, self.total if total is None else total, note or self.note
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=self.total, note=self.note)
        else:
            self._tell(now)

    def _remind(self) -> None:
        while not self._ended.wait(EVERY):
            self._tell(time.monotonic())

    def _tell(self, now: float) -> None:
        """A line, if the last one is long enough ago."""
        if now - self.told >= EVERY:
            self.told = now
            self._say(self.line(now))

    def line(self, now: float) -> str:
        """How far it is, how fast, and how long it will take.

        >>> meter = Meter("Evaluating", console=__import__("rich.console").console.Console(file=None, quiet=True))
        >>> meter._base, meter.done, meter.total = (0.0, 0), 40, 200
        >>> meter.line(20.0)
        'Evaluating: 40 of 200, 2/s, 1 min 20 s left'
        """
        if not self.done and not self.total:
            return f"{self.label}: {say_seconds(now - self.begun)} so far"
        of = f" of {self.total:,}" if self.total else ""
        since, before = self._base
        rate = (self.done - before) / (now - since) if now > since else 0.0
        parts = [f"{self.label}: {self.done:,}{of}"]
        if rate > 0:
            parts.append(f"{rate:.3g}/s" if rate >= 1 else f"{1 / rate:.3g} s each")
            parts += [f"{say_seconds((self.total - self.done) / rate)} left"] if self.total else []
        return ", ".join([*parts, self.note] if self.note else parts)

    def stop(self) -> None:
        """Leave the finished bar standing, or tell how long it took."""
        self._ended.set()
        if self._bar is not None:
            self._bar.stop()
        elif (took := time.monotonic() - self.begun) > WORTH:
            of = f" of {self.total:,}" if self.total and self.done < self.total else ""
            counted = f"{self.done:,}{of} in " if self.done or self.total else ""
            self._say(f"{self.label}: {counted}{say_seconds(took)}{f', {self.note}' if self.note else ''}")

    def _say(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)


def _rich_bar(label: str, console: Console, total: int | None) -> tuple[Any, Any]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{speed:.3g}/s" if speed else "")

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), Rate())
    times = (TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[note]}", markup=False))
    bar = Progress(*columns, *times, console=console)
    task = bar.add_task(label, total=total, note="")
    bar.start()
    return bar, task


def say_seconds(value: float) -> str:
    """A length of time in seconds, in one or two units.

    >>> say_seconds(42.3), say_seconds(125), say_seconds(7300)
    ('42 s', '2 min 5 s', '2 h 1 min')
    """
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
