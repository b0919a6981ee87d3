"""From items to the recipe's binary outcome, correct (1) or not (0), for CWR, filters, pass@k and the monitor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from medrft.scorers.base import Reasons, score_with_reasons
from medrft.scorers.choice import ChoiceMatch, YesNoMatch
from medrft.types import Item, Kind, Score, Scorer


class Correct:
    """1 or 0 per item: yes/no match for closed, choice match for choice, `correct: {scorer, at_least}` for open.

    Training, evaluation and curation share this definition: `medrft.rewards.correct_of` builds it for a recipe, with
    the options that the recipe's reward gives the scorer.
    """

    name: ClassVar[str] = "correct"
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    needs: ClassVar[tuple[str, ...]] = ()

    def __init__(self, scorer: Scorer, *, at_least: float = 1.0) -> None:
        """`scorer` decides open questions: an answer with a score of at least `at_least` is correct."""
        self.scorer = scorer
        self.by_kind: dict[Kind, tuple[Scorer, float]] = {
            "closed": (YesNoMatch(), 1.0),
            "choice": (ChoiceMatch(), 1.0),
            "open": (scorer, at_least),
        }

    def outcome(self, kind: Kind, score: Score) -> Score:
        """1 or 0 from the score that decides for this kind of question; `None` stays `None`."""
        return None if score is None else float(score >= self.by_kind[kind][1])

    def applies(self, item: Item) -> bool:
        """Every item."""
        return True

    def __call__(self, items: Sequence[Item]) -> list[Score]:
        """1, 0, or `None` if the reference cannot be scored or the scorer failed."""
        return self.scored(items)[0]

    def scored(self, items: Sequence[Item]) -> tuple[list[Score], Reasons]:
        """Outcomes, and why the scorer of open questions failed."""
        reasons: dict[int, str] = {}
        result: list[Score] = [None] * len(items)
        for kind, (scorer, _) in self.by_kind.items():
            rows = [position for position, item in enumerate(items) if item.kind == kind]
            if not rows:
                continue
            scores, why = score_with_reasons(scorer, [items[row] for row in rows])
            for position, score in zip(rows, scores, strict=True):
                result[position] = self.outcome(kind, score)
            reasons |= {rows[number]: reason for number, reason in why.items()}
        return result, reasons


def as_part(correct: Correct) -> Correct:
    """The recipe's outcome as a part of its own reward."""
    return correct
