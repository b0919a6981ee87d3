"""One thread on which completions are graded, call by call in the order in which they were asked for.

Training goes on meanwhile and takes each result when it needs it. All scorers of a stage are called there and nowhere
else, so that none is called twice at a time. It is a daemon: after a second Ctrl-C the process leaves although a judge
has not answered yet.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, TypeVar

Made = TypeVar("Made")


class GradingThread:
    """Starts with its first call; `prepare` is called there before the first one."""

    def __init__(self, prepare: Callable[[], None] | None = None):
        self._prepare = prepare
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self.seconds = 0.0
        """Seconds that calls have taken so far."""

    def submit(self, call: Callable[[], Made]) -> Future[Made]:
        """Put a call behind those that wait; whatever it raises is raised by the future's `result`."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="grading", daemon=True)
            self._thread.start()
        future: Future[Made] = Future()
        self._calls.put((future, call))
        return future

    def close(self) -> None:
        """Drop what waits and end the thread; a call under way is not waited for."""
        while True:
            try:
                waiting = self._calls.get_nowait()
            except Empty:
                break
            if waiting is not None:
                waiting[0].cancel()
        self._calls.put(None)
        if self._thread is not None:
            self._thread.join(timeout=0.1)
            self._thread = None

    def _work(self) -> None:
        prepare = self._prepare
        while (waiting := self._calls.get()) is not None:
            future, call = waiting
            if not future.set_running_or_notify_cancel():
                continue
            began, made = time.perf_counter(), None
            with _Kept() as error:
                if prepare is not None:
                    prepare()
                    prepare = None
                made = call()
            self.seconds += time.perf_counter() - began
            if error.raised is None:
                future.set_result(made)
            else:
                future.set_exception(error.raised)


class _Kept:
    """Keeps what is raised inside for the thread that asked, which raises it; `SystemExit` of a scorer, too."""

    raised: BaseException | None = None

    def __enter__(self) -> _Kept:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self.raised = error
        return True
