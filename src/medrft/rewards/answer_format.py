"""Whether a completion is its prompt's answer form and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from medrft.text import extract
from medrft.types import Item, Score


@dataclass(frozen=True)
class AnswerFormat:
    """1 where the completion is exactly its form (`text.extract`'s `well_formed`), else 0: R_f of ARMed.

    Not applicable to a bare answer, nor to the form `short`, which has no tags.
    """

    name: ClassVar[str] = "answer_format"
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    needs: ClassVar[tuple[str, ...]] = ("completion",)
    about: ClassVar[str] = "form"
    """Not an answer part: a gate leaves it alone."""

    def applies(self, item: Item) -> bool:
        """Completions in a form with tags."""
        return item.completion is not None and item.form in ("think", "direct")

    def __call__(self, items: Sequence[Item]) -> list[Score]:
        """1 or 0 per completion, `None` where it does not apply."""
        return [
            float(extract(item.completion, item.form).well_formed)
            if item.completion is not None and item.form in ("think", "direct")
            else None
            for item in items
        ]
