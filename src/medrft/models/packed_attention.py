"""Attention of packed rows, part by part: nothing is computed between branches, and no mask spans the row.

    row      prompt  branch  branch  …   prompt  branch  …          several prompts may lie in one row, end to end
    parts    each prompt with itself; all branches of a prompt with its keys, in one product; each branch with itself

A branch sees its prompt and itself. On a CPU these are two products, merged by their log-sum-exp: one softmax over both
is their mean, weighted by the sums of their exponentials. Elsewhere the prompt's keys are put before those of each
branch: on a GPU in half precision for one call of flash attention (`packed_varlen`), else torch chooses the kernel.

transformers calls an attention function with nothing of ours but the mask, so the layout travels as the mask: a small
integer tensor, which `packed_layout` makes. It must be an argument, since gradient checkpointing computes a layer again
long after the forward pass has ended. A pass with another mask is a plain one, and goes to transformers' sdpa.
"""

from __future__ import annotations

from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd.function import once_differentiable
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import pad, scaled_dot_product_attention

from medrft.errors import ModelError
from medrft.models.packed_layout import Layout, Tree, is_layout, like_lengths, read_layout
from medrft.models.packed_varlen import attend_in_one_call, why_not_in_one_call

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def packed_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """An attention function for transformers: (1, heads, T, width) in, (1, T, heads, width) out.

    Raises `ModelError` for attention that cannot be taken apart. Without a layout it is transformers' sdpa.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if not is_layout(attention_mask):
        found: torch.Tensor = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, sliding_window=sliding_window, **kwargs
        )[0]
        return found, None
    assert attention_mask is not None
    refuse_unknown(module, dropout, kwargs)
    layout = read_layout(attention_mask)
    if query.shape[2] != attention_mask.shape[3]:
        raise ModelError(f"attention of {query.shape[2]} tokens to {attention_mask.shape[3]} cannot be taken apart")
    device = query.device.type
    if torch.is_autocast_enabled(device):  # as torch does for its own attention
        query, key, value = (x.to(torch.get_autocast_dtype(device)) for x in (query, key, value))
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if device == "cpu" and not _is_sketch(query) and query.shape[-1] == value.shape[-1]:
        return _Merged.apply(query, key, value, layout, sliding_window, scale), None
    if why_not_in_one_call(query, value, layout) is None:
        return attend_in_one_call(query, key, value, layout, sliding_window, scale), None
    return _concatenated(query, key, value, layout, sliding_window, scale), None


def _is_sketch(query: torch.Tensor) -> bool:
    """Whether this is a pass of a sketch (`models.sketch`), which says that it lies on the CPU but stands for a GPU.

    torch's mask without numbers (`causal_lower_right`) cannot be sketched.
    """
    return isinstance(query, FakeTensor)


def refuse_unknown(module: Any, dropout: float, given: dict[str, Any]) -> None:
    """Raise `ModelError` for what would be left out without an error.

    Gemma 2 caps its scores, GPT-OSS has sinks, T5 biases positions. Parts would drop other weights than the whole.
    """
    unknown = [name for name in ("softcap", "s_aux", "position_bias") if given.get(name) is not None]
    unknown += ["dropout"] * (dropout > 0) + ["two directions"] * (not getattr(module, "is_causal", True))
    if unknown:
        raise ModelError(f"attention with {', '.join(unknown)} cannot be taken apart")


class _Merged(torch.autograd.Function):  # type: ignore[misc]
    """All parts by torch's flash attention for CPUs, which also gives log-sum-exps; written into one tensor."""

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        layout: Layout,
        window: int | None,
        scale: float,
    ) -> torch.Tensor:
        found = query.new_zeros(1, query.shape[2], query.shape[1], value.shape[-1])
        out = found.transpose(1, 2)
        sums = torch.full_like(query[..., 0], -torch.inf, dtype=torch.promote_types(query.dtype, torch.float32))
        for part in layout.parts(window, query):
            one, one_sums = _flash(
                query[:, :, part.queries],
                key[:, :, part.keys],
                value[:, :, part.keys],
                is_causal=part.causal and part.mask is None,
                attn_mask=part.mask,
                scale=scale,
            )
            before = sums[:, :, part.queries]
            both = torch.logaddexp(before, one_sums)
            held = out[:, :, part.queries]
            held.mul_((before - both).exp()[..., None]).addcmul_(one, (one_sums - both).exp()[..., None].to(one.dtype))
            before.copy_(both)
        ctx.save_for_backward(query, key, value, found, sums)
        ctx.layout, ctx.window, ctx.scale = layout, window, scale
        return found

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, found, sums = ctx.saved_tensors
        grad, out = grad.transpose(1, 2), found.transpose(1, 2)
        grads = [torch.zeros_like(x) for x in (query, key, value)]
        # The gradient of a softmax needs its output and the sum of its exponentials. Given those of the whole, each
        # part's kernel computes its share of the whole gradient.
        for part in ctx.layout.parts(ctx.window, query):
            shares = _flash_backward(
                grad[:, :, part.queries],
                query[:, :, part.queries],
                key[:, :, part.keys],
                value[:, :, part.keys],
                out[:, :, part.queries],
                sums[:, :, part.queries],
                0.0,
                part.causal and part.mask is None,
                attn_mask=part.mask,
                scale=ctx.scale,
            )
            for whole, share, places in zip(grads, shares, (part.queries, part.keys, part.keys), strict=True):
                whole[:, :, places] += share
        return (*grads, None, None, None)


def _concatenated(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layout: Layout,
    window: int | None,
    scale: float,
) -> torch.Tensor:
    """The same by torch's public attention: keys of the prompt are put before those of each branch."""
    repeats = query.shape[1] // key.shape[1]
    if repeats > 1:
        key, value = (x.repeat_interleave(repeats, dim=1) for x in (key, value))
    found = []
    for tree in layout.trees:
        if tree.prompt:
            part = layout.within_prompt(tree, window, query)
            parts = query[:, :, part.queries], key[:, :, part.keys], value[:, :, part.keys]
            causal = part.mask is None
            found.append(scaled_dot_product_attention(*parts, attn_mask=part.mask, is_causal=causal, scale=scale))
        found += _branches(query, key, value, tree, window, scale)
    return torch.cat(found, dim=2).transpose(1, 2).contiguous()


def _branches(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, tree: Tree, window: int | None, scale: float
) -> list[torch.Tensor]:
    """Attention of a tree's branches, each (1, heads, tokens, width); those of like length in one product."""
    found: dict[int, torch.Tensor] = {}
    queries, keys, values = (x[:, :, tree.written].split(tree.branches, dim=2) for x in (query, key, value))
    end = tree.held.stop
    held = tree.prompt if window is None else min(tree.prompt, window - 1)
    for members in like_lengths(tree.branches):
        longest = max(tree.branches[member] for member in members)

        def rows(parts: tuple[torch.Tensor, ...], members: list[int] = members, size: int = longest) -> torch.Tensor:
            return torch.cat([pad(parts[member], (0, 0, 0, size - parts[member].shape[2])) for member in members])

        whole_keys, whole_values = (
            torch.cat([x[:, :, end - held : end].expand(len(members), -1, -1, -1), rows(own)], dim=2)
            for x, own in ((key, keys), (value, values))
        )
        # A token's filling lies behind it, so that it is not seen.
        mask: Any = None
        if _is_sketch(query) or (window is not None and window < tree.prompt + longest):
            places = torch.arange(-held, longest, device=query.device)
            asked = places[held:, None]
            mask = (places <= asked) & (places > asked - (window or tree.prompt + longest))
        else:
            mask = causal_lower_right(longest, held + longest)
        out = scaled_dot_product_attention(rows(queries), whole_keys, whole_values, attn_mask=mask, scale=scale)
        for row, member in enumerate(members):
            found[member] = out[row : row + 1, :, : tree.branches[member]]
    return [found[member] for member in range(len(tree.branches))]


def register_attention(name: str) -> None:
    """Make `packed_attention` known to transformers by a name, with the masks of sdpa.

    Without a mask function of its own, an attention gets no mask at all, so that plain passes would see padding.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(name, packed_attention)
    AttentionMaskInterface.register(name, sdpa_mask)
