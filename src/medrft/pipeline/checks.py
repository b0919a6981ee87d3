"""What is checked before anything large is read or loaded: the processor, the processes, and what the rows hold."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from medrft.config import Recipe


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
