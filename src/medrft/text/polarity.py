"""From a text to the yes or no that it says by that word (in English or Chinese), and from references to a kind.

Both words are read by the same rules, so that swapping them in any sentence swaps the result.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from medrft.text.normal import CACHED_LENGTH, fold_case, tokens
from medrft.types import Kind

Word = Literal["yes", "no"]

YES = frozenset(["yes", "yeah", "yep", "是", "是的", "有", "存在", "包含", "包括", "可以", "对"])
NO = frozenset(
    ["no", "nope", "否", "不是", "没有", "不存在", "不包含", "不包括", "不可以", "不", "无", "不对", "不能", "没"]
)
SAYS: dict[str, Word] = {**dict.fromkeys(YES, "yes"), **dict.fromkeys(NO, "no")}
OTHER: dict[Word, Word] = {"yes": "no", "no": "yes"}
MAX_YES_NO = 4_096
"""The first so many characters of a text are read."""

SPACES = re.compile(r"[^\S\n]+")
ASKED = re.compile(r"\b(?:yes ?(?:/|or) ?no|no ?(?:/|or) ?yes)\b ?\)? ?[?:]")
"""Both words in a question that the text repeats ("Is it yes or no?"): by itself that says neither."""
CLAUSE = re.compile(
    r"[.,;:!?。、｡·…|/\n\r()\[\]{}<>【】《》〈〉「」『』]+|-(?= )|(?<= )-|"
    r"\b(?:or|and|but|then|because|since|so|although|though|however|while|whereas|therefore|hence|thus|yet)\b|"
    r"因 为|由 于|所 以|因 此|但 是|不 过|而 且|并 且"
)
WORD = re.compile(r"[^\W_]+(?:'[a-z]+)?")
FOLLOWING = frozenset(
    (
        *("there", "it", "its", "this", "that", "the", "these", "those", "i", "we", "you", "he", "she", "they", "not"),
        *("as", "given", "due", "based", "according", "if", "when", "is", "are", "was", "were", "am"),
        *("definitely", "certainly", "indeed", "absolutely", "obviously", "clearly", "evidently"),
    )
)
"""Words that may begin a clause. A yes or no before one of them is an answer; `no` before a noun denies the noun."""
LEADS = frozenset(("answer", "response", "reply", "conclusion", "is", "be", "say", "says"))
"""An introduction of an answer ends in one of these words: "The answer is:", "I would say"."""
DENIES = frozenset(("not", "never", "neither", "nor", "cannot", "than"))
"""A yes or no after one of these words, or after "instead of", is not meant."""
BETWEEN = frozenset(("a", "an", "the", "be", "say", "answer", "simply", "just", "clear", "plain"))
"""Words that may stand between a word of `DENIES` and the yes or no: "not a clear yes"."""
INTRODUCED = re.compile(
    r"(?:最终|正确|标准|我的|我|认为|觉得|因此|所以|故|应该|应)*(?:(?:答案|回答|结论|结果)(?:应该|应)?(?:是|否|为)?)?"
    rf"({'|'.join(sorted((word for word in SAYS if not word.isascii()), key=len, reverse=True))})(?:的|啊|吧)?"
)
LONGEST_CLAUSE = 32
"""A Chinese clause of more words than this is not a yes or no with its introduction."""


def yes_no(text: str) -> Word | None:
    """The yes or no that a text says by that word, as an answer; `None` if it says both or neither.

    The word is an answer if it begins the text, is or ends a clause, or begins a new statement ("no there is not").
    Inside a sentence `no` may deny a noun instead, and a word after "not" is not meant. A sentence whose polarity must
    be *understood* ("There is no fracture") is left to the clinical scorer.

    >>> [yes_no(text) for text in ("Yes.", "NO", "Yes, there is no fracture", "No pneumothorax", "The answer is: no")]
    ['yes', 'no', 'yes', 'no', 'no']
    >>> [yes_no(text) for text in ("yes or no", "Yes. No.", "no, yes", "normal", "There is no fracture", "")]
    [None, None, None, None, None, None]
    >>> [yes_no(text) for text in ("The answer is no because it is clear", "No (not yes)", "Is it yes or no? No.")]
    ['no', 'no', 'no']
    >>> yes_no("不是"), yes_no("是的。"), yes_no("答案：是，可见病灶")
    ('no', 'yes', 'yes')
    """
    said = yes_no_said(text)
    return said[0] if len(said) == 1 else None


def yes_no_said(text: str) -> tuple[Word, ...]:
    """Which of yes and no a text says; both if it hedges.

    >>> yes_no_said("yes and no"), yes_no_said("No fracture."), yes_no_said("lung")
    (('yes', 'no'), ('no',), ())
    """
    line = SPACES.sub(" ", fold_case(text[:MAX_YES_NO]))
    asked = ASKED.search(line)
    said = _said(ASKED.sub(".", line) if asked else line)
    if asked and not said:
        return ("yes", "no")  # a text that only repeats the question hedges
    return tuple(word for word in ("yes", "no") if word in said)


def _said(text: str) -> set[Word]:
    """The words that answer, over all clauses."""
    said: set[Word] = set()
    before: list[str] = []
    for clause in CLAUSE.split(text):
        words = WORD.findall(clause)
        if not words:
            continue
        joined = "".join(words) if len(words) <= LONGEST_CLAUSE else ""
        if whole := INTRODUCED.fullmatch(joined):
            said.add(SAYS[whole[1]])
        leads = not before or before[-1] in LEADS
        said.update(
            SAYS[word]
            for place, word in enumerate(words)
            if word in SAYS and word.isascii() and _answers(words, place, leads=leads)
        )
        before = words
    return said


def _answers(words: Sequence[str], place: int, *, leads: bool) -> bool:
    """Whether the yes or no at a place of a clause is an answer, and is not denied."""
    if _denied(words[:place]):
        return False
    first, last = place == 0, place == len(words) - 1
    if last or (first and leads):
        return True
    after = words[place + 1]
    if after in FOLLOWING or after.endswith("n't"):
        return True
    other = OTHER[SAYS[words[place]]]
    beside = (after, words[place - 1] if place else "")
    return any(word.isascii() and SAYS.get(word) == other for word in beside)


def _denied(before: Sequence[str]) -> bool:
    """Whether "not", "rather than", "instead of" or the like stands just before."""
    for place in range(len(before) - 1, max(-1, len(before) - 5), -1):
        word = before[place]
        if word in DENIES or word.endswith("n't") or (word == "of" and place and before[place - 1] == "instead"):
            return True
        if word not in BETWEEN:
            return False
    return False


def infer_kind(references: Sequence[str], options: Sequence[str] = ()) -> Kind:
    """`choice` if there are options, `closed` if every reference is a plain yes or no, else `open`.

    >>> infer_kind(["Yes"]), infer_kind(["no."]), infer_kind(["No acute findings"]), infer_kind(["None"])
    ('closed', 'closed', 'open', 'open')
    >>> infer_kind(["left"], ["left", "right"]), infer_kind(["不是"])
    ('choice', 'closed')
    """
    if options:
        return "choice"
    return "closed" if references and all(_plain_yes_no(reference) for reference in references) else "open"


def _plain_yes_no(text: str) -> bool:
    word = "".join(tokens(text)) if len(text) < CACHED_LENGTH else ""
    return (word in YES or word in NO) and yes_no(text) is not None  # "N:O" has the letters of a no, and is none
