"""MedEvalKit's rules for an answer and for its counts, so that its marks and figures can be computed again.

After its commit 9b12e3b: `utils/utils.py`, `utils/SLAKE/SLAKE.py`, `utils/VQA_RAD/VQA_RAD.py`,
`utils/PATH_VQA/PATH_VQA.py`. Written from scratch by what they compute, mistakes included. None of our own scores uses
these rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isclose

from medrft.evaluation.rescore.foreign import Answered
from medrft.text import answer_of

YES_NO = ("yes", "no")
JUDGE = "judge"
RIGHT = {True: "right", False: "wrong"}
LEADS = ("**answer**:", "**answer**", "*answer*:", "**answer:**", "answer is", "answer:", "答案:", "final answer")
"""Phrases before an answer: the text is cut after the last occurrence of each, in this order."""

TOLERANCE = 1e-6


def parse_response(response: str) -> str:
    """The answer that it reads in a response: boxed or tagged, in lower case, after the last of `LEADS`."""
    text = response
    if "boxed" in text or "<answer>" in text:
        text = answer_of(text) or text
    text = text.lower()
    for lead in LEADS:
        text = text.split(lead)[-1]
    return text


def bare_text(text: str) -> str:
    """The text without line breaks and full stops."""
    return text.replace("\n", "").replace(".", "")


def by_rule(answer: str, response: str, *, open_: bool, slake: bool = False) -> bool:
    """Whether its rules call an answer right.

    Open answers, and closed ones other than yes and no, must equal the reference. For a reference `yes` or `no`, that
    word must occur anywhere in the text, even inside a word, and the other must not. On SLAKE this holds only for a
    reference in lower case; for `Yes` the whole text must be `yes`.

    >>> by_rule("no", "the lung is normal", open_=False), by_rule("yes", "yes, a nodule", open_=False)
    (True, False)
    >>> by_rule("Yes", "Yes.", open_=False, slake=True), by_rule("Left lung", "left lung.", open_=True)
    (True, False)
    """
    text, wanted = parse_response(response), answer.lower()
    if not slake:
        text, wanted = text.strip(), wanted.strip()
    if open_:
        return text == wanted
    text = bare_text(text)
    if (answer if slake else wanted) in YES_NO:
        return ("yes" in text) != ("no" in text) and wanted in text
    return text == wanted


def how_marked(answer: str, response: str, *, rule: bool, theirs: bool) -> tuple[str, str]:
    """Why it marks an answer so: by its rule if that gives the mark in the file, else by a judge.

    >>> how_marked("no", "the lung is normal", rule=True, theirs=True)
    ('substring match', "'no' found inside 'normal'")
    >>> how_marked("yes", "yes, there is a nodule", rule=False, theirs=False)
    ('substring match', "'no' found inside 'nodule', so yes and no both count as said")
    >>> how_marked("left", "on the left", rule=False, theirs=True)
    ('judge', 'its rule calls it wrong, its file right')
    """
    if rule != theirs:
        return JUDGE, f"its rule calls it {RIGHT[rule]}, its file {RIGHT[theirs]}"
    text = bare_text(parse_response(response)).strip()
    held = _inside(text) if answer.lower().strip() in YES_NO else ""
    return ("substring match", held) if held else ("whole text", f"{text[:60]!r} against {answer.lower()!r}")


def _inside(text: str) -> str:
    """A phrase on the words that contain `yes` or `no` without being it; empty where there are none."""
    words = [word.strip(",;:!?") for word in text.split()]
    held = [f"{part!r} found inside {word!r}" for word in words for part in YES_NO if part in word and part != word]
    both = ", so yes and no both count as said" if all(part in text for part in YES_NO) else ""
    return "; ".join(dict.fromkeys(held)) + both if held else ""


def word_overlap(answer: str, response: str) -> tuple[float, float, float]:
    """Precision, recall and F1 over the sets of lower-cased words, as its code computes them.

    It then writes them under each other's names; see `permutation_reason`.
    """
    said, wanted = set(parse_response(response).lower().split()), set(answer.lower().split())
    common = len(said & wanted)
    if not common:
        return 0.0, 0.0, 0.0
    precision, recall = common / len(said), common / len(wanted)
    return precision, recall, 2 * precision * recall / (precision + recall)


def permutation_reason(theirs: Sequence[float], computed: Sequence[float]) -> tuple[str, ...]:
    """The reason, if the file has F1 as precision, precision as recall and recall as F1; empty if it has not.

    `computed` are precision, recall and F1 as computed again from its rows.
    """
    precision, recall, f1 = computed
    turned = (f1, precision, recall)
    close = all(isclose(a, b, abs_tol=1e-4) for a, b in zip(theirs, turned, strict=True))
    straight = all(isclose(a, b, abs_tol=1e-4) for a, b in zip(theirs, computed, strict=True))
    if not close or straight:
        return ()
    return (
        "precision, recall and F1 permuted: by its own words they are "
        f"{precision:.4f}, {recall:.4f}, {f1:.4f}; its file has F1 as precision, precision as recall, recall as F1",
    )


def accuracy_reason(value: float, rows: Sequence[Answered], which: str) -> tuple[str, ...]:
    """By which formula its code gets an accuracy that is not the mean of its own marks; empty where it is the mean."""
    chosen = [row for row in rows if not which or which in row.sets]
    marks = [row.theirs for row in chosen if row.theirs is not None]
    if marks and isclose(value, sum(marks) / len(marks), abs_tol=TOLERANCE):
        return ()
    for told, number in _formulas(rows, which):
        if isclose(value, number, abs_tol=TOLERANCE):
            return (f"{told} = {number:.4g}",)
    mean = f"{sum(marks) / len(marks):.4f}" if marks else "unknown"
    return (f"not reproduced from its rows: the mean of their marks is {mean}",)


def _formulas(rows: Sequence[Answered], which: str) -> list[tuple[str, float]]:
    """The accuracies that its code can arrive at by its several paths, each in words and as a number."""
    closed, open_ = [r for r in rows if "close" in r.sets], [r for r in rows if "open" in r.sets]
    rule_c, rule_o = (sum(bool(row.rule) for row in part) for part in (closed, open_))
    mark_c, mark_o = (sum(map(_mark, part)) for part in (closed, open_))
    n, n_c, n_o = len(rows), len(closed), len(open_)
    if which == "open":
        return [(f"divided by n twice: {mark_o:g} right / {n_o} / {n_o}", mark_o / n_o / n_o)] if n_o else []
    twice = "closed questions counted twice, by rule and by judge"
    lost = "closed verdicts thrown away when the judge runs"
    if which == "close":
        if not n_c:
            return []
        return [
            (f"{twice}: ({rule_c} + {mark_c:g}) / {n_c}", (rule_c + mark_c) / n_c),
            (f"{lost}: 0 of {mark_c:g} right / {n_c}", 0.0),
        ]
    both = mark_c + mark_o
    opened = "open questions counted twice, by exact match and by judge"
    return [
        (f"{twice}: ({rule_c} closed by rule + {both:g} of all) / {n}", (rule_c + both) / n),
        (f"{lost}: {mark_o:g} open right / {n}", mark_o / n),
        (f"{opened}: ({rule_c + rule_o} of all by rule + {mark_o:g} open) / {n}", (rule_c + rule_o + mark_o) / n),
    ]


def _mark(row: Answered) -> float:
    """The mark in its file, or by its rule where the file has none."""
    return float(bool(row.rule)) if row.theirs is None else row.theirs
