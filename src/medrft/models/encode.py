"""Turns chats into model inputs: messages go in, token ids and pixels on the policy's device come out.

They are padded on the left, because generation continues the last token of each row. `widen_inputs` fits the inputs of
prompts to longer rows, such as prompts with their completions.
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
"""The input that says which pictures each token sees, in models with cross-attention (Llama 3.2 Vision)."""


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
    """The tensors among `inputs`, on the policy's device; those of floating point in its dtype."""
    dtype = policy.model.dtype
    return {
        key: value.to(policy.device, dtype if value.is_floating_point() else None)
        for key, value in inputs.items()
        if hasattr(value, "is_floating_point")
    }


def widen_inputs(fields: Mapping[str, Any], *, before: int = 0, after: int = 0) -> dict[str, Any]:
    """Multimodal inputs of prompts of L tokens, fitted to rows with `before` padding and `after` completion tokens.

    Token types, (B, L), are filled up with 0, which is text. Of the pictures that each token sees, (B, L, images,
    tiles), a completion sees what its prompt's last token sees. All other inputs do not depend on the length and stay.
    """
    import torch

    found = dict(fields)
    for key in set(TOKEN_TYPES) & fields.keys():
        found[key] = torch.nn.functional.pad(fields[key], (before, after))
    if SEEN in fields:
        found[SEEN] = widen_seen(fields[SEEN], before=before, after=after)
    return found


def widen_seen(seen: torch.Tensor, *, before: int = 0, after: int = 0) -> torch.Tensor:
    """Which pictures each token sees, for longer rows: (B, before + L + after, images, tiles).

    Padding sees none, and a completion sees what its prompt's last token sees. Mllama's
    `_update_model_kwargs_for_generation` has the same rule: it repeats the last token's row for each token that
    `generate` adds.
    """
    import torch

    blind = seen.new_zeros((seen.shape[0], before, *seen.shape[2:]))
    return torch.cat([blind, seen, seen[:, -1:].expand(-1, after, *seen.shape[2:])], dim=1)
