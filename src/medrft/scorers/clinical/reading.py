"""What `reader` makes of a text: a `Reading`, with its findings and their facets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from medrft.scorers.clinical.lexicon import Lexicon

Values = Mapping[str, frozenset[str]]
Measure = tuple[str, tuple[float, ...]]
"""A unit (`mm`, `percent`, `ml` …) and one or more numbers."""

NOTHING: Mapping[Any, Any] = {}
Verdict = Literal["same", "near", "less", "more", "clash"]

LIKELY, POSSIBLE = 0.75, 0.5


Said = str | frozenset[str]
"""Either a text, or concepts and values by their names in the lexicon."""


def say(said: Said) -> str:
    """Concepts and values as text for a person to read."""
    return said if isinstance(said, str) else ", ".join(sorted(value.replace("_", " ") for value in said))


class Line(NamedTuple):
    """The comparison of one facet of one finding."""

    facet: str
    reference: Said
    """What the reference says of it; empty if it says nothing."""
    candidate: Said
    verdict: Verdict
    factor: float
    """The factor of this line in the finding's score."""


class Finding(NamedTuple):
    """One finding or place, and everything that is said of it."""

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
    """(axis, finding or place) -> the value that stands beside it: tells "left lung, right kidney" from the reverse."""
    counts: frozenset[float] = frozenset()
    measures: tuple[Measure, ...] = ()
    words: tuple[str, ...] = ()
    """Words that the lexicon does not know."""
    negative: bool = False
    certainty: float = 1.0
    """1 if it is stated, 0.75 if likely, 0.5 if possible."""
    turned: frozenset[str] = frozenset()
    """Axes whose value comes from a negation ("not enlarged"): a clash on one is reported as one of polarity."""
    alternatives: bool = False
    """Whether it names two values of one axis with "or", which is hedging."""

    @property
    def heads(self) -> frozenset[str]:
        """All concepts that it names."""
        return self.names | self.places | self.kinds

    @property
    def empty(self) -> bool:
        """Whether it says nothing beyond a bare negation or affirmation."""
        said = self.names or self.places or self.kinds or self.levels or self.values or self.counts
        return not (said or self.measures or self.words)


class Reading(NamedTuple):
    """A text as it was read: its findings, and a few facts about its form."""

    text: str
    lexicon: Lexicon
    """The lexicon that it was read by."""
    tokens: tuple[str, ...]
    """Its words in order, without punctuation."""
    findings: tuple[Finding, ...]
    answer: Literal["yes", "no"] | None = None
    """A yes or no that leads the text."""
    ambiguous: bool = False
    """Whether a word of it has several meanings, so that reading it again with other context may change the result."""
    states: bool = False
    """Whether it is a sentence ("there is", "is seen") and not a bare name."""
    sentences: int = 1
    """How many sentences it has."""
    shortened: bool = False
    """Whether only the beginning of a very long text was read."""

    @property
    def has_words(self) -> bool:
        """Whether there is anything to read."""
        return bool(self.tokens)

    @property
    def concepts(self) -> frozenset[str]:
        """All places, findings and modalities that it names."""
        return frozenset().union(*(finding.heads for finding in self.findings))

    @property
    def context(self) -> frozenset[str]:
        """Its concepts and values, which may decide what an ambiguous word means in another text."""
        values = (value for finding in self.findings for said in finding.values.values() for value in said)
        return self.concepts.union(values)

    @property
    def bare(self) -> bool:
        """Whether it says yes or no and nothing else."""
        return self.answer is not None and not self.findings
