"""GRPO through TRL: a start model, examples and a reward go in, `stages/<name>/final` comes out.

`GRPO` is TRL's trainer, made to grade completions itself and to keep every rollout. It overrides these hooks of TRL
1.16, each with a test against the pinned signature: `_calculate_rewards`, `_generate_and_score_completions`,
`_compute_loss`, `_get_train_sampler` and `_save_checkpoint`; and those in `exact`, `stage`, `resampling` and `sharing`.
The checkpoint with the highest mean reward on validation is kept.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from trl import GRPOConfig, GRPOTrainer
from trl.trainer.utils import RepeatSampler

from medrft.config import Recipe, StageConfig
from medrft.errors import DataError
from medrft.models.faults import LOG
from medrft.models.parts import lora_config
from medrft.models.policy import Policy
from medrft.models.tokens import placeholder_ids
from medrft.rewards import Reward, correct_of, reward_of
from medrft.rundir import RunDir, write_json
from medrft.training.ahead import GradesAhead
from medrft.training.arguments import check_stage, trl_config
from medrft.training.callbacks import Watched
from medrft.training.grading import Columns, Graded, Grader, columns_of
from medrft.training.monitor.measures import batch_metrics, calibration_metrics, reward_metrics
from medrft.training.monitor.watch import Watch
from medrft.training.processes import gather_processes, is_main
from medrft.training.recorder import Recorder
from medrft.training.resampling import Resamples
from medrft.training.rows import Pictures, Rows, lazy_dataset
from medrft.training.sharing.fallback import Sharing
from medrft.training.sharing.groups import lost_sharing
from medrft.training.sharing.trainer import SharesPrompts
from medrft.training.stage import (
    OpenStage,
    StageTrainer,
    check_inputs,
    example_counts,
    finish_stage,
    open_stage,
    run_trainer,
)
from medrft.training.state import write_stage
from medrft.training.timing.trainer import SaysSpeed
from medrft.types import Completion, Example, Outcome


class EpochSampler(RepeatSampler):  # type: ignore[misc]
    """TRL's sampler, whose order depends on seed and epoch alone, so that a resumed epoch is the same epoch."""

    def set_epoch(self, epoch: int) -> None:
        """Called by the data loader at the start of each epoch."""
        if self.shuffle:
            self.generator.manual_seed(self.seed + epoch)


@dataclass(frozen=True)
class Companions:
    """Our objects that a GRPO trainer works with; what they have learned or counted goes into each checkpoint."""

    grader: Grader
    columns: Columns
    recorder: Recorder
    watch: Watch
    sharing: Sharing

    def state(self) -> dict[str, Any]:
        """What goes into a checkpoint; on resume it is found in `OpenStage.saved`."""
        return {
            "reward": self.grader.reward.state_dict(),
            "generations": self.recorder.generations,
            "watch": self.watch.state_dict(),
            "sharing": self.sharing.state_dict(),
        }


class GRPO(
    StageTrainer,
    Resamples,
    GradesAhead,
    SharesPrompts,
    GRPOTrainer,  # type: ignore[misc]
    SaysSpeed,
    Watched,
):
    """TRL's trainer with shared prompts, a `Grader` in place of reward functions, a `Recorder` and a `Watch`."""

    def __init__(self, *args: Any, opened: OpenStage, companions: Companions, **kwargs: Any):
        self.opened, self.run, self.grader = opened, opened.run, companions.grader
        self.columns, self.recorder = companions.columns, companions.recorder
        self.watch, self.sharing, self.rounds = companions.watch, companions.sharing, opened.config.resample_groups
        self._last: tuple[list[Graded], list[Outcome]] = ([], [])
        self._told_kl = False
        self._graded = 0.0  # seconds of grading before this generation batch
        super().__init__(*args, reward_funcs=[_named(name) for name in self.columns.names], **kwargs)

    def _calculate_rewards(
        self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: list[list[int]]
    ) -> torch.Tensor:
        """The rewards of all processes' completions; (all rows, columns)."""
        with self._part("reward"):
            values = self._combined("train" if self.model.training else "eval")
        return torch.tensor(values, dtype=torch.float32, device=self.accelerator.device)

    def _combined(self, mode: str) -> list[list[float]]:
        """Wait for this process's grades, gather all, combine them on every process alike, and note the metrics."""
        graded, outcomes = self.grader.combine(
            self._collected(), group_size=self._group_size, update=mode == "train", gather=self._gathered
        )
        self._last = (graded, outcomes)
        metrics = batch_metrics(graded, outcomes, group_size=self._group_size)
        metrics |= reward_metrics(self.grader.reward, graded, outcomes, group_size=self._group_size)
        if mode == "train":
            metrics |= calibration_metrics(self.grader.reward) | {"shared_prompts": self.sharing.share()}
        metrics["reward_time"] = self.grader.thread.seconds - self._graded
        for name, value in metrics.items():
            self._metrics[mode][name].append(value)
        return self.columns.values(graded, outcomes)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """Let TRL make the batch, then keep its rollouts with their advantages."""
        self._graded = self.grader.thread.seconds
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        advantages = self.accelerator.gather(output["advantages"]).tolist()
        split = "train" if self.model.training else "validation"
        if self.accelerator.is_main_process:
            self.recorder.add(
                *self._last,
                advantages,
                split=split,
                step=self.state.global_step,
                group_size=self._group_size,
            )
        return output

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Any:
        """TRL's loss; before the first update, also record how far the policy is from its reference model."""
        loss = super()._compute_loss(model, inputs)
        kl = self._metrics["train"].get("kl")
        if not self._told_kl and self.model.training and kl:
            self._told_kl = True
            if self.state.global_step == 0 and self.is_world_process_zero():
                _tell_kl(self.opened, kl[-1])
        return loss

    def _gathered(self, rows: list[Any]) -> tuple[list[Any], int]:
        with self._part("waiting") if self.accelerator.num_processes > 1 else nullcontext():
            return gather_processes(rows)

    def _completions(self, ids: list[list[int]]) -> list[Completion]:
        """The text of each completion as scorers must see it; decoded here because TRL may split off the thought."""
        ends = {*self.eos_token_ids, self._tokenizer.pad_token_id}
        texts = self._tokenizer.batch_decode(ids, skip_special_tokens=True)
        return [
            Completion(text=self.opened.prompt.finish(text), n_tokens=len(tokens), truncated=tokens[-1] not in ends)
            for text, tokens in zip(texts, ids, strict=True)
        ]

    def _get_train_sampler(self, dataset: Any = None) -> EpochSampler:
        """TRL's sampler, with an order that depends on seed and epoch alone."""
        # TRL's draws each epoch's order from one generator in turn, so a resumed run would begin with the first order.
        plain = super()._get_train_sampler(dataset)
        names = ("data_source", "mini_repeat_count", "batch_size", "repeat_count", "shuffle", "seed")
        return EpochSampler(**{name: getattr(plain, name) for name in names})

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write rollouts to disk first: a checkpoint must not be ahead of them."""
        self.recorder.flush()
        super()._save_checkpoint(model, trial)


def first_asked(examples: Sequence[Example], count: int, *, seed: int) -> list[Example]:
    """The first `count` examples in the order in which `EpochSampler` asks them in its first epoch; all if fewer."""
    order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(seed)).tolist()
    return [examples[number] for number in order[:count]]


def run_grpo(
    stage: StageConfig,
    recipe: Recipe,
    *,
    start: str | Path,
    reward: Reward | None = None,
    train: Sequence[Example],
    validation: Sequence[Example],
    run: RunDir,
    resume: bool = False,
) -> Path:
    """Train the model at `start` with GRPO on the recipe's reward and return `stages/<name>/final`.

    `resume` is as in `run_sft`. `reward` replaces the recipe's. Raises `RecipeError` for a `trl:` table that does not
    fit, `DataError` for fewer examples than one generation batch asks, `PreflightError` when model and data disagree.
    """
    check_stage(stage, recipe)
    reward = reward or reward_of(recipe)
    opened = open_stage(stage, recipe, start=start, run=run, resume=resume)
    if "reward" in opened.saved:
        reward.load_state_dict(opened.saved["reward"])
    columns = columns_of(reward)
    pictures = Pictures(max_pixels=recipe.data.max_pixels, blanked=recipe.data.blank)
    args = _arguments(opened, columns, rows=len(train), validation=len(validation))
    _check_enough(stage, args, len(train))
    _tell_what_is_lost(stage, args)
    check_inputs(opened, args, train, pictures)
    companions = _companions(opened, reward, columns, max_tokens=args.max_completion_length)

    def build(callbacks: list[Any]) -> GRPO:
        return GRPO(
            model=opened.policy.model,
            args=args,
            train_dataset=_rows(opened, train, pictures),
            eval_dataset=_rows(opened, validation, pictures) if validation else None,
            processing_class=opened.policy.processor,
            peft_config=lora_config(recipe.model),
            callbacks=callbacks,
            opened=opened,
            companions=companions,
        )

    try:
        trainer = run_trainer(opened, build, companions.state)
    finally:
        companions.grader.close()
        companions.recorder.close()
    if trainer.is_world_process_zero():
        write_json(run.stage(stage.name) / "reward_state.json", reward.state_dict())
    facts = {"reward": reward.describe(), "prefix": companions.sharing.describe()}
    return finish_stage(opened, trainer, examples=example_counts(train, validation), **facts)


def _arguments(opened: OpenStage, columns: Columns, *, rows: int, validation: int) -> GRPOConfig:
    """TRL's arguments. Rollouts hold no image placeholders, and rewards are added up by the reward's own rule."""
    stage, policy = opened.config, opened.policy
    output = opened.run.checkpoints(stage.name)
    args = trl_config(
        stage,
        opened.recipe,
        output=output,
        device=policy.device,
        rows=rows,
        validation=validation,
        precision=opened.precision,
    )
    if opened.precision.reference is not None:
        args.model_init_kwargs = {"dtype": opened.precision.reference}  # the reference model's alone: we load ours
    args.generation_kwargs = {**excluded_tokens(policy, vllm=args.use_vllm), **(args.generation_kwargs or {})}
    if columns.normalise_each:
        args.multi_objective_aggregation = "normalize_then_sum"
        args.reward_weights = list(columns.weights)
    return args


def excluded_tokens(policy: Policy, *, vllm: bool) -> dict[str, Any]:
    """Generation settings that keep image placeholders out of rollouts: words for vLLM, ids for transformers."""
    ids = list(placeholder_ids(policy))
    return {"bad_words": policy.processor.tokenizer.convert_ids_to_tokens(ids)} if vllm else {"suppress_tokens": ids}


def _check_enough(stage: StageConfig, args: GRPOConfig, examples: int) -> None:
    """Refuse too few examples: TRL drops what does not fill a generation batch, and would train nothing, silently."""
    needed = args.generation_batch_size // args.num_generations
    if examples < needed:
        raise DataError(
            f"stage {stage.name!r} has {examples} train examples, but a generation batch of "
            f"{args.generation_batch_size} completions in groups of {args.num_generations} asks {needed} different "
            f"ones; make per_device_train_batch_size smaller or num_generations larger"
        )


def _tell_kl(opened: OpenStage, kl: float) -> None:
    """Record the KL to the reference model at the start, and tell the user if that model's dtype is another one."""
    name, precision = opened.config.name, opened.precision
    kept = precision.reference
    write_stage(opened.run, name, reference={"dtype": kept or precision.frozen, "kl_at_start": round(kl, 8)})
    if kept not in (None, precision.trained):
        sys.stderr.write(f"stage {name}: reference model in {kept}; KL to it before the first update: {kl:.2g}\n")


def _tell_what_is_lost(stage: StageConfig, args: GRPOConfig) -> None:
    """Warn if an update's batch cannot hold whole groups, and say with which values it would."""
    rows, size = args.per_device_train_batch_size, args.num_generations
    told = lost_sharing(size=size, rows=rows, steps=args.gradient_accumulation_steps) if stage.share_prefix else None
    if told is not None and is_main():
        sys.stderr.write(f"warning: stage {stage.name}: {told}\n")


def _companions(opened: OpenStage, reward: Reward, columns: Columns, *, max_tokens: int) -> Companions:
    stage, recipe, saved = opened.config, opened.recipe, opened.saved
    correct = correct_of(recipe)
    thumbnails = recipe.report.images == "thumb"
    generations = saved.get("generations")
    log = opened.run.stage(stage.name) / LOG
    return Companions(
        grader=Grader(
            reward,
            correct,
            form=opened.prompt.form,
            max_tokens=max_tokens,
            strict=recipe.strict,
            prepare=_same_device(opened.policy.device),
        ),
        columns=columns,
        recorder=Recorder(
            opened.run, stage=stage.name, parts=reward.names, thumbnails=thumbnails, generations=generations
        ),
        watch=Watch(stage.name, state=saved.get("watch")),
        sharing=Sharing(
            on=stage.share_prefix, verify=stage.verify_prefix, together=stage.rollout_batch_size, log=log
        ).restored(saved.get("sharing")),
    )


def _same_device(device: torch.device) -> Callable[[], None] | None:
    """Makes a process's GPU a thread's own: torch begins each thread with the first GPU, and scorers may say `cuda`."""
    if device.type != "cuda":
        return None
    return partial(torch.cuda.set_device, torch.cuda.current_device() if device.index is None else device.index)


def _rows(opened: OpenStage, examples: Sequence[Example], pictures: Pictures) -> Any:
    return lazy_dataset(examples, Rows(prompt=opened.prompt, pictures=pictures))


def _named(name: str) -> Any:
    """A stand-in that gives TRL a column's name; `_calculate_rewards` computes the values."""

    def reward(**kwargs: Any) -> list[float | None]:
        raise AssertionError("rewards are computed by GRPO._calculate_rewards")

    reward.__name__ = name
    return reward
