"""Supervised fine-tuning through TRL: a start model and examples go in, `stages/<name>/final` comes out.

The loss is on the assistant turn alone. Under the `think` prompt an example without a rationale is left out and
counted; no thought is ever written for it. The checkpoint with the lowest loss on validation is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trl import SFTTrainer
from trl.trainer import utils

from medrft.config import Recipe, StageConfig
from medrft.models.parts import lora_config
from medrft.rundir import RunDir
from medrft.training.arguments import check_stage, trl_config
from medrft.training.collator import Collator
from medrft.training.rows import Lost, Pictures, TaughtRows, lazy_dataset, teachable_examples
from medrft.training.stage import StageTrainer, check_inputs, example_counts, finish_stage, open_stage, run_trainer
from medrft.training.timing.trainer import SaysSpeed
from medrft.types import Example


class ScoresAnswers:
    """Mixin for `SFTTrainer`: on a CPU too, logits are computed for the answer's tokens alone."""

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        """Called by the Trainer for each batch, in training and on validation."""
        with _compact():
            return super().compute_loss(*args, **kwargs)  # type: ignore[misc]


@contextmanager
def _compact() -> Iterator[None]:
    """Let TRL's `add_fused_lm_head` compute logits only at labelled positions on a CPU, as it does on a GPU.

    It asks `_use_triton` whether the device allows that. If not, it computes logits at every position, image tokens
    included, which nobody needs.
    """
    kept = utils._use_triton
    utils._use_triton = lambda device: device.type == "cpu" or kept(device)
    try:
        yield
    finally:
        utils._use_triton = kept


class SFT(StageTrainer, ScoresAnswers, SFTTrainer, SaysSpeed):  # type: ignore[misc]
    """TRL's trainer with our collator, but without its telemetry and its model card in each checkpoint."""

    parts = ("data", "vision", "loss", "backward", "optimizer", "other")

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        me: Any = self
        me.data_collator = Collator.mended(me.data_collator)

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        """Called by the Trainer for each batch; TRL counts the tokens that are read."""
        me: Any = self
        before = me._total_train_tokens
        found = super().compute_loss(*args, **kwargs)
        if self.clock is not None:
            self.clock.tokens += me._total_train_tokens - before
        return found


def run_sft(
    stage: StageConfig,
    recipe: Recipe,
    *,
    start: str | Path,
    train: Sequence[Example],
    validation: Sequence[Example],
    run: RunDir,
    resume: bool = False,
) -> Path:
    """Fine-tune the model at `start` on `train` and return `stages/<name>/final`.

    With `resume` it goes on from its last checkpoint. `state.needs_training` says whether a stage has to be trained at
    all; callers ask it first. Raises `RecipeError` for a `trl:` table that does not fit, `DataError` when nothing can
    be taught, `PreflightError` when model and data disagree.
    """
    check_stage(stage, recipe)
    opened = open_stage(stage, recipe, start=start, run=run, resume=resume)
    policy, prompt = opened.policy, opened.prompt
    taught, left_out = teachable_examples(train, prompt)
    held_out = [example for example in validation if prompt.form != "think" or (example.rationale or "").strip()]
    pictures = Pictures(max_pixels=recipe.data.max_pixels, blanked=recipe.data.blank)
    output = run.checkpoints(stage.name)
    args = trl_config(
        stage,
        recipe,
        output=output,
        device=policy.device,
        rows=len(taught),
        validation=len(held_out),
        precision=opened.precision,
    )
    check_inputs(opened, args, taught, pictures)

    def rows(examples: Sequence[Example]) -> Any:
        lost = Lost(run.lost(stage.name), strict=recipe.strict)
        return lazy_dataset(examples, TaughtRows(prompt=prompt, pictures=pictures, lost=lost, examples=examples))

    def build(callbacks: list[Any]) -> SFT:
        return SFT(
            model=policy.model,
            args=args,
            train_dataset=rows(taught),
            eval_dataset=rows(held_out) if held_out else None,
            processing_class=policy.processor,
            peft_config=lora_config(recipe.model),
            callbacks=callbacks,
        )

    trainer = run_trainer(opened, build, dict)
    batch = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
    seen = min(len(taught), trainer.state.global_step * batch)
    return finish_stage(opened, trainer, examples=example_counts(taught, held_out, left_out), seen=seen)
