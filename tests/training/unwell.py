"""Scorers that make a training unwell, each in its own way; recipes of the tests name them by file.

All are about form, so that an unreadable answer does not make them 0.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class Scorer:
    """A scorer of whole completions from a function of one."""

    name: str
    function: Callable[[Any], float | None]
    range: tuple[float, float] = (0.0, 1.0)
    needs: ClassVar[tuple[str, ...]] = ()
    about: ClassVar[str] = "form"

    def applies(self, item):
        return True

    def __call__(self, items):
        return [self.function(item) for item in items]


def number(item):
    """0 to 99, by the text and the question, whatever the text says."""
    return sum(map(ord, f"{item.completion}{item.question}")) % 100


def right(item):
    """Whether the answer is the reference."""
    return (item.answer or "").strip(" .").lower() in [reference.lower() for reference in item.references]


constant = Scorer("constant", lambda item: 0.5)
failing = Scorer("failing", lambda item: None if number(item) % 2 else number(item) / 100)
wrong = Scorer("wrong", lambda item: float(not right(item)))
quiet = Scorer("quiet", lambda item: 0.5 + number(item) % 2 * 0.06)
low = Scorer("low", lambda item: 0.1 + number(item) / 1000)
early_letter = Scorer("early_letter", lambda item: float(item.completion[:1].lower() in [*"abcdefghijklm"]))
near_h = Scorer("near_h", lambda item: max(0.0, 1 - abs(ord((item.completion[:1] or "~").lower()) - ord("h")) / 26))
long = Scorer("long", lambda item: item.n_tokens / item.max_tokens)
