"""Checks of a recipe before anything large is loaded: the model's processor, and how many processes train."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from medrft.config import Recipe


def check_ready(recipe: Recipe) -> None:
    """Say how many processes train, then load the model's processor and fit the prompt to its chat template.

    Raises `ModelError` within seconds for a model without image processor or chat template.
    """
    from medrft.models.load import TINY, load_processor
    from medrft.models.prompts import get_prompt
    from medrft.training.processes import is_main

    for line in process_lines():
        if is_main():
            sys.stderr.write(line + "\n")
    model = recipe.model
    # A pinned revision is fetched as one snapshot with its weights, so its processor is not at hand before them.
    pinned = model.revision and not Path(model.id).is_dir()
    if not model.id.startswith(TINY) and not pinned:
        get_prompt(recipe.prompt).bound(load_processor(model.id, model))


def process_lines() -> list[str]:
    """Lines on how many processes train together, or on how to use the GPUs that a plain start leaves idle."""
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
