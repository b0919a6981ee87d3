"""Rollouts that read each prompt once: one pass over the prompt, then all its completions token by token.

The prompt's keys and values are kept once per prompt, not once per completion (`cascade`). Sampling goes through
transformers' own logits processors, so its distribution is that of `generate`. Finished rows are taken out as they
collect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medrft.errors import ModelError
from medrft.models.cascade import Rows, go_on, read_stems
from medrft.models.prefix import plain_model

if TYPE_CHECKING:
    import torch

WORTH = 0.75
"""Rows are laid out anew once this share of them or fewer is left."""


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


def build_sampler(model: Any, config: Any, ids: torch.Tensor) -> Sampler:
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


def sample_rollouts(
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
    """The state of one call of `sample_rollouts`: N rows that branch off U prompts."""

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

        device = prompts.device
        self.model, self.temperature = model, temperature
        self.places = [prompt for prompt, count in enumerate(copies) for _ in range(count)]
        """The prompt of each row."""
        self.row = torch.arange(len(self.places), device=device)
        """The completion that each row writes, (N,)."""
        self.alive = torch.ones_like(self.row, dtype=torch.bool)
        """Rows still writing, (N,)."""
        self.ids = prompts[torch.tensor(self.places, device=device)]
        self.sample = build_sampler(model, config, self.ids)
        self.found = prompts.new_full((len(self.places), self.sample.most), -1)
        self.logps = torch.zeros(len(self.places), self.sample.most, device=device)
        stems, self.logits = read_stems(model, prompts, mask, fields)
        self.logits = self.logits[torch.tensor(self.places, device=device)]
        self.cache = Rows(torch.zeros_like(self.row))
        self.cache.settle(stems, self.places)

    def write(self) -> Rollouts:
        """All tokens of all rows."""
        import torch

        for step in range(self.sample.most):
            chosen = self.sample(self.ids, self.logits)
            self._note(step, chosen, self.logits)
            self.alive &= ~torch.isin(chosen, self.sample.ends)
            if step + 1 == self.sample.most or not bool(self.alive.any()):
                break
            self.ids = torch.cat([self.ids, chosen[:, None]], dim=1)
            self._compact()
            self.logits = go_on(self.model, self.cache, self.ids[:, -1:])
        return self._collected()

    def _note(self, step: int, chosen: torch.Tensor, logits: torch.Tensor) -> None:
        rows = self.row[self.alive]
        self.found[rows, step] = chosen[self.alive]
        if self.temperature is not None:
            all_logps = (logits[self.alive].float() / self.temperature).log_softmax(-1)
            self.logps[rows, step] = all_logps.gather(1, chosen[self.alive, None])[:, 0]

    def _compact(self) -> None:
        """Go on with the rows that still write, once enough others are done."""
        import torch

        rows = self.alive.nonzero()[:, 0]
        if len(rows) > WORTH * len(self.row):
            return
        left = [self.places[row] for row in rows.tolist()]
        prompts = sorted(set(left))
        self.cache.keep(rows)
        stems = self.cache.stems.take(torch.tensor(prompts, device=rows.device))
        self.places = [prompts.index(place) for place in left]
        self.cache.settle(stems, self.places)
        self.alive, self.row, self.ids = self.alive[rows], self.row[rows], self.ids[rows]

    def _collected(self) -> Rollouts:
        ids = [[token for token in row if token >= 0] for row in self.found.tolist()]
        if self.temperature is None:
            return Rollouts(ids, None)
        return Rollouts(ids, [row[: len(made)] for row, made in zip(self.logps.tolist(), ids, strict=True)])
