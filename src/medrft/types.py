"""The records that travel between the parts of medrft: frozen, keyword-only, standard library only.

An `Example` is what a loader reads, a `Completion` what a policy wrote, an `Item` all that a scorer may see of one
completion, and an `Outcome` what a reward made of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, get_args, runtime_checkable

from medrft.errors import DataError, unknown_name

Kind = Literal["closed", "choice", "open"]
KINDS: tuple[Kind, ...] = ("closed", "choice", "open")

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

Form = Literal["think", "direct", "short"]
"""How a prompt asks for its answer: `think` is `<think>…</think><answer>…</answer>`, `direct` is `<answer>…</answer>`
alone, `short` is the whole text, stripped."""

FORMS: frozenset[str] = frozenset(get_args(Form))

Score = float | None
"""A number, or `None` for unscored: the scorer failed or the reference cannot be scored."""


Turn = tuple[str, str]
"""A question that was asked before, and its answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One question about one or more images, with its reference answers.

    Lists become tuples, and a single reference or path a tuple of one. Raises `DataError` for a value of another type,
    `UnknownNameError` for another kind.
    """

    id: str
    """`<dataset>/<split>/<official id, else row number in the official file>`: the same on every machine."""
    dataset: str
    split: str
    images: tuple[Path, ...]
    """8-bit PNG or JPEG files."""
    question: str
    references: tuple[str, ...]
    """Accepted answers; for `choice` the text of the right option. Empty where a control's truth is not known."""
    kind: Kind
    options: tuple[str, ...] = ()
    """The choices in order; (A) is the first. Empty unless `kind` is `choice`."""
    rationale: str | None = None
    """A chain of thought from the data itself; never a template written for real data."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Official field names and values; `modality`, `organ` and `question_type` where known."""
    history: tuple[Turn, ...] = ()
    """Earlier turns of the conversation, first to last: the prompt shows them before the question."""

    def __post_init__(self) -> None:
        """Check every value's type, once, where the example is made."""
        if type(self.images) is not tuple or not all(isinstance(path, Path) for path in self.images):
            object.__setattr__(self, "images", _paths(self.images))
        if type(self.references) is not tuple:
            object.__setattr__(self, "references", _texts("Example.references", self.references))
        if type(self.options) is not tuple:
            object.__setattr__(self, "options", _texts("Example.options", self.options, single=False))
        if self.kind not in KINDS:
            raise unknown_name("kind", str(self.kind), KINDS)
        for name in ("id", "dataset", "split", "question"):
            _check_type(f"Example.{name}", getattr(self, name), str, "text")
        if self.rationale is not None:
            _check_type("Example.rationale", self.rationale, str, "text or None")
        _check_texts("Example.references", self.references)
        _check_texts("Example.options", self.options)
        _check_type("Example.metadata", self.metadata, Mapping, "a mapping")
        if self.history:
            object.__setattr__(self, "history", _turns(self.history))


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
    """All that a scorer may see of one completion. `None` means that the caller cannot know it.

    Lists become tuples, and a single reference a tuple of one. Raises `DataError` for a value of another type,
    `UnknownNameError` for another kind or form.
    """

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
    id: str | None = None
    """The example's id."""

    def __post_init__(self) -> None:
        """Check every value's type once, where the item is made. It may take only microseconds: there are millions."""
        if type(self.references) is not tuple:
            object.__setattr__(self, "references", _texts("Item.references", self.references))
        if type(self.options) is not tuple:
            object.__setattr__(self, "options", _texts("Item.options", self.options, single=False))
        if self.kind not in KINDS:
            raise unknown_name("kind", str(self.kind), KINDS)
        if self.form is not None and self.form not in FORMS:
            raise unknown_name("form", str(self.form), FORMS)
        _check_texts("Item.references", self.references)
        if self.options:
            _check_texts("Item.options", self.options)
        for text in (self.answer, self.completion, self.thinking, self.question, self.id):
            if text is not None and not isinstance(text, str):
                self._refuse_texts()
        for number in (self.n_tokens, self.max_tokens):
            if number is not None and type(number) is not int:
                self._refuse_numbers()
        if type(self.metadata) is not dict:
            _check_type("Item.metadata", self.metadata, Mapping, "a mapping")

    def _refuse_texts(self) -> None:
        for name in ("answer", "completion", "thinking", "question", "id"):
            if getattr(self, name) is not None:
                _check_type(f"Item.{name}", getattr(self, name), str, "text or None")

    def _refuse_numbers(self) -> None:
        for name in ("n_tokens", "max_tokens"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not hasattr(value, "__index__")):
                raise DataError(f"Item.{name} is a whole number or None, got {value!r:.80}")


def _check_type(name: str, value: object, wanted: type, words: str) -> None:
    if not isinstance(value, wanted):
        raise DataError(f"{name} is {words}, got {type(value).__name__} {value!r:.80}")


def _check_texts(name: str, values: tuple[Any, ...]) -> None:
    for value in values:
        if not isinstance(value, str):
            _check_type(name, value, str, "a tuple of texts")


def _texts(name: str, value: object, *, single: bool = True) -> tuple[str, ...]:
    """A list as a tuple; with `single`, one text as a tuple of one."""
    if isinstance(value, str) and single:
        return (value,)
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise DataError(f"{name} is a tuple of texts, got {type(value).__name__} {value!r:.80}")
    return tuple(value)


def _paths(value: object) -> tuple[Path, ...]:
    values = (value,) if isinstance(value, str | Path) else value
    if not isinstance(values, Sequence) or not all(isinstance(path, str | Path) for path in values):
        raise DataError(f"Example.images is a tuple of paths, got {type(value).__name__} {value!r:.80}")
    return tuple(map(Path, values))


def _turns(value: object) -> tuple[Turn, ...]:
    turns = tuple(map(tuple, value)) if isinstance(value, Sequence) and not isinstance(value, str) else None
    if turns is None or any(len(turn) != 2 or not all(isinstance(text, str) for text in turn) for turn in turns):
        raise DataError(f"Example.history is a tuple of (question, answer) pairs of text, got {value!r:.80}")
    return turns


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
        """Whether this scorer concerns the item at all; if not, its part is left out of the sum."""

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
