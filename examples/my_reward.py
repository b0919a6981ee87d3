"""Rewards of your own: a scorer as a class, one as a function, and a TRL reward function as it is.

    medrft score IN.jsonl --scorer examples/my_reward.py:Brevity
    medrft score IN.jsonl --reward examples/my_reward.yaml --explain

In a recipe (paths are relative to it):

    reward:
      parts:
        - {scorer: clinical, weight: 0.7}
        - {scorer: ../examples/my_reward.py:Brevity, weight: 0.1, options: {words: 8}}
        - {scorer: ../examples/my_reward.py:names_the_organ, weight: 0.2}
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from medrft.text import tokens
from medrft.types import Item, Score


@dataclass(frozen=True)
class Brevity:
    """1 for an answer of at most `words` words, less for a longer one: words / length.

    It judges the answer, so an unreadable answer and a closed gate make it 0; `about = "form"` would keep it.
    """

    words: int = 5
    name: ClassVar[str] = "brevity"
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    needs: ClassVar[tuple[str, ...]] = ()

    def applies(self, item: Item) -> bool:
        """Open questions; the others have no length to choose."""
        return item.kind == "open"

    def __call__(self, items: Sequence[Item]) -> list[Score]:
        """One score per item; a batch at a time, so that a model could be asked once for all of them."""
        lengths = [len(tokens(item.answer or "")) for item in items]
        return [min(1.0, self.words / length) if length else 0.0 for length in lengths]

    def explain(self, item: Item) -> Iterator[str]:
        """Lines for `medrft score --explain`; optional."""
        yield f"{len(tokens(item.answer or ''))} words, {self.words} are free"


def answered(items: Sequence[Item]) -> list[Score]:
    """A plain function from items to scores in [0, 1]."""
    return [float(item.answer is not None) for item in items]


def names_the_organ(completions, organ, **kwargs):
    """A TRL reward function, unchanged: 1 where the completion names the organ of the example's metadata."""
    texts = [messages[0]["content"].lower() for messages in completions]
    return [None if name is None else float(name.lower() in text) for text, name in zip(texts, organ, strict=True)]
