"""From the findings of two texts to how much of what the reference names the answer names anywhere, in [0, 1].

Long sentences are often cut into findings at other places than in the reference. What was said is then all there, but
in other findings. Which belongs to which is not looked at here; `compare` does that, and takes away what contradicts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from medrft.scorers.clinical.concepts import concept_relation
from medrft.scorers.clinical.lexicon import Lexicon
from medrft.scorers.clinical.quantities import same_number
from medrft.scorers.clinical.reading import Finding
from medrft.scorers.clinical.values import values_relation
from medrft.scorers.clinical.words import word_likeness

NAME, PLACE, NUMBER, VALUE, WORD = 3.0, 2.0, 1.5, 1.0, 1.0
"""What a finding, a place, a number, a value and an unknown word weigh."""
ALIKE = 0.6
"""Unknown words of at least this likeness count in part."""


def named_share(made: Lexicon, reference: Sequence[Finding], candidate: Sequence[Finding]) -> float:
    """The weighted share of the reference's findings, places, numbers, values and words that the answer names."""
    absent, present = (Named([f for f in candidate if f.negative is said]) for said in (True, False))
    total = gained = 0.0
    for finding in reference:
        for weight, found in (absent if finding.negative else present).look_up(made, finding):
            total += weight
            gained += weight * found
    return gained / total if total else 0.0


class Named:
    """All that a text names, whatever it is said of."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.names = frozenset().union(*(finding.names for finding in findings))
        self.places = frozenset().union(*(finding.places for finding in findings))
        self.levels = frozenset().union(*(finding.levels for finding in findings))
        self.kinds = frozenset().union(*(finding.kinds for finding in findings))
        self.values: dict[str, frozenset[str]] = {}
        for finding in findings:
            for axis, values in finding.values.items():
                self.values[axis] = self.values.get(axis, frozenset()) | values
        self.numbers = {number for finding in findings for number in finding.counts}
        self.measures = {(unit, number) for finding in findings for unit, some in finding.measures for number in some}
        self.words = {word for finding in findings for word in (*finding.words, *finding.text.split())}

    def look_up(self, made: Lexicon, finding: Finding) -> Iterator[tuple[float, float]]:
        """The weight of each thing that a finding names, and how well it is named here, in [0, 1]."""
        for weight, mine, yours in (
            (NAME, finding.names, self.names),
            (PLACE, finding.places, self.places),
            (PLACE, finding.kinds, self.kinds),
        ):
            for concept in mine:
                yield weight, max((concept_relation(made, concept, other)[1] for other in yours), default=0.0)
        for level in finding.levels:
            yield PLACE, float(level in self.levels)
        for axis, values in finding.values.items():
            for value in values:
                yield VALUE, values_relation(made, axis, value, self.values.get(axis, frozenset()))
        for count in finding.counts:
            yield NUMBER, float(count in self.numbers)
        for unit, numbers in finding.measures:
            for number in numbers:
                yield NUMBER, float(any(unit == other and same_number(number, value) for other, value in self.measures))
        for word in finding.words:
            likeness = max((word_likeness(word, other) for other in self.words), default=0.0)
            yield WORD, likeness if likeness >= ALIKE else 0.0


def known_share(findings: Collection[Finding]) -> float:
    """The share of what findings name that the lexicon knows, in [0, 1]; 1 if they name nothing."""
    unknown = 0
    for finding in findings:
        unknown += len(finding.words)
    if not unknown:
        return 1.0
    known = sum(
        len(finding.heads) + len(finding.levels) + len(finding.values) + len(finding.counts) + len(finding.measures)
        for finding in findings
    )
    return known / (known + unknown)
