"""Linear attention for rows that share a beginning: each goes on from a state of its own, in which no padding is.

In `cascade` all rows of a pass are padded on the left to one length. Attention can mask that padding. A recurrence can
not: what stands between a stem and the rest of a prompt would be read as tokens. So only rows that begin at the same
place go through a layer together, without their padding. In steps of one token these are all rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from typing import Any

import torch
from torch.nn.functional import pad

from medrft.models.layer_state import LayerForward, LayerState, LayerStates


class CascadeForward(LayerForward):
    """A layer's `forward` for N rows, (N, T, width) in and out; `members` has the rows whose first token is at a place.

    The layer goes on from its states, and leaves the new ones there.
    """

    def __init__(self, layer: Any, states: LayerStates, members: dict[int, list[int]]) -> None:
        super().__init__(layer.forward)
        self.layer, self.states, self.members = layer, states, members

    def __call__(self, hidden_states: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """The layer's output, 0 at padding."""
        if list(self.members) == [0]:
            return self.run(hidden_states, self.states[self.layer], kwargs)
        found, parts = [], []
        for start, rows in self.members.items():
            places = torch.tensor(rows, device=hidden_states.device)
            parts.append(self.states[self.layer].take(places))
            found.append(pad(self.run(hidden_states[places, start:], parts[-1], kwargs), (0, 0, start, 0)))
        order = torch.tensor([row for rows in self.members.values() for row in rows], device=hidden_states.device)
        back = order.argsort()
        self.states[self.layer] = reduce(LayerState.join, parts).take(back)
        return torch.cat(found)[back]


@contextmanager
def use_states(states: LayerStates, starts: Sequence[int]) -> Iterator[None]:
    """Inside, each layer of `states` goes on from its states, and leaves there what it then knows.

    `starts` has the place of each row's first token in the pass; what stands before it is padding.
    """
    members: dict[int, list[int]] = {}
    for row, start in enumerate(starts):
        members.setdefault(start, []).append(row)
    before = {layer: vars(layer).get("forward") for layer in states}
    for layer in states:
        layer.forward = CascadeForward(layer, states, members)
    try:
        yield
    finally:
        for layer, forward in before.items():
            del layer.forward
            if forward is not None:
                layer.forward = forward
