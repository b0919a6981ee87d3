"""Finds near-identical thoughts: from a thought to the kept one that it repeats under another question.

The same words under two different questions say nothing about either. Two thoughts are compared by the Jaccard overlap
of their word trigrams. To be fast, only thoughts that share one of their rarest trigrams are compared: two sets with
an overlap of t or more always do (prefix filtering; Chaudhuri et al., ICDE 2006).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable

from medrft.text import normalize, tokens

Shingles = frozenset[tuple[str, ...]]


def word_shingles(thought: str) -> Shingles:
    """The word trigrams of the normalised text; a text of fewer than three words is one piece."""
    words = tokens(thought)
    return frozenset(tuple(words[start : start + 3]) for start in range(max(1, len(words) - 2)))


class Kept:
    """The thoughts kept so far, each with its question; finds the one that a new thought repeats."""

    def __init__(self, threshold: float | None, thoughts: Iterable[str]) -> None:
        """Count the trigrams of `thoughts`, a sample of what will come, so that rare ones are looked up first.

        `threshold` is the least overlap in (0, 1] that counts as near-identical; `None` turns the check off.
        """
        self.threshold = threshold
        self.counts = (
            Counter(piece for thought in thoughts for piece in word_shingles(thought)) if threshold else Counter()
        )
        self.entries: list[tuple[str, str, Shingles]] = []
        self.index: dict[tuple[str, ...], list[int]] = defaultdict(list)

    def repeats(self, thought: str, question: str) -> str | None:
        """The id of a kept thought of another question that is near-identical to this one, or `None`."""
        if self.threshold is None:
            return None
        mine, asked = word_shingles(thought), normalize(question)
        for number in sorted({number for piece in self._rarest(mine) for number in self.index.get(piece, ())}):
            name, other, theirs = self.entries[number]
            if other != asked and len(mine & theirs) >= self.threshold * len(mine | theirs) - 1e-9:
                return name
        return None

    def add(self, name: str, thought: str, question: str) -> None:
        """Add a thought to those kept; `name` is the id of its example."""
        if self.threshold is None:
            return
        mine = word_shingles(thought)
        for piece in self._rarest(mine):
            self.index[piece].append(len(self.entries))
        self.entries.append((name, normalize(question), mine))

    def _rarest(self, mine: Shingles) -> list[tuple[str, ...]]:
        """The rarest trigrams, just so many that a near-identical set must have at least one of them."""
        assert self.threshold is not None
        ordered = sorted(mine, key=lambda piece: (self.counts[piece], piece))
        return ordered[: len(mine) - math.ceil(self.threshold * len(mine) - 1e-9) + 1]
