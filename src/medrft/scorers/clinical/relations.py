"""From two texts to whether their signs disagree: "left > right", "larger than 5 cm", "p = 0.05", "1 → 2", "HER2+"."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import takewhile
from typing import NamedTuple

from medrft.scorers.clinical.lexicon import Lexicon
from medrft.scorers.clinical.words import lemma
from medrft.text import normalize
from medrft.text.signs import NEGATIVE, POSITIVE, spell_signs
from medrft.text.signs import STATUS as TESTED

SIGN = re.compile(r"[<>=≤≥≠≈⇐-⇔←-↔⟵-⟺➔-➞]|\bthan\b|\bfrom\b|\d ?[:∶：] ?\d", re.IGNORECASE)
TOKEN = re.compile(r"[<>=≤≥≠≈→←∶]|[.,;:!?\n](?!\d)|-?\d+(?:\.\d+)?|[^\W\d_][\w+-]*")
RATIO = re.compile(r"(?<=\d) ?: ?(?=\d)")
CHANGE = re.compile(
    r"\b((?:increas|decreas|chang|progress|improv|worsen|upgrad|downgrad|reduc|switch|convert|mov|shift)\w{0,4}|grown|grew|"
    r"shr[aiu]nk|rose|risen|fell|fallen|dropped|went)\b([^.;!?\n]{0,40}?)\bfrom\b([^.;!?\n]{1,40}?)\bto\b",
    re.IGNORECASE,
)
"""A change in words: "increased from 3 to 5 cm". Without such a verb, "from L2 to L4" is a range and no change."""
MORE = frozenset(
    (
        "larger",
        "greater",
        "bigger",
        "more",
        "higher",
        "wider",
        "longer",
        "thicker",
        "denser",
        "brighter",
        "taller",
        "worse",
    )
)
LESS = frozenset(
    ("smaller", "less", "fewer", "lower", "narrower", "shorter", "thinner", "darker", "lesser", "milder", "better")
)
RESULT = re.compile(r"\w ?[+\-−–⁺⁻](?!\w)|[(\[][+\-−–]|[+-]ve\b|(?:posi|nega)tive|[↑↓⇑⇓⬆⬇⇧⇩]", re.IGNORECASE)
STATUS = re.compile(rf"\b([a-z][a-z\d]{{0,15}})(?:({POSITIVE}|{NEGATIVE})|[ -](positive|negative)\b)")
MOVED = re.compile(r"[↑↓]|[a-z][a-z\d]*(?:-[a-z\d]+)*")
TURNED = {"<": ">", ">": "<", "≤": "≥", "≥": "≤", "=": "=", "≠": "≠", "≈": "≈", "→": "←", "←": "→", "∶": "∷"}
EXCLUDES = {"=": "≠<>≤≥", "≠": "=≈", ">": "=<≤", "<": "=>≥", "≥": "<=≤", "≤": ">=≥", "≈": "≠"} | {
    **{"→": "←", "←": "→", "∶": "∷"}
}
ORDERING = frozenset("<>≤≥≠")
TEST = re.compile(rf"[a-z]+\d[a-z\d]*|{TESTED}", re.IGNORECASE)
"""The name of a test, which has a result, as opposed to a finding."""
NEAR = 5
"""The most words on each side of a sign that belong to its comparison."""
SPEECHLESS = frozenset(
    ("the", "a", "an", "is", "are", "was", "were", "of", "in", "on", "than", "that", "it", "and", "by")
)
MAX_CHARACTERS = 2_000
"""The first so many characters of a text are looked at."""


class Relation(NamedTuple):
    """One comparison: its sign, and the words on both sides."""

    sign: str
    left: frozenset[str]
    right: frozenset[str]

    @property
    def turned(self) -> Relation:
        """The same comparison from the other side: A > B becomes B < A."""
        return Relation(TURNED.get(self.sign, self.sign), self.right, self.left)


@lru_cache(maxsize=1_024)
def read_relations(text: str) -> tuple[Relation, ...]:
    """The comparisons of a text, in order.

    >>> [(r.sign, sorted(r.left), sorted(r.right)) for r in read_relations("the left kidney is smaller than the right")]
    [('<', ['kidney', 'left'], ['right'])]
    """
    if not SIGN.search(text):
        return ()
    spelled = RATIO.sub(" ∶ ", CHANGE.sub(r"\1\2 . \3 → ", spell_signs(text)))
    tokens = TOKEN.findall(spelled.lower())
    found = []
    for place in range(len(tokens)):
        sign, start = _sign(tokens, place)
        right = _words(tokens[place + 1 : place + 1 + NEAR]) if sign else frozenset()
        if right:
            found.append(Relation(sign, _words(tokens[max(0, start - NEAR) : start][::-1]), right))
    return tuple(found)


def _sign(tokens: list[str], place: int) -> tuple[str, int]:
    """The sign at a place ("" if there is none), and where the comparison's own words begin ("not larger than")."""
    token = tokens[place]
    if token in TURNED:
        return token, place
    if token != "than" or not place:
        return "", place
    word = tokens[place - 1]
    negated = place > 1 and tokens[place - 2] in ("not", "no")
    if word in MORE:
        return ("≤" if negated else ">"), place - 1 - negated
    if word in LESS:
        return ("≥" if negated else "<"), place - 1 - negated
    return "", place


def _words(tokens: list[str]) -> frozenset[str]:
    """The words up to a mark or another comparison."""
    near = list(takewhile(lambda token: token not in TURNED and token[0] not in ".,;:!?\n" and token != "than", tokens))
    words = frozenset(lemma(token) for token in near if token not in SPEECHLESS)
    return words or frozenset(near) & {"a"}  # the letter A, where it is all that is compared


@lru_cache(maxsize=1_024)
def read_results(text: str) -> dict[str, bool]:
    """Whether a text calls each thing positive or high (true), or negative or low, leaving out what it calls both.

    >>> read_results("ER+/PR-, HER2 negative"), read_results("T1↑ T2↓") == read_results("↑ T1, ↓ T2")
    ({'er': True, 'pr': False, 'her2': False}, True)
    """
    if not RESULT.search(text):
        return {}
    spelled = spell_signs(text).lower()
    found = [(match[1], (match[2] or match[3]) in (POSITIVE, "positive")) for match in STATUS.finditer(spelled)]
    said = dict([*found, *_moved(spelled)])
    return {name: value for name, value in said.items() if (name, not value) not in found}


def _moved(text: str) -> list[tuple[str, bool]]:
    """The words with arrows, and whether up. If the text begins with an arrow, each belongs to the word after it."""
    tokens = MOVED.findall(text) if "↑" in text or "↓" in text else []
    beside = 1 if tokens and tokens[0] in "↑↓" else -1
    pairs = [
        (tokens[place + beside], token == "↑")
        for place, token in enumerate(tokens)
        if token in "↑↓" and 0 <= place + beside < len(tokens)
    ]
    return [(f"{word} moves", up) for word, up in pairs if word not in "↑↓" and (word, not up) not in pairs]


def excludes_each_other(mine: tuple[Relation, ...], yours: tuple[Relation, ...]) -> bool:
    """Whether a comparison of one text excludes one of the other: the same two things, compared another way.

    >>> pairs = [("left > right", "right > left"), ("p=.05", "p>.05")]
    >>> tuple(excludes_each_other(read_relations(mine), read_relations(yours)) for mine, yours in pairs)
    (True, True)
    >>> excludes_each_other(read_relations("left > right"), read_relations("right < left"))
    False
    """
    return any(_exclude(one, other) for one in mine for other in yours)


def _exclude(one: Relation, other: Relation) -> bool:
    """Whether two comparisons exclude each other; one is turned round first if its sides fit only that way."""
    if _fits(one, other):
        return other.sign in EXCLUDES[one.sign]
    turned = other.turned
    return _fits(one, turned) and turned.sign in EXCLUDES[one.sign]


def _fits(one: Relation, other: Relation) -> bool:
    """Whether two comparisons are about the same two things, by the words that tell their sides apart."""
    left, right = one.left - one.right, one.right - one.left
    return bool(right & other.right) and (bool(left & other.left) or not (left and other.left))


def _surely_no_sign(text: str) -> bool:
    """Whether it can be seen at once that a text compares nothing and gives no result: letters and digits only."""
    if not (text.isascii() and text.replace(" ", "").isalnum()):
        return False
    lowered = text.lower()
    return not ("than" in lowered or "from" in lowered or "tive" in lowered or "minus" in lowered)


def sign_disagreement(reference: str, candidate: str) -> str:
    """Why the signs of two texts exclude each other; empty if they do not.

    >>> pairs = [("left > right", "right > left"), ("ER+/PR-", "ER-/PR+"), ("ER+", "PR-")]
    >>> tuple(sign_disagreement(reference, candidate) for reference, candidate in pairs)
    ('compares the other way round', 'positive against negative, or up against down', '')
    """
    if _surely_no_sign(reference):
        return ""
    reference, candidate = reference[:MAX_CHARACTERS], candidate[:MAX_CHARACTERS]
    if (
        SIGN.search(reference)
        and SIGN.search(candidate)
        and excludes_each_other(read_relations(reference), read_relations(candidate))
    ):
        return "compares the other way round"
    mine = read_results(reference)
    if mine and any(mine.get(name, positive) != positive for name, positive in read_results(candidate).items()):
        return "positive against negative, or up against down"
    return ""


def other_signs(made: Lexicon, reference: str, candidate: str) -> bool:
    """Whether two texts differ in a sign without excluding each other: "> 5" and "≥ 5", "HER2+" and "HER2".

    They do if their words are the same and their signs are not, if they compare the same two things by other signs, or
    if one gives the result of a test that the other only names.

    >>> from medrft.scorers.clinical.compile import load_lexicon
    >>> made = load_lexicon()
    >>> [other_signs(made, *pair) for pair in (("> 5", "≥ 5"), ("HER2+", "HER2"), ("left is > right", "left ≥ right"))]
    [True, True, True]
    >>> [other_signs(made, *pair) for pair in (("HER2+", "HER2 positive"), ("T1 ↑", "↑ T1"), ("lung", "lungs"))]
    [False, False, False]
    """
    if _surely_no_sign(reference) and _surely_no_sign(candidate):
        return False
    reference, candidate = reference[:MAX_CHARACTERS], candidate[:MAX_CHARACTERS]
    mine, yours = normalize(reference).split(), normalize(candidate).split()
    pairs = [(one, other) for one in read_relations(reference) for other in read_relations(candidate)]
    if not any(_fits(one, way) and one.sign == way.sign for one, other in pairs for way in (other, other.turned)):
        if mine != yours and _bare(mine) == _bare(yours) and _signs(mine) != _signs(yours):
            return True
        ordered = [(one, other) for one, other in pairs if {one.sign, other.sign} <= ORDERING]
        if any(_fits(one, way) for one, other in ordered for way in (other, other.turned)):
            return True
    said, told = read_results(reference), read_results(candidate)
    return _only_named(made, said.keys() - told, yours) or _only_named(made, told.keys() - said, mine)


def _bare(words: list[str]) -> list[str]:
    """The words in any order, without the signs they end in and those that stand alone."""
    return sorted(bare for word in words if (bare := word.rstrip("+-").strip("<>≤≥≠↑↓±")))


def _signs(words: list[str]) -> list[str]:
    """The signs that `_bare` leaves out, in any order."""
    return sorted(sign for word in words for sign in word[len(word.rstrip("+-<>≤≥≠↑↓±")) :])


def _only_named(made: Lexicon, tests: set[str], words: list[str]) -> bool:
    """Whether one of the tests stands among the words of the other text, which gives no result for it."""
    return any(name in words and TEST.fullmatch(name) and _is_test(made, name) for name in tests)


def _is_test(made: Lexicon, name: str) -> bool:
    """Whether a name can be that of a test: the lexicon has it for no place, modality or value (T1, L5)."""
    entry = made.terms.get((name,))
    return entry is None or all(atom.axis == "name" for atom in entry.atoms)
