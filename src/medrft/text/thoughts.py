"""The thought in what a model wrote, in the marks of the models that think: told apart from its answer once, for all.

What stands after the last closing mark is the answer. A thought that is opened and never closed leaves no answer. A
closing mark without an opening one ends a thought too, because templates open thoughts in the prompt.
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
"""Opening and closing marks, as patterns. Either case is taken: a mark is never part of an answer."""


def _marks(pairs: Sequence[tuple[str, str]]) -> re.Pattern[str]:
    """A pattern with two groups a pair; its first character is looked for first, which keeps long texts quick."""
    return re.compile(r"(?=[<\[◁])(?i:" + "|".join(f"({opens})|({closes})" for opens, closes in pairs) + ")")


MARK = _marks(PAIRS)
FOREIGN = _marks(PAIRS[1:])
"""The marks that are no part of the form `think`."""
LABEL = re.compile(r"\A\s*(?:<\|message\|>|thought\s*\n)", re.IGNORECASE)
"""What some models write between the mark and the thought."""
END = re.compile(
    r"(?:\s*(?:<\|(?:return|end|im_end|endoftext|eot_id|end_of_text|end_of_solution|END_RESPONSE)\|>|<end_of_turn>|"
    r"<turn\|>|</s>))+\s*\Z"
)
"""Marks of the end of a turn, which are no part of an answer; looked for in the last characters only."""
BEGIN = re.compile(r"\A\s*<\|(?:begin_of_solution|START_RESPONSE)\|>")
"""What some models write before the answer."""
TAIL = 256


class Parted(NamedTuple):
    """A completion in two."""

    thought: str | None
    """The stripped text of the thought; `None` where no mark stands."""
    rest: str | None
    """What follows the last closing mark, or the whole text without marks; `None` where a thought never ends."""


def part_thought(text: str, *, marks: re.Pattern[str] = MARK) -> Parted:
    """Part the thought from what follows it, in any of the known marks.

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
    """What follows the thought, or the whole text without one; empty where the thought never ends.

    >>> after_thought("clear lungs</think>no"), after_thought("<think>clear lungs"), after_thought("no")
    ('no', '', 'no')
    """
    return part_thought(text).rest or ""


def _thought(text: str) -> str:
    return LABEL.sub("", text, count=1).strip()


def _ended(text: str) -> str:
    """Text without the marks of an answer's beginning and a turn's end."""
    text = BEGIN.sub("", text, count=1)
    head, tail = text[:-TAIL], text[-TAIL:]
    return head + END.sub("", tail) if "<" in tail else text
