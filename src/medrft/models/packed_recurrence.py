"""Linear attention of packed rows: the state after a prompt is computed once, and each of its branches begins from it.

    prompt     from nothing     its outputs, the last inputs of the convolution, and the recurrent state
    branches   from that state  as a batch; what fills them to one length lies behind them, where no token sees it

The layer's own `forward` computes both, from a `LayerState`. Gradients flow from the branches through the state into
the prompt. As in `packed_attention`, the layout comes as the mask, so that gradient checkpointing can compute a layer
again; a pass with another mask is a plain one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import pad

from medrft.models.layer_state import LayerForward, LayerState, recurrent_layers
from medrft.models.packed_layout import Layout, Tree, is_layout, like_lengths, read_layout

SHORTEST = 2
"""Tokens that a batch of branches has at least: layers take a single one for a step of generation, and kernels for
these may have no backward pass."""


class PackedForward(LayerForward):
    """A layer's `forward` that takes packed rows apart, (1, T, width) in and out; other passes are those of `plain`."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The layer's output, (B, T, width)."""
        mask = kwargs.get("attention_mask")
        if not is_layout(mask):
            return self.plain(*args, **kwargs)
        return self._by_parts(read_layout(mask), *args, **kwargs)

    def _by_parts(self, layout: Layout, hidden_states: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        found = []
        for tree in layout.trees:
            state = LayerState()
            if tree.prompt:
                found.append(self.run(hidden_states[:, tree.held], state, kwargs))
            found += self._branches(hidden_states, tree, state, kwargs)
        return torch.cat(found, dim=1)

    def _branches(
        self, hidden_states: torch.Tensor, tree: Tree, state: LayerState, kwargs: dict[str, Any]
    ) -> list[torch.Tensor]:
        """Outputs of a tree's branches, each (1, tokens, width); those of like length in one batch."""
        found: dict[int, torch.Tensor] = {}
        rows = hidden_states[:, tree.written].split(tree.branches, dim=1)
        for members in like_lengths(tree.branches):
            longest = max(SHORTEST, *(tree.branches[member] for member in members))
            batch = torch.cat([pad(rows[member], (0, 0, 0, longest - tree.branches[member])) for member in members])
            out = self.run(batch, state.copied(len(members)), kwargs)
            for row, member in enumerate(members):
                found[member] = out[row : row + 1, : tree.branches[member]]
        return [found[member] for member in range(len(tree.branches))]


def take_layers_apart(model: torch.nn.Module) -> None:
    """Let the layers of a model's `RECURRENT` types, if it has any, take packed rows apart."""
    for layer in recurrent_layers(model):
        layer.forward = PackedForward(layer.forward)


def keep_layers_whole(model: torch.nn.Module) -> None:
    """Undo `take_layers_apart`."""
    for layer in recurrent_layers(model):
        if isinstance(layer.forward, PackedForward):
            layer.forward = layer.forward.plain
