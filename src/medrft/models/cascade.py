"""Attention for rows that share a beginning: token ids go in, logits come out, and what is shared is kept once.

    stem     the tokens that several rows begin with, images among them; read once, U of them
    row      one continuation of a stem: the end of a prompt and what is written after it, N of them

In each pass the queries of all rows of a stem meet the stem's keys in one matrix product. Each row's own tokens are a
second product, and one softmax runs over both. All rows write at the same slot of their buffers. A row that joined
later, or whose end of the prompt is shorter, starts at a later slot. Layers of linear attention know a stem by a state
of one size, which each row gets a copy of (`cascade_recurrence`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from medrft.errors import ModelError
from medrft.models.prefix import Lines, forward_inputs, text_config

if TYPE_CHECKING:
    import torch

    from medrft.models.layer_state import LayerStates

    Pair = tuple[torch.Tensor, torch.Tensor]
    """Keys and values."""
    Pairs = dict[int, Pair]
    """Layer number -> keys and values."""

NAME = "medrft_shared_prefix"
"""Our attention's name among transformers' implementations."""
ROOM = 64
"""Slots by which the rows' buffers grow: growing by one would copy all keys and values for each token."""


@dataclass
class Stems:
    """Keys and values of U stems of at most P tokens, padded on the left."""

    depth: torch.Tensor
    """Position of each token in its own sequence, -1 for padding, (U, P)."""
    lengths: torch.Tensor
    """Tokens of each stem, (U,)."""
    after: torch.Tensor
    """Position id of the token that follows each stem, (U,)."""
    heads: Pairs = field(default_factory=dict)
    """Keys and values, (U, heads, P, width)."""
    states: LayerStates = field(default_factory=dict)
    """What layers of linear attention know after each stem."""

    def join(self, other: Stems) -> Stems:
        """These stems, followed by stems that were read in another pass."""
        import torch

        size = max(self.depth.shape[1], other.depth.shape[1])
        return Stems(
            torch.cat([_left(stems.depth[:, None, :, None], size, -1)[:, 0, :, 0] for stems in (self, other)]),
            torch.cat([self.lengths, other.lengths]),
            torch.cat([self.after, other.after]),
            {layer: _joined(pair, other.heads[layer], size) for layer, pair in self.heads.items()},
            {layer: state.join(other.states[layer]) for layer, state in self.states.items()},
        )

    def take(self, places: torch.Tensor) -> Stems:
        """The stems at `places`, cut to the length of the longest of them."""
        lengths = self.lengths[places]
        first = self.depth.shape[1] - int(lengths.max())
        return Stems(
            self.depth[places, first:],
            lengths,
            self.after[places],
            {layer: (k[places, :, first:], v[places, :, first:]) for layer, (k, v) in self.heads.items()},
            {layer: state.take(places) for layer, state in self.states.items()},
        )


@dataclass
class Rows:
    """N rows and the stems they branch off."""

    start: torch.Tensor
    """The slot of each row's first token, (N,)."""
    now: int = 0
    """How many slots are filled; the next token goes to this one."""
    tails: Pairs = field(default_factory=dict)
    """The rows' own keys and values, (N, heads, slots, width), with slots to spare."""
    states: LayerStates = field(default_factory=dict)
    """What layers of linear attention know of each row so far; empty before the first pass."""
    stems: Stems = field(init=False)
    place: torch.Tensor = field(init=False)
    """The stem of each row, (N,)."""
    cells: torch.Tensor | None = field(init=False)
    """Each row's place in a grid of U stems by `most` rows, (N,); `None` if the rows fill that grid in order."""
    most: int = field(init=False)
    """Rows of the stem that has most."""
    first: int = field(init=False)
    """The earliest slot that any row uses."""
    seen: dict[Any, torch.Tensor] = field(default_factory=dict)
    """Masks of this pass: layers of one kind share them."""

    def settle(self, stems: Stems, places: Sequence[int]) -> None:
        """Say which stem each row branches off; needed after rows or stems were added or taken out."""
        import torch

        counts = [0] * len(stems.lengths)
        ranks = []
        for place in places:
            ranks.append(counts[place])
            counts[place] += 1
        self.stems, self.most, self.first = stems, max(counts), int(self.start.min())
        self.place = torch.tensor(places, device=self.start.device)
        cells = [place * self.most + rank for place, rank in zip(places, ranks, strict=True)]
        full = cells == list(range(len(counts) * self.most))
        self.cells = None if full else torch.tensor(cells, device=self.start.device)
        self.seen.clear()

    def positions(self, tokens: int) -> torch.Tensor:
        """Position ids of the next `tokens` slots, (N, tokens), at least 0; before a row's start they mean nothing."""
        import torch

        slots = torch.arange(self.now, self.now + tokens, device=self.start.device)
        return (self.stems.after[self.place] - self.start)[:, None].add(slots).clamp(min=0)

    def step(self, tokens: int) -> None:
        """Count `tokens` slots as filled."""
        self.now += tokens
        self.seen.clear()

    def join(self, other: Rows) -> None:
        """Add the rows of another pass, shifted so that all write at one slot; call `settle` afterwards."""
        import torch

        now = max(self.now, other.now)
        for layer, pair in self.tails.items():  # layer by layer, so that no more than one is held twice
            more = other.tails[layer]
            self.tails[layer] = _joined(_cut(pair, self.now), _cut(more, other.now), now)
        for layer, state in self.states.items():
            self.states[layer] = state.join(other.states[layer])
        self.start = torch.cat([self.start + (now - self.now), other.start + (now - other.now)])
        self.now = now

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with these rows only, one of them perhaps several times; call `settle` afterwards."""
        start = self.start[rows]
        first = int(start.min())
        for layer, (k, v) in self.tails.items():  # layer by layer, so that no more than one is held twice
            self.tails[layer] = (k[rows, :, first:], v[rows, :, first:])
        for layer, state in self.states.items():
            self.states[layer] = state.take(rows)
        self.start, self.now = start - first, self.now - first

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scaling: float | None,
        window: int | None,
    ) -> torch.Tensor:
        """Attention of the next T tokens of each row: over its stem in one product for all rows, over its own apart.

        `query` is (N, heads, T, width), the result (N, T, heads, width). A model may bring fewer queries than keys,
        for the last tokens only (Gemma 4 in layers that reuse another layer's keys).
        """
        import torch

        rows, heads, tokens, width = query.shape
        shared, new = key.shape[1:3]
        repeats = heads // shared
        first = self.first if window is None else max(self.first, self.now + 1 - window)
        keys, values = (x[:, :, first : self.now + new] for x in self._extended(layer, key, value))
        # With grouped-query attention several heads share a key head. They become more queries of it, which spares the
        # copies of keys and values that transformers' `repeat_kv` makes.
        own = query.reshape(rows, shared, repeats * tokens, width) * (width**-0.5 if scaling is None else scaling)
        head_keys, head_values = self.stems.heads[layer]
        head = self._by_stem(own) @ head_keys.transpose(-1, -2)
        head = head.masked_fill(~self._visible_stem(window, repeats, tokens, new), -torch.inf)
        tail = (own @ keys.transpose(-1, -2)).masked_fill(
            ~self._visible_tail(first, window, repeats, tokens, new), -torch.inf
        )
        # One softmax over both parts, in float32 as in transformers' `eager_attention_forward`.
        weights = torch.cat([head, self._by_stem(tail)], dim=-1).softmax(-1, dtype=torch.float32).to(query.dtype)
        size = head_keys.shape[2]
        found = self._by_row(weights[..., :size] @ head_values) + self._by_row(weights[..., size:]) @ values
        return found.reshape(rows, heads, tokens, found.shape[-1]).transpose(1, 2)

    def _extended(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The layer's keys and values, with those of the new tokens written at slot `now`."""
        end = self.now + key.shape[2]
        found = self.tails.get(layer) or (key[:, :, :0], value[:, :, :0])
        if found[0].shape[2] < end:
            found = (_grown(found[0], end + ROOM), _grown(found[1], end + ROOM))
            self.tails[layer] = found
        found[0][:, :, self.now : end], found[1][:, :, self.now : end] = key, value
        return found

    def _by_stem(self, x: torch.Tensor) -> torch.Tensor:
        """(N, heads, Q, width) -> (U, heads, most x Q, width)."""
        _, heads, queries, width = x.shape
        count = len(self.stems.lengths)
        if self.cells is not None:
            x = x.new_zeros(count * self.most, heads, queries, width).index_copy_(0, self.cells, x)
        split = x.view(count, self.most, heads, queries, width).transpose(1, 2)
        return split.reshape(count, heads, self.most * queries, width)

    def _by_row(self, x: torch.Tensor) -> torch.Tensor:
        """(U, heads, most x Q, width) -> (N, heads, Q, width): undoes `_by_stem`."""
        count, heads, queries, width = x.shape
        split = x.view(count, heads, self.most, queries // self.most, width).transpose(1, 2)
        rows = split.reshape(count * self.most, heads, queries // self.most, width)
        return rows if self.cells is None else rows[self.cells]

    def _visible_stem(self, window: int | None, repeats: int, tokens: int, new: int) -> torch.Tensor:
        """Which stem tokens each query sees, (U, 1, 1 or most x repeats x T, P); T are the last of `new` tokens."""
        import torch

        name = ("stem", window, repeats, tokens, new)
        if name not in self.seen:
            depth = self.stems.depth
            seen = (depth >= 0)[:, None, None]
            if window is not None:
                slots = torch.arange(self.now + new - tokens, self.now + new, device=depth.device)
                # A window counts tokens, so it is measured in places within the sequence and not in position ids, which
                # M-RoPE lets jump. The limit is that of transformers' `sliding_window_overlay`.
                where = self.stems.lengths[self.place][:, None] + slots - self.start[:, None]
                where = where.repeat(1, repeats)[:, None, :, None]
                seen = seen & (depth[:, None, None] > self._by_stem(where) - window)
            self.seen[name] = seen
        return self.seen[name]

    def _visible_tail(self, first: int, window: int | None, repeats: int, tokens: int, new: int) -> torch.Tensor:
        """Which of a row's own tokens, from slot `first` on, each of its queries sees, (N, 1, repeats x T, slots)."""
        import torch

        name = ("tail", window, repeats, tokens, new)
        if name not in self.seen:
            slots = torch.arange(first, self.now + new, device=self.start.device)
            asked = slots[-tokens:, None]
            seen = slots <= asked if window is None else (slots <= asked) & (slots > asked - window)
            seen = seen & (slots >= self.start[:, None, None])
            self.seen[name] = seen.repeat(1, repeats, 1)[:, None]
        return self.seen[name]


def _left(x: torch.Tensor, size: int, value: int = 0) -> torch.Tensor:
    """(…, T, width) padded on the left to `size` tokens."""
    import torch

    return torch.nn.functional.pad(x, (0, 0, size - x.shape[-2], 0), value=value)


def _grown(x: torch.Tensor, size: int) -> torch.Tensor:
    import torch

    return torch.nn.functional.pad(x, (0, 0, 0, size - x.shape[-2]))


def _cut(pair: Pair, size: int) -> Pair:
    return pair[0][:, :, :size], pair[1][:, :, :size]


def _joined(one: Pair, other: Pair, size: int) -> Pair:
    """The keys and values of both, one below the other, padded on the left to `size` tokens."""
    import torch

    keys, values = (torch.cat([_left(a, size), _left(b, size)]) for a, b in zip(one, other, strict=True))
    return keys, values


_ACTIVE: ContextVar[Stems | Rows] = ContextVar("_ACTIVE")
"""The stems or rows that the current pass is about. transformers calls an attention function from deep inside a
model's own code, with no argument through which we could pass them."""


def cascade_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """An attention function for transformers: (rows, heads, tokens, width) in, (rows, tokens, heads, width) out."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    # Gemma 2 caps its scores, GPT-OSS has sinks, T5 biases positions: left out, each would be wrong without an error.
    unknown = [name for name in ("softcap", "s_aux", "position_bias") if kwargs.get(name) is not None]
    if unknown:
        raise ModelError(f"attention with {', '.join(unknown)} cannot share a prompt's keys")
    active, layer = _ACTIVE.get(), module.layer_idx
    if isinstance(active, Rows):
        return active.attend(layer, query, key, value, scaling, sliding_window), None
    active.heads[layer] = (key, value)
    found, _ = sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling)
    return found, None


@contextmanager
def use_cascade(model: Any, active: Stems | Rows) -> Iterator[None]:
    """Inside, the language model attends through `active`: it reads stems, or continues rows.

    The vision tower attends as ever.
    """
    from transformers import AttentionInterface

    # Each attention layer looks its function up by name at every pass, so that a model need not be changed to use
    # ours. The vision tower has a configuration of its own, whose name stays.
    AttentionInterface.register(NAME, cascade_attention)
    config = text_config(model)
    before, token = config._attn_implementation, _ACTIVE.set(active)
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before
        _ACTIVE.reset(token)


def read_stems(
    model: Any, prompts: torch.Tensor, mask: torch.Tensor, fields: dict[str, Any]
) -> tuple[Stems, torch.Tensor]:
    """Read U stems; returns their keys and values, and the logits after the last token of each, (U, V).

    `prompts` and `mask` are (U, P), padded on the left; `fields` holds their multimodal inputs. Raises `ModelError` for
    a model whose attention is not transformers' interface.
    """
    import torch

    from medrft.models.cascade_recurrence import use_states
    from medrft.models.layer_state import LayerState, recurrent_layers

    depth = (mask.long().cumsum(1) - 1).where(mask.bool(), -1)
    lines = Lines(prompts, torch.where(mask.bool(), 0, -1), depth.clamp(min=0), mask.sum(1))
    stems = Stems(depth, lines.lengths, lines.lengths)
    stems.states = {layer: LayerState() for layer in recurrent_layers(model)}
    starts = (mask.shape[1] - lines.lengths).tolist() if stems.states else []
    with use_cascade(model, stems), use_states(stems.states, starts):
        inputs = forward_inputs(model, lines, prompts, mask, fields)
        logits = model(**inputs, use_cache=False, logits_to_keep=1).logits[:, -1]
    if not stems.heads:
        raise ModelError(f"{type(model).__name__} has an attention of its own, which cannot share a prompt's keys")
    where = inputs["position_ids"]
    # M-RoPE gives an image's tokens fewer positions than it has tokens: the next token follows the largest one.
    stems.after = where.where(mask.bool(), 0).reshape(-1, *mask.shape).amax((0, 2)) + 1
    return stems, logits


def continue_rows(model: Any, rows: Rows, ids: torch.Tensor) -> torch.Tensor:
    """Read the next T tokens of each row, `ids` (N, T); returns the logits after the last, (N, V)."""
    from medrft.models.cascade_recurrence import use_states

    rows.states = rows.states or {layer: state.take(rows.place) for layer, state in rows.stems.states.items()}
    tokens = ids.shape[1]
    # Every row has read a token when the first pass ends, so that only this one can have padding.
    starts = (rows.start - rows.now).clamp(min=0).tolist() if rows.states and tokens > 1 else [0] * len(ids)
    with use_cascade(model, rows), use_states(rows.states, starts):
        found = model(input_ids=ids, position_ids=rows.positions(tokens), use_cache=False, logits_to_keep=1)
    rows.step(tokens)
    logits: torch.Tensor = found.logits[:, -1]
    return logits
