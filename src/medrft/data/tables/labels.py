"""From a text with labelled options, alone or at the end of a question, to labels, options and question.

A. CT            What modality is shown? A)CT, B)MRI, C)X-ray         (A) left (B) right
B. MRI
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from string import ascii_uppercase

LONGEST = 20_000
"""A text of more characters is not searched for labels."""
# A label in brackets may stand anywhere. One with a mark behind it must start the text or a line, or follow a space or
# a separator, so that "IgA." holds none.
MARK = re.compile(
    r"[(（\[](?P<inner>[A-Ja-j]|\d{1,2})[)）\]][ \t]*[.:：]?"
    r"|(?<![^\s,;|/，；、。?？.:：)）])(?P<outer>[A-Ja-j]|\d{1,2})(?P<end>[ \t]?[)）.．:：、]|[ \t]+[-–][ \t])"
)
AROUND = " \t\r\n,;|/，；、"
ENDS = tuple("?？:：.。!！)）")
INSTRUCTION = re.compile(r"(?:please\s+)?(?:answer|respond|reply|choose|select|pick|give|output)\b|请|回答|选择", re.I)


@dataclass(frozen=True, slots=True)
class Labelled:
    """Labels and texts in order, and what stands before them."""

    labels: tuple[str, ...]
    texts: tuple[str, ...]
    before: str
    """The question. It is without its options, unless they are a part of its sentence."""


def labelled_text(text: str) -> Labelled | None:
    """The options that a text ends in; `None` unless a run of labels from A (or 1) on is certain.

    >>> labelled_text("Which plane? A)axial, B)coronal").texts
    ('axial', 'coronal')
    >>> labelled_text("A: axial, B: coronal").before, labelled_text("Vitamin A. Vitamin C.")
    ('', None)
    """
    if len(text) > LONGEST:
        return None
    marks = list(MARK.finditer(text))
    at_lines = [mark for mark in marks if not text[: mark.start()].rpartition("\n")[2].strip()]
    for found in ([*_runs(at_lines)] if "\n" in text else []) + [*_runs(marks)]:
        made = _labelled(text, found)
        if made is not None:
            return made
    return None


def _runs(marks: list[re.Match[str]]) -> list[list[re.Match[str]]]:
    """For each way of writing a label, the last run that starts at the first label and goes on without a gap."""
    styles: dict[tuple[str, str], list[re.Match[str]]] = {}
    for mark in marks:
        label = mark["inner"] or mark["outer"]
        kind = "digit" if label.isdigit() else "upper" if label.isupper() else "lower"
        around = "brackets" if mark["inner"] else mark["end"].strip()
        styles.setdefault((kind, around), []).append(mark)
    runs = []
    for same in styles.values():
        starts = [i for i, mark in enumerate(same) if _label(mark) in ("A", "1")]
        run = same[starts[-1] :] if starts else []
        wanted = [str(i + 1) for i in range(len(run))] if run and _label(run[0]) == "1" else [*ascii_uppercase]
        if len(run) > 1 and [_label(mark) for mark in run] == wanted[: len(run)]:
            runs.append(run)
    return runs


def _labelled(text: str, run: list[re.Match[str]]) -> Labelled | None:
    ends = [*(mark.start() for mark in run[1:]), len(text)]
    texts = [text[mark.end() : end].strip(AROUND) for mark, end in zip(run, ends, strict=True)]
    last, *more = texts[-1].split("\n")
    if more:
        if not all(INSTRUCTION.match(line.strip()) or not line.strip() for line in more):
            return None  # the lines after the last label may or may not belong to it
        texts[-1] = last.strip(AROUND)
    before = text[: run[0].start()].strip()
    if before and not before.endswith(ENDS) and not text[: run[0].start()].rstrip(" \t").endswith("\n"):
        # The options are a part of the sentence: "in the A) left or B) right lung?"
        if not (run[0]["inner"] or run[0]["end"].strip() in (")", "）")):
            return None  # "Vitamin A. deficiency …": only a bracket makes a letter within a sentence a label
        texts = [re.sub(r"[\s,]+(?:or|and)$", "", option) for option in texts]
        texts[-1] = texts[-1].rstrip("?？")
        before = text
    if not any(texts):
        return None
    return Labelled(tuple(_label(mark) for mark in run), tuple(texts), before)


def _label(mark: re.Match[str]) -> str:
    return (mark["inner"] or mark["outer"]).upper()
