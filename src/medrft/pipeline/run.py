"""Runs a recipe from data to report: load, build the start model, then train, evaluate and report stage by stage.

A recipe comes in, a run directory goes out. Stages pass models on through its files, so each can be done again, and an
interrupted run goes on from them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medrft.config import Recipe, StageConfig
from medrft.curation.curate import check_kept, curate, made_with, taught_examples
from medrft.curation.rejection import rejection_header, right_examples, sample_right, sampling_recipe
from medrft.curation.writers import Weights, make_writer
from medrft.data.splits import draw_examples
from medrft.errors import DataError, RecipeError, naming_extras, unknown_name
from medrft.masking import mask_secrets
from medrft.outgoing import announce_recipients, recipients_of, refuse_private
from medrft.pipeline.auditing import audit_reward
from medrft.pipeline.checks import check_ready
from medrft.pipeline.evaluating import evaluate_stage
from medrft.pipeline.job import Job, open_job, source_of, start_model
from medrft.progress import Bar, no_bar
from medrft.recipes import recipe_of
from medrft.rundir import RunDir, fingerprint
from medrft.torchvision_ops import declare_missing_operators
from medrft.types import Example


@naming_extras()
def run_recipe(
    recipe: Recipe, *, output: Path, resume: bool = False, bar: Bar = no_bar, only: Sequence[str] | None = None
) -> RunDir:
    """Run a recipe into `output` and return its run directory, which has the report.

    `only` names the stages to do, by default all of them; `base` is the start model's evaluation.
    Raises `UserError` for whatever the user can fix, before any work where that is possible.
    """
    from medrft.training.processes import alone_in, is_main

    stages = chosen_stages(recipe, only)
    if is_main():
        RunDir.check(output, resume=resume)
        check_same(recipe, output)
    check_names(recipe)
    check_starts(recipe, stages, output)
    check_ready(recipe)
    with alone_in(output):
        return _run_stages(recipe, stages, output=output, resume=resume, bar=bar, only=only)


def _run_stages(
    recipe: Recipe, stages: Sequence[StageConfig], *, output: Path, resume: bool, bar: Bar, only: Sequence[str] | None
) -> RunDir:
    from medrft.training.processes import is_main, main_first, wait_for_all

    # The main process writes what the others then find and read: cached data and a tiny or merged start model.
    with main_first():
        job = open_job(recipe, output=output, resume=resume, bar=bar if is_main() else no_bar)
        if is_main():
            tell_untested(job)
        start_model(job)
    if is_main():
        if "base" in only if only is not None else recipe.eval.base != "skip":
            evaluate_stage(job, "base")
        audit_reward(job, stages)
    wait_for_all()
    for stage in stages:
        train_stage(job, stage)
        if is_main():
            if stage.evaluate:
                evaluate_stage(job, stage.name)
            report_run(job)
        wait_for_all()
    return job.run


def check_same(recipe: Recipe, output: Path) -> None:
    """Refuse to resume a run with a recipe that differs in what has been done already.

    Stages that have not begun may differ, and so may keys that no training depends on. A changed evaluation is made
    again. Raises `RecipeError` that names the first keys that differ.
    """
    path = output / "recipe.yaml"
    if not (path.is_file() and RunDir(output).begun):
        return
    before = recipe_of(output)
    begun = [stage for stage in before.stages if (RunDir(output).stage(stage.name) / "stage.json").is_file()]
    free = {"name", "report", "eval", "audit", "stages", "strict"}
    judged = any(stage.curate or stage.rejection for stage in begun)
    if not any(stage.kind == "grpo" for stage in begun):
        free |= {"reward"} if judged else {"reward", "correct", "encoder", "clinical"}
    if not any(stage.curate for stage in begun):
        free.add("curate")
    names = {stage.name for stage in begun}

    def settled(of: Recipe) -> dict[str, Any]:
        stages = [stage for stage in of.stages if stage.name in names]
        told = of.model_dump(mode="json", exclude=free)
        told["stages"] = [stage.model_dump(mode="json") for stage in stages]
        return _flat(mask_secrets(told))  # recipe.yaml has secrets masked, so those of both sides are not compared

    old, new = settled(before), settled(recipe)
    apart = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    if apart:
        shown = "; ".join(f"{key} was {old.get(key)!r}, now {new.get(key)!r}" for key in apart[:3])
        more = f"; and {len(apart) - 3} more" if len(apart) > 3 else ""
        raise RecipeError(
            f"{output} was begun with another recipe: {shown}{more}. To go on as it began: medrft run {path} --resume "
            f"--output {output}; for the new recipe choose another --output"
        )


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested tables and lists as dotted keys; a table in a list goes by its `name` if it has one, else by its place."""
    if isinstance(value, dict) and value:
        items: list[tuple[str, Any]] = [(str(key), inner) for key, inner in value.items()]
    elif isinstance(value, list | tuple) and value:
        names = [inner.get("name") if isinstance(inner, dict) else None for inner in value]
        items = [(name or str(i), inner) for i, (name, inner) in enumerate(zip(names, value, strict=True))]
    else:
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, inner in items:
        flat |= _flat(inner, f"{prefix}.{key}" if prefix else key)
    return flat


def chosen_stages(recipe: Recipe, only: Sequence[str] | None) -> list[StageConfig]:
    """The stages to do, in the recipe's order; raises `UnknownNameError` for a name that is neither one nor `base`."""
    names = [stage.name for stage in recipe.stages]
    for name in only or ():
        if name not in names and name != "base":
            raise unknown_name("stage", name, ["base", *names])
    return [stage for stage in recipe.stages if only is None or stage.name in only]


def check_starts(recipe: Recipe, stages: Sequence[StageConfig], output: Path) -> None:
    """Raise `RecipeError` for a stage that goes on from one which is neither finished in `output` nor to be done."""
    there = {"base", *(stage.name for stage in recipe.stages if RunDir(output).is_finished(stage.name))}
    for stage in stages:
        start = recipe.start_of(stage)
        if start not in there:
            kind = next(one.kind for one in recipe.stages if one.name == start)
            raise RecipeError(
                f"stage {stage.name!r} goes on from {start!r}, which has no final model in {output}; train that first: "
                f"medrft {kind} RECIPE --output {output}, or medrft run for all stages"
            )
        there.add(stage.name)


def check_names(recipe: Recipe, *, processes: int | None = None, weights: bool = True) -> None:
    """Build what can be built without data or model, so that a wrong name or device ends the run within a second.

    `processes` is the number of training processes, by default that of this launch; with `weights` the model must be
    at hand. Also announces every other machine that will be sent something; private data make that a `RecipeError`.
    """
    tell_recipients(recipe)
    from medrft.data import check_options
    from medrft.evaluation.judge_panel import Panel
    from medrft.evaluation.own_scorers import build_own
    from medrft.evaluation.scoring import check_correct
    from medrft.models.load import check_start
    from medrft.models.prompts import get_prompt
    from medrft.rewards import correct_of, reward_of
    from medrft.scorers import build_scorer
    from medrft.training import check_stage

    check_start(recipe.model, weights=weights)
    get_prompt(recipe.prompt)
    for source in (recipe.data, *recipe.eval.data):
        check_options(source.name, source.options)
    build_scorer("clinical", clinical=recipe.clinical)  # every evaluation uses it, whatever the reward
    check_correct(recipe.correct.scorer, correct_of(recipe).scorer)
    reward_of(recipe)
    build_own(recipe)
    if recipe.eval.judge is not None:
        Panel(recipe.eval.judge)
    for stage in recipe.stages:
        check_stage(stage, recipe, processes=processes)
        if stage.rejection and stage.rejection.keep:
            build_scorer(stage.rejection.keep.scorer, encoder=recipe.encoder, clinical=recipe.clinical)


def tell_recipients(recipe: Recipe) -> None:
    """Announce each other machine that a recipe sends something to; raises `RecipeError` where the data are private."""
    recipients = recipients_of(recipe.model_dump())
    refuse_private(recipe.data.private, recipients)
    announce_recipients(recipients)


def tell_untested(job: Job) -> None:
    """Warn, before anything runs, if there are no test rows, and say how to make a test split."""
    from medrft.data import untested_note

    if not any(job.tests().values()):
        data = job.recipe.data
        logging.getLogger("medrft").warning("medrft: %s has %s", data.name, untested_note(data))


def train_stage(job: Job, stage: StageConfig) -> Path:
    """Train one stage, unless it is finished and the run resumes; returns the folder of its model."""
    declare_missing_operators()  # before TRL is imported; in a study nothing may have loaded a model yet
    from medrft.training.grpo import run_grpo
    from medrft.training.sft import run_sft
    from medrft.training.state import needs_training

    if job.resume and not needs_training(job.run, stage.name):
        return job.run.final(stage.name)
    train = taught_rows(job, stage)
    if not train:
        raise DataError(f"stage {stage.name!r} has nothing to train on: no train row is of kind {stage.kinds}")
    validation = [e for e in job.split("validation") if stage.kinds is None or e.kind in stage.kinds]
    return (run_sft if stage.kind == "sft" else run_grpo)(
        stage,
        job.recipe,
        start=source_of(job, job.recipe.start_of(stage)),
        train=train,
        validation=draw_examples(validation, stage.validation_limit, seed=job.recipe.seed),
        run=job.run,
        resume=job.resume,
    )


def taught_rows(job: Job, stage: StageConfig) -> list[Example]:
    """The examples that a stage trains on: of its kinds, its limit and its first questions, as its keys say."""
    from medrft.training.grpo import first_asked

    if stage.curate:
        return curated_examples(job, stage)
    drawn = job.drawn(stage)
    if stage.asked_first is not None:
        drawn = first_asked(drawn, stage.asked_first, seed=job.recipe.seed)
    return sampled_examples(job, stage, drawn) if stage.rejection else drawn


def sampled_examples(job: Job, stage: StageConfig, drawn: list[Example]) -> list[Example]:
    """The right completions that the stage's start model wrote for the drawn examples; the stage's record counts them.

    They lie in a folder whose name has a hash of all that they depend on. Raises `DataError` if none is right.
    """
    from medrft.training.processes import is_main, main_first
    from medrft.training.state import write_stage

    assert stage.rejection is not None
    start = job.recipe.start_of(stage)
    recipe = sampling_recipe(job.recipe, stage.rejection)
    writer = make_writer(Weights(recipe.model, source_of(job, start)), recipe, drawn)
    header = rejection_header(drawn, recipe, stage.rejection, writer)
    folder = job.run.path / "sampled" / f"{start}-{fingerprint([json.dumps(header, sort_keys=True)])[:8]}"
    with main_first():
        manifest = sample_right(drawn, recipe, stage.rejection, writer=writer, output=folder, bar=job.bar)
    if is_main():
        counted = {key: manifest[key] for key in ("completions", "tokens", "right", "kept", "rows_with", "seconds")}
        facts = {"folder": str(folder.relative_to(job.run.path)), "of": len(drawn), **counted}
        write_stage(job.run, stage.name, rejection=facts)
    return right_examples(drawn, folder)


def curated_examples(job: Job, stage: StageConfig) -> list[Example]:
    """The examples that a stage with `curate:` trains on, thinned and with thoughts; the stage's record counts them.

    The folder's name has a hash of all that its content depends on, so stages that ask for the same share it. Raises
    `DataError` if no pair got a thought.
    """
    from medrft.report.curation import write_sheet
    from medrft.training.processes import is_main, main_first
    from medrft.training.state import write_stage

    assert stage.curate is not None
    drawn = job.drawn(stage)
    writer = make_writer(Weights(job.recipe.model, source_of(job, stage.curate)), job.recipe, drawn)
    key = fingerprint([json.dumps(made_with(drawn, job.recipe, writer), sort_keys=True)])
    folder = job.run.path / "curated" / f"{stage.curate}-{key[:8]}"
    with main_first():
        manifest = curate(drawn, job.recipe, writer=writer, output=folder, resume=True, bar=job.bar)
        if is_main() and not (folder / "sheet.html").is_file():
            write_sheet(folder, images=job.recipe.report.images == "thumb", seed=job.recipe.seed)
    check_kept(manifest, folder)
    examples = taught_examples(drawn, folder)
    if is_main():
        facts = {"folder": str(folder.relative_to(job.run.path)), "rows": len(examples), "of": len(drawn)}
        write_stage(job.run, stage.name, curated=facts)
    return examples


def report_run(job: Job) -> Path:
    """Write the report from the run's files and return its path."""
    from medrft.report import render_report

    with job.bar("Writing the report"):
        return render_report(job.run.path)
