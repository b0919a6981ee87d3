"""What a text says, once read: findings with their facets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

Values = Mapping[str, frozenset[str]]
Measure = tuple[str, tuple[float, ...]]
"""A unit (`mm`, `percent`, `ml` …) and one or more numbers."""

NOTHING: Mapping[Any, Any] = {}
Verdict = Literal["same", "near", "less", "more", "clash"]

LIKELY, POSSIBLE = 0.75, 0.5


Said = str | frozenset[str]
"""A text, or concepts and values by their names in the lexicon."""


class Line(NamedTuple):
    """One facet of one finding, compared."""

    facet: str
    reference: Said
    """What the reference says of it; empty where it says nothing."""
    candidate: Said
    verdict: Verdict
    factor: float
    """What the finding's score is multiplied by."""


class Finding(NamedTuple):
    """One finding or place with all that is said of it."""

    text: str
    names: frozenset[str] = frozenset()
    """Concepts of findings.yaml."""
    places: frozenset[str] = frozenset()
    """Concepts of anatomy.yaml, the most precise only."""
    levels: frozenset[str] = frozenset()
    """Numbered places: vertebrae, ribs."""
    kinds: frozenset[str] = frozenset()
    """Concepts of modality.yaml."""
    values: Values = NOTHING
    """Axis -> values."""
    bound: Mapping[tuple[str, str], str] = NOTHING
    """(axis, head) -> the value that stands beside that head; tells two sides in one finding apart."""
    counts: frozenset[float] = frozenset()
    measures: tuple[Measure, ...] = ()
    words: tuple[str, ...] = ()
    """Words that the lexicon does not know."""
    negative: bool = False
    certainty: float = 1.0
    """1 said, 0.75 likely, 0.5 possible."""
    turned: frozenset[str] = frozenset()
    """Axes whose value comes from a negation ("not enlarged"): their clash is one of polarity."""
    alternatives: bool = False
    """It names two values of one axis with "or": hedging."""

    @property
    def heads(self) -> frozenset[str]:
        """What it is about."""
        return self.names | self.places | self.kinds

    @property
    def empty(self) -> bool:
        """Whether nothing is said but a bare negation or affirmation."""
        return not (self.heads or self.levels or self.values or self.counts or self.measures or self.words)


class Reading(NamedTuple):
    """A text as findings."""

    text: str
    tokens: tuple[str, ...]
    """Its words in order, without punctuation."""
    findings: tuple[Finding, ...]
    answer: Literal["yes", "no"] | None = None
    """A yes or no that leads the text."""
    ambiguous: bool = False
    """A word of it has several meanings; reading it again with other context may change it."""
    states: bool = False
    """It is a sentence ("there is", "is seen"), not a bare name."""
    shortened: bool = False
    """Only the beginning of a very long text was read."""

    @property
    def has_words(self) -> bool:
        """Whether there is anything to read."""
        return bool(self.tokens)

    @property
    def concepts(self) -> frozenset[str]:
        """All places, findings and modalities named."""
        return frozenset().union(*(finding.heads for finding in self.findings))

    @property
    def context(self) -> frozenset[str]:
        """All that may decide what an ambiguous word means elsewhere: concepts and values."""
        values = (value for finding in self.findings for said in finding.values.values() for value in said)
        return self.concepts.union(values)

    @property
    def bare(self) -> bool:
        """Whether it says yes or no and nothing else."""
        return self.answer is not None and not self.findings
