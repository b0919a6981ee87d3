"""From a user's scorer to one that cannot end a run: an item on which it fails is unscored, and the reason is told.

A failure is never turned into a number, and never passed over in silence.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from medrft.errors import UserError, in_one_line
from medrft.scorers.base import Reasons
from medrft.types import Item, Score, Scorer


class Caught:
    """`with Caught() as caught:` catches what somebody else's code raises, and keeps it in `caught.error`.

    Ctrl-C and a `UserError` are not caught.
    """

    def __init__(self) -> None:
        self.error: Exception | None = None

    def __enter__(self) -> Caught:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self.error = error if isinstance(error, Exception) and not isinstance(error, UserError) else None
        return self.error is not None


@dataclass(frozen=True)
class Guarded:
    """A user's scorer whose failures are counted by item; if a whole batch fails, it is asked again item by item.

    A failure is an exception, a number of scores other than that of items, a score that is no finite number, or `None`
    from a scorer with `can_fail = True`. Everything else about the scorer stays as it is.
    """

    scorer: Scorer

    def __getattr__(self, name: str) -> Any:
        """The scorer's own name, range, `explain` and so on."""
        # pickle looks up `__setstate__` and the like before `scorer` is set, which would recurse here without end.
        if name == "scorer" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.scorer, name)

    def applies(self, item: Item) -> bool:
        """What the scorer says; if it fails to say, the part applies, and the item is unscored."""
        with Caught():
            return bool(self.scorer.applies(item))
        return True

    def __call__(self, items: Sequence[Item]) -> list[Score]:
        """One score per item, `None` if the scorer failed on it."""
        return self.scored(items)[0]

    def scored(self, items: Sequence[Item]) -> tuple[list[Score], Reasons]:
        """Scores, and the reasons for those that are missing; warns once, with the counts."""
        found = self._batch(items)
        if isinstance(found, str):
            found = [self._one(item) for item in items]
        reasons = {
            i: why for i, (item, row) in enumerate(zip(items, found, strict=True)) if (why := self._why(item, row))
        }
        if reasons:
            counts = Counter(reasons.values())
            told = "; ".join(f"{n} x {why}" for why, n in counts.most_common(3))
            warnings.warn(f"{self.name}: {len(reasons)} of {len(items)} unscored: {told}", stacklevel=2)
        return [None if i in reasons or isinstance(row, str) else row for i, row in enumerate(found)], reasons

    def _batch(self, items: Sequence[Item]) -> list[Score | str] | str:
        """For each item its score, or as text why it has none; a single text if the call as a whole failed."""
        made, error = call_guarded(lambda: list(self.scorer(items)))
        if error is not None:
            return error
        if len(made) != len(items):
            return f"returned {len(made)} scores for {len(items)} items"
        return [_checked(score) for score in made]

    def _one(self, item: Item) -> Score | str:
        found = self._batch([item])
        return found if isinstance(found, str) else found[0]

    def _why(self, item: Item, row: Score | str) -> str | None:
        """The reason if the scorer failed on this item, else `None`."""
        if isinstance(row, str):
            return row
        _, error = call_guarded(lambda: self.scorer.applies(item))
        if error is not None:
            return error
        return "it gave no score" if row is None and getattr(self.scorer, "can_fail", False) else None


def call_guarded(work: Callable[[], Any]) -> tuple[Any, str | None]:
    """What somebody else's code returns, and `None`; or `None`, and what it raised in one line."""
    made = None
    with Caught() as seen:
        made = work()
    return made, in_one_line(seen.error) if seen.error else None


def _checked(score: Any) -> Score | str:
    """A finite number or `None` as it is; for anything else, why it is no score."""
    if score is None:
        return None
    number, error = call_guarded(lambda: float(score))
    if error is not None:
        return f"a score is {type(score).__name__}, not a number"
    return float(number) if math.isfinite(number) else f"a score is {number}"
