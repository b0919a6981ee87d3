from pathlib import Path

from medrft.scorers.base import item_of
from medrft.types import Completion, Example

EXAMPLE = Example(
    id="t/test/0",
    dataset="t",
    split="test",
    images=(Path("a.png"),),
    question="Side?",
    references=("left",),
    kind="open",
)


def test_item_of_extracts_in_the_form():
    completion = Completion(text="<think>seen</think><answer> left </answer>", n_tokens=9, truncated=False)
    item = item_of(EXAMPLE, completion, form="think", max_tokens=64)
    assert (item.answer, item.thinking, item.n_tokens, item.max_tokens) == ("left", "seen", 9, 64)
    assert item_of(EXAMPLE, completion, form="short").answer == "<answer> left </answer>"
    assert item_of(EXAMPLE, Completion(text="left", n_tokens=1, truncated=True), form="direct").answer is None
