"""`medrft run RECIPE --plan`: the whole plan that `pipeline.planning` found; also the summary before a run."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from medrft.cli.common import err, existing_run, out, parse_overrides, print_json, progress_bar, say_next
from medrft.errors import need_packages
from medrft.recipes import load_recipe

WAYS = {"one_gpu": "one GPU", "ddp": "DDP", "fsdp2": "FSDP2", "zero3": "ZeRO-3"}
ROWS = ("weights", "gradients", "optimizer", "reference", "gathered", "activations", "rollouts", "update_peak")


@dataclass(frozen=True)
class Machine:
    """What `--plan` plans for."""

    gpu: str
    """The memory of each GPU, such as 80GB."""
    gpus: int
    tokens_per_second: float | None
    """What all GPUs write together, if that is known."""
    measured: Path | None
    """A run folder whose first steps were timed."""


def plan_run(path: Path, set_: list[str] | None, machine: Machine, *, json_: bool) -> None:
    """Print what a run of the recipe would do and whether it fits; nothing is written.

    Raises `RecipeError` for a recipe, a size or a run folder that is not one.
    """
    recipe = load_recipe(path, overrides=parse_overrides(set_))
    if machine.measured is not None:
        existing_run(machine.measured)
    need_packages("trl")
    from medrft.models.load import TINY
    from medrft.pipeline.planning import counted_rows, parse_size, plan_recipe, plan_steps
    from medrft.pipeline.run import check_names

    size, tiny = parse_size(machine.gpu), recipe.model.id.startswith(TINY)
    if tiny:
        check_names(recipe, processes=machine.gpus)
        found = plan_steps(recipe, counted_rows(recipe, bar=progress_bar))
    else:
        found = plan_recipe(
            recipe,
            gpu=size,
            gpus=machine.gpus,
            tokens_per_second=machine.tokens_per_second,
            measured=machine.measured,
            bar=progress_bar,
        )
    if json_:
        print_json(found)
        return
    if tiny:
        out.print(f"{recipe.model.id} is built when the run begins, and fits anywhere", highlight=False)
    (show_steps if tiny else show_plan)(found)
    say_next(f"medrft run {shlex.quote(str(path))}{''.join(f' --set {shlex.quote(one)}' for one in set_ or ())}")


def show_plan(plan: dict[str, Any]) -> None:
    """Print the whole plan: the model, then memory for each way to use GPUs, work, disk and time of each stage."""
    _say(model_line(plan))
    for stage in plan["stages"]:
        out.print()
        out.print(_memory(stage, plan))
        for line in (*work_lines(stage), *change_lines(stage)):
            _say(line)
    if plan["evaluation"]:
        found = plan["evaluation"]
        _say(f"\nEvaluation writes {found['answers']:,} answers, at most {found['most_tokens']:,} tokens.")
    _say(
        "\nGiB on each GPU. Counted: weights, gradients, optimizer, and a step run on the model's shape. Assumed: 1.5 "
        "GiB for CUDA and 5 % lost between blocks; DDP's buckets and what FSDP2 and ZeRO-3 gather are computed, not "
        "measured."
    )


def show_summary(found: dict[str, Any], recipe: str) -> None:
    """Print a few lines on standard error before a run loads anything."""
    lines = [
        f"{found['model']}: {found['parameters'] / 1e9:.2f} B parameters, {found['way']}, {found['room_gib']:.0f} GiB"
    ]
    for name, stage in found["stages"].items():
        told = "" if stage["fits"] else f": does not fit; medrft run {recipe} --plan says what would"
        lines.append(f"  {name}: about {stage['peak_gib']:.1f} GiB at its peak{told}")
    for line in lines:
        err.print(line, highlight=False, soft_wrap=True)


def show_steps(plan: dict[str, Any]) -> None:
    """Print what a drafted recipe will do: the steps of each stage, its memory where it was counted, the answers."""
    for stage in plan["stages"]:
        told = f"{stage['name']}: {steps_line(stage)}"
        if "peak_gib" in stage:
            fits = "fits" if stage["fits"] else "does not fit: medrft run RECIPE --plan says what would"
            told += f"; about {stage['peak_gib']:.1f} GiB of {plan['gpu_gib']:.0f} at its peak, {fits}"
        _say(told)
    if plan["evaluation"]:
        _say(f"evaluation: at most {plan['evaluation']['answers']:,} answers")


def model_line(plan: dict[str, Any]) -> str:
    """One line: the model, where its shape comes from, and how long a prompt is."""
    model = plan["model"]
    source = {"folder": "its folder", "hub": "the hub", "shipped": "numbers shipped with medrft"}[model["shape_from"]]
    return (
        f"{model['id']}: {model['parameters'] / 1e9:.2f} B parameters, shape from {source}; a prompt of about "
        f"{model['prompt_tokens']:,} tokens; GPUs: {plan['gpus']} of {plan['gpu_gib']:g} GiB"
    )


def _memory(stage: dict[str, Any], plan: dict[str, Any]) -> Table:
    table = Table(title=f"{stage['name']} ({stage['kind']})", box=None, padding=(0, 2, 0, 0), title_justify="left")
    table.add_column("GiB per GPU")
    for way in plan["ways"]:
        table.add_column(WAYS[way], justify="right")
    found = [stage["memory"][way] for way in plan["ways"]]
    for row in (*ROWS, "rollout_peak", "peak"):
        values = [memory[f"{row}_gib"] for memory in found]
        table.add_row(row.replace("_", " "), *("–" if value is None else f"{value:.1f}" for value in values))
    table.add_row("fits", *("yes" if memory["fits"] else "no" for memory in found))
    return table


def work_lines(stage: dict[str, Any]) -> list[str]:
    """Three lines: steps and generate calls, disk, and hours."""
    disk, time = stage["disk_gib"], stage["time"]
    saved = f"checkpoints {disk['one']:.1f} GiB each, {disk['kept']:.1f} at once; final folder {disk['final']:.1f} GiB"
    if disk["masters"]:
        saved += f", and {disk['masters']:.1f} GiB of unrounded weights for the stage that starts from it"
    hours = f"{time['hours']:.1f} h ({time['from']})" if time["hours"] is not None else f"hours {time['from']}"
    return [steps_line(stage), saved, hours]


def steps_line(stage: dict[str, Any]) -> str:
    """A stage's optimizer steps, and its generate calls if it is GRPO."""
    work = stage["work"]
    if work["steps"] is None:
        return "steps unknown until the data are read: --set data.root=…"
    told = f"{'at most ' if stage['rows_at_most'] else ''}{work['steps']:,} steps of {work['rows_a_step']} rows"
    if "questions_a_step" in work:
        told += (
            f" ({work['questions_a_step']:g} questions); {work['generate_calls']:,} generate calls and "
            f"{work['validation_generate_calls']:,} for validation ({work['validation_share_of_calls']:.0%})"
        )
    return told


def change_lines(stage: dict[str, Any]) -> list[str]:
    """One line with the smallest change that makes a stage fit; none if it fits as it is."""
    change = stage["memory"].get("smallest_change")
    if change is None:
        return []
    if change["set"] is None:
        return [f"{WAYS[change['for']]} does not fit, nor does any change tried; take more GPUs or a smaller model"]
    return [
        f"{WAYS[change['for']]} does not fit; smallest change, {change['peak_gib']:.1f} GiB: {' '.join(change['set'])}"
    ]


def _say(line: str) -> None:
    out.print(line, highlight=False, soft_wrap=True)
