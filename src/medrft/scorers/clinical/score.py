"""From a reference, an answer and perhaps the question to a score: as equal, empty, yes or no, or by findings."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache

from medrft.scorers.clinical.compare import Comparison, Mode, Pairing, compare_findings, word_overlap, yes_line
from medrft.scorers.clinical.compile import load_lexicon
from medrft.scorers.clinical.coverage import known_share
from medrft.scorers.clinical.facets import Match, match_findings
from medrft.scorers.clinical.lexicon import Lexicon
from medrft.scorers.clinical.reader import read_findings, read_fresh
from medrft.scorers.clinical.reading import POSSIBLE, Finding, Reading
from medrft.scorers.clinical.relations import other_signs, sign_disagreement
from medrft.text import normalize, yes_no

SHORT = 512
"""Readings of texts with more characters are not remembered."""
UNSURE = 0.5
SEVERAL = 2
"""A reference of at least so many sentences is a list of findings, and not one answer."""
SAID_LESS = 0.6
"""Score of a right yes or no for a reference that is a statement, if the question tells what the word affirms."""
UNRELATED = 0.2
OTHER_SIGNS = 0.7
"""The most that a text can earn if its words are the reference's and its signs are not."""
ABBREVIATED = range(3, 7)
"""How many letters an abbreviation may have."""
POLAR = re.compile(
    r"\W*(?:in (?:this|the) [\w ]{1,40},\s*)?"
    r"(?:is|are|was|were|do|does|did|has|have|had|can|could|will|would|should|any)\b(?!.*\bor\b)",
    re.IGNORECASE | re.DOTALL,
)
"""A question that can be answered by yes or no."""


@lru_cache(maxsize=131_072)
def score_pair(
    reference: str,
    candidate: str,
    question: str | None = None,
    lexicon: Lexicon | None = None,
    mode: Mode | None = None,
) -> float:
    """The clinical score of an answer in [0, 1]. Cached, with a bound."""
    return compare_answers(reference, candidate, question, lexicon, mode).score


def compare_answers(
    reference: str,
    candidate: str,
    question: str | None = None,
    lexicon: Lexicon | None = None,
    mode: Mode | None = None,
) -> Comparison:
    """Compare an answer with its reference, with the help of the question if there is one.

    Without a `mode`, a reference of several sentences is read as a report's findings.
    """
    if reference == candidate and normalize(reference):
        return Comparison(1.0, "equal")
    made = lexicon or load_lexicon()
    mine, yours = _read(reference, made), _read(candidate, made)
    if not mine.has_words:
        note = "the reference holds no word or number: compared character by character"
        same = reference.strip() == candidate.strip() and yours.has_words
        same = same or "" != normalize(reference) == normalize(candidate)  # the letter A, which reads as an article
        return Comparison(float(same), "lexical", notes=(note,))
    if not yours.has_words:
        return Comparison(0.0, "empty", notes=("the answer holds no word or number",))
    if _same_words(mine.tokens, yours.tokens) and normalize(reference) == normalize(candidate):
        return Comparison(1.0, "equal")
    if why := sign_disagreement(reference, candidate):
        return Comparison(0.0, "findings", True, notes=(why,))
    mine, yours = _spelled_out(mine, yours), _spelled_out(yours, mine)
    asked = _read(question, made) if question else None
    if mine.ambiguous or yours.ambiguous:
        # The concepts of the other text and of the question decide what ambiguous words mean.
        context = asked.context if asked is not None else frozenset()
        mine = read_fresh(mine.text, yours.context | context, made) if mine.ambiguous else mine
        yours = read_fresh(yours.text, mine.context | context, made) if yours.ambiguous else yours
    found = _compare(made, mine, yours, asked, mode)
    if found.score > OTHER_SIGNS and other_signs(made, reference, candidate):
        found = replace(found, score=OTHER_SIGNS, notes=(*found.notes, "the same words with other signs"))
    if yours.shortened:
        found = replace(found, notes=(*found.notes, "only the beginning of the answer was read"))
    sure = known_share(mine.findings)
    return found if sure == 1.0 else replace(found, confidence=sure)


def reading_confidence(reference: str, lexicon: Lexicon | None = None) -> float:
    """The share of what a reference names that the lexicon knows, in [0, 1]; 1 if it names nothing."""
    return known_share(_read(reference, lexicon or load_lexicon()).findings)


def _spelled_out(mine: Reading, yours: Reading) -> Reading:
    """A reading with an unknown abbreviation replaced by the words of the other text that begin with its letters."""
    for finding in mine.findings:
        for word in finding.words:
            if len(word) in ABBREVIATED and word.isalpha() and (words := _with_initials(word, yours.tokens)):
                return _read(re.sub(rf"\b{word}\b", words, mine.text, flags=re.IGNORECASE), mine.lexicon)
    return mine


def _with_initials(letters: str, tokens: tuple[str, ...]) -> str:
    """The consecutive words that begin with these letters; empty if there are none."""
    initials = "".join(token[0] for token in tokens[:SHORT])
    start = initials.find(letters)
    return " ".join(tokens[start : start + len(letters)]) if start >= 0 else ""


def _same_words(mine: tuple[str, ...], yours: tuple[str, ...]) -> bool:
    """Whether two texts have the same words, apart from articles.

    A cheap test before both are normalised and compared: punctuation can decide whether `normalize` keeps an article.
    """
    return mine == yours or (len(mine) != len(yours) and set(mine) ^ set(yours) <= {"a", "an", "the"})


def _read(text: str, made: Lexicon) -> Reading:
    return read_findings(text, lexicon=made) if len(text) <= SHORT else read_fresh(text, lexicon=made)


def _compare(made: Lexicon, mine: Reading, yours: Reading, asked: Reading | None, mode: Mode | None) -> Comparison:
    said, told = bare_answer(mine), bare_answer(yours)
    if said is not None:
        return _against_yes_no(made, said, mine, yours, asked)
    if told is not None:
        return _yes_no_for_statement(made, mine, told, asked)
    if mine.answer and yours.answer and mine.answer != yours.answer:
        pairing = Pairing(
            _word(mine.answer), _word(yours.answer), Match((yes_line(mine.answer, yours.answer, 0.0),), 0.0, True)
        )
        return Comparison(0.0, "yes/no", True, (pairing,))
    if not mine.findings or not yours.findings:
        score = word_overlap(mine.tokens, yours.tokens)
        return Comparison(score, "lexical", notes=("no finding was read: compared word by word",))
    return compare_findings(
        made, mine, yours, asked, mode=mode or ("findings" if mine.sentences >= SEVERAL else "answer")
    )


def bare_answer(reading: Reading) -> str | None:
    """The yes or no of a text that says nothing else, else `None`; "none" and "0" are a no."""
    if reading.answer is not None and not reading.findings:
        return reading.answer
    if len(reading.findings) == 1 and reading.findings[0].empty and reading.findings[0].negative:
        return "no"
    return None


def _word(text: str) -> Finding:
    return Finding(text=text, negative=text == "no")


def _against_yes_no(made: Lexicon, said: str, mine: Reading, yours: Reading, asked: Reading | None) -> Comparison:
    """Compare with a reference that is a yes or no: by the answer's own word, else by the polarity of its statement."""
    told = yours.answer or bare_answer(yours) or (yes_no(yours.text) if len(yours.text) <= SHORT else None)
    notes: tuple[str, ...] = ()
    stated, sure = _stated(made, yours, asked)
    if told is None:
        told = stated
        notes = ("judged by the polarity of the sentence",)
    elif stated is not None and stated != told and sure == 1.0 and asked is not None and asked.findings:
        return _answered(
            mine, yours, said, f"{told}, yet states {stated}", 0.0, ("says one thing and states the other",)
        )
    else:
        sure = 1.0
    if told is None:
        return _answered(mine, yours, said, "neither", UNRELATED, ("the sentence answers neither yes nor no",))
    return _answered(mine, yours, said, told, sure if told == said else UNSURE * (sure < 1) * POSSIBLE, notes)


def _answered(mine: Reading, yours: Reading, said: str, told: str, score: float, notes: tuple[str, ...]) -> Comparison:
    pairing = Pairing(_word(mine.text), _word(yours.text), Match((yes_line(said, told, score),), score, True))
    return Comparison(score, "yes/no", score == 0, (pairing,), (), notes)


def _stated(made: Lexicon, yours: Reading, asked: Reading | None) -> tuple[str | None, float]:
    """Whether a sentence means yes or no, and how surely: by the question's finding, else by its own polarity."""
    if not yours.findings:
        return ("yes" if yours.states and yours.tokens else None), 1.0
    if asked is not None and asked.findings:
        related = _relate(made, asked, yours)
        if related is not None:
            return related
    first = yours.findings[0]
    sure = 1.0 if first.certainty > POSSIBLE else UNSURE
    if first.negative or (first.turned and not first.names):
        return "no", sure
    if not (yours.states or first.counts or "trend" in first.values):
        return None, 1.0
    if "normal" in first.values.get("normality", ()):
        return None, 1.0
    return "yes", sure


def _relate(made: Lexicon, asked: Reading, stated: Reading) -> tuple[str, float] | None:
    """Compare a statement with the finding a question asks for: no if it clashes, yes if it agrees, else `None`."""
    agreed: tuple[str, float] | None = None
    for finding in stated.findings:
        for topic in asked.findings:
            found = match_findings(made, topic, finding)
            if found.clashes and found.shared and not {"finding"} & set(found.clashes):
                return "no", 1.0 if finding.certainty > POSSIBLE else UNSURE
            if found.score >= 0.5 and found.shared:
                agreed = ("yes", 1.0 if finding.certainty > POSSIBLE else UNSURE)
    return agreed


def _yes_no_for_statement(made: Lexicon, mine: Reading, told: str, asked: Reading | None) -> Comparison:
    """Compare a bare yes or no with a reference that is a statement. Even if it is right, it says less.

    It earns 0 if the question cannot be answered by yes or no ("Where is the mass?"). Without a question it earns half:
    a "no" if the statement is a negation, a "yes" if it is a whole sentence, either if it says normal.
    """
    said, sure = (mine.answer, 1.0) if mine.answer else _stated(made, mine, asked)
    first = mine.findings[0] if mine.findings else None
    if said is None:
        said = "no" if first is not None and first.negative else "yes"
    if asked is not None and not POLAR.match(asked.text):
        return _answered(mine, read_findings(told, lexicon=made), said, f"{told}, which was not asked", 0.0, ())
    if asked is not None or mine.answer:
        score = SAID_LESS * sure * (said == told)
    else:
        normal = first is not None and "normal" in first.values.get("normality", ())
        score = SAID_LESS * UNSURE * ((said == told == "no") or normal or (said == told and mine.states))
    return _answered(mine, read_findings(told, lexicon=made), said, told, score, ())
