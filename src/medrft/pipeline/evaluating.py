"""Evaluates a stage of a run, or a model from outside it, on the run's test sets, and writes into the run folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from medrft.config import Recipe
from medrft.data.splits import draw_examples
from medrft.errors import RecipeError
from medrft.outgoing import refuse_private
from medrft.pipeline.job import Job, source_of
from medrft.pipeline.test_sets import with_images

if TYPE_CHECKING:
    from medrft.config import ModelConfig
    from medrft.evaluation.engines import Engine


QUICK = 64
"""Test questions of each data set that `eval.base: quick` asks the start model."""


def evaluate_stage(job: Job, stage: str) -> None:
    """Evaluate a stage's model on every test set; complete predictions are kept and not made again."""
    with job.bar(f"Loading the model of {stage}"):
        engine = open_engine(job, source_of(job, stage))
    evaluate_engine(job, engine, stage=stage)


def evaluate_engine(job: Job, engine: Engine, *, stage: str, prompt: str | None = None) -> None:
    """Evaluate an engine on every test set under the name `stage`; `prompt` replaces the recipe's.

    An example whose image has vanished or broken since the data were loaded is left out and listed in `data.json`
    (`evaluation_left_out`). If the recipe is `strict`, that raises `StrictError`.
    """
    from medrft.evaluation.runner import BASE, evaluate

    server = getattr(engine, "endpoint", None)
    refuse_private(job.recipe.data.private, server.recipients("the endpoint") if server is not None else [])
    tests = with_images(job, stage)
    whole = {name: len(rows) for name, rows in tests.items()}
    if stage == BASE and job.recipe.eval.base == "quick":
        tests = {name: draw_examples(rows, QUICK, seed=job.recipe.seed) for name, rows in tests.items()}
    with job.bar(f"Evaluating {stage}") as advance:
        evaluate(
            engine,
            job.recipe,
            stage=stage,
            examples_by_dataset=tests,
            train=job.split("train"),
            run=job.run,
            on_progress=advance,
            prompt=prompt,
            drawn_of=whole,
        )


def open_engine(job: Job, source: str, *, model: ModelConfig | None = None) -> Engine:
    """The model at `source` in the recipe's engine; `model` are the settings of a model from outside the run."""
    from medrft.evaluation.engines import load_engine
    from medrft.models.faults import LOG

    return load_engine(
        job.recipe.eval.engine,
        model or job.recipe.model,
        source,
        images=max((len(e.images) for examples in job.tests().values() for e in examples), default=1),
        seed=job.recipe.seed,
        outside=model is not None,
        faults=job.run.path / LOG,
    )


def check_outside(recipe: Recipe, name: str) -> None:
    """Refuse a model from outside a run that cannot be loaded, before data are read.

    Raises `RecipeError` for a `tiny:` model, and `ModelError` for an absent folder and for a hub id out of reach.
    """
    from medrft.models.load import check_start

    model = _outside_config(recipe, name)
    if model.id.startswith("tiny:"):
        raise RecipeError(f"--model {name!r} is a random model; pass a hub id or the folder of a saved one")
    check_start(model)


def _outside_config(recipe: Recipe, name: str) -> ModelConfig:
    place, _, revision = (name, "", "") if Path(name).is_dir() else name.partition("@")
    return recipe.model.model_copy(update={"id": place, "revision": revision or None, "lora": None, "freeze": ()})


def open_model(job: Job, name: str) -> Engine:
    """A model from outside the run, named by `ID`, `ID@REVISION` or a folder, with the recipe's other model settings.

    Raises as `check_outside` does.
    """
    from medrft.models.load import resolve_base

    check_outside(job.recipe, name)
    model = _outside_config(job.recipe, name)
    merged = job.run.path / "models" / outside_name(job.recipe, name)  # only an adapter is written there, merged
    source = resolve_base(model, texts=(), output=merged, seed=job.recipe.seed)
    return open_engine(job, source, model=model)


def outside_name(recipe: Recipe, model: str) -> str:
    """The name that a model from outside has among a recipe's stages.

    >>> from medrft.recipes import parse_recipe
    >>> outside_name(parse_recipe({"name": "a", "model": {"id": "m"}, "data": {"name": "d"}}), "Qwen/Qwen2.5-VL-3B")
    'qwen_qwen2_5_vl_3b'
    """
    parts = Path(model).parts[-2:] if Path(model).is_dir() else (model,)
    name = re.sub(r"[^a-z0-9]+", "_", "_".join(parts).lower()).strip("_") or "model"
    if name in ("base", *(stage.name for stage in recipe.stages)):
        return f"{name}_outside"
    return name
