"""From an example and what a policy wrote to the item that scorers see."""

from __future__ import annotations

from medrft.text import extract
from medrft.types import Completion, Example, Form, Item


def item_of(example: Example, completion: Completion, *, form: Form, max_tokens: int | None = None) -> Item:
    """The item of one completion; its answer is extracted in the prompt's form."""
    found = extract(completion.text, form)
    return Item(
        references=example.references,
        kind=example.kind,
        answer=found.answer,
        completion=completion.text,
        thinking=found.thinking,
        form=form,
        question=example.question,
        options=example.options,
        n_tokens=completion.n_tokens,
        max_tokens=max_tokens,
        truncated=completion.truncated,
        metadata=example.metadata,
    )
