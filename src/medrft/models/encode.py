"""Chats as model inputs: the processor's template, padding on the left, the policy's device and dtype."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from medrft.models.policy import Policy
from medrft.models.prefix import TOKEN_TYPES
from medrft.models.prompts import Message
from medrft.types import Example

Images = Callable[[Example], list[Any]]
"""The PIL pictures of an example, in order."""

SEEN = "cross_attention_mask"
"""Which pictures each token sees, where a model reads them through cross-attention (Llama 3.2 Vision)."""


def encode_chats(policy: Policy, chats: Sequence[list[Message]]) -> dict[str, Any]:
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


def widen_inputs(fields: Mapping[str, Any], *, before: int, after: int) -> dict[str, Any]:
    """Multimodal inputs of prompts (B, L) as those of rows with `before` padding and `after` completion tokens.

    Kinds of token, (B, L): what is added is text. Which pictures a token sees, (B, L, images, tiles): a completion
    sees what its prompt's last token sees. Everything else does not depend on the length and stays.
    """
    import torch

    found = dict(fields)
    for key in set(TOKEN_TYPES) & fields.keys():
        found[key] = torch.nn.functional.pad(fields[key], (before, after))
    if SEEN in fields:
        seen = fields[SEEN]
        blind, more = seen.new_zeros((seen.shape[0], before, *seen.shape[2:])), seen[:, -1:].repeat(1, after, 1, 1)
        found[SEEN] = torch.cat([blind, seen, more], dim=1)
    return found
