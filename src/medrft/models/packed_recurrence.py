"""Linear attention of packed rows: the state after a prompt is computed once, and each of its branches begins from it.

    prompt     from nothing     its outputs, the last inputs of the convolution, and the recurrent state
    branches   from that state  as a batch; what fills them to one length lies behind them, where no token sees it

The layer's own `forward` computes both, with a `PromptState` in place of transformers' cache. Gradients flow from the
branches through the state into the prompt. As in `packed_attention`, the layout comes as the mask, so that gradient
checkpointing can compute a layer again; a pass with another mask is a plain one.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn.functional import pad

from medrft.errors import ModelError
from medrft.models.packed_attention import Layout, Tree, is_layout, like_lengths, read_layout

RECURRENT = ("linear_attention", "conv")
"""Types of layers that hold a state in place of keys and values."""
CACHES = ("cache_params", "past_key_values")
"""The names that layers have for the argument that holds a state."""
SHORTEST = 2
"""Tokens that a batch of branches has at least: layers take a single one for a step of generation, and kernels for
these may have no backward pass."""

States = dict[int, torch.Tensor]
"""States of one layer by their number: Kimi's have three convolutions."""


class PromptState:
    """What one layer knows after a prompt, with the methods of transformers' cache that layers call.

    Nothing is written in place, so that autograd can follow it.
    """

    def __init__(self, conv: States | None = None, recurrent: States | None = None) -> None:
        self.conv, self.recurrent = dict(conv or {}), dict(recurrent or {})

    def copied(self, times: int) -> PromptState:
        """The same state for each of `times` branches, whose gradients add up."""
        conv, recurrent = (
            {number: state.expand(times, *state.shape[1:]) for number, state in states.items()}
            for states in (self.conv, self.recurrent)
        )
        return PromptState(conv, recurrent)

    def get_conv_state(self, layer_idx: int, state_idx: int = 0) -> torch.Tensor | None:
        """The last inputs of a convolution, (B, channels, at most kernel)."""
        return self.conv.get(state_idx)

    def get_recurrent_state(self, layer_idx: int, state_idx: int = 0) -> torch.Tensor | None:
        """What the recurrence has gathered, (B, heads, key width, value width)."""
        return self.recurrent.get(state_idx)

    def update_conv_state(
        self, conv_states: torch.Tensor, layer_idx: int, state_idx: int = 0, *, conv_kernel_size: int
    ) -> torch.Tensor:
        """The new inputs of a convolution, (B, channels, T), after those that are held."""
        held = self.conv.get(state_idx)
        whole = conv_states if held is None else torch.cat([held, conv_states], dim=-1)
        self.conv[state_idx] = whole[..., -conv_kernel_size:]
        return whole

    def update_recurrent_state(
        self, recurrent_states: torch.Tensor, layer_idx: int, state_idx: int = 0
    ) -> torch.Tensor:
        """Hold a new state."""
        self.recurrent[state_idx] = recurrent_states
        return recurrent_states

    def is_recording_past(self, layer_idx: int) -> bool:
        """True, which keeps layers from updating a convolution's inputs in place."""
        return True


class PackedForward:
    """A layer's `forward` that takes packed rows apart, (1, T, width) in and out; other passes are those of `plain`."""

    def __init__(self, plain: Callable[..., Any]) -> None:
        self.plain, self.cache = plain, _cache_name(plain)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The layer's output, (B, T, width)."""
        mask = kwargs.get("attention_mask")
        if not is_layout(mask):
            return self.plain(*args, **kwargs)
        return self._by_parts(read_layout(mask), *args, **kwargs)

    def _by_parts(self, layout: Layout, hidden_states: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        found = []
        for tree in layout.trees:
            state = PromptState()
            if tree.prompt:
                found.append(self._run(hidden_states[:, tree.held], state, kwargs))
            found += self._branches(hidden_states, tree, state, kwargs)
        return torch.cat(found, dim=1)

    def _branches(
        self, hidden_states: torch.Tensor, tree: Tree, state: PromptState, kwargs: dict[str, Any]
    ) -> list[torch.Tensor]:
        """Outputs of a tree's branches, each (1, tokens, width); those of like length in one batch."""
        found: dict[int, torch.Tensor] = {}
        rows = hidden_states[:, tree.written].split(tree.branches, dim=1)
        for members in like_lengths(tree.branches):
            longest = max(SHORTEST, *(tree.branches[member] for member in members))
            batch = torch.cat([pad(rows[member], (0, 0, 0, longest - tree.branches[member])) for member in members])
            out = self._run(batch, state.copied(len(members)), kwargs)
            for row, member in enumerate(members):
                found[member] = out[row : row + 1, : tree.branches[member]]
        return [found[member] for member in range(len(tree.branches))]

    def _run(self, hidden_states: torch.Tensor, state: PromptState, kwargs: dict[str, Any]) -> torch.Tensor:
        """The layer itself, which leaves in `state` what it knows after these tokens."""
        assert self.cache is not None
        given = {**kwargs, "attention_mask": None, self.cache: state}
        found = self.plain(hidden_states=hidden_states, **given)
        if not isinstance(found, torch.Tensor):
            raise ModelError(f"a layer of linear attention returned a {type(found).__name__}, which has no parts")
        return found


def why_not_apart(model: torch.nn.Module, types: Sequence[str]) -> str | None:
    """Why the layers of a model cannot begin from a state of ours; `None` if they can.

    `types` has the type of each of its layers of `RECURRENT`.
    """
    layers, kinds = _layers(model), ", ".join(sorted(set(types)))
    if sorted(layer.layer_type for layer in layers) != sorted(types):
        return f"the model has layers of type {kinds}, and not all of them hold their state in a way that is known"
    for layer in layers:
        if not isinstance(layer.forward, PackedForward) and _cache_name(layer.forward) is None:
            return f"the model has layers of type {kinds}, and {type(layer).__name__} cannot be given a state"
    return None


def take_layers_apart(model: torch.nn.Module) -> None:
    """Let the layers of a model's `RECURRENT` types, if it has any, take packed rows apart."""
    for layer in _layers(model):
        layer.forward = PackedForward(layer.forward)


def keep_layers_whole(model: torch.nn.Module) -> None:
    """Undo `take_layers_apart`."""
    for layer in _layers(model):
        if isinstance(layer.forward, PackedForward):
            layer.forward = layer.forward.plain


def _layers(model: torch.nn.Module) -> list[Any]:
    """The parts of layers that hold a state: transformers' modules with a type and a convolution."""
    return [
        module
        for module in model.modules()
        if getattr(module, "layer_type", None) in RECURRENT and hasattr(module, "conv_kernel_size")
    ]


def _cache_name(forward: Callable[..., Any]) -> str | None:
    """What a layer calls the argument that holds its state; `None` if it has none."""
    names = inspect.signature(forward).parameters
    return next((name for name in CACHES if name in names), None) if "attention_mask" in names else None
