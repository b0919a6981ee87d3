"""Who answers: a model in this process, vLLM, or a server behind an OpenAI-compatible endpoint.

An engine takes examples and gives their completions as they are finished, in any order; an endpoint's failed request
is an error in its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from medrft.endpoint import Endpoint, Reply
from medrft.errors import EndpointError, ModelError
from medrft.models.conversation import completion_of, conversation
from medrft.types import Completion, Example

if TYPE_CHECKING:
    from medrft.models.policy import Policy
    from medrft.models.prompts import Prompt

if TYPE_CHECKING:
    from medrft.config import EvalConfig
    from medrft.evaluation.controls.pictures import Images
    from medrft.models.offline import Loaded
    from medrft.models.policy import Policy
    from medrft.models.prompts import Prompt

Answers = Iterator[tuple[int, Sequence[Completion | EndpointError]]]
"""Numbers of examples, each with its samples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """One sweep of the model over the examples."""

    control: str
    temperature: float = 0.0
    samples: int = 1


class Engine(Protocol):
    """What answers."""

    @property
    def id(self) -> str:
        """The model, as a reader should see it."""

    def describe(self) -> dict[str, Any]:
        """What the header of predictions says of the engine; other answers need another description."""

    def answers(
        self, prompt: Prompt, examples: Sequence[Example], images: Images, sweep: Pass, config: EvalConfig, *, seed: int
    ) -> Answers:
        """`sweep.samples` completions for each example, by its number, as they are finished."""


@dataclass(frozen=True)
class Transformers:
    """A policy in this process."""

    policy: Policy
    checkpoint: str | None = None
    """Hub id or path of a model that no stage of the run made."""
    revision: str | None = None
    faults: Path | None = None
    """Where the traceback goes of an error that makes prompts be read whole."""

    @property
    def id(self) -> str:
        """The policy's own."""
        return self.policy.id

    def describe(self) -> dict[str, Any]:
        """Engine, and the weights of a model from outside."""
        told = {"engine": "transformers", "sharing": self._sharing()}
        return {**told, **(checkpoint_header(self.checkpoint, self.revision) if self.checkpoint else {})}

    def _sharing(self) -> str:
        """What questions about one picture share, or why nothing."""
        from medrft.models.prompts import get_prompt
        from medrft.models.stems import why_not_shared

        return why_not_shared(self.policy, get_prompt("short").bound(self.policy.processor)) or "image and prompt"

    def answers(
        self, prompt: Prompt, examples: Sequence[Example], images: Images, sweep: Pass, config: EvalConfig, *, seed: int
    ) -> Answers:
        """See `medrft.models.generate.stream_completions`."""
        from medrft.models.generate import stream_completions

        return stream_completions(
            self.policy,
            prompt,
            examples,
            images=images,
            max_new_tokens=config.max_new_tokens,
            temperature=sweep.temperature,
            samples=sweep.samples,
            seed=seed,
            batch_size=config.batch_size,
            faults=self.faults,
        )


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
        """Engine, and the weights of a model from outside."""
        return {"engine": "vllm", **(checkpoint_header(self.checkpoint, self.revision) if self.checkpoint else {})}

    def answers(
        self, prompt: Prompt, examples: Sequence[Example], images: Images, sweep: Pass, config: EvalConfig, *, seed: int
    ) -> Answers:
        """See `medrft.models.offline.stream_offline`."""
        from medrft.models.offline import stream_offline

        return stream_offline(
            self.loaded,
            prompt,
            examples,
            images=images,
            max_new_tokens=config.max_new_tokens,
            temperature=sweep.temperature,
            samples=sweep.samples,
            seed=seed,
            batch_size=config.batch_size,
        )


@dataclass(frozen=True)
class Remote:
    """A server. Role and instruction open the user turn: not every server's template has a system role."""

    endpoint: Endpoint
    chunk: int = field(default=4, compare=False)
    """Requests prepared at a time, by the number that run at once."""

    @property
    def id(self) -> str:
        """The name the server knows the model by."""
        return self.endpoint.model

    def describe(self) -> dict[str, Any]:
        """Where the model is served; nobody here knows its weights."""
        return {
            "engine": "endpoint",
            "checkpoint": self.endpoint.model,
            "weights": None,
            "base_url": self.endpoint.base_url,
        }

    def answers(
        self, prompt: Prompt, examples: Sequence[Example], images: Images, sweep: Pass, config: EvalConfig, *, seed: int
    ) -> Answers:
        """Replies, with pictures sent as PNG inside the request; each sample has a seed of its own."""
        drawn = sweep.samples if sweep.temperature > 0 else 1
        size = self.chunk * self.endpoint.concurrency
        for start in range(0, len(examples), size):
            part = examples[start : start + size]
            asked = [conversation(prompt, example, images(example)) for example in part]
            found: list[list[Completion | EndpointError]] = [[] for _ in part]
            for sample in range(drawn):
                body = {"seed": seed + sample, **self.endpoint.body} if sweep.temperature > 0 else self.endpoint.body
                endpoint = replace(self.endpoint, body=body)
                replies = endpoint.ask(asked, max_tokens=config.max_new_tokens, temperature=sweep.temperature)
                for row, reply in zip(found, replies, strict=True):
                    row.append(completion_of(reply, prompt) if isinstance(reply, Reply) else reply)
            for i, row in enumerate(found):
                yield start + i, row * (sweep.samples // drawn)


def checkpoint_header(source: str, revision: str | None) -> dict[str, Any]:
    """Header lines of a model that no stage of the run made."""
    folder = Path(source)
    return {"checkpoint": source, "weights": weights_hash(folder) if folder.is_dir() else revision}


def weights_hash(folder: Path) -> str:
    """16 hex digits over the weight files of a model folder, so that a stage trained again is evaluated again."""
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
    """Write one token after a question without a picture; raises `ModelError` for a model that needs one."""
    from medrft.models.generate import complete_chats

    chat = prompt.bound(policy.processor).messages(QUESTION)
    try:
        complete_chats(policy, [chat], max_new_tokens=1, temperature=0.0)
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"control question_only: {policy.id} cannot be asked without a picture ({type(error).__name__}: {reason}); "
            "take question_only out of eval.controls, blank stays"
        ) from error
