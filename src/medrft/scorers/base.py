"""From items to pairs of one answer and one reference, and back: the base class of the scorers that compare the two.

The rules (DESIGN: unscored, scored 0): an item is unscored if no reference holds a word or number. Otherwise any text
that a policy can write gets a number: 0 if there is no answer or it cannot be read, else the best over the references.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, NamedTuple

from medrft.text import CACHED_LENGTH, chosen, extract, is_placeholder, label_of, normalize, yes_no_said
from medrft.types import Completion, Example, Form, Item, Kind, Score, Scorer

Reasons = Mapping[int, str]
"""Why a scorer failed, by the position of the item. A reference that cannot be scored is no failure."""


def score_with_reasons(scorer: Scorer, items: Sequence[Item]) -> tuple[list[Score], Reasons]:
    """Scores, and the reasons for failures if the scorer has a method `scored` that tells them."""
    own = getattr(scorer, "scored", None)
    if own is None:
        return scorer(items), {}
    scores, reasons = own(items)
    return scores, reasons


class Pair(NamedTuple):
    """One answer against one reference, with everything else a scorer may look at; hashable, to score it once."""

    answer: str
    reference: str
    kind: Kind
    question: str | None = None
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class AnswerScorer:
    """Base of the scorers that compare the answer with the references: subclasses define `score_pairs`.

    Each distinct pair is scored once per call. The score of an item is the best over its references.
    """

    name: ClassVar[str]
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    needs: ClassVar[tuple[str, ...]] = ()

    def applies(self, item: Item) -> bool:
        """Every item has an answer to judge."""
        return True

    def can_score(self, reference: str, item: Item) -> bool:
        """Whether the reference holds anything to compare with."""
        return bool(normalize(reference))

    def score_pairs(self, pairs: Sequence[Pair]) -> list[Score]:
        """One score per distinct pair of a readable answer and a reference that can be scored."""
        raise TypeError(f"{type(self).__name__} defines no score_pairs")

    def __call__(self, items: Sequence[Item]) -> list[Score]:
        """One score per item; 0 for an answer that cannot be read, `None` if no reference can be scored."""
        wanted, distinct = self._wanted(items)
        scores = dict(zip(distinct, self.score_pairs(distinct), strict=True)) if distinct else {}
        return [
            self._best([scores[pair] for pair in pairs]) if pairs else None if pairs is None else 0.0
            for pairs in wanted
        ]

    def _wanted(self, items: Sequence[Item]) -> tuple[list[list[Pair] | None], list[Pair]]:
        """The pairs of each item, as `_pairs` gives them, and the distinct pairs of all items."""
        wanted = [self._pairs(item) if self.applies(item) else None for item in items]
        return wanted, list(dict.fromkeys(pair for pairs in wanted for pair in pairs or ()))

    def _pairs(self, item: Item) -> list[Pair] | None:
        """The pairs to score; empty if the item gets 0, `None` if no reference can be scored."""
        references = [reference for reference in item.references if self.can_score(reference, item)]
        if not references:
            return None
        if item.answer is None:
            return []
        answer = spelled_out(item.answer, item.options)
        return [
            Pair(answer, spelled_out(reference, item.options), item.kind, item.question, item.options)
            for reference in references
            if is_readable(item.answer, reference=reference, options=item.options)
        ]

    @staticmethod
    def _best(scores: Sequence[Score]) -> Score:
        """The best score; `None` only if all of them are `None`."""
        return max((score for score in scores if score is not None), default=None)


@dataclass(frozen=True)
class FallibleScorer(AnswerScorer):
    """Base of the scorers of answers that can fail on a pair: subclasses define `judge_pairs`."""

    can_fail: ClassVar[bool] = True
    """`None` may mean that the scorer failed, and not only that the reference cannot be scored."""

    def judge_pairs(self, pairs: Sequence[Pair]) -> tuple[Mapping[Pair, Score], Mapping[Pair, str]]:
        """One score per distinct pair, and the reasons for those that are missing."""
        raise TypeError(f"{type(self).__name__} defines no judge_pairs")

    def __call__(self, items: Sequence[Item]) -> list[Score]:
        """One score per item."""
        return self.scored(items)[0]

    def scored(self, items: Sequence[Item]) -> tuple[list[Score], Reasons]:
        """One score per item, and the reasons for those that are missing."""
        wanted, distinct = self._wanted(items)
        judged, why = self.judge_pairs(distinct) if distinct else ({}, {})
        scores: list[Score] = [
            self._best([judged[pair] for pair in pairs]) if pairs else None if pairs is None else 0.0
            for pairs in wanted
        ]
        failed = {i: [pair for pair in pairs if pair in why] for i, pairs in enumerate(wanted) if pairs}
        return scores, {i: why[pairs[0]] for i, pairs in failed.items() if pairs and scores[i] is None}

    @staticmethod
    def _best(scores: Sequence[Score]) -> Score:
        """The best score; `None` if one is missing that might have been better."""
        return 1.0 if 1.0 in scores else None if None in scores else max(score for score in scores if score is not None)


def spelled_out(text: str, options: tuple[str, ...]) -> str:
    """The option that a bare letter stands for, so that scorers of words see words; any other text as it is.

    >>> spelled_out("(b)", ("CT", "MRI")), spelled_out("B", ("B", "A")), spelled_out("C", ("CT", "MRI"))
    ('MRI', 'B', 'C')
    """
    place = label_of(text, options)
    return text if place is None else options[place]


def is_readable(answer: str, *, reference: str, options: tuple[str, ...] = ()) -> bool:
    """Whether an answer commits to anything; if not, it is scored 0, whatever the scorer would give.

    Not readable are: no word or number; one letter, if there are no options; a placeholder; both yes and no, if the
    reference is one of them; all of the options. An answer equal to the reference is always readable.

    >>> [is_readable(text, reference="effusion") for text in ("-", "x", "N/A", "3", "lung")]
    [False, False, False, True, True]
    >>> is_readable("yes and no", reference="yes"), is_readable("CT, MRI", reference="ct", options=("CT", "MRI"))
    (False, False)
    """
    return (_readable_short if len(answer) <= CACHED_LENGTH else _readable)(answer, reference, options)


def _readable(answer: str, reference: str, options: tuple[str, ...]) -> bool:
    words = normalize(answer)
    if not words:
        return False
    if words == normalize(reference):
        return True
    if len(words) == 1 and words.isascii() and words.isalpha() and not options:
        return False
    if is_placeholder(answer):
        return False
    if len(yes_no_said(reference)) == 1 and len(yes_no_said(answer)) == 2:
        return False
    return not (_lists_all(words, options) and chosen(answer, options) is None)


_readable_short = lru_cache(maxsize=65_536)(_readable)


def _lists_all(words: str, options: Sequence[str]) -> bool:
    """Whether an answer names every option; an option that is part of another is not counted by itself."""
    names = {normalize(option) for option in options}
    distinct = {name for name in names if not any(name != other and name in other for other in names)}
    return len(distinct) > 1 and all(f" {name} " in f" {words} " for name in distinct)


def has_readable_answer(item: Item) -> bool:
    """Whether an item holds an answer that can be read against at least one of its references."""
    if item.answer is None:
        return False
    return any(is_readable(item.answer, reference=text, options=item.options) for text in item.references)


def item_of(example: Example, completion: Completion, *, form: Form, max_tokens: int | None = None) -> Item:
    """The item of one completion; its answer is extracted in the prompt's form."""
    found = extract(completion.text, form)
    return Item(
        references=example.references,
        kind=example.kind,
        answer=found.answer,
        completion=completion.text,
        thinking=found.thinking,
        form=form,
        question=example.question,
        options=example.options,
        n_tokens=completion.n_tokens,
        max_tokens=max_tokens,
        truncated=completion.truncated,
        metadata=example.metadata,
        id=example.id,
    )
