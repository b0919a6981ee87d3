"""From items to scores by the scorer `clinical`: does the answer say what the reference says, in whatever words?"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from medrft.scorers.base import AnswerScorer, Pair
from medrft.scorers.clinical.compare import Mode
from medrft.scorers.clinical.explain import CONFIDENT, explain_best
from medrft.scorers.clinical.own import lexicon_facts, own_lexicon
from medrft.scorers.clinical.score import compare_answers, reading_confidence, score_pair
from medrft.scorers.clinical.tie_breaker import break_ties, nli_of
from medrft.text import chosen
from medrft.types import Item, Score

REMEMBERED = 2_048
"""Scores of answers with more characters are not remembered, so that the memory stays small."""


@dataclass(frozen=True)
class Clinical(AnswerScorer):
    """Compares findings and their facets: 1 for the same meaning, 0 for a contradiction, between them for less or more.

    Needs no model and no network; docs/clinical.md describes the rules and the lexicon. Over several references the
    best counts, so an answer gets 0 for a contradiction only if it contradicts all of them.
    """

    name: ClassVar[str] = "clinical"
    lexicon: tuple[Path, ...] = ()
    """The user's own lexicon files, in the form of a pack; they are added to ours. Raises `DataError` for a bad one."""
    mode: Mode | None = None
    """`answer` or `findings`; otherwise a reference of several sentences is read as a report's findings."""
    nli: str | None = None
    """Hub id or folder of an NLI model for references that the lexicon hardly knows, as `tie_breaker` describes."""
    cache: bool = True
    """Whether to remember pairs, with a bound; `False` to time the work itself."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "lexicon", tuple(Path(path) for path in self.lexicon))
        if self.lexicon:
            own_lexicon(self.lexicon)
        if self.nli:
            nli_of(self.nli)

    def describe(self) -> dict[str, Any]:
        """The user's own lexicon files and NLI model, where there are any."""
        own = {"lexicon": lexicon_facts(self.lexicon)} if self.lexicon else {}
        return {**own, **({"nli": self.nli} if self.nli else {})}

    def can_score(self, reference: str, item: Item) -> bool:
        """Always: a reference without words falls back to a lexical match."""
        return True

    def score_pairs(self, pairs: Sequence[Pair]) -> list[Score]:
        """One score per distinct pair; `None`, with a warning, if the NLI model's output is not a number."""
        if not self.nli:
            return [self._score(pair) for pair in pairs]
        scores = {pair: self._score(pair) for pair in pairs}
        broken = break_ties(list(scores), scores, own_lexicon(self.lexicon), self.nli)
        if lost := sum(one.score is None for one in broken.values()):
            warnings.warn(f"clinical: {lost} of {len(pairs)} unscored: nli {self.nli} gave no number", stacklevel=2)
        return [broken[pair].score if pair in broken else scores[pair] for pair in pairs]

    def explain(self, item: Item) -> list[str]:
        """Lines for `medrft score --explain`: the comparison with the best reference, facet by facet.

        Empty for an answer that gets 0 because it cannot be read.
        """
        pairs = self._pairs(item)
        if not pairs:
            return []
        # All pairs of one item hold the same answer and question.
        best = explain_best(
            [pair.reference for pair in pairs],
            _compared(pairs[0]),
            item.question,
            own_lexicon(self.lexicon),
            self.mode,
        )
        lines = best.text().splitlines()
        if self.nli:
            scores = {pair: self._score(pair) for pair in pairs}
            broken = break_ties(pairs, scores, own_lexicon(self.lexicon), self.nli)
            lines += [one.text(self.nli) for pair, one in broken.items() if pair.reference == best.reference]
        return lines

    def trusted(self, item: Item) -> bool:
        """Whether the lexicon knows two thirds of what some reference names. If not, a gate lets every answer pass."""
        made = own_lexicon(self.lexicon)
        return any(reading_confidence(reference, made) >= CONFIDENT for reference in item.references)

    def _score(self, pair: Pair) -> float:
        answer = _compared(pair)
        if self.cache and len(answer) <= REMEMBERED:
            return score_pair(pair.reference, answer, pair.question, own_lexicon(self.lexicon), self.mode)
        return compare_answers(pair.reference, answer, pair.question, own_lexicon(self.lexicon), self.mode).score


def _compared(pair: Pair) -> str:
    """The text to compare: the option that the answer chooses, else the answer itself."""
    option = chosen(pair.answer, pair.options) if pair.options else None
    return pair.answer if option is None else option
