"""From an answer and the options of its question to the one option that it chooses, by letter, by text, or by both.

A letter is a label only where punctuation or words of choosing make it one: "B. Vitamin C deficiency" chooses B, and
the C in it is a word. An ambiguous answer chooses nothing: two letters, two options, or a letter with another option's
text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from medrft.text.extraction import boxes_of
from medrft.text.normal import normalize
from medrft.text.polarity import SAYS, yes_no_said

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
MAX_LENGTH = 2_048
"""An answer of more characters chooses nothing."""

DRESS = re.compile(r"\\[()\[\]]|[*`#$]|</?(?:b|i|u|p|em|strong|br|span|code|answer|final|choice)\s?/?>|\\[!,;:] ?")
"""Markdown, LaTeX and HTML around an answer."""
LATEX = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|boldsymbol)\s{0,8}\{([^{}]{0,512})\}")
LINE = re.compile(r"(?<=[\w)\]])[^\S\n]*\n\s*")
SPACES = re.compile(r"[\s_]+")

LEAD_IN = re.compile(
    r"\W{0,8}(?:(?:so|thus|therefore|hence|overall|ok|okay|well|based on (?:the|this) [a-z]{1,12}),? )?"
    r"(?:(?:i (?:would |will |'d )?(?:think|believe|say|guess|choose|select|pick|go (?:with|for))|"
    r"i'd (?:choose|say|pick|select|go (?:with|for))|my (?:choice|pick) is) (?:that )?)?"
    r"(?:(?:the |my )?(?:(?:correct|final|right|best|short|most likely|single) ){0,2}"
    r"(?:answer|choice|option|response|letter)\b ?(?:is|would be|should be|must be|has to be|:|=|-)? ?[:.]? ?)?"
    r"(?:(?:最终|正确|因此|所以|故|应该|应|我){0,3}"
    r"(?:答案|回答|选项|选择|选){1,2}(?:应该|应)?(?:是|为)? ?[:,]? ?)?"
    r"(?:option\b|choice\b|letter\b)? ?",
    re.IGNORECASE,
)
"""What people say before an answer ("So I think the correct answer is"). Every part may be missing."""
ENDS = r"(?=[).:\]}>,;=|/、。!?\"”»]|['’](?!\w)|[-–—](?:[\s\d(]|$)| [-–—=]|\s?$|[\u3400-\u9fff])"
REASON = (
    r"(?=,? (?i:is|was|are|because|since|as|due|given|for the|based on|which|where|while|or|and|rather|not|but|so)\b)"
)
LEADING = re.compile(rf"[^\w\s]{{0,4}}\s?([A-Za-z])(?:{ENDS}|{REASON})")
"""A letter at the beginning that is a label, because punctuation, a reason or nothing follows it."""
AFTER = re.compile(r"\A[).:\]}>,;=|/、。!?\"'”’»]*\s*(?:[-–—=/|:]\s+)*")
"""What stands between a label and the text after it. A sign with no space behind it belongs to the text: "B. -5"."""
LISTED = re.compile(r"\W{0,4}(?:(?:or\b|and\b|或|和|及|与)\W{0,4})?([A-Z])(?![\w'’]|[ -]?[a-z])")
"""One more letter straight after a label."""
CUED = re.compile(
    r"(?i:\b(?:answer|option|choice|choose|chose|select|selected|pick|picked|letter|with|therefore|thus|hence|so|"
    r"(?:it|answer|choice|option)(?: is|'s| must be| should be| would be)|is|be|think|believe|say)|[:=→>]|"
    r"答案|选项|选|是|为)"
    rf"[\s:=(\[\"'“]{{0,4}}(?<![a-z])([A-Z])(?:{ENDS}|{REASON})"
)
"""A letter anywhere in the text, if words of choosing ("answer is", "I pick", "选") introduce it."""
BRACKETED = re.compile(r"(?<![\w'])[(\[]([A-Z])[)\]]")
STATED = re.compile(
    r"(?:^|[\s,.;:])(?:option |choice )?[(\[]?([A-Z])[)\]]? is (?=(?:the )?(?:correct|right|best|true|answer))"
)
REFUSED = re.compile(
    r"(?:^|[\s,.;:(])(?:(?:not|neither|nor|than|instead of|without|excluding|except)(?: (?:option|choice|the))?"
    r"[\s(\[]{1,2}([A-Z])(?![\w'])|(?:option |choice )?[(\[]?([A-Z])[)\]]? (?:is|was|are)(?: clearly| definitely)?"
    r"(?: not\b|n't\b| (?:wrong|incorrect|false|unlikely|excluded|ruled out)\b))"
)
"""A letter that the text rejects: "not B", "C is wrong"."""
NEGATED = frozenset(("not", "no", "neither", "nor", "without", "except", "excluding"))
INSTEAD = frozenset((("instead", "of"), ("rather", "than"), ("other", "than")))
REFUSING = frozenset(
    (be, word) for be in ("is", "are") for word in ("not", "wrong", "incorrect", "unlikely", "excluded")
)
PRONOUNS = frozenset("AI")
"""Letters that are also words: "A mass" and "I see" hold no label."""


def chosen(text: str, options: tuple[str, ...]) -> str | None:
    """Normalised text of the one option that `text` chooses; `None` when it chooses none or is ambiguous.

    An answer that is the text of an option chooses it, whatever letters it holds. Markup around it does not count.

    >>> options = ("CT", "CT with contrast", "MRI")
    >>> [chosen(text, options) for text in ("B", "(b)", "B. CT with contrast", "mri", "The answer is C.", "C: MRI")]
    ['ct with contrast', 'ct with contrast', 'ct with contrast', 'mri', 'mri', 'mri']
    >>> [chosen(text, options) for text in ("CT or MRI", "B. MRI", "A and B", "not MRI", "ultrasound", "")]
    [None, None, None, None, None, None]
    >>> [chosen(text, options) for text in ("**C**", r"\\\\boxed{C}", "C is correct.", "答案：C", "I choose (C).")]
    ['mri', 'mri', 'mri', 'mri', 'mri']
    >>> chosen("B. Vitamin C deficiency", ("Scurvy", "Vitamin C deficiency", "Rickets")), chosen("B", ("B", "A"))
    ('vitamin c deficiency', 'b')
    """
    return None if len(text) > MAX_LENGTH else _chosen(text, options)


@lru_cache(maxsize=8_192)
def _chosen(text: str, options: tuple[str, ...]) -> str | None:
    names = tuple(option_name(option, index) for index, option in enumerate(options))
    whole = _undressed(text)
    body = whole[lead.end() :] if (lead := LEAD_IN.match(whole)) else whole
    letters = frozenset(LETTERS[: len(names)])
    label = _leading(body, names, letters)
    written = whole.casefold()
    exact = {name for option, name in zip(options, names, strict=True) if written and written == _written(option)}
    if not exact and not (label and label[1]):
        exact = {name for words in (whole, body) if (name := normalize(words)) and name in names}
    if exact:
        # Brackets make a letter a label ("(B)"), even if the options are letters too.
        alone = re.fullmatch(r"\W{0,2}[(\[]([A-Za-z])[)\]]\W{0,2}", whole)
        labelled = alone[1].upper() if alone else ""
        return _only(exact | ({names[LETTERS.index(labelled)]} if labelled in letters else set()))
    if label is not None:
        letter, rest = label
        if normalize(rest) == names[LETTERS.index(letter)]:
            return names[LETTERS.index(letter)]
        claimed = {letter} | _list_after(rest, letters) | _anywhere(rest, letters)
        refused = _refused(whole, letters)
        return _agreed(claimed - refused, rest, names, refused=bool(refused & {letter}))
    refused = _refused(whole, letters)
    return _agreed(_anywhere(whole, letters) - refused, body, names, refused=False)


def label_of(text: str, options: Sequence[str]) -> int | None:
    """The place, from 0, of the option whose letter is all that a text says ("(b)", "Answer: B"), else `None`.

    >>> label_of("(b)", ("CT", "MRI")), label_of("B. MRI", ("CT", "MRI")), label_of("B", ("B", "A"))
    (1, None, None)
    """
    if not options or len(text) > 64:
        return None
    whole = _undressed(text)
    body = whole[lead.end() :] if (lead := LEAD_IN.match(whole)) else whole
    letter = body.strip(" ().:[]{}。,;!\"'").upper()
    if len(letter) != 1 or letter not in LETTERS[: len(options)]:
        return None
    if any(normalize(option) == letter.lower() for option in options):
        return None
    return LETTERS.index(letter)


@lru_cache(maxsize=8_192)
def option_name(option: str, index: int) -> str:
    """An option's normalised text without its own letter: "B: MRI" in the second place is "mri"."""
    text = _undressed(option)
    bare = re.sub(rf"^\(?{LETTERS[index]}[).:]\s*", "", text) if index < len(LETTERS) else text
    return normalize(bare) or normalize(text)


def _undressed(text: str) -> str:
    """An answer without its box, markup and full-width forms, in single spaces."""
    boxed = boxes_of(text)
    text = unicodedata.normalize("NFKC", boxed[0] if len(boxed) == 1 else text)
    for _ in range(2):
        text = LATEX.sub(r"\1", text)
    return SPACES.sub(" ", LINE.sub(". ", DRESS.sub("", text))).strip()


@lru_cache(maxsize=8_192)
def _written(option: str) -> str:
    """An option without markup, in lower case."""
    return _undressed(option).casefold()


def _only(names: set[str]) -> str | None:
    return next(iter(names)) if len(names) == 1 else None


def _leading(body: str, names: Sequence[str], letters: frozenset[str]) -> tuple[str, str] | None:
    """The letter that leads an answer as a label, and the text after it."""
    match = LEADING.match(body)
    if match is None or match[1].upper() not in letters:
        spaced = re.match(r"([A-Z])[ /\-–—.)]+(?=\S)", body)  # "B MRI", "B/MRI": a label where its own text follows
        if spaced is None or spaced[1] not in letters or spaced[1] in PRONOUNS:
            return None
        rest = body[spaced.end() :]
        return (spaced[1], rest) if normalize(rest) in names else None
    letter, rest = match[1], body[match.end() :]
    if letter.islower() and re.match(r"[.](?=\w)|[,;] ?\w", rest):
        return None  # an abbreviation such as "e.g.", and no label
    if letter.upper() == "I" and re.match(r",? (?:was|am)\b", rest):
        return None
    return letter.upper(), AFTER.sub("", rest, count=1)


def _list_after(rest: str, letters: frozenset[str]) -> set[str]:
    """The letters that follow a label directly: "A, B", "A or B", "A B C"."""
    found: set[str] = set()
    place = 0
    while match := LISTED.match(rest, place):
        if match[1] not in letters:
            break
        found.add(match[1])
        place = match.end()
    return found


def _anywhere(text: str, letters: frozenset[str]) -> set[str]:
    """Letters that a text states as its choice, wherever they stand."""
    found = {match[1].upper() for match in CUED.finditer(text)}
    found |= {match[1] for pattern in (BRACKETED, STATED) for match in pattern.finditer(text)}
    return found & letters


def _refused(text: str, letters: frozenset[str]) -> set[str]:
    return {letter for match in REFUSED.finditer(text) for letter in match.groups() if letter} & letters


def _agreed(claimed: set[str], text: str, names: Sequence[str], *, refused: bool) -> str | None:
    """The one option that all letters and all options named in the text agree on, else `None`."""
    if refused and not claimed:
        return None
    return _only({names[LETTERS.index(letter)] for letter in claimed} | mentioned_options(text, names))


def mentioned_options(text: str, names: Sequence[str]) -> set[str]:
    """Options that a text names word for word and does not deny. Of two that overlap, the longer one is named.

    A single letter names no option here. An option that is a yes or a no is named by the rules of `yes_no_said`.
    """
    words = normalize(text).split()
    taken = [False] * len(words)
    kept = set()
    spelled = {
        name: name.split()
        for name in names
        if name not in SAYS and (len(name) > 1 or not name.isascii() or name.isdigit())
    }
    answers = yes_no_said(text) if SAYS.keys() & set(names) else ()
    said = {name for name in names if SAYS.get(name) in answers}
    # Longest first: "CT with contrast" takes its words, so that the option "CT" is not found inside it.
    for name in sorted(spelled, key=lambda name: (-len(spelled[name]), -len(name))):
        found = [place for place in _places(words, spelled[name]) if not any(taken[place : place + len(spelled[name])])]
        for place in found:
            taken[place : place + len(spelled[name])] = [True] * len(spelled[name])
        if found:
            kept.add((name, tuple(found)))
    return said | {
        name for name, found in kept if any(not _denied(words, taken, place, len(spelled[name])) for place in found)
    }


def _places(words: Sequence[str], name: Sequence[str]) -> list[int]:
    """Where a name begins among the words."""
    size = len(name)
    return [place for place in range(len(words) - size + 1) if words[place : place + size] == name]


def _denied(words: Sequence[str], taken: Sequence[bool], place: int, size: int) -> bool:
    """Whether a negation stands right before the name at a place ("not MRI"), or after it ("MRI is wrong")."""
    if place and not taken[place - 1]:
        before = words[place - 1]
        if before in NEGATED or (place > 1 and (words[place - 2], before) in INSTEAD):
            return True
    return tuple(words[place + size : place + size + 2]) in REFUSING
