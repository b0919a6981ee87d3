"""Writes rollouts that read each prompt once: U prompts go in, the token ids of N completions come out.

One pass reads the prompts; then all completions are written together, token by token. A prompt's keys and values are
kept once, not once per completion (`cascade`). `generate` with `num_return_sequences` would copy prompt and picture
for each completion and read them G times. Sampling goes through transformers' own logits processors, so the
distribution is that of `generate`. Completions that have ended are taken out of the batch once enough of them have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medrft.errors import ModelError
from medrft.models.cascade import Rows, continue_rows, read_stems
from medrft.models.prefix import plain_model

if TYPE_CHECKING:
    import torch

WORTH = 0.75
"""Ended rows are taken out once at most this share is still writing: each time, all keys and values are copied."""
TOGETHER = 0.25
"""Ended rows are handed on once they are this share of all: scorers are faster with many completions in a call."""


@dataclass(frozen=True, slots=True)
class Sampler:
    """How the next token is chosen, taken from a generation config."""

    processors: Any
    sample: bool
    """Whether tokens are drawn; else the most likely one is taken."""
    ends: torch.Tensor
    """Token ids that end a completion, (E,)."""
    most: int
    """Tokens that a completion may have."""

    def __call__(self, ids: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """Choose one token per row, (N,), given all tokens so far, (N, T), and the last logits, (N, V)."""
        import torch

        # A copy, as in `generate`: processors may write into what they are given, and its log-probabilities are kept.
        scores = self.processors(ids, logits.to(torch.float32, copy=True))
        return torch.multinomial(scores.softmax(-1), 1)[:, 0] if self.sample else scores.argmax(-1)


def build_sampler(model: Any, config: Any, ids: torch.Tensor) -> Sampler:
    """The sampler that `model.generate` would use with this generation config, for prompts `ids` (N, P).

    Raises `ModelError` for ways to generate that are neither greedy search nor sampling.
    """
    import torch

    # What `generate` does before its loop. These methods are private in transformers, so tests/training/test_hooks.py
    # holds them to the signatures of the pinned version.
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
    """Log-probability of each token; `None` if no temperature was given."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """U prompts, padded on the left, and how many completions each is to get."""

    ids: torch.Tensor
    """Token ids, (U, P)."""
    mask: torch.Tensor
    """1 for a token and 0 for padding, (U, P)."""
    fields: dict[str, Any]
    """The prompts' multimodal inputs, once for each prompt."""
    copies: Sequence[int]
    """How many completions each prompt is to get, U numbers."""


def sample_rollouts(
    model: Any,
    prompts: Prompts,
    config: Any,
    *,
    temperature: float | None = None,
    part: Callable[[str], AbstractContextManager[Any]] = nullcontext,
    ended: Callable[[dict[int, list[int]]], None] | None = None,
) -> Rollouts:
    """Write N completions, where N is the sum of `prompts.copies`; those of one prompt stand side by side.

    `config` is a transformers generation config. Draws from torch's global generator. With a `temperature`, each
    token's log-probability at that temperature is kept too. It is taken before any logits processor, as training will
    compute it. `part` is entered with `prefill` and with `decode`. `ended` gets completions, token ids by row, while
    others are still written: those of prompts all of whose rows have ended. Raises `ModelError` if the model or
    `config` does not allow a shared prompt.
    """
    import torch

    with torch.no_grad():
        with part("prefill"):
            writer = _Writer(model, prompts, config, temperature)
        with part("decode"):
            return writer.write(ended)


class _Writer:
    """The state of one call of `sample_rollouts`: N rows that branch off U prompts."""

    def __init__(self, model: Any, prompts: Prompts, config: Any, temperature: float | None):
        import torch

        device = prompts.ids.device
        self.model, self.temperature = model, temperature
        self.places = [prompt for prompt, count in enumerate(prompts.copies) for _ in range(count)]
        """The prompt of each row."""
        self.prompt_of = list(self.places)
        """The prompt of each completion."""
        self.told: set[int] = set()
        """Prompts whose completions have been handed on."""
        self.row = torch.arange(len(self.places), device=device)
        """The completion that each row writes, (N,)."""
        self.alive = torch.ones_like(self.row, dtype=torch.bool)
        """Rows still writing, (N,)."""
        self.ids = prompts.ids[torch.tensor(self.places, device=device)]
        self.sample = build_sampler(model, config, self.ids)
        self.found = prompts.ids.new_full((len(self.places), self.sample.most), -1)
        self.logps = torch.zeros(len(self.places), self.sample.most, device=device)
        stems, self.logits = read_stems(model, prompts.ids, prompts.mask, prompts.fields)
        self.logits = self.logits[torch.tensor(self.places, device=device)]
        self.cache = Rows(torch.zeros_like(self.row))
        self.cache.settle(stems, self.places)

    def write(self, ended: Callable[[dict[int, list[int]]], None] | None = None) -> Rollouts:
        """All tokens of all rows; `ended` gets those of prompts that are done while others are not."""
        import torch

        left = len(self.row)
        for step in range(self.sample.most):
            chosen = self.sample(self.ids, self.logits)
            self._note(step, chosen, self.logits)
            self.alive &= ~torch.isin(chosen, self.sample.ends)
            before, left = left, int(self.alive.sum())
            if step + 1 == self.sample.most or not left:
                break
            if ended is not None and left < before:
                self._hand_on(ended)
            self.ids = torch.cat([self.ids, chosen[:, None]], dim=1)
            self._compact()
            self.logits = continue_rows(self.model, self.cache, self.ids[:, -1:])
        ids = [[token for token in row if token >= 0] for row in self.found.tolist()]
        if self.temperature is None:
            return Rollouts(ids, None)
        return Rollouts(ids, [row[: len(made)] for row, made in zip(self.logps.tolist(), ids, strict=True)])

    def _note(self, step: int, chosen: torch.Tensor, logits: torch.Tensor) -> None:
        rows = self.row[self.alive]
        self.found[rows, step] = chosen[self.alive]
        if self.temperature is not None:
            all_logps = (logits[self.alive].float() / self.temperature).log_softmax(-1)
            self.logps[rows, step] = all_logps.gather(1, chosen[self.alive, None])[:, 0]

    def _hand_on(self, ended: Callable[[dict[int, list[int]]], None]) -> None:
        """Give `ended` the completions of prompts that are done, once they are enough for a call."""
        writing = {self.prompt_of[row] for row in self.row[self.alive].tolist()}
        done = [row for row, prompt in enumerate(self.prompt_of) if prompt not in writing | self.told]
        if len(done) < TOGETHER * len(self.prompt_of):
            return
        self.told |= {self.prompt_of[row] for row in done}
        made = self.found[done].tolist()
        ended({row: [token for token in ids if token >= 0] for row, ids in zip(done, made, strict=True)})

    def _compact(self) -> None:
        """Take ended rows out, once enough of them have ended."""
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
