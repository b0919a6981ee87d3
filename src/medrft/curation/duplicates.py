"""Near-identical thoughts: the same words under different questions are written about neither.

Two thoughts are compared by the Jaccard overlap of their word trigrams. Only pairs that share one of their rarest
trigrams are compared at all: two sets with overlap t or more must (prefix filtering; Chaudhuri et al., ICDE 2006).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable

from medrft.text import normalize, tokens

Shingles = frozenset[tuple[str, ...]]


def word_shingles(thought: str) -> Shingles:
    """Word trigrams of the normalised text; of a shorter text, its words as one."""
    words = tokens(thought)
    return frozenset(tuple(words[start : start + 3]) for start in range(max(1, len(words) - 2)))


class Kept:
    """Thoughts kept so far, each with its question, and which of them a new one repeats."""

    def __init__(self, threshold: float | None, thoughts: Iterable[str]) -> None:
        """`thoughts` are all that may come: their trigrams are counted, so that rare ones are looked up first."""
        self.threshold = threshold
        self.counts = (
            Counter(piece for thought in thoughts for piece in word_shingles(thought)) if threshold else Counter()
        )
        self.entries: list[tuple[str, str, Shingles]] = []
        self.index: dict[tuple[str, ...], list[int]] = defaultdict(list)

    def repeats(self, thought: str, question: str) -> str | None:
        """The id of a kept thought of another question that this one is near-identical to, if any."""
        if self.threshold is None:
            return None
        mine, asked = word_shingles(thought), normalize(question)
        for number in sorted({number for piece in self._rarest(mine) for number in self.index.get(piece, ())}):
            name, other, theirs = self.entries[number]
            if other != asked and len(mine & theirs) >= self.threshold * len(mine | theirs) - 1e-9:
                return name
        return None

    def add(self, name: str, thought: str, question: str) -> None:
        """Keep a thought."""
        if self.threshold is None:
            return
        mine = word_shingles(thought)
        for piece in self._rarest(mine):
            self.index[piece].append(len(self.entries))
        self.entries.append((name, normalize(question), mine))

    def _rarest(self, mine: Shingles) -> list[tuple[str, ...]]:
        """As many of the rarest trigrams as a near-identical set cannot lack all of."""
        assert self.threshold is not None
        ordered = sorted(mine, key=lambda piece: (self.counts[piece], piece))
        return ordered[: len(mine) - math.ceil(self.threshold * len(mine) - 1e-9) + 1]
