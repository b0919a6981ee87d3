"""A mixin for TRL's `GRPOTrainer` that computes each prompt and image of a group once.

It does so in rollouts and, by `sharing.loss`, in every log-probability pass (policy, old and reference). It overrides
these hooks of TRL 1.16, each with a test against the pinned signature: `_generate_and_score_completions`,
`_tokenize_prompts`, `_generate`, `_generate_single_turn`, `_prepare_inputs` and `_compute_loss`. If sharing is off or
has fallen back, they do what TRL's own do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from trl.models import unwrap_model_for_generation
from trl.trainer.utils import pad

from medrft.models.encode import widen_inputs
from medrft.models.rollout import Prompts, Rollouts, sample_rollouts
from medrft.training.processed import Padding, Processed, extra_columns, extra_fields, forward_fields
from medrft.training.sharing import groups
from medrft.training.sharing.fallback import random_state, rewind_generators, without_dropout
from medrft.training.sharing.groups import GROUP
from medrft.training.sharing.loss import SharesLoss
from medrft.training.sharing.verify import Batch, Difference, rollout_difference


class SharesPrompts(SharesLoss):
    """Goes before `GRPOTrainer` among the bases; `self.sharing` must be set before the trainer is built."""

    _once: dict[str, Any] | None = None
    """Multimodal inputs of the generation batch, once for each prompt, with `num_images`."""

    @property
    def _group_size(self) -> int:
        """Completions of a group: G in training, `num_generations_eval` in validation."""
        me: Any = self
        return int(me.num_generations if me.model.training else me.num_generations_eval)

    # Rollouts

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        me: Any = self
        self._groups = groups.group_numbers(len(inputs), size=me._group_size, process=me.accelerator.process_index)
        processor = me.processing_class
        self._remember_pictures()
        try:
            output: dict[str, Any] = super()._generate_and_score_completions(inputs)  # type: ignore[misc]
            if isinstance(me.processing_class, Processed):
                output |= extra_columns(me.processing_class.fields, output.get("num_images"))
        finally:
            me.processing_class, self._once = processor, None
        output[GROUP] = torch.tensor(self._groups, device=output["prompt_ids"].device)
        return output

    def _remember_pictures(self) -> None:
        """Begin a generation batch whose pictures a frozen vision tower looks at once, in all passes together.

        Not with sharded weights: processes that remember other pictures would not gather weights in step.
        """
        me: Any = self
        self.sharing.pictures.clear()
        if self.sharing.on and not self._sharded:
            for model in (me.model, me.ref_model):
                if model is not None:
                    self.sharing.pictures.attach(model)

    def _tokenize_prompts(self, prompts: list[Any]) -> Any:
        me: Any = self
        # TRL tokenizes the prompt of every row, so G times for a group; ours asks once a group and repeats the result.
        processor, whole = me.processing_class, not self.sharing.anywhere
        first, place = (list(range(len(prompts))),) * 2 if whole else groups.group_leaders(self._groups)
        me.processing_class = Padding(processor)
        try:
            with self._part("processor"):
                ids, images, fields = super()._tokenize_prompts([prompts[row] for row in first])  # type: ignore[misc]
        finally:
            me.processing_class = processor
        if whole:
            return ids, images, fields
        self._once = groups.as_tensors(fields, pad=pad)
        if images is not None:
            self._once["num_images"] = [len(shown or []) for shown in images]
            self._once |= groups.tile_counts(processor, images, self._once)
            images = [images[number] for number in place]
        return [ids[number] for number in place], images, self._once

    def _generate(self, prompts: list[Any]) -> Any:
        found = super()._generate(prompts)  # type: ignore[misc]
        self._hand_over()
        return found

    def _hand_over(self) -> None:
        """Let TRL find what the processor has already returned for each row's prompt.

        After `_generate`, TRL's `_generate_and_score_completions` calls the processor a second time, on every row's
        picture and text, for the inputs of the log-probability passes. It has no hook there, so the processor itself is
        exchanged until that method returns.
        """
        me: Any = self
        fields = None
        if self._once is not None:
            _, place = groups.group_leaders(self._groups)
            fields = me._prepare_input(groups.take_rows(self._once, place))
        me.processing_class = Processed(me.processing_class, fields, self._part)

    def _generate_single_turn(
        self, prompt_ids: Any, images: Any, multimodal_fields: Any, num_generations: int, has_tool_images: bool = False
    ) -> Any:
        made = self._shared_rollouts(prompt_ids) if self._are_ours() else None
        self.sharing.count("rollouts", len(prompt_ids), shared=made is not None)
        if made is not None:
            me: Any = self
            me._metrics["train" if me.model.training else "eval"]["idle_slots"].append(made.idle)
            return made.ids, None
        self.sharing.tell_unbounded(len(prompt_ids))
        if self._once is not None:
            multimodal_fields = forward_fields(groups.take_rows(self._once, groups.group_leaders(self._groups)[1]))
        with self._part("decode"), self._writing():
            return super()._generate_single_turn(  # type: ignore[misc]
                prompt_ids, images, multimodal_fields, num_generations, has_tool_images
            )

    def _writing(self) -> AbstractContextManager[Any]:
        """One autocast around all tokens of the rollouts; not for vLLM, nor for sharded weights, which arrive cast.

        accelerate puts each forward pass under an autocast of its own, and torch drops its low-precision copies of the
        weights whenever the outermost one is left. Without ours, each token would cast every weight anew.
        """
        me: Any = self
        theirs = me.use_vllm or me.use_transformers_continuous_batching or self._sharded
        return nullcontext() if theirs else me.accelerator.autocast()

    def _while_writing(self, ids: Mapping[int, list[int]]) -> None:
        """Gets completions of whole groups, token ids by row, while others are written; does nothing here."""

    def _are_ours(self) -> bool:
        """Whether we write rollouts, and not vLLM, which shares prompts itself, or `generate`, which for sharded
        weights gathers them in step with the other processes."""
        me: Any = self
        others = me.use_vllm or me.use_transformers_continuous_batching or self._sharded
        return not others and self._once is not None and self.sharing.shares("rollouts")

    def _shared_rollouts(self, prompt_ids: Sequence[Sequence[int]]) -> Rollouts | None:
        """Completions in row order, compared with the plain way if that is due; `None` if it falls back."""
        me: Any = self
        device = me.accelerator.device
        state, checked = random_state(device), self.sharing.checked.get("rollouts")
        why = self._why_not(me.model, rollouts=True)
        made = None
        if why is None:
            made, why = self._tried(partial(self._written, prompt_ids))
        found = self.sharing.checked.get("rollouts")
        if why is None and found is not None and found is not checked and not found.passed:
            why = found.line()
        why = self._together(why)
        if why is None:
            return made
        self.sharing.fall_back("rollouts", why)
        rewind_generators(state, device)
        return None

    def _written(self, prompt_ids: Sequence[Sequence[int]]) -> Rollouts:
        """Completions in row order; if a comparison is due, its result is left in `sharing.checked`."""
        me: Any = self
        first, place = groups.group_leaders(self._groups)
        prompts = [torch.tensor(prompt_ids[row]) for row in first]
        ids = pad(prompts, padding_value=me._tokenizer.pad_token_id, padding_side="left")
        mask = pad([torch.ones_like(row) for row in prompts], padding_value=0, padding_side="left")
        once = me._prepare_input({"ids": ids, "mask": mask, **(self._once or {})})
        ids, mask = once.pop("ids"), once.pop("mask")
        check = self.sharing.due("rollouts")
        copies = list(Counter(place).values())
        temperature = me.temperature if check else None
        kwargs = {"gradient_checkpointing_kwargs": me.args.gradient_checkpointing_kwargs}
        generating = unwrap_model_for_generation(
            me.model_wrapped, me.accelerator, generation_kwargs=me.generation_kwargs, **kwargs
        )
        with self._writing(), generating as model:
            fields = [forward_fields(groups.take_rows(once, [prompt])) for prompt in range(len(copies))]
            made = sample_rollouts(
                model,
                Prompts(ids, mask, fields, copies),
                me.generation_config,
                size=self.sharing.together,
                temperature=temperature,
                part=self._part,
                ended=None if check else self._while_writing,
            )
        if check:
            with without_dropout(me.model, me.accelerator.device):
                self.sharing.checked["rollouts"] = self._rollout_difference(ids, mask, once, made, place)
        return made

    def _rollout_difference(
        self, ids: torch.Tensor, mask: torch.Tensor, once: dict[str, Any], made: Rollouts, place: Sequence[int]
    ) -> Difference:
        me: Any = self
        rows = [torch.tensor(row, device=ids.device) for row in made.ids]
        completions = pad(rows, padding_value=me._tokenizer.pad_token_id, padding_side="right")
        written = pad([torch.ones_like(row) for row in rows], padding_value=0, padding_side="right")
        logps = pad([torch.tensor(row) for row in made.logps or []], padding_value=0.0, padding_side="right")
        whole = (
            torch.cat([groups.pick_rows(ids, place), completions], 1),
            torch.cat([groups.pick_rows(mask, place), written], 1),
        )
        fields = widen_inputs(groups.take_rows(once, place), after=completions.shape[1])
        batch = Batch(*whole, completions.shape[1], list(place), fields)
        chosen = batch.chosen()
        return rollout_difference(
            partial(self._plain, me.model),
            batch.rows(chosen),
            groups.pick_rows(logps.to(ids.device), chosen),
            low=self._low(),
            temperature=me.temperature,
            fill=me._tokenizer.pad_token_id,
        )

    # Updates

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        me: Any = self
        if not (self.sharing.on and me.model.training):
            return super()._prepare_inputs(generation_batch)  # type: ignore[misc]
        # TRL's own method, but for `micro_batches`: TRL shuffles single rows (`shuffle_sequence_dict`), which would
        # scatter a group over the updates, so that none of them could share its prompt.
        every = me.args.steps_per_generation * me.num_iterations
        if me._step % every == 0 or me._buffered_inputs is None:
            batch = self._generate_and_score_completions(generation_batch)
            me._buffered_inputs = groups.micro_batches(batch, me.args.steps_per_generation)
        return me._buffered_inputs[me._step % me.args.steps_per_generation]

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Any:
        self._groups, self._extra = inputs[GROUP].tolist(), extra_fields(inputs)
        try:
            return super()._compute_loss(model, inputs)  # type: ignore[misc]
        finally:
            self._extra = {}
