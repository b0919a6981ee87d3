"""From the options of a question, in any shape that files have, and an answer to the text of the right option.

A letter is a label, never content. It is looked up among the options *as the file has them*, with the empty ones, and
only then are the empty ones dropped: else the answer "D" would name another option. `labels` takes one text apart.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

from medrft.data.base import NOT_AN_OPTION, RowError, one_line
from medrft.data.tables.labels import Labelled, labelled_text
from medrft.data.tables.literals import parse_literal
from medrft.data.values import show_value

NO_OPTIONS = "options cannot be told apart"
NOTHING = frozenset(("", "nan", "NaN", "NAN", "<NA>", "NaT", "#N/A"))
"""Texts that mean an empty cell."""
NO_LIST = frozenset((*NOTHING, "None", "none", "null", "NULL", "N/A", "n/a", "NA", "[]", "{}", "()"))
"""Texts that mean a question without options."""
SEPARATORS = ("\n", "|", "｜", ";", "；")
LETTER = re.compile(
    r"(?:(?:the\s+)?(?:correct\s+)?(?:answer|option|choice)(?:\s+is)?\s*[:：_]?\s*)?"
    r"[(（\[]?([A-Za-z]|\d{1,2})\s*[)）\].:：．、]?",
    re.IGNORECASE,
)
OWN_LETTER = re.compile(r"\s*[(（\[]?([A-Za-z])\s*[)）\].:：．、]\s*(\S.*)", re.DOTALL)
KEY = re.compile(r"(?:option|choice|opt|op|answer|ans)?[ _-]?([a-l]|\d{1,2})", re.IGNORECASE)
LABEL_KEYS = ("letter", "label", "key", "id", "option")
TEXT_KEYS = ("content", "text", "value", "answer")


@dataclass(frozen=True, slots=True)
class Options:
    """The options of one question in the file's order, each with its label; an option that is empty there is `""`."""

    labels: tuple[str, ...]
    """`A`, `B`, …, or the file's own numbers."""
    texts: tuple[str, ...]
    given: bool = False
    """True if the file itself names the labels; else they follow from the order."""
    sure: bool = True
    """False for a text that was split at commas: a comma may also stand within an option."""

    @property
    def kept(self) -> tuple[str, ...]:
        """The texts without the empty ones, as a model is shown them; the first is (A)."""
        return tuple(text for text in self.texts if text)

    def at(self, label: str) -> str | None:
        """The text under a label, `""` if that option is empty, `None` if there is no such label."""
        wanted = label.upper()
        if wanted in self.labels:
            return self.texts[self.labels.index(wanted)]
        if self.labels and self.labels[0].isdigit() and wanted in ascii_uppercase:  # options 1 to 4, answer "B"
            place = ascii_uppercase.index(wanted)
            return self.texts[place] if place < len(self.texts) else None
        return None


def read_options(value: Any) -> Options | None:
    """The options that a cell or field holds, `None` if it holds none.

    >>> read_options("['CT', 'MRI']").texts, read_options({"A": "CT", "B": None, "C": "PET"}).texts
    (('CT', 'MRI'), ('CT', '', 'PET'))
    >>> read_options("A. CT\\nB. MRI").texts, read_options("A: axial, B: coronal").texts, read_options("x|y").texts
    (('CT', 'MRI'), ('axial', 'coronal'), ('x', 'y'))

    Raises `RowError` for a value that cannot be read as options.
    """
    if _is_nothing(value):
        return None
    if isinstance(value, str):
        found = _of_text(value.strip())
    elif isinstance(value, Mapping):
        found = _of_table(value)
    elif isinstance(value, Sequence) and not isinstance(value, bytes):
        found = _of_list(value)
    else:
        raise RowError(NO_OPTIONS, f"got {show_value(value)}")
    return found if found is not None and found.kept else None


def options_of(value: Any) -> tuple[str, ...]:
    """Option texts in order without the empty ones; `()` for a value that cannot be read as options.

    >>> options_of({"A": "CT", "B": "MRI"}), options_of('["A: CT", "B: MRI"]')
    (('CT', 'MRI'), ('CT', 'MRI'))
    >>> options_of([{"letter": "A", "content": "CT"}, {"letter": "B", "content": "MRI"}])
    ('CT', 'MRI')
    """
    try:
        found = read_options(value)
    except RowError:
        return ()
    return found.kept if found else ()


def texts_by_letter(value: Any) -> dict[str, str]:
    """Option texts by letter, from a table by letter or a list of such tables; empty ones are left out.

    Look up an answer here if it is known to be a letter: `resolve_answer` would prefer an option whose text is `A`.

    >>> texts_by_letter({"B": " B:MRI", "A": "A", "C": "C:"})
    {'A': 'A', 'B': 'MRI'}
    >>> texts_by_letter([{"letter": "A", "content": "CT"}])
    {'A': 'CT'}
    """
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        value = {str(option.get("letter")): _content(option) for option in value if isinstance(option, Mapping)}
    if not isinstance(value, Mapping):
        return {}
    known = {str(letter): one_line(text) for letter, text in value.items()}
    texts = {letter: _without_key(text, letter) for letter, text in sorted(known.items())}
    return {key: text for key, text in texts.items() if text}


def right_option(answer: str, options: Options, *, first: int | None = None) -> str:
    """The text of the option that an answer means: by its whole text, else by its label.

    With `first` a whole number is a place, counted from it. Raises `RowError` if the answer names no option, an empty
    one, two of them, or is a number that could count from 0 or from 1.
    """
    if first is not None and re.fullmatch(r"[0-9]{1,9}", answer):
        place = int(answer) - first
        if not 0 <= place < len(options.texts):
            raise RowError(NOT_AN_OPTION, f"place {answer} of {len(options.texts)}, counted from {first}")
        return _named(options.texts[place], answer)
    wanted = _plain(answer)
    by_text = next((text for text in options.kept if _plain(text) == wanted), None)
    letter = LETTER.fullmatch(answer.strip()) if len(answer) < 60 else None
    by_label = options.at(letter[1]) if letter else None
    if by_text is not None:
        if options.given and by_label and by_label != by_text:
            raise RowError(
                NOT_AN_OPTION, f"{show_value(answer, 20)} is the text of one option and the label of another"
            )
        return by_text
    if by_label is not None and options.sure:
        return _named(by_label, answer)
    both = OWN_LETTER.fullmatch(answer[:5_000])
    if both and (found := options.at(both[1])) and _plain(found) == _plain(both[2]):
        return found
    listed = " | ".join(text[:60] or "(empty)" for text in options.texts[:20])
    if letter and answer.strip(" ().[]").isdigit():
        listed += "; a place counted from 0 or from 1? --set answer_index=0 (or 1) says"
    elif letter and not options.sure:
        listed += "; split at commas, which may stand within an option: write them as a list"
    raise RowError(NOT_AN_OPTION, f"{show_value(answer, 60)} in {listed:.200}")


def resolve_answer(answer: str, options: Sequence[str]) -> str | None:
    """The option that an answer means, by its text or its letter; `None` when it is none of them.

    >>> resolve_answer("b)", ["CT", "MRI"]), resolve_answer("mri", ["CT", "MRI"]), resolve_answer("PET", ["CT", "MRI"])
    ('MRI', 'MRI', None)
    """
    try:
        return right_option(answer, by_place(options))
    except RowError:
        return None


def by_place(texts: Iterable[str], *, sure: bool = True) -> Options:
    """Texts under A, B, C, … by their place."""
    texts = tuple(texts)
    return Options(tuple(map(_letter, range(len(texts)))), texts, sure=sure)


def by_column(cells: Mapping[str, Any]) -> Options | None:
    """The options of columns that hold one each, such as `A`, `B`, … or `option_1`, `option_2`, …, in their order.

    >>> by_column({"Choice A": "CT", "Choice B": "", "Choice C": "MRI"})
    Options(labels=('A', 'B', 'C'), texts=('CT', '', 'MRI'), given=True, sure=True)
    """
    labels = _own_labels(cells)
    texts = [_text(_content(cell)) for cell in cells.values()]
    found = Options(labels, _without_own(texts, labels), given=True) if labels else by_place(texts)
    return found if found.kept else None


def _own_labels(keys: Iterable[Any]) -> tuple[str, ...]:
    """The letters or numbers that keys end in; `()` if a key has none, or two have the same."""
    matches = [KEY.fullmatch(str(key)[:40].strip()) for key in keys]
    labels = tuple(match[1].upper() for match in matches if match)
    return labels if len(labels) == len(matches) == len(set(labels)) else ()


def _named(text: str, answer: str) -> str:
    if not text:
        raise RowError(NOT_AN_OPTION, f"{show_value(answer, 20)} names an option that is empty")
    return text


def _of_text(text: str) -> Options | None:
    if text in NO_LIST:
        return None
    if text[:1] in ("[", "{", "(") or text.startswith(("array(", "np.array(")):
        try:
            return read_options(parse_literal(text))
        except ValueError as error:
            if text[:1] in ("{", "a", "n") or (text[:1] == "[" and any(quote in text for quote in "\"'")):
                raise RowError(NO_OPTIONS, f"{show_value(text, 60)} ({error})") from error
    labelled = labelled_text(text)
    if labelled is not None and not labelled.before:
        return of_labelled(labelled)
    for separator in SEPARATORS:
        if separator in text:
            return by_place(one_line(part) for part in text.split(separator))
    commas = text.strip("[]()").split(",")
    if len(commas) > 1:
        return by_place((one_line(part) for part in commas), sure=False)
    raise RowError(
        NO_OPTIONS, f"{show_value(text, 60)}; write them as a JSON list, as A. …, B. …, or with | between them"
    )


def of_labelled(found: Labelled) -> Options:
    """Options from a text that has its own labels."""
    return Options(found.labels, tuple(map(one_line, found.texts)), given=True)


def _of_table(value: Mapping[Any, Any]) -> Options | None:
    """Options of a table by letter or number, or of a table with two lists, `label` and `text`."""
    lists = [value.get(key, value.get(f"{key}s")) for key in ("label", "text")]
    if all(isinstance(part, Sequence) and not isinstance(part, str | bytes) for part in lists):
        labels, texts = lists
        if len(labels) == len(texts):
            return _of_table(dict(zip(map(str, labels), texts, strict=True)))
    own = dict(zip(value, _own_labels(value), strict=False))
    numbered = bool(own) and all(label.isdigit() for label in own.values())
    keys = sorted(value, key=lambda key: int(own[key])) if numbered else sorted(value, key=str)
    texts = [_text(_content(value[key])) for key in keys]
    if not own:
        return by_place(texts)
    labels = tuple(own[key] for key in keys)
    return Options(labels, _without_own(texts, labels), given=True)


def _of_list(value: Sequence[Any]) -> Options | None:
    tables = [option for option in value if isinstance(option, Mapping)]
    if tables and len(tables) == len(value):
        labels = [next((str(option[key]) for key in LABEL_KEYS if key in option), "") for option in tables]
        if all(KEY.fullmatch(label[:40]) for label in labels) and len(set(labels)) == len(labels):
            return _of_table(dict(zip(labels, map(_content, tables), strict=True)))
    texts = [_text(_content(option)) for option in value]
    own = [OWN_LETTER.fullmatch(text[:5_000]) for text in texts if text]
    letters = [match[1].upper() for match in own if match]
    first = list(ascii_uppercase[: len(letters)])
    if len(own) == len(letters) == len(set(letters)) == len(texts) > 1 and sorted(letters) == first:
        return Options(tuple(letters), tuple(match[2].strip() for match in own if match), given=True)
    return by_place(_without_own(texts, tuple(map(_letter, range(len(texts))))))


def _letter(place: int) -> str:
    return ascii_uppercase[place] if place < len(ascii_uppercase) else f"#{place + 1}"


def _text(value: Any) -> str:
    if _is_nothing(value):
        return ""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, float):
        return f"{value:.10g}"
    text = one_line(value)
    return "" if text in NOTHING else text


def _is_nothing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _content(option: Any) -> Any:
    if not isinstance(option, Mapping):
        return option
    return next((option[key] for key in TEXT_KEYS if key in option), None)


def _without_key(text: str, letter: str) -> str:
    """`A: CT` becomes `CT` under the key `A`. No regular expression is made of a key, which may be a megabyte long."""
    head, colon, rest = text.partition(":")
    return rest.strip() if colon and head.rstrip() == letter else text


def _without_own(texts: Sequence[str], labels: Sequence[str]) -> tuple[str, ...]:
    """`A: CT`, `B: MRI` become `CT`, `MRI` if all but empty texts have their letter: "C. difficile" alone stays."""
    found = [OWN_LETTER.fullmatch(text[:5_000]) for text in texts]
    pairs = [(match, label) for match, label, text in zip(found, labels, texts, strict=True) if text]
    if not all(match and match[1].upper() == label and len(match[0]) < 5_000 for match, label in pairs):
        empty = [f"{label}:" for label in labels]  # "C:" beside "A: CT" holds nothing
        return tuple("" if text == mark else text for text, mark in zip(texts, empty, strict=True))
    return tuple(match[2].strip() if match else "" for match in found)


def _plain(text: str) -> str:
    return one_line(text).rstrip(".").casefold()
