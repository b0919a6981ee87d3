"""What is checked before anything large is read or loaded: the processor, the processes, and what the rows hold."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from medrft.config import Recipe
from medrft.errors import DataError

if TYPE_CHECKING:
    from medrft.pipeline.job import Job


def check_ready(recipe: Recipe) -> None:
    """Load the model's processor alone and fit the prompt to its chat template, and say how many processes there are.

    Raises `ModelError` for a model without image processor or chat template, seconds into a run.
    """
    from medrft.models.load import TINY, load_processor
    from medrft.models.prompts import get_prompt
    from medrft.training.processes import is_main

    for line in process_lines():
        if is_main():
            sys.stderr.write(line + "\n")
    model = recipe.model
    pinned = model.revision and not Path(model.id).is_dir()  # its snapshot comes with the weights
    if not model.id.startswith(TINY) and not pinned:
        get_prompt(recipe.prompt).bound(load_processor(model.id, model))


def process_lines() -> list[str]:
    """How many processes train together where a launcher started this one, or which GPUs a plain start leaves idle."""
    from medrft.training.processes import visible_gpus, world_size

    if "WORLD_SIZE" in os.environ:
        return [f"processes: {world_size()}"]
    gpus = visible_gpus()
    launched = any(name.startswith("ACCELERATE_") for name in os.environ)
    if gpus > 1:
        return [
            f"processes: 1, on one of {gpus} GPUs; for all: accelerate launch --config_file "
            f"recipes/accelerate/ddp.yaml --num_processes {gpus} -m medrft run …"
        ]
    if launched:
        return [
            "processes: 1; on a CPU accelerate launch starts one whatever --num_processes says: for N, "
            "torchrun --nproc_per_node N -m medrft run …"
        ]
    return []


def check_rows(job: Job) -> None:
    """What the loaded rows must hold for the recipe's stages and its evaluation.

    Raises `DataError` for a stage that has no thoughts to teach, and for an evaluation without test rows.
    """
    from medrft.models.prompts import get_prompt

    recipe = job.recipe
    if not job.split("train") and recipe.stages:
        raise DataError(f"{recipe.data.name} has no train rows, but the recipe has stages that train")
    if get_prompt(recipe.prompt).form == "think":
        for stage in recipe.stages:
            if stage.kind != "sft" or stage.curate:
                continue
            rows = job.drawn(stage)
            if rows and not any((example.rationale or "").strip() for example in rows):
                raise DataError(
                    f"stage {stage.name!r}: none of {len(rows)} train examples has a rationale for the "
                    f"{recipe.prompt!r} prompt to teach; use prompt: direct, or curate: with an earlier grpo stage"
                )
    evaluates = recipe.eval.zero_shot or any(stage.evaluate for stage in recipe.stages)
    if evaluates and not any(job.tests().values()):
        raise DataError(
            f"{recipe.data.name} has no test rows to evaluate on; cut some off with --set data.by_image=0.2 (a fifth "
            "of the images, with all their questions), name a test set in eval.data, or evaluate nothing: "
            "--set eval.zero_shot=false and evaluate: false in each stage"
        )
