"""Progress of long work, as functions pass it on: a bar under a label that is told (done, total)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

Advance = Callable[[int, int], None]
"""Told (done, total)."""
Bar = Callable[[str], AbstractContextManager[Advance]]
"""Opens a progress bar under a label."""


@contextmanager
def no_bar(label: str) -> Iterator[Advance]:
    """Show nothing."""
    yield lambda done, total: None
