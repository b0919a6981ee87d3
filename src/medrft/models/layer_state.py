"""States of layers that carry one from token to token: what a layer of linear attention knows after some tokens.

    convolution   its last inputs, as many as its kernel is wide
    recurrence    one matrix a head, whatever the number of tokens; short convolutions (LFM2) have none

transformers' layers keep these in a cache, which their own `forward` asks for. A `LayerState` takes its place, so that
no kernel or code of theirs is copied. `packed_recurrence` hands states to the branches of packed rows, and
`cascade_recurrence` to rows that are being written.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn.functional import pad

from medrft.errors import ModelError

RECURRENT = ("linear_attention", "conv")
"""Types of layers that hold a state in place of keys and values."""
CACHES = ("cache_params", "past_key_values")
"""The names that layers have for the argument that holds a state."""

States = dict[int, torch.Tensor]
"""States of one layer by their number: Kimi's have three convolutions."""


class LayerState:
    """What one layer knows of B sequences, with the methods of transformers' cache that layers call.

    Nothing is written in place, so that autograd can follow it.
    """

    def __init__(self, conv: States | None = None, recurrent: States | None = None) -> None:
        self.conv, self.recurrent = dict(conv or {}), dict(recurrent or {})

    def copied(self, times: int) -> LayerState:
        """The state of one sequence for each of `times` branches, whose gradients add up."""
        return self._mapped(lambda state: state.expand(times, *state.shape[1:]))

    def take(self, places: torch.Tensor) -> LayerState:
        """The states of the sequences at `places`, one of them perhaps several times."""
        return self._mapped(lambda state: state[places])

    def join(self, other: LayerState) -> LayerState:
        """These states, followed by those of other sequences."""
        return LayerState(
            {number: torch.cat([state, other.conv[number]]) for number, state in self.conv.items()},
            {number: torch.cat([state, other.recurrent[number]]) for number, state in self.recurrent.items()},
        )

    def _mapped(self, change: Callable[[torch.Tensor], torch.Tensor]) -> LayerState:
        conv, recurrent = (
            {number: change(state) for number, state in states.items()} for states in (self.conv, self.recurrent)
        )
        return LayerState(conv, recurrent)

    def get_conv_state(self, layer_idx: int, state_idx: int = 0) -> torch.Tensor | None:
        """The last inputs of a convolution, (B, channels, kernel)."""
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
        # Zeros stand before fewer inputs than the kernel is wide, as the convolution itself puts them there, so that
        # states after any number of tokens fit into one batch. More inputs than that are cut off, and not kept alive.
        self.conv[state_idx] = pad(whole, (conv_kernel_size - whole.shape[-1], 0))
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


LayerStates = dict[Any, LayerState]
"""Layer (one of `recurrent_layers`) -> what it knows."""


class LayerForward:
    """Stands for a layer's `forward`, `plain`, and runs it with a state of ours."""

    def __init__(self, plain: Callable[..., Any]) -> None:
        self.plain, self.cache = plain, cache_name(plain)

    def run(self, hidden_states: torch.Tensor, state: LayerState, kwargs: dict[str, Any]) -> torch.Tensor:
        """The layer itself, (B, T, width) in and out, which leaves in `state` what it knows after these tokens.

        There must be no padding among them. Raises `ModelError` if the layer returns something else than a tensor.
        """
        assert self.cache is not None
        given = {**kwargs, "attention_mask": None, self.cache: state}
        found = self.plain(hidden_states=hidden_states, **given)
        if not isinstance(found, torch.Tensor):
            raise ModelError(f"a layer of linear attention returned a {type(found).__name__}, which has no parts")
        return found


def why_no_states(model: torch.nn.Module, types: Sequence[str]) -> str | None:
    """Why the layers of a model cannot begin from a state of ours; `None` if they can.

    `types` has the type of each of its layers of `RECURRENT`.
    """
    layers, kinds = recurrent_layers(model), ", ".join(sorted(set(types)))
    if sorted(layer.layer_type for layer in layers) != sorted(types):
        return f"the model has layers of type {kinds}, and not all of them hold their state in a way that is known"
    for layer in layers:
        if cache_name(layer.forward) is None:
            return f"the model has layers of type {kinds}, and {type(layer).__name__} cannot be given a state"
    return None


def recurrent_layers(model: torch.nn.Module) -> list[Any]:
    """The parts of layers that hold a state: transformers' modules with a type and a convolution."""
    return [
        module
        for module in model.modules()
        if getattr(module, "layer_type", None) in RECURRENT and hasattr(module, "conv_kernel_size")
    ]


def cache_name(forward: Callable[..., Any]) -> str | None:
    """What a layer calls the argument that holds its state; `None` if it has none."""
    if isinstance(forward, LayerForward):
        return forward.cache
    names = inspect.signature(forward).parameters
    return next((name for name in CACHES if name in names), None) if "attention_mask" in names else None
