"""From what a model wrote to its thought and the rest, in the marks of every model that thinks (`PAIRS`).

The answer is what follows the last closing mark. If a thought is opened and never closed, there is no answer. A closing
mark without an opening one ends a thought too, because many chat templates open the thought in the prompt.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

PAIRS = (
    (r"<think>", r"</think>"),  # DeepSeek, Qwen, GLM, InternVL and most others
    (r"<thinking>", r"</thinking>"),
    (r"<thought>", r"</thought>"),  # EXAONE Deep
    (r"<reasoning>", r"</reasoning>"),
    (r"<seed:think>", r"</seed:think>"),  # Seed-OSS
    (r"<unused94>", r"<unused95>"),  # MedGemma
    (r"\[THINK\]", r"\[/THINK\]"),  # Magistral
    (r"◁think▷", r"◁/think▷"),  # Kimi
    (r"<\|channel>thought\b", r"<channel\|>"),  # Gemma 4
    (r"<\|channel\|>(?:analysis|commentary)\b", r"<\|channel\|>final(?: [^<]{0,64})?<\|message\|>"),  # gpt-oss
    (r"<\|START_THINKING\|>", r"<\|END_THINKING\|>"),  # Command A
    (r"<\|begin_of_thought\|>", r"<\|end_of_thought\|>"),  # Sky-T1
)
"""Opening and closing marks, as patterns. They match in either case, because a mark is never part of an answer."""


def _marks(pairs: Sequence[tuple[str, str]]) -> re.Pattern[str]:
    """A pattern with two groups per pair: odd groups open a thought, even ones close it.

    The lookahead for the first character makes the search fast: most places of a long text fail at once.
    """
    return re.compile(r"(?=[<\[◁])(?i:" + "|".join(f"({opens})|({closes})" for opens, closes in pairs) + ")")


MARK = _marks(PAIRS)
FOREIGN = _marks(PAIRS[1:])
"""All marks except `<think>`, which is a tag of the form `think` and is read by `extraction`."""
LABEL = re.compile(r"\A\s*(?:<\|message\|>|thought\s*\n)", re.IGNORECASE)
"""What some models write between the mark and the thought."""
END = re.compile(
    r"(?:\s*(?:<\|(?:return|end|im_end|endoftext|eot_id|end_of_text|end_of_solution|END_RESPONSE)\|>|<end_of_turn>|"
    r"<turn\|>|</s>))+\s*\Z"
)
"""Marks of the end of a turn, which are no part of an answer; searched only in the last `TAIL` characters."""
BEGIN = re.compile(r"\A\s*<\|(?:begin_of_solution|START_RESPONSE)\|>")
"""What some models write before the answer."""
TAIL = 256


class Parted(NamedTuple):
    """A completion in two parts."""

    thought: str | None
    """The stripped text of the thought; `None` if there is no mark."""
    rest: str | None
    """What follows the last closing mark; the whole text if there is no mark; `None` if the thought never ends."""


def part_thought(text: str, *, marks: re.Pattern[str] = MARK) -> Parted:
    """Part the thought from what follows it, in any of the known marks, or only in the given ones.

    >>> part_thought("<think>Air on the right.</think>\\n\\nYes")
    Parted(thought='Air on the right.', rest='\\n\\nYes')
    >>> part_thought("Air.</think> Yes").rest, part_thought("<think>so yes").rest, part_thought("Yes").rest
    (' Yes', None, 'Yes')
    >>> part_thought("<unused94>thought\\nAir.<unused95>Yes"), part_thought("◁think▷Air.◁/think▷Yes").rest
    (Parted(thought='Air.', rest='Yes'), 'Yes')
    """
    found = [(match, match.lastindex is not None and match.lastindex % 2 == 1) for match in marks.finditer(text)]
    if not found:
        return Parted(None, _ended(text))
    first, opens = found[0]
    start = first.end() if opens else 0
    last, unclosed = found[-1]
    if unclosed:
        return Parted(_thought(text[start:]), None)
    return Parted(_thought(text[start : last.start()]), _ended(text[last.end() :]))


def after_thought(text: str) -> str:
    """What follows the thought, or the whole text if there is none; empty if the thought never ends.

    >>> after_thought("clear lungs</think>no"), after_thought("<think>clear lungs"), after_thought("no")
    ('no', '', 'no')
    """
    return part_thought(text).rest or ""


def _thought(text: str) -> str:
    return LABEL.sub("", text, count=1).strip()


def _ended(text: str) -> str:
    """Text without the mark that begins an answer and those that end a turn."""
    text = BEGIN.sub("", text, count=1)
    head, tail = text[:-TAIL], text[-TAIL:]
    return head + END.sub("", tail) if "<" in tail else text
