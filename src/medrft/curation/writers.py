"""What writes the thoughts: a model of ours, or a teacher behind an OpenAI-compatible endpoint.

In comes `--policy RUN:STAGE` or `--endpoint URL`. Out goes a `Writer`, which gives one completion per example. It uses
the prompts of training and is never told an answer. Our own models run in the engine of `eval.engine`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from medrft.config import ModelConfig, Recipe
from medrft.endpoint import Endpoint
from medrft.errors import DataError, EndpointError, ModelError, unknown_name
from medrft.evaluation.engines import Engine, Remote, load_engine, open_pictures, weights_hash
from medrft.evaluation.run_files import RunFiles
from medrft.models.generate import Generation
from medrft.models.prompts import Prompt, get_prompt
from medrft.outgoing import PICTURES, recipients_of, refuse_private
from medrft.rundir import RunDir, fingerprint
from medrft.types import Completion, Example

SECONDS = 300.0
"""Longest wait for one thought of a teacher, in seconds."""


def think_prompt(recipe: Recipe) -> Prompt:
    """The recipe's prompt if it asks for a thought, else `think`."""
    prompt = get_prompt(recipe.prompt)
    return prompt if prompt.form == "think" else get_prompt("think")


@dataclass(frozen=True, kw_only=True)
class Writer:
    """Asks an engine for one completion per example; the engine is opened at the first call."""

    recipe: Recipe
    identity: dict[str, Any]
    """The facts about the writing model that its text depends on; the manifest has them."""
    whole: bool
    """Whether the whole batch must be written again to get the same text for a part of it.

    It must where one seed serves the batch; an endpoint answers each request by itself.
    """
    open_engine: Callable[[], Engine]

    @cached_property
    def engine(self) -> Engine:
        """The engine, opened on first use."""
        return self.open_engine()

    def __call__(self, examples: Sequence[Example], *, seed: int) -> list[Completion | EndpointError]:
        """One sampled completion per example, or the error of its failed request. A server may ignore the seed."""
        recipe = self.recipe
        generation = Generation(
            max_new_tokens=recipe.eval.max_new_tokens,
            temperature=recipe.curate.temperature,
            seed=seed,
            batch_size=recipe.eval.batch_size,
        )
        images = open_pictures(recipe.data)
        found = dict(self.engine.answers(think_prompt(recipe), examples, generation, images=images))
        return [found[number][0] for number in range(len(examples))]


class Weights(NamedTuple):
    """A model of ours: its settings, and the folder or hub id that it is loaded from."""

    model: ModelConfig
    source: str


def make_writer(who: Weights | Endpoint, recipe: Recipe, examples: Sequence[Example]) -> Writer:
    """The writer of thoughts for `examples`; nothing is loaded yet."""
    if isinstance(who, Endpoint):
        # The text does not depend on where the server runs, so its URL is not part of the identity.
        return Writer(
            recipe=recipe,
            identity={"model": who.model, "endpoint": True},
            whole=False,
            open_engine=lambda: Remote(who),
        )
    model, source = who
    vllm = recipe.eval.engine == "vllm"
    identity = {
        "model": model.id,
        "weights": weights_hash(Path(source)) if Path(source).is_dir() else None,
        "revision": model.revision,
        "dtype": model.dtype,
        **({"engine": "vllm"} if vllm else {}),  # absent for transformers, as in manifests before there was a choice
    }
    most = max((len(example.images) for example in examples), default=1)
    return Writer(
        recipe=recipe,
        identity=identity,
        whole=True,
        open_engine=lambda: load_engine(recipe.eval.engine, model, source, images=most, seed=recipe.seed),
    )


def find_policy(text: str, recipe: Recipe) -> Weights:
    """The policy that `RUN[:STAGE]`, a model folder or a hub id names.

    A run without a stage means its last finished stage. Raises `DataError` or `ModelError` if there is no such model.
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


def _plain(source: str, recipe: Recipe) -> Weights:
    same = recipe.model.id == source
    model = recipe.model.model_copy(update={"id": source, "revision": recipe.model.revision if same else None})
    if model.revision is not None:
        from medrft.models.load import resolve_base

        return Weights(model, resolve_base(model, texts=(), output=Path(), seed=recipe.seed))
    return Weights(model, source)


def _of_run(run: RunDir, stage: str | None, recipe: Recipe) -> Weights:
    from medrft.recipes import recipe_of

    trained = recipe_of(run.path)
    model = trained.model.model_copy(update={"device": recipe.model.device})
    done = [one.name for one in trained.stages if run.is_finished(one.name)]
    if stage == "base":
        source = RunFiles(run.path).record("base", "source.json").get("source")
        if source is None:
            raise DataError(f"{run.path} has no start model yet; run it first")
        return Weights(model, str(source))
    if stage is not None and stage not in [one.name for one in trained.stages]:
        raise unknown_name(f"stage of {run.path}", stage, ["base", *(one.name for one in trained.stages)])
    if not done or (stage is not None and stage not in done):
        raise DataError(f"{run.path} has no finished stage{f' {stage!r}' if stage else ''}; finished: {done or 'none'}")
    return Weights(model, str(run.final(stage or done[-1])))


def find_teacher(recipe: Recipe, *, url: str, model: str, api_key_env: str | None = None) -> Endpoint:
    """The teacher at an endpoint; raises `RecipeError` for what cannot work, such as private data or a missing key."""
    endpoint = Endpoint(
        model=model, base_url=url, api_key_env=api_key_env, timeout=SECONDS, who="teacher", sends=PICTURES
    )
    refuse_private(recipe.data.private, [*recipients_of(recipe.model_dump()), *endpoint.recipients("--endpoint")])
    endpoint.key()
    return endpoint


def batch_seed(seed: int, round_: int, ids: Sequence[str]) -> int:
    """The seed of a batch, from the recipe's seed, the number of the try, and the ids in the batch."""
    return int(fingerprint([str(seed), str(round_), *ids]), 16) % 2**31
