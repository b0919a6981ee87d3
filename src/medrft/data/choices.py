"""Options of a multiple-choice question in the shapes that releases use, and the answer among them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import Any

from medrft.data.base import one_line


def options_of(value: Any) -> tuple[str, ...]:
    """Option texts in order, from a list, a table by letter, a list of such tables, or JSON text of these.

    >>> options_of({"A": "CT", "B": "MRI"})
    ('CT', 'MRI')
    >>> options_of('["A: CT", "B: MRI"]')
    ('CT', 'MRI')
    >>> options_of([{"letter": "A", "content": "CT"}, {"letter": "B", "content": "MRI"}])
    ('CT', 'MRI')
    """
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip()[:1] in ("[", "{") else None
        except (ValueError, RecursionError):
            return ()
    if isinstance(value, Mapping):
        value = [text for _, text in sorted(value.items(), key=lambda pair: str(pair[0])) if text is not None]
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        return ()
    texts = [one_line(_content(option)) for option in value if option is not None]
    return tuple(_without_letter(text, index) for index, text in enumerate(texts) if text)


def lettered(value: Any) -> dict[str, str]:
    """Option texts by letter, from a table by letter or a list of such tables; empty ones are left out.

    An answer given as a letter is to be looked up here: `resolve` would take `A` for an option that reads `A`.

    >>> lettered({"B": " B:MRI", "A": "A", "C": "C:"})
    {'A': 'A', 'B': 'MRI'}
    >>> lettered([{"letter": "A", "content": "CT"}])
    {'A': 'CT'}
    """
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        value = {str(option.get("letter")): _content(option) for option in value if isinstance(option, Mapping)}
    if not isinstance(value, Mapping):
        return {}
    known = {str(letter): one_line(text) for letter, text in value.items()}
    texts = {letter: _without_key(text, letter) for letter, text in sorted(known.items())}
    return {key: text for key, text in texts.items() if text}


def resolve(answer: str, options: Sequence[str]) -> str | None:
    """The option that an answer means, by its text or its letter; `None` when it is none of them.

    >>> resolve("b)", ["CT", "MRI"]), resolve("mri", ["CT", "MRI"]), resolve("PET", ["CT", "MRI"])
    ('MRI', 'MRI', None)
    """
    wanted = _plain(answer)
    for option in options:
        if _plain(option) == wanted:
            return option
    letter = re.fullmatch(r"\(?([A-Za-z])\)?[.:]?", answer.strip())
    index = ascii_uppercase.index(letter[1].upper()) if letter else -1
    if 0 <= index < len(options):
        return options[index]
    labelled = [option for i, option in enumerate(options) if _plain(_without_letter(answer, i)) == _plain(option)]
    return labelled[0] if labelled else None


def _content(option: Any) -> Any:
    return option.get("content", option.get("text")) if isinstance(option, Mapping) else option


def _without_key(text: str, letter: str) -> str:
    """`A: CT` as `CT` under `A`. No pattern is made of a key, which may be a megabyte long."""
    head, colon, rest = text.partition(":")
    return rest.strip() if colon and head.rstrip() == letter else text


def _without_letter(text: str, index: int) -> str:
    """`A: CT` as `CT`, where the letter is the one of its place."""
    if index >= len(ascii_uppercase):
        return text
    return re.sub(rf"^\s*\(?{ascii_uppercase[index]}\s*[).:]\s*(?=\S)", "", text)


def _plain(text: str) -> str:
    return one_line(text).rstrip(".").casefold()
