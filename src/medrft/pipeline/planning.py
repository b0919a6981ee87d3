"""`medrft run --plan`: from a recipe to what it will do and whether it fits, without loading the model's weights.

The plan needs the model's shape and, for the number of steps, the counts of the data.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrft.config import Recipe, StageConfig
from medrft.data.splits import draw_examples
from medrft.errors import DataError, ModelError, RecipeError
from medrft.pipeline.job import takes
from medrft.pipeline.run import check_names
from medrft.progress import Bar, no_bar
from medrft.rundir import RunDir, read_growing

if TYPE_CHECKING:
    from medrft.training.planning.memory import Memory, Planner, Setting, Way

GIB = 2**30
SMALL = 100_000_000
"""A model with fewer parameters fits anywhere, so a run reports no plan for it."""


def plan_recipe(
    recipe: Recipe,
    *,
    gpu: float,
    gpus: int,
    tokens_per_second: float | None = None,
    measured: Path | None = None,
    bar: Bar = no_bar,
) -> dict[str, Any]:
    """All that `--plan` prints, as JSON: rows, steps, and memory on each of `gpus` GPUs with `gpu` GiB.

    Checks the recipe's names first. Raises `UserError` for whatever would stop the run before its first step, as far
    as that can be known without loading the model.
    """
    from medrft.models.shapes import shipped_shapes

    # Before TRL is imported: it declares the torchvision operators that TRL's modules ask for.
    check_names(recipe, processes=gpus, weights=recipe.model.id not in shipped_shapes())
    from medrft.training.planning.plan import NAMES, setting_of, ways_for

    planner = open_planner(recipe)
    rows = counted_rows(recipe, bar=bar)
    n = planner.parameters(None)
    stages = []
    with bar("Planning") as advance:
        for number, stage in enumerate(recipe.stages):
            setting = setting_of(stage, recipe, checkpoint=planner.checkpoint)
            stages.append(
                {
                    "name": stage.name,
                    "kind": stage.kind,
                    "memory": _fits(planner, stage, setting, gpu=gpu, gpus=gpus),
                    **_work(planner, recipe, stage, setting, gpus=gpus, rows=rows),
                    **_hours(recipe, stage, gpus, rows, tokens_per_second, measured),
                }
            )
            advance(number + 1, len(recipe.stages))
    return {
        "recipe": recipe.name,
        "model": {
            "id": recipe.model.id,
            "shape_from": planner.shape.source,
            "parameters": n.total,
            "published": planner.shape.published,
            "prompt_tokens": int(planner.ask(recipe.data.max_pixels, planner.sketched(None)[0]).ids.shape[1]),
        },
        "gpu_gib": gpu,
        "gpus": gpus,
        "ways": [NAMES[way] for way in ways_for(gpus)],
        "rows": rows,
        "stages": stages,
        "evaluation": _evaluation(recipe, rows),
    }


def summarize_plan(recipe: Recipe) -> dict[str, Any] | None:
    """Peak memory of each stage on this machine, from the model's shape; `None` for a model that fits anywhere.

    `{"model": …, "parameters": …, "room_gib": …, "way": …, "stages": {name: {"peak_gib": …, "fits": …}}}`
    """
    from medrft.models.load import TINY
    from medrft.models.policy import pick_device
    from medrft.training.processes import memory_here, world_size

    if recipe.model.id.startswith(TINY):
        return None
    planner = open_planner(recipe)
    total = planner.parameters(None).total
    if total < SMALL:
        return None
    from medrft.training.planning.plan import setting_of, way_of_launch

    room = memory_here(pick_device(recipe.model.device))
    way, stages = way_of_launch(world_size()), {}
    for stage in recipe.stages:
        setting = setting_of(stage, recipe, checkpoint=planner.checkpoint)
        peak = planner.memory(setting, way, world_size()).peak
        stages[stage.name] = {"peak_gib": peak / GIB, "fits": peak <= room}
    return {"model": recipe.model.id, "parameters": total, "room_gib": room / GIB, "way": way, "stages": stages}


def parse_size(text: str) -> float:
    """GiB from `80GB`, `80 GiB` or `80`; raises `RecipeError` for anything else. Makers of GPUs write GB for GiB.

    >>> parse_size("80GB"), parse_size("24")
    (80.0, 24.0)
    """
    number = text.strip().lower().removesuffix("gib").removesuffix("gb").strip()
    try:
        size = float(number)
    except ValueError:
        size = 0.0
    if not 0 < size < 10_000:
        raise RecipeError(f"--gpu takes a size such as 80GB, got {text!r}")
    return size


def open_planner(recipe: Recipe) -> Planner:
    """A planner with the model's shape and, where the model is a folder that has one, its processor.

    Raises `ModelError` for a `tiny:` model.
    """
    from medrft.models.bundled import find_bundled
    from medrft.models.load import TINY, load_processor
    from medrft.models.shapes import model_shape
    from medrft.training.planning.memory import Planner

    if recipe.model.id.startswith(TINY):
        raise ModelError(
            f"{recipe.model.id} is built from the data when a run begins and fits anywhere; plan real models"
        )
    shape = model_shape(recipe.model)
    folder = Path(find_bundled(recipe.model.id))
    has = (folder / "preprocessor_config.json").is_file() or (folder / "processor_config.json").is_file()
    return Planner(recipe, shape, load_processor(str(folder), recipe.model) if has else None)


def counted_rows(recipe: Recipe, *, bar: Bar) -> dict[str, Any] | None:
    """Number of rows by split and by stage; `None` where the recipe names no folder to read."""
    from medrft.data import load_data

    if recipe.data.root is None and not recipe.data.drawn:
        return None
    with bar("Loading data") as advance:
        data = load_data(recipe.data, seed=recipe.seed, on_progress=advance)
    found: dict[str, Any] = {split: len(data.split(split)) for split in ("train", "validation", "test")}
    for stage in recipe.stages:
        fit = [example for example in data.split("train") if takes(stage, example)]
        held = [e for e in data.split("validation") if stage.kinds is None or e.kind in stage.kinds]
        kept = len(draw_examples(held, stage.validation_limit, seed=recipe.seed))
        found[stage.name] = {"train": len(draw_examples(fit, stage.limit, seed=recipe.seed)), "validation": kept}
    return found


def _fits(planner: Planner, stage: StageConfig, setting: Setting, *, gpu: float, gpus: int) -> dict[str, Any]:
    """For each way to spread the training: its memory and whether it fits; and the smallest change that makes it fit.

    The change is for DDP on several GPUs, else for one GPU.
    """
    from medrft.training.planning.plan import NAMES, memory_table, smallest_change, usable_memory, ways_for

    table = memory_table(planner, setting, gpus, ways_for(gpus))
    found: dict[str, Any] = {NAMES[way]: describe_memory(memory, gpu) for way, memory in table.items()}
    way: Way = "DDP" if gpus > 1 else "one GPU"
    if table[way].peak > usable_memory(gpu):
        changes = smallest_change(planner, stage, setting, way=way, gpus=gpus, gpu=gpu)
        last = changes[-1] if changes else None
        found["smallest_change"] = {
            "for": NAMES[way],
            "set": None if changes is None else [change.keys for change in changes],
            "peak_gib": None if last is None else planner.memory(last.setting, last.way, gpus).peak / GIB,
        }
    return found


def describe_memory(memory: Memory, gpu: float) -> dict[str, Any]:
    """The memory of one way in GiB, part by part, and whether it fits."""
    from medrft.training.planning.plan import usable_memory

    parts = ("weights", "gradients", "optimizer", "reference", "gathered", "activations", "rollouts", "loading")
    told: dict[str, Any] = {f"{name}_gib": round(getattr(memory, name) / GIB, 3) for name in parts}
    return {
        **told,
        "update_peak_gib": round(memory.update / GIB, 3),
        "rollout_peak_gib": round(memory.writing / GIB, 3) if memory.rollouts else None,
        "peak_gib": round(memory.peak / GIB, 3),
        "fits": memory.peak <= usable_memory(gpu),
    }


def _work(
    planner: Planner, recipe: Recipe, stage: StageConfig, setting: Setting, *, gpus: int, rows: dict[str, Any] | None
) -> dict[str, Any]:
    from medrft.training.planning.plan import checkpoint_bytes

    disk = {name: round(size / GIB, 3) for name, size in checkpoint_bytes(planner, stage, setting).items()}
    return {"work": _steps(stage, gpus, rows), "disk_gib": disk, "rows_at_most": bool(stage.curate)}


def _steps(stage: StageConfig, gpus: int, rows: dict[str, Any] | None) -> dict[str, Any]:
    from medrft.training.planning.plan import stage_work, value_of

    own = rows[stage.name] if rows else {"train": None, "validation": None}
    most = int(value_of(stage, "max_completion_length")) if stage.kind == "grpo" else 0
    return stage_work(stage, gpus=gpus, rows=own["train"], validation=own["validation"], max_tokens=most)


def _hours(
    recipe: Recipe,
    stage: StageConfig,
    gpus: int,
    rows: dict[str, Any] | None,
    tokens_per_second: float | None,
    measured: Path | None,
) -> dict[str, Any]:
    from medrft.training.planning.plan import hours_of

    seconds = measured_step(measured, stage.name) if measured is not None else None
    work = _steps(stage, gpus, rows)
    return {"time": hours_of(work, tokens_per_second=tokens_per_second, step_seconds=seconds)}


def measured_step(run: Path, stage: str) -> float | None:
    """Median seconds per optimizer step of a stage, from a run's `metrics.jsonl`; `None` with fewer than two rows.

    The run may still be training, or have been killed: a last row that is not whole is left out. Raises `DataError` for
    a folder without metrics.
    """
    path = RunDir(run).metrics
    if not path.is_file():
        raise DataError(f"--measured {run} has no metrics.jsonl; pass a run folder whose stages have begun")
    marks = [(row["step"], row["seconds"]) for row in read_growing(path) if row["stage"] == stage and "seconds" in row]
    marks = sorted(dict(marks).items())
    each = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in pairwise(marks) if b[0] > a[0]]
    return statistics.median(each) if each else None


def _evaluation(recipe: Recipe, rows: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """How many answers evaluation asks for, at most: those of each stage, of its controls, and of the start model."""
    if rows is None:
        return None
    shown = min(rows["test"], recipe.eval.limit or rows["test"])
    models = sum(stage.evaluate for stage in recipe.stages) + recipe.eval.zero_shot
    answers = models * shown * (1 + len(recipe.eval.controls))
    return {"answers": answers, "most_tokens": answers * recipe.eval.max_new_tokens}
