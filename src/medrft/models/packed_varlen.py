"""Attention of packed rows in one call of flash attention for sequences of any length, on a GPU in half precision.

    sequences   queries   keys
    prompt      prompt    prompt
    branch      branch    its prompt (through a window, the end of it), then the branch

The kernel aligns causal sequences at their ends, so that a branch sees all of its prompt and itself up to each token.
Nothing is filled up to one length, keys are not repeated for the heads that share them, and windows need no mask. What
is left to the least possible is the copy of the prompt's keys before those of each branch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from inspect import signature
from itertools import accumulate
from typing import Any

import torch

from medrft.models.packed_layout import Layout

Sequences = tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor], tuple[int, int]]
"""Where in the row each key lies, (keys,); where sequences end among queries and among keys; the longest of each."""
WIDEST = 256
"""The widest head that flash attention takes."""
COMPUTE = (8, 0)
"""The least compute capability that flash attention needs: Ampere's."""


def why_not_in_one_call(query: torch.Tensor, value: torch.Tensor, layout: Layout) -> str | None:
    """Why `attend_in_one_call` cannot be had for tensors (1, heads, T, width); `None` if it can."""
    if query.device.type != "cuda":
        return "it needs a GPU"
    if query.dtype not in (torch.float16, torch.bfloat16):
        return f"it does not compute in {query.dtype}"
    if layout.images is not None:
        return "images are seen both ways"
    if query.shape[-1] != value.shape[-1] or query.shape[-1] > WIDEST:
        return f"heads are {query.shape[-1]} and {value.shape[-1]} wide"
    if torch.cuda.get_device_capability(query.device) < COMPUTE or not _is_there():
        return "this GPU or this version of torch has no flash attention for sequences of any length"
    return None


@cache
def _is_there() -> bool:
    """Whether torch has `varlen_attn` with windows and shared keys, and was built with flash attention."""
    if not torch.backends.cuda.is_flash_attention_available() or find_spec("torch.nn.attention.varlen") is None:
        return False
    from torch.nn.attention.varlen import varlen_attn

    return {"window_size", "enable_gqa"} <= signature(varlen_attn).parameters.keys()


def attend_in_one_call(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layout: Layout,
    window: int | None,
    scale: float,
    attend: Callable[..., Any] | None = None,
) -> torch.Tensor:
    """Attention of a packed row, (1, heads, T, width) in, (1, T, heads, width) out; keys may have fewer heads.

    `attend` is `torch.nn.attention.varlen.varlen_attn`, or a function that takes the same arguments.
    """
    if attend is None:
        from torch.nn.attention.varlen import varlen_attn

        attend = varlen_attn
    places, ends, lengths = _sequences(layout, window, query.device)
    queries, keys, values = (x[0].transpose(0, 1) for x in (query, key, value))
    out: torch.Tensor = attend(
        queries,
        keys.index_select(0, places),
        values.index_select(0, places),
        *ends,
        *lengths,
        scale=scale,
        window_size=(-1 if window is None else window - 1, 0),
        enable_gqa=key.shape[1] != query.shape[1],
    )
    return out[None]


def _sequences(layout: Layout, window: int | None, device: torch.device) -> Sequences:
    """The sequences of a row, in a window of so many tokens if there is one."""
    name = (window, device)
    if name not in layout.calls:  # once for all layers, since it is copied to the device
        places: list[int] = []
        asked: list[int] = []
        seen: list[int] = []
        for tree in layout.trees:
            held, start = range(tree.held.start, tree.held.stop), tree.written.start
            if tree.prompt:
                places += held
                asked.append(tree.prompt)
                seen.append(tree.prompt)
            before = held if window is None else held[max(0, tree.prompt - window + 1) :]
            for length in tree.branches:
                places += [*before, *range(start, start + length)]
                asked.append(length)
                seen.append(len(before) + length)
                start += length
        ends = [torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device) for lengths in (asked, seen)]
        layout.calls[name] = (torch.tensor(places, device=device), (ends[0], ends[1]), (max(asked), max(seen)))
    found: Sequences = layout.calls[name]
    return found
