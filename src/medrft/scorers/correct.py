"""The recipe's one binary outcome: is this answer correct? Used by CWR, filters, pass@k and the monitor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from medrft.config import CorrectConfig, EncoderConfig
from medrft.scorers import build_scorer
from medrft.scorers.base import Reasons, scored
from medrft.scorers.choice import ChoiceMatch, YesNoMatch
from medrft.types import Item, Score


class Correct:
    """1 or 0 per item: yes/no match for closed, choice match for choice, `correct: {scorer, at_least}` for open.

    Raises `UnknownNameError` for a scorer that does not exist.
    """

    name: ClassVar[str] = "correct"
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    needs: ClassVar[tuple[str, ...]] = ()

    def __init__(self, correct: CorrectConfig | None = None, encoder: EncoderConfig | None = None) -> None:
        config = correct or CorrectConfig()
        self.at_least = config.at_least
        self.scorer = build_scorer(config.scorer, encoder=encoder)

    def applies(self, item: Item) -> bool:
        """Every item."""
        return True

    def __call__(self, items: Sequence[Item]) -> list[Score]:
        """1, 0, or `None` where the reference cannot be scored or the scorer failed."""
        return self.scored(items)[0]

    def scored(self, items: Sequence[Item]) -> tuple[list[Score], Reasons]:
        """Outcomes, and why the scorer of open questions failed."""
        reasons: dict[int, str] = {}
        result: list[Score] = [None] * len(items)
        for kind, scorer, bar in (
            ("closed", YesNoMatch(), 1.0),
            ("choice", ChoiceMatch(), 1.0),
            ("open", self.scorer, self.at_least),
        ):
            rows = [position for position, item in enumerate(items) if item.kind == kind]
            if not rows:
                continue
            scores, why = scored(scorer, [items[row] for row in rows])
            for position, score in zip(rows, scores, strict=True):
                result[position] = None if score is None else float(score >= bar)
            reasons |= {rows[number]: reason for number, reason in why.items()}
        return result, reasons
