"""From the answer cell of a row (a text, number, truth value, list, or list as text) to its accepted answers as texts.

`choices` says which option an answer means. A question that ends in its options is taken apart here too, because only
the answer tells whether they are options.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from medrft.data import base
from medrft.data.base import RowError
from medrft.data.notes import count_noun
from medrft.data.tables import choices
from medrft.data.tables.choices import Options
from medrft.data.tables.labels import labelled_text
from medrft.data.tables.literals import parse_literal
from medrft.data.values import show_value
from medrft.text import infer_kind
from medrft.types import Example

NOTHING = frozenset((*choices.NOTHING, "N/A", "n/a", "NA", "#NA", "null", "NULL", "Null"))
"""Words in the cell of a row without an answer. The word "None" is not one: it answers "which abnormality?"."""
TRUTH = {"true": "Yes", "false": "No"}
ASKS_TRUTH = re.compile(r"\btrue\b.*\bfalse\b|\bfalse\b.*\btrue\b", re.I | re.S)
COUNTS = re.compile(r"\bhow many\b|\bnumber of\b|\bcount\b|几|多少", re.I)
FLOAT = re.compile(r"-?\d{1,15}\.\d{1,17}")


@dataclass(slots=True)
class Answers:
    """Reads the answers of one table, and remembers which rows a note must name."""

    separator: str | None = None
    """What stands between several references in one text; `None` if a text is one reference."""
    first: int | None = None
    """If given (0 or 1), a whole number is the place of an option, counted from this."""
    truths: list[str] = field(default_factory=list)
    lists: list[str] = field(default_factory=list)
    letters: list[str] = field(default_factory=list)
    spelled: list[str] = field(default_factory=list)
    numbers: list[str] = field(default_factory=list)

    def read(self, value: Any, options: Options | None, question: str, *, name: str) -> tuple[str, ...]:
        """Accepted answers, each once; for a choice the text of the right option. Raises `RowError` if none is left."""
        found = [self._text(one, options, question, name=name) for one in self._values(value, name)]
        references = tuple(dict.fromkeys(text for text in found if text))
        if not references:
            raise RowError(base.EMPTY_ANSWER, "" if value in (None, "") else show_value(value, 40))
        if options is None:
            if len(references) == 1 and re.fullmatch(r"\(?[A-H]\)?\.?", references[0]):
                self.letters.append(name)
            return references
        return tuple(dict.fromkeys(choices.right_option(text, options, first=self.first) for text in references))

    def spelled_out(self, question: str, value: Any, *, name: str) -> tuple[str, Options | None]:
        """The question without the options that it ends in, and the options; as it is unless the answer is one of them.

        Raises `RowError` if the answer is a letter and names none of the options.
        """
        found = labelled_text(question)
        if found is None:
            return question, None
        options = choices.of_labelled(found)
        try:
            texts = [base.answer_text(one) for one in self._values(value, name, quiet=True)]
            for text in filter(None, texts):
                choices.right_option(text, options, first=self.first)
        except RowError:
            if any(text and choices.LETTER.fullmatch(text) for text in texts):
                raise
            self.spelled.append(name)
            return question, None
        return (found.before or question), options

    def _values(self, value: Any, name: str, *, quiet: bool = False) -> Sequence[Any]:
        if isinstance(value, str):
            text = value.strip()
            if text.startswith(("[", "array(")) and text.endswith(("]", ")")):
                try:
                    values = parse_literal(text)
                except ValueError:
                    return [value]  # a text in brackets, such as [illegible]
                if isinstance(values, list | tuple):
                    self.lists += [] if quiet else [name]
                    return values
            return value.split(self.separator) if self.separator else [value]
        return value if isinstance(value, list | tuple) else [value]

    def _text(self, value: Any, options: Options | None, question: str, *, name: str) -> str:
        if (isinstance(value, bool) and options) or (isinstance(value, str) and value.strip().lower() in TRUTH):
            return self._truth(str(value).strip(), options, question, name=name)
        text = base.answer_text(value)
        if text is None:
            told = "; a truth value: write yes or no" if isinstance(value, bool) else ""
            raise RowError(base.NOT_TEXT, f"got {show_value(value)}{told}")
        if base.is_number(value) and text:
            self.numbers.append(name)
        if text in NOTHING and not (options and text in options.texts):
            return ""
        if options and FLOAT.fullmatch(text) and text not in options.texts:
            return text.removesuffix(".0")  # pandas writes 2 as 2.0 once a cell of the column is empty
        return text

    def _truth(self, text: str, options: Options | None, question: str, *, name: str) -> str:
        if options or ASKS_TRUTH.search(question[:2_000]):
            return text if not options or text.lower() in map(str.lower, options.texts) else TRUTH[text.lower()]
        self.truths.append(name)
        return TRUTH[text.lower()]

    def whole_numbers(self, examples: Sequence[Example]) -> dict[int, Example]:
        """Examples whose answer `2.0` stands for 2, corrected, by their place in `examples`.

        pandas writes a column of whole numbers like that once a cell of it is empty. It is recognised by the column
        (all its answers are written as Python writes floats) or by the question (how many).
        """
        texts = [text for example in examples for text in example.references]
        floats = bool(texts) and all(FLOAT.fullmatch(text) and repr(float(text)) == text for text in texts)
        changed: dict[int, Example] = {}
        for place, example in enumerate(examples):
            if example.options or not any(text.endswith(".0") for text in example.references):
                continue
            if floats or COUNTS.search(example.question[:2_000]):
                references = tuple(
                    text.removesuffix(".0") if FLOAT.fullmatch(text) else text for text in example.references
                )
                if references != example.references:
                    changed[place] = replace(example, references=references, kind=infer_kind(references))
                    self.numbers.append(example.id)
        return changed

    def notes(self) -> list[str]:
        """One note for each kind of answer that was not taken as it was written."""
        told = (
            (self.truths, "answer was a truth value", "answers were truth values", "read as Yes and No"),
            (self.lists, "answer was a list in a text", "answers were lists in a text", "read as several references"),
            (
                self.letters,
                "answer is a single letter and its row has no options",
                "answers are single letters and their rows have no options",
                "read as open questions; columns.options=NAME maps a column of options",
            ),
            (
                self.spelled,
                "question spells out options that its answer is not among",
                "questions spell out options that their answers are not among",
                "read as open questions",
            ),
        )
        return [
            f"{count_noun(len(rows), one, many)}, {what}: {first_ids(rows)}" for rows, one, many, what in told if rows
        ]


def first_ids(rows: Iterable[str], limit: int = 5) -> str:
    """The first few rows' ids, each once."""
    names = list(dict.fromkeys(rows))
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
