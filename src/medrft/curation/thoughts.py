"""Checks of a thought's text: does it hold control tokens, say that it was told the answer, or contradict the answer?

The check for contradictions reads the thought sentence by sentence with the clinical scorer's grammar. It reports only
what is certain: polarity, side, modality, plane and normality. docs/armed.md measures what it finds and misses.
"""

from __future__ import annotations

import re

from medrft.scorers.base import spelled_out
from medrft.scorers.clinical import read_findings
from medrft.scorers.clinical.compare import Comparison
from medrft.scorers.clinical.lexicon import Lexicon
from medrft.scorers.clinical.score import compare_answers
from medrft.text import yes_no
from medrft.types import Example

GIVEN = r"(?:given|provided|supplied|reference|gold|gold[- ]standard|ground[- ]truth|labell?ed|expected|target)"
SAYS = r"(?:says|said|states?|stated|indicates?|indicated|tells|reads|is that)"
MEASURED = r"(?!\s+(?:line|range|point|value|level|standard|image|frame|interval))"
ASKED_FOR = r"(?!\s+(?:options?|choices?|candidates?|formats?|forms?|tags?))"
"""What a question itself may give: "the given answer options" are not an answer that was told."""
LEAKS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\b{GIVEN}\s+(?:correct\s+)?(?:(?:answer|label|solution)s?\b{ASKED_FOR}|responses?\b(?!\s+(?:to|of)))",
        rf"\breference\s+{SAYS}\b",
        rf"\b(?:according to|as per|based on|consistent with)\s+the\s+reference\b{MEASURED}",
        r"\bground[- ]truth\b",
        r"\banswer[- ]key\b",
        rf"\b(?:according to|as per|based on)\s+the\s+(?:correct\s+)?answers?\b{ASKED_FOR}",
        r"\bas\s+(?:stated|given|indicated|provided)\s+(?:in|by)\s+the\s+(?:correct\s+)?answer\b",
        r"\b(?:since|because|knowing|given)\s+(?:that\s+)?the\s+correct\s+answer\b",
        r"\bthe\s+(?:correct\s+)?answer\s+(?:was|is|has been)\s+(?:already\s+)?(?:given|provided|supplied|known)\b",
        r"\b(?:told|given|informed)\s+(?:that\s+)?the\s+(?:correct\s+)?answer\b",
        r"\banswer\s+(?:that\s+(?:was|is)\s+)?(?:given|provided|supplied)\s+(?:is|was|says)\b",
        r"\bmatch(?:es)?\s+the\s+correct\s+answer\b",
    )
)
"""Signs that the writer was told the answer, and so argues for it instead of finding it.

"The correct answer is …" is not among them, because that is how models conclude.
"""

SENTENCES = re.compile(r"(?<=[.!?])\s+|(?<=[\u3002\uff01\uff1f])|\n+")
CONCLUSION = re.compile(
    r"\banswer\b\s*(?:must be|should be|would be|is|:)\s*(?::\s*)?((?:[^.\n]|\.(?=\d))+)", re.IGNORECASE
)
ASKING = re.compile(
    r"[?\uff1f]|\b(?:whether|if|question|asks?|asked|asking|look(?:ing)? for|would|could|might)\b", re.IGNORECASE
)
"""A sentence that asks, supposes or repeats the question; it states nothing."""
MAX_SENTENCES = 60
"""At most so many sentences are read, the last ones of a longer thought."""

TOLD = frozenset(("polarity", "side", "modality", "plane", "normality"))
"""Facets by whose clash a sentence answers the question with no.

Others clash too often only because the lexicon lacks a word.
"""
AFFIRMED, SUPPORTED = 0.9, 0.5

CONTROL = re.compile(
    r"<\|[^<>|]{1,40}\|>|</?(?:image|img|video|audio|image_soft_token|(?:start|end)_of_(?:image|turn)"
    r"|fake_token_around_image|global-img|bos|eos|pad|unk|s)>|\[/?(?:INST|IMG)\]"
)
"""Tokens by which chat templates mark pictures and turns.

In a thought that is trained on, a processor would take them for one more picture, or for the end of the turn.
"""


def leaked_words(thought: str) -> str | None:
    """The first words by which a thought shows that it was told the answer; `None` if there are none.

    >>> leaked_words("There is fluid, and the reference answer says effusion.")
    'reference answer'
    >>> leaked_words("The vessel has no reference line. So the correct answer is no.")
    """
    found = [match for pattern in LEAKS if (match := pattern.search(thought)) is not None]
    return min(found, key=lambda match: match.start())[0] if found else None


def contradicts_answer(thought: str, answer: str, example: Example, lexicon: Lexicon | None = None) -> bool:
    """Whether a thought concludes the opposite of `answer`, as far as that can be read by the lexicon (ours).

    An explicit conclusion ("the answer is left") decides. Without one, a yes or no is compared with what the sentences
    say to the question. Any other answer is contradicted by sentences that name the other side or deny what is asked,
    if no sentence supports it.
    """
    answer = spelled_out(answer, example.options)
    concluded = CONCLUSION.findall(thought)
    said = yes_no(answer) if example.kind == "closed" else None
    if concluded:
        last = spelled_out(concluded[-1].strip(), example.options)
        if said is not None and (told := yes_no(last)) is not None:
            return told != said
        found = compare_answers(answer, last, example.question, lexicon)
        if said is None and (found.contradiction or found.score >= SUPPORTED):
            return found.contradiction
    stated = [part for part in SENTENCES.split(thought) if part.strip() and not ASKING.search(part)]
    sentences = stated[-MAX_SENTENCES:]
    if said is not None:
        told_of = _told(sentences, example.question, lexicon)
        return bool(told_of) and said not in told_of
    return _against(sentences, answer, example.question, lexicon)


def _told(sentences: list[str], question: str, lexicon: Lexicon | None) -> set[str]:
    """The answers among yes and no that the sentences give to a question."""
    told = set()
    for sentence in sentences:
        found = compare_answers(question, sentence, lexicon=lexicon)
        clashes = _clashes(found) & TOLD if found.contradiction else set()
        if clashes and not _clears_another_side(sentence, clashes, lexicon):
            told.add("no")
        elif not found.contradiction and found.score >= AFFIRMED:
            told.add("yes")
    return told


def _against(sentences: list[str], answer: str, question: str, lexicon: Lexicon | None) -> bool:
    """Whether no sentence supports the answer, and one names the other side or denies what was asked for."""
    found = [(sentence, compare_answers(answer, sentence, question, lexicon)) for sentence in sentences]
    if any(one.score >= SUPPORTED and not one.contradiction for _, one in found):
        return False
    clashes = {sentence: _clashes(one) if one.contradiction else set() for sentence, one in found}
    telling = {
        sentence: facets for sentence, facets in clashes.items() if not _clears_another_side(sentence, facets, lexicon)
    }
    if any("side" in facets for facets in telling.values()):
        return True
    reading = read_findings(answer, lexicon=lexicon)
    if reading.answer == "no" or any(finding.negative for finding in reading.findings):
        return False  # the answer itself denies
    denied = [compare_answers(question, sentence, lexicon=lexicon) for sentence in telling]
    return any(one.contradiction and "polarity" in _clashes(one) for one in denied)


def _clears_another_side(sentence: str, clashes: set[str], lexicon: Lexicon | None) -> bool:
    """Whether a sentence only says that the side it names is free of findings, as "The left lung is clear" does."""
    return "side" in clashes and all(
        finding.negative or "normal" in finding.values.get("normality", ())
        for finding in read_findings(sentence, lexicon=lexicon).findings
    )


def _clashes(found: Comparison) -> set[str]:
    """The facets that clash in a comparison."""
    lines = [line for pairing in found.pairings if pairing.match for line in pairing.match.lines]
    return {line.facet for line in lines if line.verdict == "clash"}
