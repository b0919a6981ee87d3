"""Turns a stage's `trl:` table into TRL's `SFTConfig` or `GRPOConfig`; keys pass through and win over our defaults.

A few keys are refused because they would contradict the recipe; the message says what to do. So are keys that TRL does
not know.
"""

from __future__ import annotations

import importlib.util
import math
import warnings
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from medrft.config import ModelConfig, Recipe, StageConfig
from medrft.errors import RecipeError, naming_extras, unknown_name
from medrft.models.parts import lora_config
from medrft.models.prompts import get_prompt
from medrft.recipes import refuse_masked
from medrft.reward_config import StackConfig
from medrft.torchvision_ops import declare_missing_operators
from medrft.training.precision import Precision
from medrft.training.processes import world_size

if TYPE_CHECKING:
    import torch
    from trl import GRPOConfig, SFTConfig

REFUSED: dict[str, str] = {
    "reward_weights": "set the weights in the recipe's reward.parts",
    "multi_objective_aggregation": "set combine in the recipe's reward",
    "output_dir": "pass --output",
    "seed": "set seed at the top of the recipe",
    "data_seed": "set seed at the top of the recipe",
    "resume_from_checkpoint": "pass --resume",
    "use_cpu": "set model.device to cpu",
    "model_init_kwargs": "use the recipe's model table (dtype, attn_implementation, revision)",
    "trust_remote_code": "set model.trust_remote_code",
    "chat_template_kwargs": "set model.chat_template_kwargs, which every stage and the evaluation use",
    "chat_template_path": "set model.chat_template to a file",
}

NEVER_TRUE: dict[str, str] = {
    "remove_unused_columns": "drop the columns that rewards need",
    "save_only_model": "leave checkpoints from which no run can go on",
    "ignore_data_skip": "train a resumed run on examples it has seen",
    "restore_callback_states_from_checkpoint": "replace what counts and logs the stage when it goes on",
}
"""Keys that must stay false -> what they would do."""

PUBLISHING = ("push_to_hub", "hub_model_id", "hub_private_repo", "hub_token", "hub_revision")
"""Keys about the hub. TRL does not get them: it would push each checkpoint, and we push the final folder once."""

TRACKERS = {"tensorboard": ("tensorboard", "tensorboardX"), "trackio": ("trackio",), "wandb": ("wandb",)}
"""Name in `report_to` -> packages, of which one must be installed."""

NEVER = 10**9
"""Steps that no stage reaches."""

EVALUATIONS = 8
"""Evaluations on validation per stage, unless `eval_steps` says otherwise."""


@naming_extras()
def check_stage(stage: StageConfig, recipe: Recipe, *, processes: int | None = None) -> None:
    """Refuse a stage that cannot start, before anything is loaded; raises `RecipeError` or `UnknownNameError`.

    `processes` is their number; by default that of this training.
    """
    own = {key: value for key, value in stage.trl.items() if key not in PUBLISHING}
    refuse_masked(own, where=f"stages.{stage.name}.trl")
    check_adapters(recipe.model)
    known = {field.name for field in fields(config_class(stage))}
    for key, value in stage.trl.items():
        where = f"stages.{stage.name}.trl.{key}"
        if key in REFUSED:
            raise RecipeError(f"{where} contradicts the recipe; take it out and {REFUSED[key]}")
        if key not in known:
            raise unknown_name(f"{config_class(stage).__name__} key in stages.{stage.name}.trl", key, known)
        if key in NEVER_TRUE and value:
            raise RecipeError(f"{where}: true would {NEVER_TRUE[key]}; take it out")
        if key == "scale_rewards" and _normalises(recipe):
            raise RecipeError(
                f"{where} has no effect with combine: normalize_then_sum, which scales each part in its group; "
                "take one of the two out"
            )
    check_types(stage.trl, config_class(stage), where=f"stages.{stage.name}.trl")
    _check_trackers(stage)
    _check_packages(stage)
    writes = "curate" if stage.curate else "rejection" if stage.rejection else None
    if writes and get_prompt(recipe.prompt).form != "think":
        raise RecipeError(
            f"stages.{stage.name}.{writes} writes thoughts to learn, but prompt is {recipe.prompt!r}, which has none; "
            "use prompt: think"
        )
    if stage.kind == "grpo":
        _check_groups(stage, processes or world_size())
        _check_rollout_batch(stage)
    if stage.wall_clock_of and not str(stage.trl.get("lr_scheduler_type", "constant")).startswith("constant"):
        raise RecipeError(
            f"stages.{stage.name}.trl.lr_scheduler_type is {stage.trl['lr_scheduler_type']!r}, but a stage with "
            "wall_clock_of has no known number of steps to decay over; use constant or constant_with_warmup"
        )


def check_adapters(model: ModelConfig) -> None:
    """Refuse a `model.lora` whose keys or types `peft.LoraConfig` does not have."""
    if model.lora is not None:
        declare_missing_operators()
        from peft import LoraConfig

        lora_config(model)
        check_types(model.lora, LoraConfig, where="model.lora")


def check_types(table: Mapping[str, Any], shape: type[Any], *, where: str) -> None:
    """Refuse values whose type is not the one that the dataclass `shape` declares; a dataclass does not check itself.

    Raises `RecipeError` naming the key, what it takes and what was given. Keys that the class lacks, and those whose
    declared type cannot be read, are skipped.
    """
    try:
        hints = get_type_hints(shape)
    except NameError:  # a type that is imported for type checkers alone
        return
    for key, value in table.items():
        try:
            adapter = TypeAdapter(hints.get(key, Any), config=ConfigDict(arbitrary_types_allowed=True))
        except (PydanticSchemaGenerationError, PydanticUserError, NameError):
            continue
        try:
            adapter.validate_python(value, strict=True)
        except ValidationError as error:
            kinds = [problem["type"] for problem in error.errors() if problem["type"] != "is_instance_of"]
            taken = " or ".join(dict.fromkeys(map(_wanted, kinds))) or "another type"
            hint = f"; write {meant}" if (meant := _meant(value, taken)) else ""
            raise RecipeError(f"{where}.{key} takes {taken}, got {value!r} ({type(value).__name__}){hint}") from error


def _wanted(kind: str) -> str:
    """What a key takes, in words, told from pydantic's name of the problem."""
    names = {"int_type": "a whole number", "int_from_float": "a whole number", "float_type": "a number"}
    names |= {"bool_type": "true or false", "string_type": "text", "list_type": "a list", "dict_type": "a table"}
    names |= {"none_required": "null", "literal_error": "one of its named values"}
    return names.get(kind, kind.removesuffix("_type").replace("_", " "))


def _meant(value: Any, taken: str) -> str | None:
    """How to write a value that YAML read as something else: a number as text, or the word no as false."""
    if isinstance(value, str):
        return _as_number(value)
    return '"no" in quotes' if value is False and "text" in taken else None


def _as_number(text: str) -> str | None:
    """How to write a number that YAML reads as text: `1e-6` lacks the point that YAML 1.1 asks for, `1.0e-6` has it."""
    try:
        value = float(text)
    except ValueError:
        return None
    if "e" not in text.lower():
        return text.strip()
    mantissa, _, power = f"{value:.6e}".partition("e")
    mantissa = mantissa.rstrip("0")
    return f"{mantissa}0e{int(power):+d}" if mantissa.endswith(".") else f"{mantissa}e{int(power):+d}"


def trl_config(
    stage: StageConfig,
    recipe: Recipe,
    *,
    output: Path,
    device: torch.device,
    rows: int,
    validation: int,
    precision: Precision | None = None,
) -> SFTConfig | GRPOConfig:
    """The trainer's arguments. The stage's `trl:` table wins over our defaults, and these win over TRL's.

    `rows` and `validation` count the examples. `precision` is what the stage computes in, float32 unless given. Raises
    `RecipeError` for values that TRL refuses.
    """
    table = {key: value for key, value in stage.trl.items() if key not in PUBLISHING}
    values = {
        **_defaults(stage, device, precision),
        **_checkpoints(stage, table, rows=rows, validation=validation),
        **table,
        "output_dir": str(output),
        "seed": recipe.seed,
        "remove_unused_columns": False,
        "use_cpu": device.type == "cpu",
    }
    try:
        with warnings.catch_warnings():
            # TRL's own default for gradient checkpointing sets off this warning.
            warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*", category=FutureWarning)
            return config_class(stage)(**values)
    except (ValueError, TypeError) as error:
        raise RecipeError(f"stages.{stage.name}.trl: {' '.join(str(error).split())}") from error


def changed_arguments(config: SFTConfig | GRPOConfig) -> dict[str, Any]:
    """The arguments that differ from TRL's own defaults, as JSON for the run's record; the hub token is left out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        plain = type(config)(output_dir=config.output_dir, report_to="none", use_cpu=config.use_cpu).to_dict()
    quiet = {"output_dir", "logging_dir", "hub_token", "use_cpu"}
    return {key: value for key, value in config.to_dict().items() if key not in quiet and plain.get(key) != value}


def config_class(stage: StageConfig) -> type[SFTConfig] | type[GRPOConfig]:
    """TRL's class for the stage's `trl:` table."""
    declare_missing_operators()
    from trl import GRPOConfig, SFTConfig

    found: type[SFTConfig] | type[GRPOConfig] = SFTConfig if stage.kind == "sft" else GRPOConfig
    return found


def _defaults(stage: StageConfig, device: torch.device, precision: Precision | None) -> dict[str, Any]:
    """Our defaults where they differ from TRL's: less output, and on a CPU less work."""
    autocast = precision.autocast if precision else None
    common: dict[str, Any] = {
        "report_to": "none",
        "disable_tqdm": True,  # one bar of our own per stage
        "logging_steps": 1 if stage.kind == "grpo" else 10,
        "save_total_limit": 2,
        "lr_scheduler_type": "constant" if stage.wall_clock_of else "linear",
        "bf16": autocast == "bfloat16",
        "fp16": autocast == "float16" and device.type == "cuda",
    }
    if device.type == "cpu":
        # Recomputing activations costs time and saves memory that a CPU has.
        common |= {"gradient_checkpointing": False, "dataloader_pin_memory": False}
    if stage.kind == "sft":
        common["max_length"] = None  # TRL's 1024 would cut long prompts inside their image tokens
    else:
        common["num_generations_eval"] = 2  # many questions say more about a policy than many answers to each
    return common


def _checkpoints(stage: StageConfig, table: Mapping[str, Any], *, rows: int, validation: int) -> dict[str, Any]:
    """When to evaluate, when to save, and how to choose the best checkpoint: SFT by loss, GRPO by reward.

    The Trainer can only choose among checkpoints that were evaluated, so both happen at the same steps.
    """
    every = max(1, round(total_steps(stage, table, rows=rows) / EVALUATIONS))
    chosen: dict[str, Any] = {"save_strategy": "steps"}
    if stage.wall_clock_of:  # the clock ends it, and asks for evaluations and checkpoints
        every = NEVER
        chosen["max_steps"] = NEVER
    chosen["save_steps"] = table.get("save_steps", table.get("eval_steps", every))
    if validation and validates(table):
        by = "eval_loss" if stage.kind == "sft" else "eval_reward"
        chosen |= {
            "eval_strategy": "steps",
            "eval_steps": table.get("eval_steps", every),
            "load_best_model_at_end": True,
            "metric_for_best_model": by,
            "greater_is_better": not str(table.get("metric_for_best_model", by)).endswith("loss"),
        }
    size = int(table.get("per_device_train_batch_size", 8))
    if stage.kind == "grpo":
        group = int(table.get("num_generations_eval") or 2)
        chosen["per_device_eval_batch_size"] = eval_batch(size, group, world_size())
    else:
        chosen["per_device_eval_batch_size"] = size
    return chosen


def validates(table: Mapping[str, Any]) -> bool:
    """Whether a `trl:` table leaves validation on: `eval_strategy: "no"` switches it off.

    >>> validates({}), validates({"eval_strategy": "no"})
    (True, False)
    """
    return str(table.get("eval_strategy", "steps")) != "no"


def eval_batch(size: int, group: int, processes: int) -> int:
    """Completions per process in validation: about as many as in training, so that all together are whole groups."""
    whole = math.lcm(group, processes)
    return max(1, size * processes // whole) * whole // processes


def total_steps(stage: StageConfig, table: Mapping[str, Any], *, rows: int, processes: int | None = None) -> int:
    """Optimizer steps that the stage will take by TRL's rules; `processes` is by default that of this training."""
    if int(table.get("max_steps", -1)) > 0:
        return int(table["max_steps"])
    epochs = float(table.get("num_train_epochs", 3))
    batch = int(table.get("per_device_train_batch_size", 8)) * int(table.get("gradient_accumulation_steps", 1))
    batch *= processes or world_size()
    if stage.kind == "grpo":
        epochs *= int(table.get("num_generations", 8)) * int(table.get("num_iterations", 1))
    return max(1, round(rows * epochs / batch))


def _check_trackers(stage: StageConfig) -> None:
    """Refuse a tracker that is not installed, before anything is loaded."""
    names = stage.trl.get("report_to") or ()
    for name in [names] if isinstance(names, str) else names:
        packages = TRACKERS.get(name, ())
        if packages and not any(importlib.util.find_spec(package) for package in packages):
            raise RecipeError(
                f"stages.{stage.name}.trl.report_to names {name}, which is not installed; pip install {packages[0]}, "
                "or take it out: the run's own files hold everything"
            )


def _check_packages(stage: StageConfig) -> None:
    """Refuse a key that needs a package which is not installed, and an optimizer that transformers does not know."""
    from transformers.training_args import OptimizerNames

    optim = stage.trl.get("optim")
    if optim is not None and optim not in [name.value for name in OptimizerNames]:
        raise unknown_name(f"optimizer in stages.{stage.name}.trl.optim", str(optim), [n.value for n in OptimizerNames])
    needed = [("vllm", "use_vllm", "pip install 'trl[vllm]'")] if stage.trl.get("use_vllm") else []
    # All 8-bit optimizers are bitsandbytes', but for torchao's (`adamw_torch_8bit`) and GaLore's (`galore_adamw_8bit`).
    if (
        optim is not None
        and ("bnb" in optim or optim.endswith("8bit"))
        and "torch" not in optim
        and "galore" not in optim
    ):
        needed.append(("bitsandbytes", f"optim: {optim}", "pip install bitsandbytes"))
    for package, key, install in needed:
        if importlib.util.find_spec(package) is None:
            raise RecipeError(
                f"stages.{stage.name}.trl has {key}, which needs {package}, and that is not installed; {install}, or "
                "take the key out"
            )


def _check_groups(stage: StageConfig, processes: int) -> None:
    """Refuse groups of fewer than two completions, and a generation batch that does not hold whole groups."""
    group = int(stage.trl.get("num_generations", 8))
    where = f"stages.{stage.name}.trl"
    if group < 2:
        raise RecipeError(
            f"{where}.num_generations is {group}; a completion is compared with the rest of its group, so set 2 or "
            "more (8 is usual)"
        )
    size = int(stage.trl.get("per_device_train_batch_size", 8))
    repeats = int(stage.trl.get("steps_per_generation") or stage.trl.get("gradient_accumulation_steps", 1))
    batch = int(stage.trl.get("generation_batch_size") or size * repeats * processes)
    if batch % group:
        fit = -(-batch // group) * group
        raise RecipeError(
            f"{where}: a generation batch of {batch} completions (per_device_train_batch_size {size} x {repeats} "
            f"steps x {processes} processes) is not a multiple of num_generations {group}; make the batch {fit}, or "
            f"num_generations a divisor of {batch}"
        )


def _check_rollout_batch(stage: StageConfig) -> None:
    """Refuse a number of completions at a time where others than medrft write them."""
    others = ("use_vllm", "use_transformers_continuous_batching")
    names = [f"trl.{name}" for name in others if stage.trl.get(name)]
    if not stage.share_prefix:
        names.append("share_prefix: false")
    if stage.rollout_batch_size is not None and names:
        raise RecipeError(
            f"stages.{stage.name}.rollout_batch_size has no effect with {names[0]}, where the batch of rollouts is not "
            "medrft's; take one of the two out"
        )


def _normalises(recipe: Recipe) -> bool:
    rewards = recipe.reward.values() if isinstance(recipe.reward, dict) else [recipe.reward]
    return any(isinstance(reward, StackConfig) and reward.combine == "normalize_then_sum" for reward in rewards)
