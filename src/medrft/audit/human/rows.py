"""The records of what people judged: `Rated` rows, `Order`s between them, and the `HumanSet` that a file makes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from medrft.errors import DataError
from medrft.types import Score

NORMAL = "No abnormal findings."
"""What an empty list of findings says, for every reward alike."""
RIGHT = frozenset(("right", "correct", "true", "yes", "1", "entailment", "entailed", "paraphrase"))
WRONG = frozenset(("wrong", "incorrect", "false", "no", "0", "contradiction", "contradicted", "neutral", "partial"))
FEW = 20
"""With fewer rows a note says that the figure is rough."""
LISTED = 5

Kind = Literal["ratings", "labels", "orderings"]
Vote = float | str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rated:
    """One answer to one reference, with what each rater said of it."""

    id: str
    """Names the row to people, such as `study 5, C1` or `line 12`."""
    references: tuple[str, ...]
    candidate: str
    question: str = ""
    study: str
    """Rows of one study are not independent: intervals leave out whole studies."""
    votes: tuple[Vote, ...] = ()
    """One per rater of the set, in order: a number, a word in lower case, or `None` from who said nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """How people order the candidates of one reference."""

    id: str
    about: str
    candidates: dict[str, int]
    """Name -> row."""
    relations: tuple[tuple[str, str, str], ...]
    """(`C1`, `>` or `=`, `C2`); a reward keeps the order if it keeps all of them."""

    def __str__(self) -> str:
        return ", ".join(" ".join(relation) for relation in self.relations)


@dataclass(frozen=True, kw_only=True)
class HumanSet:
    """All that one file says. Raises `DataError` where nothing could be learned from it."""

    name: str
    reader: str
    kind: Kind
    rows: tuple[Rated, ...]
    raters: tuple[str, ...] = ("people",)
    orders: tuple[Order, ...] = ()
    right: frozenset[str] = RIGHT
    """The labels that call an answer right; every other label calls it wrong."""
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Refuse a set without rows or differences, and note what makes its figures rough."""
        units = self.orders if self.kind == "orderings" else self.rows
        if not units:
            raise DataError(f"{self.name} holds no row that people judged")
        if self.kind != "orderings":
            self._refuse_no_difference()
        if len(units) < FEW:
            self.notes.append(f"{len(units)} {'orders' if self.orders else 'rows'} only: the figures are rough")
        if len({row.study for row in self.rows}) < 2:
            self.notes.append("all rows are of one study, which says nothing about others: no intervals")

    @property
    def studies(self) -> list[str]:
        """The study of each row."""
        return [row.study for row in self.rows]

    def truths(self) -> list[float]:
        """What the raters said together: the mean rating, or 1 and 0 by majority; NaN for a tie or no vote."""
        if self.kind == "ratings":
            return [mean_rating(row.votes) for row in self.rows]
        words = [majority(row.votes) for row in self.rows]
        return [math.nan if word is None else float(word in self.right) for word in words]

    def _refuse_no_difference(self) -> None:
        known = [value for value in self.truths() if not math.isnan(value)]
        if not known:
            raise DataError(f"{self.name}: no row has a {self.kind[:-1]}, or the raters tie on every one")
        if len(set(known)) == 1:
            says = f"a mean rating of {known[0]:g}" if self.kind == "ratings" else ("wrong", "right")[int(known[0])]
            raise DataError(
                f"{self.name}: all {len(known)} rows are judged alike ({says}), so there is no order that a reward "
                "could agree with; add rows that people judged otherwise"
            )
        tied = [row.id for row, value in zip(self.rows, self.truths(), strict=True) if math.isnan(value)]
        if tied:
            more = f" and {len(tied) - LISTED} more" if len(tied) > LISTED else ""
            why = "without a rating" if self.kind == "ratings" else "on which the raters tie"
            self.notes.append(f"{len(tied)} rows {why} are left out: {'; '.join(tied[:LISTED])}{more}")


def mean_rating(votes: tuple[Vote, ...]) -> float:
    """The mean of the ratings given, NaN for none.

    >>> mean_rating((4.0, None, 5.0))
    4.5
    """
    given = [vote for vote in votes if isinstance(vote, float)]
    return math.fsum(given) / len(given) if given else math.nan


def majority(votes: tuple[Vote, ...]) -> str | None:
    """The label that most raters gave; `None` if several labels are as frequent, or nobody gave one.

    >>> majority(("right", "wrong", "right")), majority(("right", "wrong"))
    ('right', None)
    """
    counts = Counter(vote for vote in votes if isinstance(vote, str)).most_common(2)
    if not counts or (len(counts) > 1 and counts[0][1] == counts[1][1]):
        return None
    return counts[0][0]


def keeps_order(order: Order, scores: Sequence[Score], *, tolerance: float) -> bool | None:
    """Whether scores keep an order: more for `>`, at most `tolerance` apart for `=`; `None` if one is missing."""
    found = {name: scores[row] for name, row in order.candidates.items()}
    kept = True
    for left, sign, right in order.relations:
        a, b = found[left], found[right]
        if a is None or b is None:
            return None
        kept = kept and (a > b if sign == ">" else abs(a - b) <= tolerance)
    return kept


def as_sentences(findings: list[str]) -> str:
    """A list of findings as text, one sentence each; an empty list says that nothing is abnormal.

    >>> as_sentences(["Cardiomegaly", "small left effusion."]), as_sentences([])
    ('Cardiomegaly. small left effusion.', 'No abnormal findings.')
    """
    texts = [text.strip().rstrip(".") for text in findings if text.strip()]
    return " ".join(f"{text}." for text in texts) or NORMAL
