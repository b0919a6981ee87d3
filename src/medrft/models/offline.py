"""vLLM in this process: examples go in, completions come out, with vLLM's batching and prefix cache.

Written against vLLM's documented interface (`LLM.generate` with `prompt` and `multi_modal_data`); nothing here was run
with it. We render the text with the processor's own template, so that the prompt is the one that training used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from medrft.config import ModelConfig
from medrft.errors import ModelError
from medrft.models.encode import Images
from medrft.models.generate import Generation
from medrft.models.load import load_processor
from medrft.models.prompts import Prompt, render_chat
from medrft.types import Completion, Example

CHUNK = 8
"""Batches handed over at a time. vLLM keeps its own batch full within a chunk, and answers come back by chunk."""


@dataclass(frozen=True)
class Loaded:
    """A model inside vLLM, with its processor."""

    llm: Any
    processor: Any
    id: str


def load_offline(config: ModelConfig, source: str, *, images: int, seed: int) -> Loaded:
    """Load `source` into vLLM, for prompts of at most `images` pictures.

    Raises `ModelError` where vLLM is not installed or cannot load the model.
    """
    try:
        vllm = import_module("vllm")
    except ImportError as error:
        raise ModelError(
            "eval.engine is vllm, which is not installed here; install it (docs.vllm.ai), or set eval.engine to "
            "transformers"
        ) from error
    processor = load_processor(source, config)
    try:
        llm = vllm.LLM(
            model=source,
            dtype=config.dtype,
            trust_remote_code=config.trust_remote_code,
            enable_prefix_caching=True,
            limit_mm_per_prompt={"image": max(1, images)},
            seed=seed,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"vLLM cannot load {source!r}: {' '.join(str(error).split())[:300]}") from error
    return Loaded(llm, processor, config.id)


def stream_offline(
    loaded: Loaded,
    prompt: Prompt,
    examples: Sequence[Example],
    generation: Generation,
    *,
    images: Images,
) -> Iterator[tuple[int, list[Completion]]]:
    """Like `generate.stream_completions`.

    Questions about one picture follow each other, so that vLLM finds the picture in its prefix cache.
    """
    prompt = prompt.bound(loaded.processor)
    params = import_module("vllm").SamplingParams(
        n=generation.drawn,
        temperature=generation.temperature,
        top_p=1.0,
        top_k=-1,
        max_tokens=generation.max_new_tokens,
        seed=generation.seed,
    )
    order = sorted(range(len(examples)), key=lambda number: examples[number].images)
    size = CHUNK * generation.batch_size
    for start in range(0, len(order), size):
        numbers = order[start : start + size]
        requests = [_request(loaded.processor, prompt, examples[number], images) for number in numbers]
        for number, found in zip(numbers, loaded.llm.generate(requests, params, use_tqdm=False), strict=True):
            made = [
                Completion(
                    text=prompt.finish(output.text),
                    n_tokens=len(output.token_ids),
                    truncated=output.finish_reason == "length",
                )
                for output in found.outputs
            ]
            yield number, made * (generation.samples // generation.drawn)


def _request(processor: Any, prompt: Prompt, example: Example, images: Images) -> dict[str, Any]:
    """A prompt as vLLM takes it: text with the template's placeholders, and the pictures beside it."""
    request: dict[str, Any] = {"prompt": render_chat(processor, prompt.messages(example), generation=True)}
    pictures = images(example)
    return {**request, "multi_modal_data": {"image": pictures}} if pictures else request
