"""Who writes the thoughts: a policy of ours, or a teacher behind an OpenAI-compatible endpoint that sees the images.

Both are asked as in training and told no answer. A writer takes examples and a seed, and gives one completion each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from medrft.config import ModelConfig, Recipe
from medrft.data.images import open_image
from medrft.endpoint import Endpoint, Reply
from medrft.errors import DataError, EndpointError, ModelError, unknown_name
from medrft.models.conversation import completion_of, conversation
from medrft.models.prompts import Prompt, get_prompt
from medrft.outgoing import PICTURES, recipients_of, refuse_private
from medrft.rundir import RunDir, fingerprint, read_json
from medrft.types import Completion, Example

if TYPE_CHECKING:
    from medrft.models.policy import Policy

Written = Completion | EndpointError
SECONDS = 300.0
"""Longest wait for one thought of a teacher."""


class Writer(Protocol):
    """Writes one completion for each of some examples."""

    @property
    def identity(self) -> dict[str, Any]:
        """Who writes, as far as the text depends on it."""

    @property
    def whole(self) -> bool:
        """Whether a part of a batch is only repeated exactly when the whole batch is written again."""

    def __call__(self, examples: Sequence[Example], *, seed: int) -> list[Written]:
        """One completion, or the error in its place, per example."""


def think_prompt(recipe: Recipe) -> Prompt:
    """The recipe's prompt where it asks for a thought, else `think`."""
    prompt = get_prompt(recipe.prompt)
    return prompt if prompt.form == "think" else get_prompt("think")


@dataclass(frozen=True, kw_only=True)
class PolicyWriter:
    """A model that is loaded here, by id or path, when the first thought is asked for."""

    recipe: Recipe
    model: ModelConfig
    source: str
    whole: bool = True

    @cached_property
    def policy(self) -> Policy:
        """The model, loaded once."""
        from medrft.models.load import load_policy

        return load_policy(self.model, self.source)

    @property
    def identity(self) -> dict[str, Any]:
        """The model's name, the hash of its weights (for a hub id its revision), and the precision it is loaded in."""
        from medrft.evaluation.engines import weights_hash

        folder = Path(self.source)
        return {
            "model": self.model.id,
            "weights": weights_hash(folder) if folder.is_dir() else None,
            "revision": self.model.revision,
            "dtype": self.model.dtype,
        }

    def __call__(self, examples: Sequence[Example], *, seed: int) -> list[Written]:
        """Sample one completion per example; the same seed and examples give the same texts."""
        from medrft.models.generate import generate

        recipe = self.recipe
        found = generate(
            self.policy,
            think_prompt(recipe),
            examples,
            images=lambda example: [open_image(path, max_pixels=recipe.data.max_pixels) for path in example.images],
            max_new_tokens=recipe.eval.max_new_tokens,
            temperature=recipe.curate.temperature,
            seed=seed,
            batch_size=recipe.eval.batch_size,
        )
        return [group[0] for group in found]


@dataclass(frozen=True, kw_only=True)
class TeacherWriter:
    """A model behind an endpoint; images travel as PNG inside the request."""

    recipe: Recipe
    endpoint: Endpoint
    whole: bool = False

    @property
    def identity(self) -> dict[str, Any]:
        """The server's name for the model; where it runs says nothing about the text."""
        return {"model": self.endpoint.model, "endpoint": True}

    def __call__(self, examples: Sequence[Example], *, seed: int) -> list[Written]:
        """Ask for one thought per example; the server gets the seed, and may ignore it."""
        endpoint = replace(self.endpoint, body={**self.endpoint.body, "seed": seed})
        prompt, limit = think_prompt(self.recipe), self.recipe.data.max_pixels
        opened = [[open_image(path, max_pixels=limit) for path in example.images] for example in examples]
        chats = [conversation(prompt, example, shown) for example, shown in zip(examples, opened, strict=True)]
        curate, limit = self.recipe.curate, self.recipe.eval.max_new_tokens
        replies = endpoint.ask(chats, max_tokens=limit, temperature=curate.temperature)
        return [completion_of(reply, prompt) if isinstance(reply, Reply) else reply for reply in replies]


def find_policy(text: str, recipe: Recipe) -> PolicyWriter:
    """The policy that `RUN[:STAGE]`, a model folder or a hub id names.

    Of a run without a stage, the last one that is finished. Raises `DataError` or `ModelError` where none is.
    """
    before, _, after = text.rpartition(":")
    for run, stage in ((text, None), (before, after)):
        if run and (Path(run) / "recipe.yaml").is_file():
            return _of_run(RunDir(Path(run)), stage, recipe)
    if text and Path(text).is_dir():
        if not any((Path(text) / name).is_file() for name in ("config.json", "adapter_config.json")):
            raise DataError(
                f"{text} holds no model (config.json), no adapter (adapter_config.json) and no run (recipe.yaml); pass "
                "--policy RUN[:STAGE]"
            )
        return _plain(text, recipe)
    if text.startswith("tiny:"):
        raise ModelError(f"{text} is random until it is trained; pass --policy RUN[:STAGE] of a run that trained it")
    if text.startswith(("/", ".", "~")) or text.count("/") > 1 or ":" in text or not text:
        raise DataError(f"no policy at {text or repr(text)}; --policy takes RUN[:STAGE], a model folder or a hub id")
    return _plain(text, recipe)


def _plain(source: str, recipe: Recipe) -> PolicyWriter:
    same = recipe.model.id == source
    model = recipe.model.model_copy(update={"id": source, "revision": recipe.model.revision if same else None})
    if model.revision is not None:
        from medrft.models.load import resolve_base

        return PolicyWriter(
            recipe=recipe, model=model, source=resolve_base(model, texts=(), output=Path(), seed=recipe.seed)
        )
    return PolicyWriter(recipe=recipe, model=model, source=source)


def _of_run(run: RunDir, stage: str | None, recipe: Recipe) -> PolicyWriter:
    from medrft.recipes import recipe_of

    trained = recipe_of(run.path)
    model = trained.model.model_copy(update={"device": recipe.model.device})
    done = [one.name for one in trained.stages if (run.final(one.name) / "config.json").is_file()]
    if stage == "base":
        source = run.stage("base") / "source.json"
        if not source.is_file():
            raise DataError(f"{run.path} has no start model yet; run it first")
        return PolicyWriter(recipe=recipe, model=model, source=str(read_json(source)["source"]))
    if stage is not None and stage not in [one.name for one in trained.stages]:
        raise unknown_name(f"stage of {run.path}", stage, ["base", *(one.name for one in trained.stages)])
    if not done or (stage is not None and stage not in done):
        raise DataError(f"{run.path} has no finished stage{f' {stage!r}' if stage else ''}; finished: {done or 'none'}")
    return PolicyWriter(recipe=recipe, model=model, source=str(run.final(stage or done[-1])))


def find_teacher(recipe: Recipe, *, url: str, model: str, api_key_env: str | None = None) -> TeacherWriter:
    """The teacher at an endpoint; raises `RecipeError` for what cannot work."""
    endpoint = Endpoint(
        model=model, base_url=url, api_key_env=api_key_env, timeout=SECONDS, who="teacher", sends=PICTURES
    )
    refuse_private(recipe.data.private, [*recipients_of(recipe.model_dump()), *endpoint.recipients("--endpoint")])
    endpoint.key()
    return TeacherWriter(recipe=recipe, endpoint=endpoint)


def batch_seed(seed: int, round_: int, ids: Sequence[str]) -> int:
    """A seed of its own for each batch: by the recipe's seed, the number of the try, and who is in the batch."""
    return int(fingerprint([str(seed), str(round_), *ids]), 16) % 2**31
