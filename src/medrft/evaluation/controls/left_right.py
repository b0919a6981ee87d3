"""Left and right in questions and answers: from a text to the side it states, or to the text with sides swapped.

A word counts only where it can mean nothing but a side. Texts such as "What is left of the pancreas", "the right
answer", "right-handed", "RUL" and "both sides" state no side that could be swapped safely, and are left as they are.
"""

from __future__ import annotations

import re
from typing import Literal

Side = Literal["left", "right"]

WORD = re.compile(r"\b(?P<side>left|right)(?P<end>ward|wards|most|-sided|-side)?\b", re.IGNORECASE)
OTHER_SENSE = re.compile(
    r"\b(?:what|nothing|anything|something|much|little|who)(?:['’]s| is| are| was)? left\b"
    r"(?! (?:lung|kidney|lobe|hemi\w+|side|sided|upper|lower|ventric\w+|atri\w+|hilum|breast|hip|knee))"
    r"|\b(?:has|have|had|having|patient is|patient was) left\b(?! [a-z]+)"
    r"|\bleft[ -](?:behind|over|out|untreated|unchanged|alone|blank|handed|the|a|an)\b|\bleftovers?\b"
    r"|\bright[ -](?:answer|choice|option|diagnosis|now|after|away|before|angles?|or wrong|handed|way|time|place)\b"
    r"|\b(?:all|quite|that['’]s|(?:is|are) (?:it|this|that|these)|wrong or) right\b|, right\b\W*$",
    re.IGNORECASE,
)
"""Other senses: left as in remaining or departed, right as in correct or straight."""
BOTH = re.compile(
    r"\b(?:both|bilateral(?:ly)?|either side|each side|contralateral|ipsilateral|midline)\b", re.IGNORECASE
)
SHORT = re.compile(r"\b(?:[LR](?:UL|ML|LL|UQ|LQ|CA|V|A|T)?|Lt|Rt)\b")
"""Abbreviated sides such as RUL, LLQ and Rt. Case counts here, or words such as `la` would match."""

OTHER: dict[str, str] = {"left": "right", "right": "left"}


def side_of(text: str) -> Side | None:
    """The one side that a text states; `None` for no side, both, or a word that may mean something else.

    >>> side_of("Lower Left Lung"), side_of("leftward shift"), side_of("left and right"), side_of("bilateral")
    ('left', 'left', None, None)
    >>> side_of("What is left of the pancreas?"), side_of("Is this the right answer?"), side_of("bright")
    (None, None, None)
    """
    if OTHER_SENSE.search(text) or BOTH.search(text) or SHORT.search(text):
        return None
    found = {match["side"].lower() for match in WORD.finditer(text)}
    if len(found) != 1:
        return None
    return "left" if "left" in found else "right"


def has_side(text: str) -> bool:
    """Whether left or right is written in a text at all, in whatever sense."""
    return WORD.search(text) is not None


def swap_sides(text: str) -> str:
    """The text with left and right exchanged and case kept; applied twice it gives the text itself.

    >>> swap_sides("Upper Right Lung"), swap_sides("left-sided, RIGHTMOST")
    ('Upper Left Lung', 'right-sided, LEFTMOST')
    """
    return WORD.sub(lambda match: _in_case(OTHER[match["side"].lower()], match["side"]) + (match["end"] or ""), text)


def _in_case(word: str, like: str) -> str:
    if like.isupper():
        return word.upper()
    return word.capitalize() if like[0].isupper() else word.lower()
