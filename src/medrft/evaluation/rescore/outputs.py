"""From another evaluator's raw output to its answer, without the thought and without tags or box."""

from __future__ import annotations

from medrft.text import boxes_of, extract, part_thought


def answer_of(output: str) -> str | None:
    """The answer in a raw output; `None` where there is none or more than one.

    It is the only `<answer>` block by the rules of `medrft.text.extract`. Without such tags it is what follows the
    thought, or the box there. Two different boxes, or a thought that never ends, are no answer.

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
