"""Rewards that are controls of a study: the truth of drawn data, the truth with some verdicts flipped, and a coin.

No noise is drawn while training: a verdict is flipped, or a coin falls, by a hash of the row, of what was written, and
of how often it was written before in the same call. So a resumed run sees the same noise, and a batch of whole groups
the same as each group alone.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from medrft.data.phantom.truth import grade_answer
from medrft.errors import RecipeError
from medrft.types import Example, Item, Score


@dataclass(frozen=True)
class Oracle:
    """What the phantom's oracle says of an answer, 1 or 0: the most that any reward can teach. Only for drawn data.

    `flipped` is the share of verdicts that are turned round, in [0, 1]. An answer that cannot be read earns 0 from any
    reward; it is not turned round.
    """

    name: ClassVar[str] = "oracle"
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    needs: ClassVar[tuple[str, ...]] = ()
    flipped: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.flipped <= 1.0:
            raise RecipeError(f"oracle takes a share from 0 to 1 as flipped, got {self.flipped}")

    def applies(self, item: Item) -> bool:
        """Items whose drawn facts are known."""
        return knows_truth(item.metadata)

    def __call__(self, items: Sequence[Item]) -> list[Score]:
        """1 or 0 per item; `None` where nobody drew the facts."""
        chances = chances_of(items, "flip")
        return [
            self._verdict(item, chance) if self.applies(item) else None
            for item, chance in zip(items, chances, strict=True)
        ]

    def _verdict(self, item: Item, chance: float) -> float:
        asked = Example(
            id="",
            dataset="phantom",
            split="",
            images=(),
            question=item.question or "",
            references=item.references,
            kind=item.kind,
            options=item.options,
            metadata=item.metadata,
        )
        right = grade_answer(asked, item.answer).correct
        turned = self.flipped > 0 and item.answer is not None and chance < self.flipped
        return float(right != turned)


@dataclass(frozen=True)
class Coin:
    """1 or 0 by chance, half of the time each, whatever the answer is: what training on noise alone does."""

    name: ClassVar[str] = "coin"
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    needs: ClassVar[tuple[str, ...]] = ()
    about: ClassVar[str] = "chance"
    """It does not judge the answer, so neither a gate nor an unreadable answer sets it to 0."""

    def applies(self, item: Item) -> bool:
        """Every item."""
        return True

    def __call__(self, items: Sequence[Item]) -> list[Score]:
        """One throw per item, also for items that are equal."""
        return [float(chance < 0.5) for chance in chances_of(items, "coin")]


def knows_truth(metadata: Mapping[str, object]) -> bool:
    """Whether a row's metadata hold drawn facts and what was asked of them, as `ask_oracle` needs."""
    facts = metadata.get("facts")
    return isinstance(facts, Mapping) and "asked" in facts


def chances_of(items: Sequence[Item], purpose: str) -> Iterator[float]:
    """A number in [0, 1) for each item, which depends on its row, on what was written, and on nothing else.

    Where a group holds one text several times, each has a number of its own. A throw for the text would pay the
    frequent text of a group all or nothing: much stronger noise, and always along what the policy already prefers.
    """
    before: Counter[str] = Counter()
    for item in items:
        written = item.answer if item.completion is None else item.completion
        text = json.dumps([purpose, item.id, item.question, written])
        yield _number(text if not before[text] else f"{text}{before[text]}")
        before[text] += 1


def _number(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64
