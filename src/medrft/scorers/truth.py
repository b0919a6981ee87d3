"""Rewards that are controls of a study: the truth of drawn data, the truth with some verdicts flipped, and a coin.

No noise is drawn while training: a verdict is flipped, or a coin falls, by a hash of the row and of what was written.
So a resumed run, another batch size and another number of processes see the same noise.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
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
        return [self._verdict(item) if self.applies(item) else None for item in items]

    def _verdict(self, item: Item) -> float:
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
        turned = self.flipped > 0 and item.answer is not None and chance_of(item, "flip") < self.flipped
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
        """One throw per item."""
        return [float(chance_of(item, "coin") < 0.5) for item in items]


def knows_truth(metadata: Mapping[str, object]) -> bool:
    """Whether a row's metadata hold drawn facts and what was asked of them, as `ask_oracle` needs."""
    facts = metadata.get("facts")
    return isinstance(facts, Mapping) and "asked" in facts


def chance_of(item: Item, purpose: str) -> float:
    """A number in [0, 1) that depends on the row, on what was written, and on nothing else."""
    written = item.answer if item.completion is None else item.completion
    text = json.dumps([purpose, item.id, item.question, written])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64
