"""What SFT and GRPO do alike around their trainers: a recipe's stage goes in, a final folder and a record come out.

The steps are `open_stage` (model, checkpoint to go on from), `check_inputs`, `run_trainer` and `finish_stage`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerState, TrainingArguments

from medrft.config import Recipe, StageConfig
from medrft.errors import DataError
from medrft.models.encode import Images
from medrft.models.load import load_policy
from medrft.models.parts import lora_config
from medrft.models.policy import Policy
from medrft.models.prompts import Prompt, get_prompt
from medrft.models.saved import save_final
from medrft.rundir import RunDir
from medrft.training.arguments import changed_arguments
from medrft.training.callbacks import MetricsLog, StageBar, StageState, quiet_libraries, shown
from medrft.training.disk import storage_errors
from medrft.training.exact import Boundaries, Exact, ReadsWeights
from medrft.training.heads import matching_heads
from medrft.training.model_card import publish_model, write_model_card
from medrft.training.precision import (
    Precision,
    dtype_name,
    find_precision,
    launched_precision,
    lower_masters,
    raise_masters,
    restore_masters,
    save_masters,
)
from medrft.training.preflight import preflight
from medrft.training.processes import is_main, is_sharded
from medrft.training.state import TRAINER_STATE, Checkpoint, last_checkpoint, rewind_stage, write_stage
from medrft.training.stop import Clock, Signals, StopOnSignal
from medrft.training.timing.trainer import TimesSteps
from medrft.training.update_check import update_moves, update_warning
from medrft.types import Example


@dataclass(frozen=True, kw_only=True)
class OpenStage:
    """A stage whose start model is loaded and whose folder is ready to go on from `checkpoint`."""

    config: StageConfig
    recipe: Recipe
    run: RunDir
    policy: Policy
    prompt: Prompt
    clock: Clock
    checkpoint: Checkpoint | None
    start: str
    """Folder or hub id of the start model."""
    precision: Precision
    dtypes: Mapping[str, Any]
    """The dtype that each weight of the start model was loaded in, by its name; the final folder gets the same."""

    @property
    def saved(self) -> dict[str, Any]:
        """Our own state in the checkpoint; empty without one."""
        return self.checkpoint.saved if self.checkpoint else {}


def open_stage(config: StageConfig, recipe: Recipe, *, start: str | Path, run: RunDir, resume: bool) -> OpenStage:
    """Load the start model, find the checkpoint to go on from, and drop what was logged after it."""
    checkpoint = last_checkpoint(run.checkpoints(config.name)) if resume else None
    if is_main():
        rewind_stage(run, config.name, checkpoint)
    with shown(f"Loading the model for {config.name}"), quiet_libraries():
        policy = load_policy(recipe.model, start)
    precision = find_precision(
        recipe.model, config.trl, kind=config.kind, checkpoint=dtype_name(policy.model), mixed=launched_precision()
    )
    dtypes = raise_masters(policy.model, precision, lora=recipe.model.lora is not None)
    unrounded = _unrounded(policy.model, run, recipe.start_of(config), start)
    prompt = get_prompt(recipe.prompt).bound(policy.processor)
    if config.teach == "answers" and prompt.form == "think":  # the same words, and the answer alone in its tags
        prompt = replace(prompt, form="direct")
    budget = clock_budget(config, run)
    clock = Clock(before=checkpoint.saved["seconds"] if checkpoint else 0.0, budget=budget)
    opened = OpenStage(
        config=config,
        recipe=recipe,
        run=run,
        policy=policy,
        prompt=prompt,
        clock=clock,
        checkpoint=checkpoint,
        start=str(start),
        precision=precision,
        dtypes=dtypes,
    )
    if is_main():
        _record_start(opened, unrounded=unrounded)
    return opened


def _unrounded(model: Any, run: RunDir, stage: str, start: str | Path) -> bool:
    """Load the weights of the stage before as it trained them, if it kept them unrounded; returns whether it did."""
    path = run.masters(stage)
    if Path(start) != run.final(stage) or not path.is_file():
        return False
    restore_masters(model, path, run.record(stage).get("masters") or {})
    return True


def _record_start(opened: OpenStage, *, unrounded: bool) -> None:
    config, prompt, budget = opened.config, opened.prompt, opened.clock.budget
    begun = {"start_unrounded": unrounded} if opened.checkpoint is None else {}
    write_stage(
        opened.run,
        config.name,
        name=config.name,
        kind=config.kind,
        status="running",
        start=opened.recipe.start_of(config),
        **begun,
        model=opened.recipe.model.id,
        precision=opened.precision.as_json(),
        prompt=prompt.name,
        prompt_hash=prompt.hash,
        prompt_text=f"{prompt.role} {prompt.instruction}",
        system_role=prompt.system_role,
        form=prompt.form,
        wall_clock={"of": config.wall_clock_of, "seconds": budget} if budget else None,
    )


def check_inputs(opened: OpenStage, args: TrainingArguments, examples: Sequence[Example], images: Images) -> None:
    """Run preflight before step 1; the report lies beside the stage's record. A resumed stage has passed it already.

    Raises `PreflightError` when model, processor and data disagree.
    """
    if opened.checkpoint is not None:
        return
    generation = getattr(args, "generation_kwargs", None) or {}
    moves = update_moves(
        opened.policy.model,
        learning_rate=args.learning_rate,
        optimizer=str(getattr(args.optim, "value", args.optim)),
        lora=opened.recipe.model.lora is not None,
        sharded=is_sharded(),
    )
    if (told := update_warning(moves)) is not None and is_main():
        sys.stderr.write(f"warning: stage {opened.config.name}: {told}\n")
    with shown(f"Checking {opened.config.name} before step 1"):
        preflight(
            opened.policy,
            opened.prompt,
            [example for example in examples if all(path.is_file() for path in example.images)] or examples,
            images=images,
            kind=opened.config.kind,
            max_length=getattr(args, "max_length", None),
            temperature=getattr(args, "temperature", 1.0),
            suppress=generation.get("suppress_tokens"),
            blanked=opened.recipe.data.blank,
            autocast="bfloat16" if args.bf16 else "float16" if args.fp16 else opened.precision.autocast,
            others=[moves],
            seed=opened.recipe.seed,
            output=opened.run.stage(opened.config.name) / "preflight.json" if is_main() else None,
        )


def clock_budget(config: StageConfig, run: RunDir) -> float | None:
    """Seconds that the stage named by `wall_clock_of` trained; raises `DataError` if it has not been trained yet."""
    if config.wall_clock_of is None:
        return None
    if not run.is_trained(config.wall_clock_of):
        raise DataError(
            f"stage {config.name!r} trains for as long as {config.wall_clock_of!r} took, but that stage has not been "
            f"done in {run.path}; run it first"
        )
    return float(run.record(config.wall_clock_of)["seconds"])


class StageTrainer(TimesSteps, Exact, ReadsWeights):
    """What our SFT and GRPO trainers have in common; it goes first among the bases, before TRL's trainer."""

    def _send_telemetry(self) -> None:
        """Called by TRL while a trainer is built; does nothing, as only a recipe may ask for the network."""

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Called by TRL for each checkpoint; does nothing, as only the final folder gets a card, and that is ours."""


def run_trainer(
    opened: OpenStage, build: Callable[[list[TrainerCallback]], Trainer], collect: Callable[[], dict[str, Any]]
) -> Trainer:
    """Build the trainer with our callbacks, and train until the end or a signal.

    `collect` returns what goes into each checkpoint. Raises `KeyboardInterrupt` or `Stopped` after a signal, once the
    checkpoint is written.
    """
    config, clock = opened.config, opened.clock
    bar = StageBar(config.name, clock=clock)
    with Signals() as signals, quiet_libraries(), storage_errors(opened.run.path):
        callbacks = [
            clock,
            StopOnSignal(signals),
            MetricsLog(opened.run, stage=config.name, kind=config.kind, clock=clock),
            StageState(lambda: {"seconds": clock.seconds, **collect()}),
            Boundaries(opened.checkpoint),
            bar,
        ]
        # Not with vLLM, whose rollouts have scaled logits, as TRL's head does.
        with nullcontext() if config.trl.get("use_vllm") else matching_heads():
            trainer = build(callbacks)
        trainer.remove_callback(PrinterCallback)  # it prints each log as a dict, through our progress bar
        try:
            if opened.checkpoint is not None and has_ended(opened):
                _take_over(trainer, opened.checkpoint)  # the Trainer would train one step more
            else:
                trainer.train(resume_from_checkpoint=str(opened.checkpoint.path) if opened.checkpoint else None)
        finally:
            bar.close()
        signals.leave()
    return trainer


def has_ended(opened: OpenStage) -> bool:
    """Whether the checkpoint is of the stage's last step, by number of steps or by its clock."""
    budget = opened.clock.budget
    return (opened.checkpoint is not None and opened.checkpoint.last) or bool(budget and opened.clock.seconds >= budget)


def _take_over(trainer: Trainer, checkpoint: Checkpoint) -> None:
    trainer.state = TrainerState.load_from_json(str(checkpoint.path / TRAINER_STATE))
    checkpoint.settle(trainer.state)
    trainer._load_from_checkpoint(str(checkpoint.path))
    if trainer.args.load_best_model_at_end and trainer.state.best_model_checkpoint:
        trainer._load_best_model()


def finish_stage(opened: OpenStage, trainer: Trainer, **facts: Any) -> Path:
    """Save the best model on validation as the stage's final one, with its record and its card."""
    config, run = opened.config, opened.run
    final = run.final(config.name)
    with quiet_libraries(), storage_errors(final, whole=True):
        _save(opened, trainer, final)
    if trainer.is_world_process_zero():
        write_stage(
            run,
            config.name,
            steps=trainer.state.global_step,
            seconds=round(opened.clock.seconds, 3),
            best=_best(trainer),
            trl=changed_arguments(trainer.args),
            **facts,
        )
        write_model_card(run, opened.recipe, config.name)
        publish_model(final, config)
        write_stage(run, config.name, status="done")  # last of all: see RunDir.is_finished
    trainer.accelerator.wait_for_everyone()
    return final


def _save(opened: OpenStage, trainer: Trainer, final: Path) -> None:
    """Write merged weights in the dtype of the start model, on the main process; sharded ones are gathered first.

    If a later stage of the recipe goes on from here, the unrounded weights are kept beside the folder.
    """
    if trainer.is_deepspeed_enabled:
        trainer.save_model(str(final))
        if trainer.is_world_process_zero():
            opened.policy.processor.save_pretrained(final)
        return
    model = _gathered(opened, trainer) if trainer.is_fsdp_enabled else trainer.accelerator.unwrap_model(trainer.model)
    if not trainer.is_world_process_zero():
        return
    if hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()
    name = opened.config.name
    kept = opened.dtypes if opened.recipe.goes_on(name) else {}
    write_stage(opened.run, name, masters=save_masters(model, kept, opened.run.masters(name)))
    lower_masters(model, opened.dtypes)
    save_final(Policy(model, opened.policy.processor, opened.policy.id, opened.policy.device), final)


def _gathered(opened: OpenStage, trainer: Trainer) -> Any:
    """A whole model with the gathered weights, on the main process, else `None`; every process must call this."""
    weights = trainer.accelerator.get_state_dict(trainer.model)
    if not trainer.is_world_process_zero():
        return None
    config = opened.recipe.model.model_copy(update={"device": "cpu", "dtype": "float32"})  # rounds only at the end
    model = load_policy(config, opened.start).model
    if (adapters := lora_config(config)) is not None:
        from peft import get_peft_model

        model = get_peft_model(model, adapters)
    model.load_state_dict(weights, strict=True)
    return model


def _best(trainer: Trainer) -> dict[str, Any] | None:
    """Step, metric and value of the best checkpoint; `None` without validation, where the last step's is kept."""
    state, args = trainer.state, trainer.args
    if not (args.load_best_model_at_end and state.best_model_checkpoint):
        return None
    return {"step": state.best_global_step, "metric": args.metric_for_best_model, "value": state.best_metric}


def example_counts(train: Sequence[Any], validation: Sequence[Any], left_out: Sequence[str] = ()) -> dict[str, Any]:
    """How many examples a stage used, and which it could not."""
    return {"train": len(train), "validation": len(validation), "left_out": list(left_out)}
