"""Turns chats into model inputs: token ids and pixels, padded on the left, on the policy's device and in its dtype.

`widen_inputs` fits the inputs of prompts to longer rows, such as prompts with their completions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from medrft.models.policy import Policy
from medrft.models.prefix import TOKEN_TYPES
from medrft.models.prompts import Message
from medrft.types import Example

if TYPE_CHECKING:
    import torch

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


def widen_inputs(fields: Mapping[str, Any], *, before: int = 0, after: int = 0) -> dict[str, Any]:
    """Multimodal inputs of prompts (B, L) as those of rows with `before` padding and `after` completion tokens.

    Kinds of token, (B, L): what is added is text. Which pictures a token sees, (B, L, images, tiles): a completion
    sees what its prompt's last token sees. Everything else does not depend on the length and stays.
    """
    import torch

    found = dict(fields)
    for key in set(TOKEN_TYPES) & fields.keys():
        found[key] = torch.nn.functional.pad(fields[key], (before, after))
    if SEEN in fields:
        found[SEEN] = widen_seen(fields[SEEN], before=before, after=after)
    return found


def widen_seen(seen: torch.Tensor, *, before: int = 0, after: int = 0) -> torch.Tensor:
    """Which pictures each token sees, (B, before + L + after, images, tiles): padding none, a completion the prompt's.

    The same rule as that of Mllama's `_update_model_kwargs_for_generation`, which repeats the last token's row for
    each token that `generate` adds.
    """
    import torch

    blind = seen.new_zeros((seen.shape[0], before, *seen.shape[2:]))
    return torch.cat([blind, seen, seen[:, -1:].expand(-1, after, *seen.shape[2:])], dim=1)
