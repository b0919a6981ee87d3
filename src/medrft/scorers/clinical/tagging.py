"""From tokens to mentions: terms of the lexicon, numbers and measures, levels, cues, and unknown words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from medrft.scorers.clinical.lexicon import Atom, Entry, Lexicon
from medrft.scorers.clinical.morphology import read_word
from medrft.scorers.clinical.reading import Measure
from medrft.scorers.clinical.words import COLON, COMMA, SLASH, STOP

NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:\^-?\d{1,2})?$")
ORDINAL = re.compile(r"(\d+)(?:st|nd|rd|th)$")
ORDINALS = {"eleventh": "11", "twelfth": "12", "thirteenth": "13"}
LEVEL = re.compile(r"[ctls]\d{1,2}$")
NUMBERED = frozenset(("nerve", "rib", "ventricle", "finger", "toe", "digit", "metatarsal", "metacarpal"))
"""Places that are told apart by a number."""
FRACTION = re.compile(r"(\d+)/(\d+)$")
LETTERED = re.compile(r"[a-h]$|\d+[a-e]$")
ROMAN = {"i": "1", "ii": "2", "iii": "3", "iv": "4", "v": "5", "vi": "6", "vii": "7", "viii": "8", "ix": "9", "x": "10"}
GLUED = re.compile(r"(\d+(?:\.\d+)?)([a-z]+)$")
UNITS = {
    **{"mm": ("mm", 1.0), "millimeter": ("mm", 1.0), "cm": ("mm", 10.0), "centimeter": ("mm", 10.0), "m": ("mm", 1e3)},
    **{
        "meter": ("mm", 1e3),
        "in": ("mm", 25.4),
        "inch": ("mm", 25.4),
        "inche": ("mm", 25.4),
        "percent": ("percent", 1.0),
    },
    **{
        "ml": ("ml", 1.0),
        "cc": ("ml", 1.0),
        "milliliter": ("ml", 1.0),
        "liter": ("ml", 1e3),
        "litre": ("ml", 1e3),
        "l": ("ml", 1e3),
        "dl": ("ml", 100.0),
        "ul": ("ml", 1e-3),
        "hu": ("hu", 1.0),
        "hounsfield": ("hu", 1.0),
    },
    **{"degree": ("degree", 1.0), "year": ("year", 1.0), "yo": ("year", 1.0), "month": ("year", 1 / 12)},
    **{"yr": ("year", 1.0), "mth": ("year", 1 / 12), "wk": ("year", 1 / 52), "wks": ("year", 1 / 52)},
    **{"yrs": ("year", 1.0), "mths": ("year", 1 / 12), "hr": ("minute", 60.0), "hrs": ("minute", 60.0)},
    **{
        "minute": ("minute", 1.0),
        "hour": ("minute", 60.0),
        "kg": ("kg", 1.0),
        "g": ("kg", 1e-3),
        "mg": ("kg", 1e-6),
        "mcg": ("kg", 1e-9),
        "ug": ("kg", 1e-9),
        "tesla": ("tesla", 1.0),
    },
    **{"time": ("times", 1.0), "fold": ("times", 1.0), "x": ("times", 1.0)},
    **{"week": ("year", 1 / 52), "day": ("year", 1 / 365), "micron": ("mm", 1e-3), "um": ("mm", 1e-3)},
    **{"ms": ("second", 1e-3), "msec": ("second", 1e-3), "millisecond": ("second", 1e-3), "sec": ("second", 1.0)},
    **{
        "second": ("second", 1.0),
        "s": ("second", 1.0),
        "bpm": ("bpm", 1.0),
        "mmhg": ("mmhg", 1.0),
        "gestday": ("gestday", 1.0),
    },
    **{"nm": ("mm", 1e-6), "micrometer": ("mm", 1e-3), "nanometer": ("mm", 1e-6)},
}
HALF = "half"
LEADING = frozenset(("in", "on", "at", "of", "within"))
"""Prepositions with which some terms begin."""
BETWEEN = frozenset(("x", "by", "to", "-", "and"))
PARTS = {"third": 100 / 3, "quarter": 25.0, "fifth": 20.0, "tenth": 10.0, "eighth": 12.5}
OF = frozenset(("in", "of", "out"))
CONTINUING = BETWEEN | UNITS.keys() | PARTS.keys() | OF
"""The words after a number that belong to it."""


class Mention(NamedTuple):
    """A stretch of the text and what it is."""

    kind: str
    """`term`, `negated`, `ambiguous`, `dimension`, `carrier`, `count`, `measure`, `level`, `word`, or a cue's name."""
    text: str
    entry: Entry | None = None
    measure: Measure = ("", ())


SEPARATORS = {
    COMMA: Mention("joins", COMMA),
    COLON: Mention("joins", COLON),
    STOP: Mention("breaks", STOP),
    SLASH: Mention("alternatives", SLASH),
}


def tag_mentions(made: Lexicon, tokens: Sequence[str]) -> list[Mention]:
    """Mentions in the order of the text; the longest term wins."""
    mentions: list[Mention] = []
    position, last, alone, longer = 0, len(tokens) - 1, _alone(made), made.longer
    while position <= last:
        token = tokens[position]
        mention = alone.get(token)
        # One lookup is enough for most words: what follows begins no longer term with them.
        below = longer.get(token) if position < last else None
        if token == "non" and position < last and (entry := made.terms.get(("non" + tokens[position + 1],))):
            mention = Mention(entry.kind, f"non {tokens[position + 1]}", entry)  # "non-elevated"
            position += 2
        elif mention is None or (below is not None and tokens[position + 1] in below):
            mention, position = _mention(made, tokens, position)
        else:
            position += 1
        mentions.append(mention)
    return mentions


def _alone(made: Lexicon) -> dict[str, Mention]:
    """The mentions of punctuation, and of words that are a term by themselves."""
    if not made.alone:
        made.alone.update(SEPARATORS)
        for (first, *rest), entry in made.terms.items():
            plain = entry.kind != "number" and first != HALF and first not in ROMAN and len(first) > 1
            if plain and not rest:
                made.alone[first] = Mention(entry.cue if entry.kind == "cue" else entry.kind, first, entry)
    return made.alone


def _mention(made: Lexicon, tokens: Sequence[str], position: int) -> tuple[Mention, int]:
    """The mention that begins at a position, and where it ends."""
    token = tokens[position]
    if token == HALF and position + 1 < len(tokens) and tokens[position + 1] in UNITS:
        unit, factor = UNITS[tokens[position + 1]]
        return Mention("measure", HALF, measure=(unit, (factor / 2,))), position + 2
    entry, end = made.longest(tokens, position)
    # A term that begins one word later may reach further: "in | middle ear", not "in middle | ear".
    if entry is not None and token in LEADING and position + 1 < end < made.longest(tokens, position + 1)[1]:
        entry, end = made.terms[(token,)], position + 1
    if position and tokens[position - 1] in made.labels and (label := _label(tokens, position)):
        return label, position + 1
    if entry is None:
        return _unlisted(made, tokens, position)
    if entry.kind == "number":
        return _number_word(entry, token), end
    kind = entry.cue if entry.kind == "cue" else entry.kind
    return Mention(kind, token if end == position + 1 else " ".join(tokens[position:end]), entry), end


def _label(tokens: Sequence[str], position: int) -> Mention | None:
    """The number or letter after "grade", "type" and the like: a name, not a count."""
    token = tokens[position]
    value = ROMAN.get(token, token)
    if not (value.isdigit() or LETTERED.match(value)):
        return None
    if tokens[position - 1] in NUMBERED:
        return _atoms("level", token, Atom("anatomy", "level", value))
    return _atoms("term", token, Atom("category", f"label:{tokens[position - 1]}", value))


def _number_word(entry: Entry, token: str) -> Mention:
    """A word for a number: a count, a share or a multiple."""
    number = float(entry.word)
    if entry.cue == "count_words":
        return Mention("count", token, measure=("", (number,)))
    return Mention("measure", token, measure=("percent" if entry.cue == "fractions" else "times", (number,)))


def _joined(made: Lexicon, tokens: Sequence[str], position: int) -> Entry | None:
    """The term that a prefix makes with the word after it ("para oesophageal")."""
    if tokens[position] not in made.morphology["prefixes"] or position + 1 >= len(tokens):
        return None
    word = tokens[position] + tokens[position + 1]
    entry = made.terms.get((word,)) or read_word(made, word)
    return entry if entry is not None and entry.kind == "term" else None


def _unlisted(made: Lexicon, tokens: Sequence[str], position: int) -> tuple[Mention, int]:
    """The mention that begins with a word with which no term begins, and where it ends."""
    token = tokens[position]
    if token[0].isdigit() or token[0] in "-.<>≤≥":
        return _number(tokens, position)
    if token in ORDINALS:
        return _atoms("level", token, Atom("anatomy", "level", ORDINALS[token])), position + 1
    if LEVEL.match(token):
        return _level(tokens, position)
    entry = _joined(made, tokens, position)
    if entry is not None:
        return Mention("term", f"{token} {tokens[position + 1]}", entry), position + 2
    entry = read_word(made, token)
    if entry is not None:
        return Mention(entry.kind, token, entry), position + 1
    return Mention("word", token), position + 1


def _number(tokens: Sequence[str], position: int) -> tuple[Mention, int]:
    """A count, a measure with its unit ("6.5 x 6.2 cm"), or an ordinal."""
    token = tokens[position]
    if not token.isdecimal() and (other := _written_with_letters(token)) is not None:
        return other, position + 1
    end = position + 1
    if end == len(tokens) or tokens[end] not in CONTINUING:
        return _count(token), end
    numbers = [_value(token)]
    while end + 1 < len(tokens) and tokens[end] in BETWEEN and NUMBER.match(tokens[end + 1]):
        if tokens[end] == "x" and tokens[end + 1].startswith("10^"):
            numbers[-1] *= _value(tokens[end + 1])
        else:
            numbers.append(_value(tokens[end + 1]))
        end += 2
    after = tokens[end] if end < len(tokens) else ""
    ratio = _ratio(tokens, end, numbers)
    if ratio is not None:
        return ratio
    if after in PARTS and len(numbers) == 1:
        return Mention("measure", f"{token} {after}", measure=("percent", (numbers[0] * PARTS[after],))), end + 1
    following = tokens[end + 1] if end + 1 < len(tokens) else ""
    if after in UNITS and not (after == "in" and following not in ("", STOP, COMMA, COLON)):
        unit, factor = UNITS[after]
        text = " ".join(tokens[position : end + 1])
        return Mention("measure", text, measure=(unit, tuple(number * factor for number in numbers))), end + 1
    kind = "count" if len(numbers) == 1 else "measure"
    return Mention(kind, " ".join(tokens[position:end]), measure=("", tuple(numbers))), end


@lru_cache(maxsize=4_096)  # nearly all counts are small numbers
def _count(token: str) -> Mention:
    """The mention of a number that stands by itself."""
    return Mention("count", token, measure=("", (_value(token),)))


def _written_with_letters(token: str) -> Mention | None:
    """An ordinal ("5th"), a number with its unit attached, a fraction, or a word; `None` for a plain number."""
    ordinal = ORDINAL.match(token)
    if ordinal:
        return _atoms("level", token, Atom("anatomy", "level", ordinal[1]))
    glued = GLUED.match(token)
    if glued and glued[2] in UNITS:
        unit, factor = UNITS[glued[2]]
        return Mention("measure", token, measure=(unit, (float(glued[1]) * factor,)))
    share = FRACTION.match(token)
    if share and float(share[2]):
        return Mention("measure", token, measure=("percent", (100 * float(share[1]) / float(share[2]),)))
    return None if NUMBER.match(token) else Mention("word", token)


def _value(token: str) -> float:
    """The number that a token spells; "10^6" is a million."""
    base, _, power = token.partition("^")
    return float(base) ** int(power) if power else float(base)


def _ratio(tokens: Sequence[str], end: int, numbers: Sequence[float]) -> tuple[Mention, int] | None:
    """A share such as "1 in 10", "2 of 3" or "2 out of 3", and where it ends; `None` for anything else."""
    start = end + 1 + (tokens[end : end + 2] == ["out", "of"])
    if len(numbers) != 1 or start >= len(tokens) or tokens[end] not in OF:
        return None
    if not NUMBER.match(tokens[start]) or not 0 < numbers[0] < _value(tokens[start]):
        return None
    share = 100 * numbers[0] / _value(tokens[start])
    return Mention("measure", " ".join(tokens[end - 1 : start + 1]), measure=("percent", (share,))), start + 1


def _level(tokens: Sequence[str], position: int) -> tuple[Mention, int]:
    """A vertebra or a range of them ("l2", "l2 3", "c5 c6")."""
    token, end = tokens[position], position + 1
    atoms = [Atom("anatomy", "level", token)]
    if end < len(tokens) and (LEVEL.match(tokens[end]) or tokens[end] in "0123456789"):
        second = tokens[end] if tokens[end][0].isalpha() else token[0] + tokens[end]
        atoms.append(Atom("anatomy", "level", second))
        end += 1
    return _atoms("level", " ".join(tokens[position:end]), *atoms), end


def _atoms(kind: str, text: str, *atoms: Atom) -> Mention:
    return Mention(kind, text, Entry("term", tuple(atoms)))
