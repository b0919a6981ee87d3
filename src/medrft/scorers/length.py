"""From the length of a completion to a score: parts that pay for length or punish it.

Lengths are in tokens as generated (`n_tokens` of `max_tokens`), or in sentences. A part does not apply to an item that
lacks the fields it needs. None of the parts judges the answer, so gates leave them alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from medrft.errors import RecipeError
from medrft.scorers.base import Reasons
from medrft.scorers.correct import Correct
from medrft.text import sentences
from medrft.types import Item, Score


@dataclass(frozen=True)
class LengthPart:
    """Base of the parts on length that score each item on its own."""

    name: ClassVar[str]
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    needs: ClassVar[tuple[str, ...]] = ("completion", "n_tokens", "max_tokens")
    about: ClassVar[str] = "form"

    def applies(self, item: Item) -> bool:
        """Items that carry the fields this part needs."""
        return all(getattr(item, field) is not None for field in self.needs) and item.max_tokens != 0

    def __call__(self, items: Sequence[Item]) -> list[Score]:
        """One score per item, `None` where it does not apply."""
        return [self.score_one(item) if self.applies(item) else None for item in items]

    def score_one(self, item: Item) -> Score:
        """The score of an item that has the fields needed."""
        raise TypeError(f"{type(self).__name__} defines no score_one")


def _share(item: Item) -> float:
    """The share of the allowed tokens that were used, in [0, 1]."""
    assert item.n_tokens is not None and item.max_tokens
    return min(1.0, item.n_tokens / item.max_tokens)


@dataclass(frozen=True)
class Ecr(LengthPart):
    """ECR of Zhu et al. (2505.13973), in our reading: min(1, n / max), so it pays for length whatever the answer."""

    name: ClassVar[str] = "ecr"

    def score_one(self, item: Item) -> Score:
        """The share of the tokens allowed."""
        return _share(item)


@dataclass(frozen=True)
class _OnCorrect(LengthPart):
    """Base of the parts that depend on the recipe's `correct` outcome."""

    correct: Correct

    def __call__(self, items: Sequence[Item]) -> list[Score]:
        """One score per item; unscored if its correctness is."""
        return self.scored(items)[0]

    def scored(self, items: Sequence[Item]) -> tuple[list[Score], Reasons]:
        """Scores, and why correctness could not be told."""
        right, reasons = self.correct.scored(items)
        scores = [
            None if not self.applies(item) or ok is None else self.score_known(item, ok=ok == 1.0)
            for item, ok in zip(items, right, strict=True)
        ]
        return scores, reasons

    def score_known(self, item: Item, *, ok: bool) -> float:
        """The score of an item whose correctness is known."""
        raise TypeError(f"{type(self).__name__} defines no score_known")


@dataclass(frozen=True)
class Cwr(_OnCorrect):
    """CWR of Zhu et al., in our reading: correct * min(1, n / max), so it pays for length only in right answers."""

    name: ClassVar[str] = "cwr"

    def score_known(self, item: Item, *, ok: bool) -> float:
        """The share of the tokens allowed, 0 for a wrong answer."""
        return _share(item) if ok else 0.0


@dataclass(frozen=True)
class CosineLength(_OnCorrect):
    """Cosine-scaled length (2502.03373; TRL's `get_cosine_scaled_reward`), moved into [0, 1].

    v = end + (start - end) (1 + cos(pi n / max)) / 2, where start and end are `right_short` and `right_long` for a
    right answer, `wrong_short` and `wrong_long` for a wrong one. By default a right answer earns more the shorter it
    is, and a wrong one the longer it is.
    """

    name: ClassVar[str] = "cosine_length"
    right_short: float = 1.0
    right_long: float = 0.75
    wrong_short: float = 0.0
    wrong_long: float = 0.25

    def __post_init__(self) -> None:
        """Refuse values outside [0, 1], which would leave the declared range."""
        for key in ("right_short", "right_long", "wrong_short", "wrong_long"):
            if not 0 <= getattr(self, key) <= 1:
                raise RecipeError(f"cosine_length {key} lies in [0, 1], got {getattr(self, key)}")

    def score_known(self, item: Item, *, ok: bool) -> float:
        """The value at the item's length."""
        start, end = (self.right_short, self.right_long) if ok else (self.wrong_short, self.wrong_long)
        return end + 0.5 * (start - end) * (1 + math.cos(math.pi * _share(item)))


@dataclass(frozen=True)
class SoftOverlong(LengthPart):
    """Soft overlong punishment of DAPO (2503.14476, Eq. 13), in [-1, 0].

    It is 0 up to max - cache tokens, then ((max - cache) - n) / cache, and -1 from max on. `cache` is in tokens; by
    default it is a fifth of max.
    """

    name: ClassVar[str] = "soft_overlong"
    range: ClassVar[tuple[float, float]] = (-1.0, 0.0)
    cache: int | None = None

    def __post_init__(self) -> None:
        """Refuse a cache of less than one token."""
        if self.cache is not None and self.cache < 1:
            raise RecipeError(f"soft_overlong cache is a number of tokens >= 1, got {self.cache}")

    def score_one(self, item: Item) -> Score:
        """The punishment at the item's length."""
        assert item.n_tokens is not None and item.max_tokens
        cache = min(self.cache or math.ceil(item.max_tokens / 5), item.max_tokens)
        return -min(1.0, max(0.0, (item.n_tokens - (item.max_tokens - cache)) / cache))


@dataclass(frozen=True)
class SentenceBand(LengthPart):
    """Length band of MRPO (2606.31825) on the K sentences of the thought, in [-1, 0].

    It is 0 within [k_min, k_max], -(k_min - K) / k_min below, and -(K - k_max) / k_max above, but at least -1 (that
    bound is ours). Without a thought the sentences of the whole completion are counted.
    """

    name: ClassVar[str] = "sentence_band"
    range: ClassVar[tuple[float, float]] = (-1.0, 0.0)
    needs: ClassVar[tuple[str, ...]] = ("completion",)
    k_min: int = 4
    k_max: int = 10

    def __post_init__(self) -> None:
        """Refuse an empty band."""
        if not 1 <= self.k_min <= self.k_max:
            raise RecipeError(f"sentence_band needs 1 <= k_min <= k_max, got {self.k_min} and {self.k_max}")

    def score_one(self, item: Item) -> Score:
        """The punishment at the item's number of sentences."""
        count = sentences(item.thinking if item.thinking is not None else item.completion or "")
        if count < self.k_min:
            return -(self.k_min - count) / self.k_min
        return -min(1.0, max(0, count - self.k_max) / self.k_max)
