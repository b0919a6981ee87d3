"""The records that travel between the parts of medrft: frozen, keyword-only, standard library only.

An `Example` is what a loader reads, a `Completion` what a policy wrote, an `Item` all that a scorer may see of one
completion, and an `Outcome` what a reward made of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

Kind = Literal["closed", "choice", "open"]
KINDS: tuple[Kind, ...] = ("closed", "choice", "open")

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

Form = Literal["think", "direct", "short"]
"""How a prompt asks for its answer: `think` = `<think>…</think><answer>…</answer>`, `direct` = `<answer>…</answer>`
alone, `short` = the whole stripped text."""

Score = float | None
"""A number, or `None` for unscored: the scorer failed or the reference cannot be scored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One question about one or more images, with its reference answers."""

    id: str
    """`<dataset>/<split>/<official id, else row number in the official file>`: the same on every machine."""
    dataset: str
    split: str
    images: tuple[Path, ...]
    """8-bit PNG or JPEG files."""
    question: str
    references: tuple[str, ...]
    """Accepted answers, at least one; for `choice` the text of the right option."""
    kind: Kind
    options: tuple[str, ...] = ()
    """The choices in order; (A) is the first. Empty unless `kind` is `choice`."""
    rationale: str | None = None
    """A chain of thought from the data itself; never a template written for real data."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Official field names and values; `modality`, `organ` and `question_type` where known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A row that a loader did not keep."""

    row: str
    """What the example's id would have been."""
    split: str
    reason: str
    """A short fixed phrase that can be counted, such as `empty answer`."""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """What a loader read and what it left out, row by row."""

    dataset: str
    read: Mapping[str, int]
    """Rows read per split."""
    kept: Mapping[str, int]
    """Rows kept per split."""
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()
    """Facts a user should know, such as images shared between splits."""

    def reasons(self) -> Counter[str]:
        """How many rows were left out for each reason."""
        return Counter(row.reason for row in self.left_out)


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """Text a policy produced for one prompt."""

    text: str
    n_tokens: int | None
    """Generated tokens, the end token included; `None` where a server does not say."""
    truncated: bool
    """The token limit was reached before an end token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """All that a scorer may see of one completion. `None` means that the caller cannot know it."""

    references: tuple[str, ...]
    kind: Kind
    answer: str | None
    """The extracted answer; `None` when the completion holds no single answer in its prompt's form (scores 0)."""
    completion: str | None = None
    """The whole text; `None` for a bare answer, to which format and length parts do not apply."""
    thinking: str | None = None
    form: Form | None = None
    question: str | None = None
    options: tuple[str, ...] = ()
    n_tokens: int | None = None
    max_tokens: int | None = None
    truncated: bool | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class Scorer(Protocol):
    """A batched function from items to scores; row order and batch size change no number."""

    @property
    def name(self) -> str:
        """The name its scores are stored under."""

    @property
    def range(self) -> tuple[float, float]:
        """Lowest and highest score: (0, 1), or (-1, 0) for a penalty."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Item fields that must not be `None`, checked when the reward is built for a foreign trainer."""

    def applies(self, item: Item) -> bool:
        """Whether this scorer concerns the item at all; where not, its part is left out of the sum."""

    def __call__(self, items: Sequence[Item]) -> list[Score]:
        """One score per item, the best over its references; `None` when unscored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a reward made of one completion: every part, before and after calibration."""

    reward: Score
    """`None` when any applicable part is unscored."""
    raw: Mapping[str, Score]
    calibrated: Mapping[str, Score]
    applicable: Mapping[str, bool]
    gate: bool | None = None
    """Whether the gate closed; `None` without a gate or when it could not be computed."""
    unscored_reason: str | None = None
    reference: int | None = None
    """Index of the reference that was chosen."""
