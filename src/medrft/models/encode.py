"""Chats as model inputs: the processor's template, padding on the left, the policy's device and dtype."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from medrft.models.load import Policy
from medrft.models.prompts import Message
from medrft.types import Example

Images = Callable[[Example], list[Any]]
"""The PIL pictures of an example, in order."""


def encode(policy: Policy, chats: Sequence[list[Message]]) -> dict[str, Any]:
    """Model inputs for chats up to the assistant turn, padded on the left, on the policy's device and in its dtype."""
    inputs = policy.processor.apply_chat_template(
        list(chats),
        tokenize=True,
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"padding": True, "padding_side": "left"},
    )
    return to_device(policy, inputs)


def to_device(policy: Policy, inputs: Any) -> dict[str, Any]:
    """Tensors on the policy's device, pixels in its dtype."""
    dtype = policy.model.dtype
    return {
        key: value.to(policy.device, dtype if value.is_floating_point() else None)
        for key, value in inputs.items()
        if hasattr(value, "is_floating_point")
    }
