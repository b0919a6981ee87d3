"""A recipe's plan, made before anything is loaded: a stage goes in, its work, memory and disk come out.

`setting_of` reads from a recipe what its memory depends on, and `memory_table` compares the ways to spread it over
GPUs. `smallest_change` finds the fewest changes after which it fits, such as
`--set stages.grpo.trl.gradient_checkpointing=true`. `stage_work` counts steps, completions and checkpoints;
`checkpoint_bytes` and `hours_of` say how much disk and time they take. `medrft plan` prints all of it.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from medrft.config import Recipe, StageConfig
from medrft.training.arguments import EVALUATIONS, config_class, eval_batch, total_steps, validates
from medrft.training.planning.memory import LORA, WAYS, Memory, Planner, Setting, Way
from medrft.training.planning.trace import Load
from medrft.training.precision import BYTES, find_precision

NAMES = {"one GPU": "one_gpu", "DDP": "ddp", "FSDP2": "fsdp2", "ZeRO-3": "zero3"}
ANSWER_TOKENS = {"think": 256, "direct": 32, "short": 16, "plain": 16}
"""Tokens of an answer that SFT learns, by prompt: assumed."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """One change that needs less memory, in the words a user would type."""

    keys: str
    """The `--set` options, or the command, that make the change."""
    setting: Setting
    way: Way


def value_of(stage: StageConfig, key: str) -> Any:
    """The value of a key in the stage's `trl:` table, or its default in TRL."""
    if key in stage.trl:
        return stage.trl[key]
    known = {field.name: field.default for field in fields(config_class(stage))}
    return known[key]


def setting_of(stage: StageConfig, recipe: Recipe, *, checkpoint: str) -> Setting:
    """The settings that a stage's memory depends on, for a GPU unless the recipe says `device: cpu`.

    `checkpoint` is the dtype that the start model is saved in.
    """
    cpu = recipe.model.device == "cpu"
    rows = int(value_of(stage, "per_device_train_batch_size"))
    repeats = stage.trl.get("steps_per_generation") or value_of(stage, "gradient_accumulation_steps")
    grpo = stage.kind == "grpo"
    checkpointing = stage.trl.get("gradient_checkpointing", False if cpu else value_of(stage, "gradient_checkpointing"))
    precision = find_precision(recipe.model, stage.trl, kind=stage.kind, checkpoint=checkpoint)
    load = Load(
        kind=stage.kind,
        rows=rows,
        group=int(value_of(stage, "num_generations")) if grpo else 1,
        completion=int(value_of(stage, "max_completion_length")) if grpo else ANSWER_TOKENS[recipe.prompt],
        checkpointing=bool(checkpointing),
        shared=stage.share_prefix and grpo,
        written=rows * int(repeats) if grpo else 0,
        together=stage.rollout_batch_size if stage.share_prefix else None,
        autocast=precision.autocast is not None,
        trained=precision.trained,
        frozen=precision.frozen,
    )
    return Setting(
        load=load,
        pixels=recipe.data.max_pixels,
        optim=str(stage.trl.get("optim", "adamw_torch_fused")),
        precision=precision,
        lora=None if recipe.model.lora is None else json.dumps(recipe.model.lora, sort_keys=True),
    )


def memory_table(planner: Planner, setting: Setting, gpus: int, ways: Sequence[Way]) -> dict[str, Memory]:
    """Memory per GPU under each way of spreading the stage."""
    return {way: planner.memory(setting, way, gpus) for way in ways}


def usable_memory(gpu: float) -> float:
    """Usable bytes of a GPU with a nominal size of `gpu` GiB: 99 % of it."""
    return 0.99 * gpu * 2**30


def smallest_change(
    planner: Planner, stage: StageConfig, setting: Setting, *, way: Way, gpus: int, gpu: float
) -> list[Change] | None:
    """The fewest changes after which the stage fits; those that alter training least are tried first.

    `None` if none of them helps, and an empty list if it fits as it is. Settings whose weights, gradients and optimizer
    alone are too large are skipped without running anything.
    """
    most = usable_memory(gpu)

    def fits(changes: Sequence[Change]) -> bool:
        now, on = (changes[-1].setting, changes[-1].way) if changes else (setting, way)
        return planner.memory(now, on, gpus, rough=True).certain <= most and planner.memory(now, on, gpus).peak <= most

    if fits([]):
        return []
    steps = list(_steps(stage, setting, way, gpus))
    taken: list[int] = []
    for number in range(len(steps)):
        taken.append(number)
        if fits(_applied(steps, taken, stage, setting, way)):
            break
    else:
        return None
    for number in taken[:-1]:  # a later change may have made an earlier one needless
        fewer = [other for other in taken if other != number]
        if fits(_applied(steps, fewer, stage, setting, way)):
            taken = fewer
    return _applied(steps, taken, stage, setting, way)


def _applied(
    steps: Sequence[str], taken: Sequence[int], stage: StageConfig, setting: Setting, way: Way
) -> list[Change]:
    changes: list[Change] = []
    for number in taken:
        last = changes[-1] if changes else Change(keys="", setting=setting, way=way)
        changes.append(_change(steps[number], stage, last.setting, last.way))
    return changes


def _steps(stage: StageConfig, setting: Setting, way: Way, gpus: int) -> Iterator[str]:
    """Names of the changes that can be made; those that alter training least come first."""
    if not setting.load.checkpointing:
        yield "checkpointing"
    rows = setting.load.rows
    while rows > 1 and rows % 2 == 0:
        yield "rows"
        rows //= 2
    if gpus > 1 and way in ("one GPU", "DDP"):
        yield "fsdp2"
    if "8bit" not in setting.optim and setting.lora is None:
        yield "8bit"
    if setting.lora is None:
        yield "lora"
    if stage.kind == "grpo":
        yield from ("completion", "pixels", "completion")
    else:
        yield "pixels"


def _change(step: str, stage: StageConfig, setting: Setting, way: Way) -> Change:
    """The setting with one change more, and how a user makes that change."""
    where, load = f"stages.{stage.name}.trl", setting.load
    if step == "checkpointing":
        return Change(
            keys=f"--set {where}.gradient_checkpointing=true",
            setting=replace(setting, load=replace(load, checkpointing=True)),
            way=way,
        )
    if step == "rows":
        start, rows = int(value_of(stage, "per_device_train_batch_size")), load.rows // 2
        again = int(value_of(stage, "gradient_accumulation_steps")) * start // rows
        keys = f"--set {where}.per_device_train_batch_size={rows} --set {where}.gradient_accumulation_steps={again}"
        return Change(keys=keys, setting=replace(setting, load=replace(load, rows=rows)), way=way)
    if step == "fsdp2":
        return Change(
            keys="accelerate launch --config_file recipes/accelerate/fsdp2.yaml", setting=setting, way="FSDP2"
        )
    if step == "8bit":
        keys = f"--set {where}.optim=adamw_8bit (pip install bitsandbytes)"
        return Change(keys=keys, setting=replace(setting, optim="adamw_8bit"), way=way)
    if step == "lora":
        keys = " ".join(f"--set model.lora.{key}={value}" for key, value in LORA.items())
        after = replace(setting.precision, frozen=setting.precision.compute, reference=None)
        changed = replace(setting, lora=json.dumps(LORA, sort_keys=True), precision=after, optim="adamw_torch_fused")
        return Change(keys=keys, setting=replace(changed, load=replace(load, frozen=after.frozen)), way=way)
    if step == "completion":
        fewer = load.completion // 2
        keys = f"--set {where}.max_completion_length={fewer}"
        return Change(keys=keys, setting=replace(setting, load=replace(load, completion=fewer)), way=way)
    pixels = setting.pixels // 2
    return Change(keys=f"--set data.max_pixels={pixels}", setting=replace(setting, pixels=pixels), way=way)


def stage_work(
    stage: StageConfig, *, gpus: int, rows: int | None, validation: int | None, max_tokens: int
) -> dict[str, Any]:
    """How many steps, questions and generate calls a stage takes, and validation's share of these.

    `rows` and `validation` count the examples. `steps` is `None` if it depends on data that are not known, or on a
    clock.
    """
    table = stage.trl
    size, repeats = (
        int(value_of(stage, f"{key}")) for key in ("per_device_train_batch_size", "gradient_accumulation_steps")
    )
    fixed = int(table.get("max_steps", -1)) > 0
    if stage.wall_clock_of or (rows is None and not fixed):
        return {"steps": None, "completions_a_step": size * repeats * gpus if stage.kind == "grpo" else None}
    steps = total_steps(stage, table, rows=rows or 0, processes=gpus)
    every = int(table.get("eval_steps", max(1, round(steps / EVALUATIONS))))
    evaluations = steps // every if validation and validates(table) else 0
    work: dict[str, Any] = {
        "steps": steps,
        "rows_a_step": size * repeats * gpus,
        "evaluations": evaluations,
        "checkpoints": steps // int(table.get("save_steps", every)),
    }
    if stage.kind == "sft":
        return work
    group = int(value_of(stage, "num_generations"))
    batch = int(table.get("generation_batch_size") or size * int(table.get("steps_per_generation") or repeats) * gpus)
    reuse = max(1, batch // (size * repeats * gpus)) * int(value_of(stage, "num_iterations"))
    eval_group = int(table.get("num_generations_eval") or 2)
    eval_rows = int(table.get("per_device_eval_batch_size") or eval_batch(size, eval_group, gpus))
    shown = min(validation or 0, stage.validation_limit or (validation or 0))
    calls, checks = math.ceil(steps / reuse), evaluations * math.ceil(shown * eval_group / (eval_rows * gpus))
    written, checked = calls * batch, evaluations * shown * eval_group
    return {
        **work,
        "questions_a_step": size * repeats * gpus / group,
        "generate_calls": calls,
        "validation_generate_calls": checks,
        "validation_share_of_calls": checks / max(1, calls + checks),
        "completions": written,
        "validation_completions": checked,
        "most_tokens_written": (written + checked) * max_tokens,
    }


def checkpoint_bytes(planner: Planner, stage: StageConfig, setting: Setting) -> dict[str, float]:
    """Bytes on disk: one checkpoint (weights or adapters, and the optimizer), all that are kept, and the final folder.

    `masters` are the unrounded weights that a later stage goes on from, if the final folder rounds them.
    """
    n = planner.parameters(setting.lora)
    weights = 4 * n.trained if setting.lora else 4 * n.trained + 2 * (n.total - n.trained)
    one = weights + planner.memory(setting, "one GPU", 1, rough=True).optimizer
    kept = int(value_of(stage, "save_total_limit") or 2) + 1  # a new one is written before an old one goes
    saved = BYTES[setting.precision.saved]
    parts = {setting.precision.trained: 0 if setting.lora else n.trained, setting.precision.frozen: n.total - n.trained}
    raised = sum(BYTES[name] * weights for name, weights in parts.items() if BYTES[name] > saved)
    masters = raised if planner.recipe.goes_on(stage.name) else 0
    return {"one": one, "kept": kept * one, "final": saved * n.total, "masters": masters}


def hours_of(work: Mapping[str, Any], *, tokens_per_second: float | None, step_seconds: float | None) -> dict[str, Any]:
    """Hours of a stage, from measured seconds per step, or for writing completions alone from a given speed."""
    if step_seconds is not None and work.get("steps"):
        return {"hours": work["steps"] * step_seconds / 3600, "from": f"{step_seconds:.3g} s a step, measured"}
    if tokens_per_second and work.get("most_tokens_written"):
        hours = work["most_tokens_written"] / tokens_per_second / 3600
        return {"hours": hours, "from": f"{tokens_per_second:g} tokens a second as stated, full length, writing alone"}
    if step_seconds is not None or tokens_per_second is not None:
        nothing = (
            "until the steps are, which follow from the data"
            if work.get("steps") is None
            else ("from a speed of writing, for this stage writes nothing: pass --measured RUN")
        )
        return {"hours": None, "from": f"unknown {nothing}"}
    return {"hours": None, "from": "unknown before a step is measured: pass --measured RUN or --tokens-per-second N"}


def way_of_launch(processes: int) -> Way:
    """How the launcher of this process spreads the training, read from the environment that it sets."""
    if processes == 1:
        return "one GPU"
    if os.environ.get("ACCELERATE_USE_FSDP") == "true":
        return "FSDP2"
    return "ZeRO-3" if os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true" else "DDP"


def ways_for(gpus: int) -> tuple[Way, ...]:
    """The ways to spread a stage over `gpus` GPUs."""
    return WAYS if gpus > 1 else ("one GPU",)
