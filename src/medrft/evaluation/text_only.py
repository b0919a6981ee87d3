"""Whether a model can be asked without any picture, tried once before a whole pass is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medrft.errors import ModelError
from medrft.types import Example

if TYPE_CHECKING:
    from medrft.models.load import Policy
    from medrft.models.prompts import Prompt

QUESTION = Example(
    id="none/test/0",
    dataset="none",
    split="test",
    images=(),
    question="Is there a fracture?",
    references=("no",),
    kind="closed",
)


def check_text_only(policy: Policy, prompt: Prompt) -> None:
    """Write one token after a question without a picture; raises `ModelError` for a model that needs one."""
    from medrft.models.generate import complete

    chat = prompt.bound(policy.processor).messages(QUESTION)
    try:
        complete(policy, [chat], max_new_tokens=1, temperature=0.0)
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"control question_only: {policy.id} cannot be asked without a picture ({type(error).__name__}: {reason}); "
            "take question_only out of eval.controls, blank stays"
        ) from error
