"""From a completion and its prompt's answer form (`think`, `direct`, `short`) to its answer, thought and form."""

from __future__ import annotations

import re
from typing import NamedTuple

from medrft.text.thoughts import FOREIGN, part_thought
from medrft.types import Form


class Extracted(NamedTuple):
    """What a completion says in its prompt's form."""

    answer: str | None
    """Stripped text of the answer; `None` when there is not exactly one."""
    thinking: str | None = None
    well_formed: bool = False
    """Whether the completion is the form and nothing else, which is what `answer_format` pays for."""


TAGS = re.compile(r"</?(?:think|answer)>")
WHOLE = (["<think>", "</think>", "<answer>", "</answer>"], ["</think>", "<answer>", "</answer>"])


def extract(completion: str, form: Form) -> Extracted:
    """The answer of a completion: the text of its one `<answer>` block, or for `short` what follows its thought.

    Ambiguity earns nothing. There must be one `<answer>` and one `</answer>`, in order and, if the completion holds a
    thought, after its end. Tags are literal (lower case, no spaces). The form is complete (`well_formed`) if nothing
    but white space stands around its blocks and no block is empty.

    >>> extract("<think>Air on the right.</think> <answer> yes </answer>", "think")
    Extracted(answer='yes', thinking='Air on the right.', well_formed=True)

    A template may open the thought in the prompt; then the completion begins inside it.

    >>> extract("Air on the right.</think><answer>yes</answer>", "think")
    Extracted(answer='yes', thinking='Air on the right.', well_formed=True)

    With text around the blocks, or without a thought, the form is not complete, but there is an answer.

    >>> extract("<think>Air.</think><answer>yes</answer> I think", "think")
    Extracted(answer='yes', thinking='Air.', well_formed=False)
    >>> extract("<answer>yes</answer>", "think"), extract("<answer>yes</answer>", "direct").well_formed
    (Extracted(answer='yes', thinking=None, well_formed=False), True)

    Repeated, nested, unclosed or empty blocks, and an answer inside the thought, are no answer.

    >>> bad = ["<answer>yes</answer><answer>no</answer>", "<answer><answer>yes</answer></answer>", "<answer>yes", "yes"]
    >>> bad += ["<answer> </answer>", "<think><answer>yes</answer></think>", "<think><answer>yes</answer>"]
    >>> [extract(completion, "think").answer for completion in bad]
    [None, None, None, None, None, None, None]
    """
    if form == "short":
        return _short(completion)
    own = part_thought(completion, marks=FOREIGN)
    if own.thought is not None and (own.rest is not None or FOREIGN.match(completion.lstrip())):
        inner = extract(own.rest or "", form)
        return Extracted(inner.answer, inner.thinking or own.thought)
    found = list(TAGS.finditer(completion))
    names = [match[0] for match in found]
    thinking, end_of_thought = _thought(completion, found)
    if names.count("<answer>") != 1 or names.count("</answer>") != 1:
        return Extracted(None, thinking)
    opened, closed = found[names.index("<answer>")], found[names.index("</answer>")]
    answer = _unboxed(completion[opened.end() : closed.start()]) if opened.end() <= closed.start() else ""
    inside = "think>" in completion and (end_of_thought is None or opened.start() < end_of_thought)
    if not answer or (inside and any("think" in name for name in names)):
        return Extracted(None, thinking)
    before, after = completion[: opened.start()], completion[closed.end() :]
    if form == "direct":
        return Extracted(answer, thinking, names == ["<answer>", "</answer>"] and not (before + after).strip())
    whole = names in WHOLE and bool(thinking) and not after.strip()
    bare = whole and not (completion[: found[0].start()] * (len(names) == 4) + before[end_of_thought:]).strip()
    return Extracted(answer, thinking, bare)


def _short(completion: str) -> Extracted:
    """The answer of a completion without tags.

    The thought, in any model's marks (`thoughts.PAIRS`), is no part of the answer, and after a thought that never ends
    there is no answer. If there is exactly one box, its content is the answer.

    >>> extract("Yes.\\n", "short"), extract(" ", "short").answer
    (Extracted(answer='Yes.', thinking=None, well_formed=True), None)
    >>> [extract(text, "short").answer for text in ("Air.</think>\\n\\nYes", "<think>so yes", "So \\\\boxed{left}.")]
    ['Yes', None, 'left']
    """
    thought, rest = part_thought(completion)
    answer = _unboxed(rest or "")
    return Extracted(answer or None, thought, bool(answer))


def _thought(completion: str, found: list[re.Match[str]]) -> tuple[str | None, int | None]:
    """The thought's text and where it ends: at the last `</think>`. An unclosed thought ends at `None`."""
    begins = [match.end() for match in found if match[0] == "<think>"]
    ends = [match for match in found if match[0] == "</think>"]
    if not ends:
        return (completion[begins[0] :].strip(), None) if begins else (None, None)
    start = begins[0] if begins and begins[0] <= ends[-1].start() else 0
    return completion[start : ends[-1].start()].strip(), ends[-1].end()


def answer_of(output: str) -> str | None:
    """The answer in the raw output of a model that was asked in any form; `None` where there is none or more than one.

    It is the only `<answer>` block by the rules of `extract`. Without such tags it is what follows the thought, or the
    box there. Two different boxes, or a thought that never ends, are no answer.

    >>> [answer_of(text) for text in ("No.", "<think>Air.</think> Yes", "<answer>CT</answer>")]
    ['No.', 'Yes', 'CT']
    >>> answer_of(r"So \\boxed{left {upper} lobe}."), answer_of("<think>It seems"), answer_of("<answer>CT")
    ('left {upper} lobe', None, None)
    """
    if "<answer>" in output or "</answer>" in output:
        return extract(output, "think").answer
    if len(boxes_of(part_thought(output).rest or "")) > 1:
        return None
    return extract(output, "short").answer


BRACE = re.compile(r"[{}]")
BOXED = re.compile(r"\\boxed\s{0,8}\{|<\|begin_of_box\|>")
WRAPPED = re.compile(r"\s*\\(?:text|textbf|textit|textrm|mathrm|mathbf)\s{0,8}\{([^{}]*)\}\s*")
LONGEST = 512
"""A box of more characters is ignored."""


def boxes_of(text: str) -> list[str]:
    """The contents of the boxes in a text, each once, in order: LaTeX's `\\boxed{…}`, and GLM's box tokens.

    >>> boxes_of(r"So \\boxed{left {upper} lobe}."), boxes_of("<|begin_of_box|>B<|end_of_box|>"), boxes_of("B")
    (['left {upper} lobe'], ['B'], [])
    """
    found: dict[str, None] = {}
    begun = list(BOXED.finditer(text))
    closing = _closing_braces(text) if begun else {}
    for match in begun:
        start = match.end()
        end = closing.get(start, -1) if match[0].endswith("{") else text.find("<|end_of_box|>", start, start + LONGEST)
        box = text[start:end] if 0 <= end < start + LONGEST else ""
        wrapped = WRAPPED.fullmatch(box)
        if content := (wrapped[1] if wrapped else box).strip():
            found[content] = None
    return list(found)


def _unboxed(text: str) -> str:
    """The content of the box if a text has exactly one, else the stripped text."""
    boxed = boxes_of(text)
    return boxed[0] if len(boxed) == 1 else text.strip()


def _closing_braces(text: str) -> dict[int, int]:
    """The place after each opening brace -> the place of the brace that closes it, for nested ones too, in one pass."""
    closing, begun = {}, []
    for match in BRACE.finditer(text):
        if match[0] == "{":
            begun.append(match.end())
        elif begun:
            closing[begun.pop()] = match.start()
    return closing
