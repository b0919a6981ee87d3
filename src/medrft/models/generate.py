"""Batched generation: left padding, greedy or sampled, seeded, with image placeholder tokens ruled out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from medrft.models.load import Policy, end_ids, placeholder_ids
from medrft.models.prompts import Message, Prompt, with_images
from medrft.types import Completion, Example

Images = Callable[[Example], list[Any]]
"""The PIL pictures of an example, in order."""


def generate(
    policy: Policy,
    prompt: Prompt,
    examples: Sequence[Example],
    *,
    images: Images,
    max_new_tokens: int,
    temperature: float = 0.0,
    samples: int = 1,
    seed: int = 0,
    batch_size: int = 32,
    on_progress: Callable[[int], None] | None = None,
) -> list[list[Completion]]:
    """`samples` completions for each example, in the order of `examples`.

    Greedy at temperature 0, where every sample is the same and is computed once. `batch_size` counts completions;
    `on_progress` is called after each batch with the number of completions done in it.
    """
    import torch

    prompt = prompt.bound(policy.processor)
    drawn = samples if temperature > 0 else 1
    rows = [number for number in _by_length(prompt, examples) for _ in range(drawn)]
    found: list[list[Completion]] = [[] for _ in examples]
    training = policy.model.training
    policy.model.eval()
    devices = [policy.device] if policy.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            for start in range(0, len(rows), batch_size):
                batch = rows[start : start + batch_size]
                chats = [with_images(prompt.messages(examples[i]), images(examples[i])) for i in batch]
                texts = complete(policy, chats, max_new_tokens=max_new_tokens, temperature=temperature)
                for number, completion in zip(batch, texts, strict=True):
                    text = prompt.finish(completion.text)
                    made = Completion(text=text, n_tokens=completion.n_tokens, truncated=completion.truncated)
                    found[number] += [made] * (samples // drawn)
                if on_progress is not None:
                    on_progress(len(batch) * (samples // drawn))
    finally:
        policy.model.train(training)
    return found


def complete(
    policy: Policy, chats: Sequence[list[Message]], *, max_new_tokens: int, temperature: float
) -> list[Completion]:
    """One completion for each chat, whose image blocks hold pictures; draws from torch's global generator."""
    import torch

    inputs = encode(policy, chats)
    config = generation_config(policy, max_new_tokens, temperature)
    with torch.inference_mode(), _without_defaults(policy.model):
        written = policy.model.generate(**inputs, generation_config=config)
    ends = set(end_ids(policy))
    return [_completion(policy, ids, ends) for ids in written[:, inputs["input_ids"].shape[1] :].tolist()]


def encode(policy: Policy, chats: Sequence[list[Message]]) -> dict[str, Any]:
    """Model inputs for chats up to the assistant turn, padded on the left, on the policy's device and in its dtype."""
    inputs = policy.processor.apply_chat_template(
        list(chats),
        tokenize=True,
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"padding": True, "padding_side": "left"},
    )
    return to_device(policy, inputs)


def to_device(policy: Policy, inputs: Any) -> dict[str, Any]:
    """Tensors on the policy's device, pixels in its dtype."""
    dtype = policy.model.dtype
    return {
        key: value.to(policy.device, dtype if value.is_floating_point() else None)
        for key, value in inputs.items()
        if hasattr(value, "is_floating_point")
    }


@contextmanager
def _without_defaults(model: Any) -> Iterator[None]:
    """Generation must not take over what the model's own generation config sets, such as a repetition penalty."""
    from transformers import GenerationConfig

    kept = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = kept


def generation_config(policy: Policy, max_new_tokens: int, temperature: float) -> Any:
    """Plain greedy search or plain sampling, whatever the model's own defaults are."""
    from transformers import GenerationConfig

    sampling: dict[str, Any] = {"do_sample": False}
    if temperature > 0:
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


def _by_length(prompt: Prompt, examples: Sequence[Example]) -> Iterator[int]:
    """Example numbers, longest prompt first: rows of one batch need little padding, and memory peaks at the start."""

    def size(number: int) -> tuple[int, int]:
        example = examples[number]
        return (len(example.images), len(example.question) + sum(map(len, example.options)))

    yield from sorted(range(len(examples)), key=size, reverse=True)
