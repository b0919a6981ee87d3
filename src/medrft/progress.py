"""Types for showing the progress of long work: `with bar("Reading") as advance: advance(3, 10)`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

Advance = Callable[[int, int], None]
"""Called with how much is done and how much there is in all, in images, answers or steps."""
Bar = Callable[[str], AbstractContextManager[Advance]]
"""Opens a progress bar under a label."""


@contextmanager
def no_bar(label: str) -> Iterator[Advance]:
    """Show nothing."""
    yield lambda done, total: None
