"""Generation: a policy and examples go in, completions come out, greedy or sampled, seeded.

No completion holds image placeholder tokens. What prompts about the same pictures share is read once (`stems`,
`refill`). Where a model cannot do that, transformers' own generation reads each prompt whole, in batches padded on the
left.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medrft.errors import ModelError
from medrft.models.encode import Images, encode_chats
from medrft.models.faults import FAULTS, why_failed
from medrft.models.policy import Policy
from medrft.models.prompts import Message, Prompt, with_images
from medrft.models.refill import write_answers
from medrft.models.sampler import without_defaults
from medrft.models.stems import plan_asks, prompt_length, seed_of, why_not_shared
from medrft.models.tokens import end_ids, placeholder_ids
from medrft.types import Completion, Example


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """How completions are written, whichever engine writes them."""

    max_new_tokens: int
    temperature: float = 0.0
    """0 is greedy."""
    samples: int = 1
    """Completions of each example."""
    seed: int = 0
    batch_size: int = 32
    """Completions written at a time."""

    @property
    def drawn(self) -> int:
        """Completions to compute for each example: all greedy samples are the same one."""
        return self.samples if self.temperature > 0 else 1


def generate(
    policy: Policy, prompt: Prompt, examples: Sequence[Example], generation: Generation, *, images: Images
) -> list[list[Completion]]:
    """`generation.samples` completions for each example, in the order of `examples`; see `stream_completions`."""
    found: list[list[Completion]] = [[] for _ in examples]
    for number, completions in stream_completions(policy, prompt, examples, generation, images=images):
        found[number] = completions
    return found


def stream_completions(
    policy: Policy,
    prompt: Prompt,
    examples: Sequence[Example],
    generation: Generation,
    *,
    images: Images,
    faults: Path | None = None,
) -> Iterator[tuple[int, list[Completion]]]:
    """Yield (number of the example, its completions) as they are finished.

    Pictures, and what prompts about them begin with, are read once. If the model or its template cannot share them, a
    warning says why and for how many prompts, and those are read whole. The traceback of an error that a model's own
    code raised goes into the file `faults`.
    """
    prompt = prompt.bound(policy.processor)
    left = dict.fromkeys(range(len(examples)))
    training = policy.model.training
    policy.model.eval()
    try:
        try:
            for number, made in _shared(policy, prompt, examples, generation, images):
                del left[number]
                yield number, _finished(prompt, made, generation.samples)
        except FAULTS as error:
            why = why_failed(error, faults)
            warnings.warn(f"{len(left)} prompts are read whole, one by one: {why}", stacklevel=2)
        for number, made in _plain(policy, prompt, examples, list(left), generation, images):
            yield number, _finished(prompt, made, generation.samples)
    finally:
        policy.model.train(training)


def _finished(prompt: Prompt, made: list[Completion], samples: int) -> list[Completion]:
    """`samples` completions as scorers must see them: greedy ones are computed once and repeated."""
    found = [replace(completion, text=prompt.finish(completion.text)) for completion in made]
    return found * (samples // len(found))


def _shared(
    policy: Policy,
    prompt: Prompt,
    examples: Sequence[Example],
    generation: Generation,
    images: Images,
) -> Iterator[tuple[int, list[Completion]]]:
    """Completions by way of shared stems, example by example.

    Raises `ModelError` if that cannot be done. If it works for some examples only, these come first.
    """
    reason = why_not_shared(policy, prompt)
    if reason:
        raise ModelError(reason)
    apart: list[int] = []
    samples = generation.drawn
    waiting = plan_asks(policy, prompt, examples, images, samples=samples, seed=generation.seed, apart=apart)
    config = generation_config(policy, generation.max_new_tokens, generation.temperature)
    ends = set(end_ids(policy))
    made: dict[int, dict[int, Completion]] = {}
    for written in write_answers(policy.model, waiting, config, size=generation.batch_size):
        found = made.setdefault(written.number, {})
        found[written.sample] = _completion(policy, written.ids, ends)
        if len(found) == samples:
            del made[written.number]
            yield written.number, [found[sample] for sample in range(samples)]
    if apart:
        raise ModelError(f"{len(apart)} of {len(examples)} have image tokens after their question's beginning")


def _plain(
    policy: Policy,
    prompt: Prompt,
    examples: Sequence[Example],
    numbers: Sequence[int],
    generation: Generation,
    images: Images,
) -> Iterator[tuple[int, list[Completion]]]:
    """Completions by transformers' own generation, batched by length, longest first."""
    import torch

    order = sorted(numbers, key=lambda number: prompt_length(examples[number]), reverse=True)
    rows = [number for number in order for _ in range(generation.drawn)]
    devices = [policy.device] if policy.device.type == "cuda" else []
    made: dict[int, list[Completion]] = {}
    for start in range(0, len(rows), generation.batch_size):
        batch = rows[start : start + generation.batch_size]
        chats = [with_images(prompt.messages(examples[i]), images(examples[i])) for i in batch]
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed_of(generation.seed, examples[batch[0]].id, start))
            texts = complete_chats(
                policy, chats, max_new_tokens=generation.max_new_tokens, temperature=generation.temperature
            )
        for number, completion in zip(batch, texts, strict=True):
            made.setdefault(number, []).append(completion)
            if len(made[number]) == generation.drawn:
                yield number, made.pop(number)


def complete_chats(
    policy: Policy, chats: Sequence[list[Message]], *, max_new_tokens: int, temperature: float
) -> list[Completion]:
    """One completion for each chat, whose image blocks hold pictures; draws from torch's global generator."""
    import torch

    inputs = encode_chats(policy, chats)
    config = generation_config(policy, max_new_tokens, temperature)
    with torch.inference_mode(), without_defaults(policy.model):
        written = policy.model.generate(**inputs, generation_config=config)
    ends = set(end_ids(policy))
    return [_completion(policy, ids, ends) for ids in written[:, inputs["input_ids"].shape[1] :].tolist()]


def generation_config(policy: Policy, max_new_tokens: int, temperature: float) -> Any:
    """Plain greedy search or plain sampling, whatever the model's own defaults are."""
    from transformers import GenerationConfig

    sampling: dict[str, Any] = {"do_sample": False}
    if temperature > 0:
        # `top_k` must be given: `generate` takes 50 where it is unset, and the tail of the distribution would be cut.
        sampling = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
    return GenerationConfig(
        **sampling,
        max_new_tokens=max_new_tokens,
        repetition_penalty=1.0,
        eos_token_id=list(end_ids(policy)),
        pad_token_id=policy.processor.tokenizer.pad_token_id,
        suppress_tokens=list(placeholder_ids(policy)) or None,
        disable_compile=True,
    )


def _completion(policy: Policy, ids: list[int], ends: set[int]) -> Completion:
    stop = next((i for i, number in enumerate(ids) if number in ends), None)
    kept = ids if stop is None else ids[: stop + 1]
    text = policy.processor.tokenizer.decode(kept, skip_special_tokens=True)
    return Completion(text=text, n_tokens=len(kept), truncated=stop is None)
