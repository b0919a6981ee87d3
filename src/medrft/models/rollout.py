"""Rollouts that read each prompt once: one pass over the prompt, then all its completions token by token.

The prompt's keys and values are kept once per prompt, not once per completion: at each step the queries of a group
are multiplied with them together, and each row only with its own few tokens. Sampling goes through transformers' own
logits processors, so its distribution is that of `generate`. Finished rows are taken out as they collect.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from medrft.errors import ModelError
from medrft.models.prefix import Lines, forward_inputs, plain_model, text_config

if TYPE_CHECKING:
    import torch

NAME = "medrft_shared_prefix"
"""Our attention's name among transformers' implementations."""
WORTH = 0.75
"""Rows are laid out anew once this share of them or fewer is left."""


@dataclass
class Cache:
    """Keys and values of U prompts and of the tokens written after them by N = U x `copies` rows."""

    copies: int
    room: int
    """Tokens that a row may write."""
    depth: torch.Tensor
    """Position of each prompt token in its own sequence, -1 for padding, (U, P)."""
    lengths: torch.Tensor
    """Tokens of each prompt, (U,)."""
    written: int = 0
    heads: dict[int, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)
    """By layer: keys and values of the prompts, (U, heads, P, width)."""
    tails: dict[int, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)
    """By layer: keys and values of what the rows wrote, (N, heads, room, width)."""
    seen: dict[int | None, torch.Tensor] = field(default_factory=dict)
    """By sliding window: prompt tokens that the rows see at this step, (U, 1, 1, P)."""
    reading: bool = True
    """Whether the prompts are being read."""

    def step(self) -> None:
        """The rows go on by one token."""
        self.written += 1
        self.seen.clear()

    def visible(self, window: int | None) -> torch.Tensor:
        """Prompt tokens within the window of the token being written."""
        if window not in self.seen:
            seen = self.depth >= 0
            if window is not None:
                seen = seen & (self.depth > (self.lengths + self.written - window)[:, None])
            self.seen[window] = seen[:, None, None]
        return self.seen[window]

    def keep(self, prompts: torch.Tensor, rows: torch.Tensor, copies: int) -> None:
        """Go on with these prompts and rows only."""
        if len(prompts) < len(self.lengths):
            self.depth, self.lengths = self.depth[prompts], self.lengths[prompts]
            self.heads = {layer: (k[prompts], v[prompts]) for layer, (k, v) in self.heads.items()}
        self.tails = {layer: (k[rows], v[rows]) for layer, (k, v) in self.tails.items()}
        self.copies = copies
        self.seen.clear()


_ACTIVE: ContextVar[Cache] = ContextVar("_ACTIVE")


def attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' attention interface: (rows, heads, tokens, width) to (rows, tokens, heads, width)."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    unknown = [name for name in ("softcap", "s_aux", "position_bias") if kwargs.get(name) is not None]
    if unknown:
        raise ModelError(f"attention with {', '.join(unknown)} cannot share a prompt's keys")
    cache, layer = _ACTIVE.get(), module.layer_idx
    if not cache.reading:
        return _attend(cache, layer, query, key, value, scaling, sliding_window), None
    cache.heads[layer] = (key, value)
    found, _ = sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling)
    return found, None


def _attend(
    cache: Cache,
    layer: int,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float | None,
    window: int | None,
) -> torch.Tensor:
    """One new token per row: over its prompt together with its group, over what it wrote alone."""
    import torch

    rows, heads, _, width = query.shape
    shared, now = key.shape[1], cache.written
    if layer not in cache.tails:
        cache.tails[layer] = (
            key.new_empty(rows, shared, cache.room, width),
            value.new_empty(rows, shared, cache.room, value.shape[-1]),
        )
    keys, values = cache.tails[layer]
    keys[:, :, now], values[:, :, now] = key[:, :, 0], value[:, :, 0]
    first = 0 if window is None else max(0, now + 1 - window)
    keys, values = keys[:, :, first : now + 1], values[:, :, first : now + 1]
    own = query.view(rows, shared, heads // shared, width) * (width**-0.5 if scaling is None else scaling)
    head_keys, head_values = cache.heads[layer]
    head = _by_prompt(own, cache.copies) @ head_keys.transpose(-1, -2)
    head = head.masked_fill(~cache.visible(window), -torch.inf)
    tail = _by_prompt(own @ keys.transpose(-1, -2), cache.copies)
    weights = torch.cat([head, tail], dim=-1).softmax(-1, dtype=torch.float32).to(query.dtype)
    size = head_keys.shape[2]
    found = _by_row(weights[..., :size] @ head_values, cache.copies)
    found = found + _by_row(weights[..., size:], cache.copies) @ values
    return found.reshape(rows, 1, heads, found.shape[-1])


def _by_prompt(x: torch.Tensor, copies: int) -> torch.Tensor:
    """(U x copies, heads, repeats, width) -> (U, heads, copies x repeats, width)."""
    rows, heads, repeats, width = x.shape
    split = x.view(rows // copies, copies, heads, repeats, width).transpose(1, 2)
    return split.reshape(rows // copies, heads, copies * repeats, width)


def _by_row(x: torch.Tensor, copies: int) -> torch.Tensor:
    """The way back."""
    prompts, heads, repeats, width = x.shape
    split = x.view(prompts, heads, copies, repeats // copies, width).transpose(1, 2)
    return split.reshape(prompts * copies, heads, repeats // copies, width)


@contextmanager
def _attending(model: Any, cache: Cache) -> Iterator[None]:
    """The language model attends through `cache`; the vision tower as ever."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attention)
    config = text_config(model)
    before, token = config._attn_implementation, _ACTIVE.set(cache)
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before
        _ACTIVE.reset(token)


@dataclass(frozen=True, slots=True)
class Sampler:
    """How the next token is chosen, taken from a generation config."""

    processors: Any
    sample: bool
    ends: torch.Tensor
    most: int

    def __call__(self, ids: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """One token per row, (N,), from all tokens so far, (N, T), and the last logits, (N, V)."""
        import torch

        scores = self.processors(ids, logits.to(torch.float32, copy=True))
        return torch.multinomial(scores.softmax(-1), 1)[:, 0] if self.sample else scores.argmax(-1)


def sampler(model: Any, config: Any, ids: torch.Tensor) -> Sampler:
    """What `model.generate` would do with a generation config for prompts `ids` (N, P).

    Raises `ModelError` for ways to generate that are neither greedy search nor sampling.
    """
    import torch

    config, extra = plain_model(model)._prepare_generation_config(config)
    mode = config.get_generation_mode()
    other = [
        name
        for name in ("stop_strings", "max_time", "watermarking_config", "prompt_lookup_num_tokens")
        if getattr(config, name, None)
    ]
    if (
        mode.value not in ("sample", "greedy_search")
        or config.num_return_sequences != 1
        or config.max_new_tokens is None
        or other
    ):
        raise ModelError(f"generation mode {mode.value} with {other or 'these settings'} cannot share a prompt")
    plain_model(model)._prepare_special_tokens(config, True, device=ids.device, batch_size=ids.shape[0])
    processors = plain_model(model)._get_logits_processor(
        generation_config=config,
        input_ids_seq_length=ids.shape[1],
        encoder_input_ids=ids,
        device=ids.device,
        model_kwargs=extra,
    )
    ends = config._eos_token_tensor
    none = torch.empty(0, dtype=torch.long, device=ids.device)
    return Sampler(processors, mode.value == "sample", none if ends is None else ends, config.max_new_tokens)


@dataclass(frozen=True, slots=True)
class Rollouts:
    """What was written, row by row."""

    ids: list[list[int]]
    """Token ids of each completion, its end token included."""
    logps: list[list[float]] | None
    """Log-probability of each token, where a temperature asked for it."""


def rollouts(
    model: Any,
    prompts: torch.Tensor,
    mask: torch.Tensor,
    fields: dict[str, Any],
    copies: Sequence[int],
    config: Any,
    *,
    temperature: float | None = None,
) -> Rollouts:
    """`copies[u]` completions of each prompt u, side by side.

    `prompts` and `mask` are (U, P), padded on the left; `fields` the prompts' multimodal inputs, each once. Draws
    from torch's global generator. With a `temperature`, each token's log-probability at it is kept too, as training
    will compute it: before any processor. Raises `ModelError` where model or `config` cannot share a prompt.
    """
    import torch

    with torch.no_grad():
        writer = _Writer(model, prompts, mask, fields, copies, config, temperature)
        return writer.write()


class _Writer:
    """The state of one call of `rollouts`: N rows, laid out as U prompts with as many rows each."""

    def __init__(
        self,
        model: Any,
        prompts: torch.Tensor,
        mask: torch.Tensor,
        fields: dict[str, Any],
        copies: Sequence[int],
        config: Any,
        temperature: float | None,
    ):
        import torch

        device, most = prompts.device, max(copies)
        wanted = torch.tensor(copies, device=device)
        places = torch.arange(most, device=device)
        self.model, self.fields, self.temperature = model, fields, temperature
        self.alive = (places < wanted[:, None]).flatten()
        """Rows still writing, (N,); prompts with fewer copies than others have rows that never do."""
        self.row = torch.where(self.alive, (wanted.cumsum(0) - wanted)[:, None].add(places).flatten(), -1)
        """The completion that each row writes, (N,)."""
        self.ids = prompts.repeat_interleave(most, 0)
        self.sample = sampler(model, config, self.ids)
        total = int(wanted.sum())
        self.found = prompts.new_full((total, self.sample.most), -1)
        self.logps = torch.zeros(total, self.sample.most, device=device)
        depth = (mask.long().cumsum(1) - 1).where(mask.bool(), -1)
        self.lines = Lines(prompts, torch.where(mask.bool(), 0, -1), depth.clamp(min=0), mask.sum(1))
        self.cache = Cache(most, self.sample.most, depth, self.lines.lengths)
        self.ends = prompts.new_empty(0)
        """Position of each row's last prompt token, (1 or 3, N, 1), once the prompts are read."""

    def write(self) -> Rollouts:
        """All tokens of all rows."""
        import torch

        with _attending(self.model, self.cache):
            logits = self._read()
            for step in range(self.sample.most):
                chosen = self.sample(self.ids, logits)
                self._note(step, chosen, logits)
                self.alive &= ~torch.isin(chosen, self.sample.ends)
                if step + 1 == self.sample.most or not bool(self.alive.any()):
                    break
                self.ids = torch.cat([self.ids, chosen[:, None]], dim=1)
                self._compact()
                logits = self._next(step)
        return self._collected()

    def _read(self) -> torch.Tensor:
        """Read the prompts once; logits after each, for each of its rows."""
        inputs = forward_inputs(self.model, self.lines, self.lines.ids, self.lines.segments == 0, self.fields)
        logits = self.model(**inputs, use_cache=False, logits_to_keep=1).logits[:, -1]
        self.cache.reading = False
        last = inputs["position_ids"][..., -1:]  # prompts are padded on the left
        self.ends = (last if last.ndim == 3 else last[None]).repeat_interleave(self.cache.copies, 1)
        return logits.repeat_interleave(self.cache.copies, 0)

    def _next(self, step: int) -> torch.Tensor:
        """Logits after the newest token of each row."""
        where = self.ends + step + 1
        logits = self.model(
            input_ids=self.ids[:, -1:], position_ids=where[0] if len(where) == 1 else where, use_cache=False
        ).logits[:, -1]
        self.cache.step()
        return logits

    def _note(self, step: int, chosen: torch.Tensor, logits: torch.Tensor) -> None:
        rows = self.row[self.alive]
        self.found[rows, step] = chosen[self.alive]
        if self.temperature is not None:
            all_logps = (logits[self.alive].float() / self.temperature).log_softmax(-1)
            self.logps[rows, step] = all_logps.gather(1, chosen[self.alive, None])[:, 0]

    def _compact(self) -> None:
        """Lay the rows that still write out anew, once enough others are done."""
        alive = self.alive.view(-1, self.cache.copies)
        counts = alive.sum(1)
        copies, prompts = int(counts.max()), counts.nonzero()[:, 0]
        if len(prompts) * copies > WORTH * self.alive.numel():
            return
        first = alive[prompts].int().argsort(dim=1, descending=True, stable=True)[:, :copies]
        rows = (prompts[:, None] * self.cache.copies + first).flatten()
        self.cache.keep(prompts, rows, copies)
        self.alive, self.row, self.ids, self.ends = self.alive[rows], self.row[rows], self.ids[rows], self.ends[:, rows]

    def _collected(self) -> Rollouts:
        ids = [[token for token in row if token >= 0] for row in self.found.tolist()]
        if self.temperature is None:
            return Rollouts(ids, None)
        return Rollouts(ids, [row[: len(made)] for row, made in zip(self.logps.tolist(), ids, strict=True)])
