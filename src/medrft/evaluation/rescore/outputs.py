"""The answer in another evaluator's raw output: what is left once the thought and the answer's marks are stripped."""

from __future__ import annotations

import re

from medrft.text import extract

BOXED = re.compile(r"\\boxed\s*\{")
LONGEST = 512
"""A longer box is no answer."""


def answer_of(output: str) -> str | None:
    """The one `<answer>` block by the rules of `medrft.text.extract`; else what follows the thought, or its one box.

    Two different boxes, or a thought that never ends, are no answer.

    >>> [answer_of(text) for text in ("No.", "<think>Air.</think> Yes", "<answer>CT</answer>")]
    ['No.', 'Yes', 'CT']
    >>> answer_of(r"So \\boxed{left {upper} lobe}."), answer_of("<think>It seems"), answer_of("<answer>CT")
    ('left {upper} lobe', None, None)
    """
    if "<answer>" in output or "</answer>" in output:
        return extract(output, "think").answer
    before, ended, rest = output.rpartition("</think>")
    if "<think>" in rest or (not ended and "<think>" in before):
        return None
    boxes = {box for match in BOXED.finditer(rest) if (box := _box(rest, match.end()))}
    if len(boxes) > 1:
        return None
    return extract(next(iter(boxes), rest), "short").answer


def _box(text: str, start: int) -> str | None:
    """The text up to the brace that closes the one before `start`; `None` where it never closes."""
    depth = 1
    for place in range(start, min(len(text), start + LONGEST)):
        depth += (text[place] == "{") - (text[place] == "}")
        if not depth:
            return text[start:place].strip()
    return None
