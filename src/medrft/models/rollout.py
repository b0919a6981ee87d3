"""Writes rollouts that read each prompt once: U prompts go in, the token ids of N completions come out.

A prompt's keys and values are kept once, not once per completion (`cascade`); `generate` with `num_return_sequences`
would copy prompt and picture for each completion and read them G times. At most so many completions as asked are
written at a time, and where one has ended, the next one begins (`refill`). Sampling goes through transformers' own
logits processors, so the distribution is that of `generate`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medrft.errors import ModelError
from medrft.models.prefix import TOKEN_TYPES
from medrft.models.refill import Ask, Stem, Writer

if TYPE_CHECKING:
    import torch

TOGETHER = 0.25
"""Ended rows are handed on once they are this share of all: scorers are faster with many completions in a call."""


@dataclass(frozen=True, slots=True)
class Rollouts:
    """What was written, row by row."""

    ids: list[list[int]]
    """Token ids of each completion, its end token included."""
    logps: list[list[float]] | None
    """Log-probability of each token; `None` if no temperature was given."""
    idle: float
    """The share of places in the batch, counted token by token, that no completion was written in, in [0, 1)."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """U prompts, padded on the left, and how many completions each is to get."""

    ids: torch.Tensor
    """Token ids, (U, P)."""
    mask: torch.Tensor
    """1 for a token and 0 for padding, (U, P)."""
    fields: Sequence[Mapping[str, Any]]
    """The multimodal inputs of each prompt, U of them; those with a value per token are (1, P)."""
    copies: Sequence[int]
    """How many completions each prompt is to get, U numbers."""


def sample_rollouts(
    model: Any,
    prompts: Prompts,
    config: Any,
    *,
    size: int | None = None,
    temperature: float | None = None,
    part: Callable[[str], AbstractContextManager[Any]] = nullcontext,
    ended: Callable[[dict[int, list[int]]], None] | None = None,
) -> Rollouts:
    """Write N completions, where N is the sum of `prompts.copies`; those of one prompt stand side by side.

    At most `size` are written at a time, all by default; what is drawn does not depend on it. `config` is a
    transformers generation config. Takes a seed for each completion from torch's generator on the CPU. With a
    `temperature`, each token's log-probability at that temperature is kept too. It is taken before any logits
    processor, as training will compute it. `part` is entered with `decode`, and within it with `prefill`. `ended` gets
    completions, token ids by row, while others are still written: those of prompts all of whose rows have ended. Raises
    `ModelError` if the model or `config` does not allow a shared prompt.
    """
    count = sum(prompts.copies)
    size = min(size or count, count)
    first = [sum(prompts.copies[:prompt]) for prompt in range(len(prompts.copies))]
    ids: list[list[int]] = [[] for _ in range(count)]
    logps: list[list[float]] = [[] for _ in range(count)]
    left, waiting, written = list(prompts.copies), list[int](), 0
    with part("decode"):
        width = prompts.ids.shape[1]
        asks = _asks(prompts)
        writer = Writer(model, asks, config, size=size, width=width, temperature=temperature, verify=False, part=part)
        while writer.fill():
            for done in writer.step():
                row = first[done.number] + done.sample
                ids[row], logps[row] = done.ids, done.logps
                written += 1
                left[done.number] -= 1
                if not left[done.number]:
                    waiting += range(first[done.number], first[done.number] + prompts.copies[done.number])
            if ended is not None and written < count and len(waiting) >= TOGETHER * count:
                ended({row: ids[row] for row in sorted(waiting)})
                waiting = []
    idle = 1 - sum(map(len, ids)) / (size * writer.steps)
    return Rollouts(ids, None if temperature is None else logps, idle)


def _asks(prompts: Prompts) -> Iterator[Ask]:
    """Each prompt as an ask: all of it but its last token is the stem."""
    import torch

    seeds = iter(torch.randint(2**62, (sum(prompts.copies),)).tolist())
    width = prompts.ids.shape[1]
    for number, (ids, mask) in enumerate(zip(prompts.ids.tolist(), prompts.mask.tolist(), strict=True)):
        begin = width - sum(mask)
        if width - begin < 2:
            raise ModelError("a prompt of one token has nothing to share")
        fields = {
            key: value[:, begin:-1] if key in TOKEN_TYPES else value for key, value in prompts.fields[number].items()
        }
        samples = [(sample, next(seeds)) for sample in range(prompts.copies[number])]
        yield Ask(number, Stem(ids[begin:-1], fields), ids[-1:], samples)
