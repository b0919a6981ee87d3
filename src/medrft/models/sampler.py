"""Chooses the next token of each row: logits go in, token ids come out, by a transformers generation config.

Logits go through transformers' own processors, so the distribution is that of `generate`. Each row is drawn with a
random number of its own, so that its tokens do not depend on the rows beside it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medrft.errors import ModelError
from medrft.models.prefix import plain_model

if TYPE_CHECKING:
    import torch

OTHER_WAYS: dict[str, Any] = {
    **dict.fromkeys(("stop_strings", "max_time", "watermarking_config", "prompt_lookup_num_tokens")),
    **{"guidance_scale": 1, "encoder_repetition_penalty": 1, "encoder_no_repeat_ngram_size": 0},
}
"""Settings that need more than a row's own tokens and logits -> the value at which they do nothing, as unset does."""


@dataclass(frozen=True, slots=True)
class Sampler:
    """How the next token is chosen, taken from a generation config."""

    processors: Any
    sample: bool
    """Whether tokens are drawn; else the most likely one is taken."""
    looks_back: bool
    """Whether a processor may look at the tokens before, or at their number."""
    ends: torch.Tensor
    """Token ids that end a completion, (E,)."""
    most: int
    """Tokens that a completion may have."""

    def scores(self, ids: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """The processed logits, (N, V) in float32, of rows with all their tokens so far, (N, T), in `ids`.

        `ids` may be (N, 0) if no processor looks back.
        """
        import torch

        # A copy, as in `generate`: processors may write into what they are given, and its log-probabilities are kept.
        found: torch.Tensor = self.processors(ids, logits.to(torch.float32, copy=True))
        return found

    def choose(self, scores: torch.Tensor, draws: list[Iterator[float]]) -> torch.Tensor:
        """One token per row, (N,), given processed logits, (N, V), and each row's random numbers in [0, 1)."""
        import torch

        if not self.sample:
            return scores.argmax(-1)
        # Not torch.multinomial: it draws for the whole batch from one generator, so that a row's tokens would depend on
        # its neighbours. Each row looks up its own random number in its cumulative distribution.
        drawn = torch.tensor([next(draw) for draw in draws], dtype=torch.float64)
        return look_up(scores, drawn.to(scores.device))


def look_up(scores: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
    """The token at which the cumulative distribution of `scores`, (N, V), passes `drawn`, (N,) in [0, 1)."""
    import torch

    below = scores.double().softmax(-1).cumsum(-1)
    found = torch.searchsorted(below, drawn[:, None] * below[:, -1:], right=True)[:, 0]
    # Rounding can make the drawn number equal to the whole sum, above which there is no token.
    return found.clamp(max=scores.shape[-1] - 1)


def uniform_draws(seed: int) -> Iterator[float]:
    """Uniform random numbers in [0, 1), one for each token of a row."""
    rng = random.Random(seed)
    while True:
        yield rng.random()


@contextmanager
def without_defaults(model: Any) -> Iterator[None]:
    """Inside, the model has no generation config of its own.

    `generate` fills whatever our config leaves unset from the model's, such as a penalty that a checkpoint ships.
    """
    from transformers import GenerationConfig

    kept = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = kept


def build_sampler(model: Any, config: Any, *, width: int) -> Sampler:
    """The sampler that `model.generate` would use with this generation config, for prompts padded to `width` tokens.

    Raises `ModelError` for ways to generate that are neither greedy search nor sampling.
    """
    import torch
    from transformers.generation import logits_process as known

    # What `generate` does before its loop. These methods are private in transformers, so tests/training/test_hooks.py
    # holds them to the signatures of the pinned version.
    device = plain_model(model).device
    config, extra = plain_model(model)._prepare_generation_config(config)
    mode = config.get_generation_mode()
    other = [name for name, off in OTHER_WAYS.items() if getattr(config, name, None) not in (None, off)]
    if (
        mode.value not in ("sample", "greedy_search")
        or config.num_return_sequences != 1
        or config.max_new_tokens is None
        or other
    ):
        raise ModelError(f"generation mode {mode.value} with {other or 'these settings'} cannot share a prompt")
    plain_model(model)._prepare_special_tokens(config, True, device=device, batch_size=1)
    processors = plain_model(model)._get_logits_processor(
        generation_config=config,
        input_ids_seq_length=width,
        encoder_input_ids=torch.zeros(1, width, dtype=torch.long, device=device),
        device=device,
        model_kwargs=extra,
    )
    here = (
        *(known.TemperatureLogitsWarper, known.TopKLogitsWarper, known.TopPLogitsWarper, known.MinPLogitsWarper),
        known.SuppressTokensLogitsProcessor,
    )
    ends = config._eos_token_tensor
    return Sampler(
        processors,
        sample=mode.value == "sample",
        looks_back=not all(isinstance(processor, here) for processor in processors),
        ends=torch.empty(0, dtype=torch.long, device=device) if ends is None else ends,
        most=config.max_new_tokens,
    )
