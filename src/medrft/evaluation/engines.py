"""What answers the questions: a model in this process, vLLM, or a server behind an OpenAI-compatible endpoint.

An engine takes examples and yields their completions as they are finished, in any order. Where a request to an
endpoint failed, it yields the error in place of the completion.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from medrft.endpoint import Endpoint, Reply
from medrft.errors import EndpointError, ModelError
from medrft.evaluation.controls.pictures import blank_pictures
from medrft.models.conversation import completion_of, conversation
from medrft.models.generate import Generation
from medrft.types import Completion, Example

if TYPE_CHECKING:
    from medrft.config import DataConfig, ModelConfig
    from medrft.models.encode import Images
    from medrft.models.offline import Loaded
    from medrft.models.policy import Policy
    from medrft.models.prompts import Prompt

Answers = Iterator[tuple[int, Sequence[Completion | EndpointError]]]
"""Pairs of an example's position in the sequence that was asked and its samples."""


class Engine(Protocol):
    """What takes examples and yields completions."""

    @property
    def id(self) -> str:
        """The model's name as reports show it."""

    def describe(self) -> dict[str, Any]:
        """What the header of predictions says of the engine.

        Predictions are kept where this is unchanged, so whatever changes the answers must be in it.
        """

    def answers(
        self, prompt: Prompt, examples: Sequence[Example], generation: Generation, *, images: Images
    ) -> Answers:
        """`generation.samples` completions for each example, with its position in `examples`, as they are finished."""


@dataclass(frozen=True)
class Transformers:
    """A policy in this process."""

    policy: Policy
    checkpoint: str | None = None
    """Hub id or path of a model that no stage of the run made."""
    revision: str | None = None
    faults: Path | None = None
    """Where the traceback is written if sharing prompts fails; each prompt is then read whole."""

    @property
    def id(self) -> str:
        """The policy's own id."""
        return self.policy.id

    def describe(self) -> dict[str, Any]:
        """The engine, what prompts share, and for a model from outside the run its weights."""
        from medrft.models.prompts import get_prompt
        from medrft.models.stems import why_not_shared

        # What questions about one picture share, or the reason why they share nothing.
        sharing = why_not_shared(self.policy, get_prompt("short").bound(self.policy.processor)) or "image and prompt"
        told = {"engine": "transformers", "sharing": sharing}
        return {**told, **(checkpoint_header(self.checkpoint, self.revision) if self.checkpoint else {})}

    def answers(
        self, prompt: Prompt, examples: Sequence[Example], generation: Generation, *, images: Images
    ) -> Answers:
        """See `medrft.models.generate.stream_completions`."""
        from medrft.models.generate import stream_completions

        return stream_completions(self.policy, prompt, examples, generation, images=images, faults=self.faults)


@dataclass(frozen=True)
class Offline:
    """A model in vLLM, in this process."""

    loaded: Loaded
    checkpoint: str | None = None
    revision: str | None = None

    @property
    def id(self) -> str:
        """Hub id, path, or `tiny:<family>`."""
        return self.loaded.id

    def describe(self) -> dict[str, Any]:
        """The engine, and for a model from outside the run its weights."""
        return {"engine": "vllm", **(checkpoint_header(self.checkpoint, self.revision) if self.checkpoint else {})}

    def answers(
        self, prompt: Prompt, examples: Sequence[Example], generation: Generation, *, images: Images
    ) -> Answers:
        """See `medrft.models.offline.stream_offline`."""
        from medrft.models.offline import stream_offline

        return stream_offline(self.loaded, prompt, examples, generation, images=images)


@dataclass(frozen=True)
class Remote:
    """A server. Role and instruction stand at the start of the user turn: not every chat template has a system role."""

    endpoint: Endpoint
    chunk: int = field(default=4, compare=False)
    """How many requests are prepared at a time, as a multiple of those that run at once."""

    @property
    def id(self) -> str:
        """The name the server knows the model by."""
        return self.endpoint.model

    def describe(self) -> dict[str, Any]:
        """Where the model is served. Its weights are unknown to us, so `weights` is `None`."""
        return {
            "engine": "endpoint",
            "checkpoint": self.endpoint.model,
            "weights": None,
            "base_url": self.endpoint.base_url,
        }

    def answers(
        self, prompt: Prompt, examples: Sequence[Example], generation: Generation, *, images: Images
    ) -> Answers:
        """The server's replies. Pictures are sent as PNG inside the request, and each sample has its own seed."""
        sampled = generation.temperature > 0
        size = self.chunk * self.endpoint.concurrency
        for start in range(0, len(examples), size):
            part = examples[start : start + size]
            asked = [conversation(prompt, example, images(example)) for example in part]
            found: list[list[Completion | EndpointError]] = [[] for _ in part]
            for sample in range(generation.drawn):
                # Samples that differed in nothing would all be answered by the cache of replies with the first one.
                seed = {"seed": generation.seed + sample} if sampled else {}
                endpoint = replace(self.endpoint, body={**seed, **self.endpoint.body})
                replies = endpoint.ask(asked, max_tokens=generation.max_new_tokens, temperature=generation.temperature)
                for row, reply in zip(found, replies, strict=True):
                    row.append(completion_of(reply, prompt) if isinstance(reply, Reply) else reply)
            for i, row in enumerate(found):
                yield start + i, row * (generation.samples // generation.drawn)


def load_engine(
    engine: str,
    config: ModelConfig,
    source: str,
    *,
    images: int,
    seed: int,
    outside: bool = False,
    faults: Path | None = None,
) -> Engine:
    """Load the model at `source` into the engine that `eval.engine` names, for prompts of at most `images` pictures.

    `outside` says that no stage of a run made the model. Raises `ModelError` for a model that cannot be loaded.
    """
    checkpoint, revision = (config.id, config.revision) if outside else (None, None)
    if engine == "vllm":
        from medrft.models.offline import load_offline

        return Offline(load_offline(config, source, images=images, seed=seed), checkpoint, revision)
    from medrft.models.load import load_policy

    return Transformers(load_policy(config, source), checkpoint, revision, faults)


HELD = 8
"""Pictures that are kept open."""


def open_pictures(data: DataConfig) -> Images:
    """A function that opens an example's pictures as a recipe's `data` says.

    The few that were opened last are kept, because examples often share a picture.
    """
    from medrft.data.images import open_image

    opened = lru_cache(maxsize=HELD)(lambda path: open_image(path, max_pixels=data.max_pixels))

    def images(example: Example) -> list[Any]:
        return [opened(path) for path in example.images]

    return blank_pictures(images) if data.blank else images


def checkpoint_header(source: str, revision: str | None) -> dict[str, Any]:
    """Header entries for a model that no stage of the run made: where it is, and a hash or revision of its weights."""
    folder = Path(source)
    return {"checkpoint": source, "weights": weights_hash(folder) if folder.is_dir() else revision}


def weights_hash(folder: Path) -> str:
    """16 hex digits that hash the weight files of a model folder; a stage trained again is thus evaluated again."""
    import hashlib

    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


QUESTION = Example(
    id="none/test/0",
    dataset="none",
    split="test",
    images=(),
    question="Is there a fracture?",
    references=("no",),
    kind="closed",
)


def check_text_only(policy: Policy, prompt: Prompt) -> None:
    """Generate one token for a question without a picture; raises `ModelError` for a model that needs one."""
    from medrft.models.generate import complete_chats

    chat = prompt.bound(policy.processor).messages(QUESTION)
    try:
        complete_chats(policy, [chat], max_new_tokens=1, temperature=0.0)
    # Model families fail in different places without pixel values, and transformers has no common error for it.
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"control question_only: {policy.id} cannot be asked without a picture ({type(error).__name__}: {reason}); "
            "take question_only out of eval.controls, blank stays"
        ) from error
