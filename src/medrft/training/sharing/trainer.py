"""A mixin for TRL's `GRPOTrainer` that computes each prompt and image of a group once.

It does so in rollouts and in every log-probability pass (policy, old and reference). It overrides these hooks of TRL
1.16, each with a test against the pinned signature: `_generate_and_score_completions`, `_tokenize_prompts`,
`_generate`, `_generate_single_turn`, `_prepare_inputs`, `_compute_loss` and `_get_per_token_logps_and_entropies`. If
sharing is off or has fallen back, they do what TRL's own do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from trl.models import unwrap_model_for_generation
from trl.trainer.utils import pad

from medrft.models.encode import widen_inputs
from medrft.models.prefix import packed_inputs, why_not_shareable
from medrft.models.rollout import Prompts, Rollouts, sample_rollouts
from medrft.training.processed import (
    KNOWN,
    Padding,
    Processed,
    extra_columns,
    extra_fields,
    forward_fields,
    stretch_inputs,
)
from medrft.training.sharing import groups
from medrft.training.sharing.agree import Agrees
from medrft.training.sharing.fallback import random_state, rewind_generators, without_dropout
from medrft.training.sharing.groups import GROUP
from medrft.training.sharing.verify import Batch, Difference, loss_difference, probe_parameters, rollout_difference

LogProbs = tuple[torch.Tensor, torch.Tensor | None]
"""Log-probabilities and, if asked for, entropies, (B, C)."""


class SharesPrompts(Agrees):
    """Goes before `GRPOTrainer` among the bases; `self.sharing` must be set before the trainer is built."""

    _groups: list[int]
    """The group of each row of the current batch."""
    _once: dict[str, Any] | None = None
    """Multimodal inputs of the generation batch, once for each prompt, with `num_images`."""
    _extra: dict[str, Any] = {}  # noqa: RUF012 - replaced, never changed
    """Multimodal inputs of the update's batch that TRL does not know."""

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
        try:
            output: dict[str, Any] = super()._generate_and_score_completions(inputs)  # type: ignore[misc]
            if isinstance(me.processing_class, Processed):
                output |= extra_columns(me.processing_class.fields, output.get("num_images"))
        finally:
            me.processing_class, self._once = processor, None
        output[GROUP] = torch.tensor(self._groups, device=output["prompt_ids"].device)
        return output

    def _tokenize_prompts(self, prompts: list[Any]) -> Any:
        me: Any = self
        # TRL tokenizes the prompt of every row, so G times for a group; ours asks once a group and repeats the result.
        processor, whole = me.processing_class, not self.sharing.anywhere
        first, place = (list(range(len(prompts))),) * 2 if whole else groups.group_leaders(self._groups)
        me.processing_class = Padding(processor)
        try:
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
        me.processing_class = Processed(me.processing_class, fields)

    def _generate_single_turn(
        self, prompt_ids: Any, images: Any, multimodal_fields: Any, num_generations: int, has_tool_images: bool = False
    ) -> Any:
        made = self._shared_rollouts(prompt_ids) if self._are_ours() else None
        self.sharing.count("rollouts", len(prompt_ids), shared=made is not None)
        if made is not None:
            return made.ids, None
        if self._once is not None:
            multimodal_fields = forward_fields(groups.take_rows(self._once, groups.group_leaders(self._groups)[1]))
        with self._writing():
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
            wanted = Prompts(ids, mask, forward_fields(once), copies)
            made = sample_rollouts(model, wanted, me.generation_config, temperature=temperature)
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

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        compute_aux_loss: bool = False,
        **fields: Any,
    ) -> Any:
        given = {key: value for key, value in {**fields, **self._extra}.items() if value is not None}
        batch = Batch(input_ids, attention_mask, logits_to_keep, self._groups, given)
        found = None
        if self.sharing.shares("loss"):
            aux = "a mixture of experts balances its load over all tokens" if compute_aux_loss else None
            found = self._shared_loss(model, batch, batch_size, compute_entropy, aux)
        if torch.is_grad_enabled():
            self.sharing.count("loss", len(batch), shared=found is not None)
        if found is not None:
            return (*found, None)
        return self._theirs(
            model, batch, batch_size=batch_size, compute_entropy=compute_entropy, compute_aux_loss=compute_aux_loss
        )

    def _theirs(self, model: Any, batch: Batch, *, batch_size: int | None = None, **options: Any) -> Any:
        """TRL's own computation, or the same in our code if the model needs inputs that TRL does not hand on."""
        fields = groups.take_rows(batch.fields, range(len(batch)))
        if KNOWN.issuperset(fields):
            return super()._get_per_token_logps_and_entropies(  # type: ignore[misc]
                model,
                batch.input_ids,
                batch.attention_mask,
                batch.completion,
                batch_size=batch_size,
                **options,
                **fields,
            )
        # TRL's method takes only inputs that are among its parameters (`KNOWN`), and would refuse the others.
        size, found = batch_size or len(batch), []
        for start in range(0, len(batch), size):
            part = batch.rows(range(start, min(start + size, len(batch))))
            labels = part.input_ids.masked_fill(part.attention_mask == 0, -100)
            labels[:, : -part.completion] = -100
            given = {"input_ids": part.input_ids, "attention_mask": part.attention_mask, "labels": labels}
            with self.accelerator.autocast():  # type: ignore[attr-defined]
                more = stretch_inputs(forward_fields(part.fields), part.input_ids.shape[1])
                found.append(model(**given, **more, fused_lm_head=True))
        logps = torch.cat([output.log_probs[:, -batch.completion :] for output in found])
        if not options.get("compute_entropy"):
            return logps, None, None
        return logps, torch.cat([output.entropy[:, -batch.completion :] for output in found]), None

    def _shared_loss(
        self, model: Any, batch: Batch, batch_size: int | None, compute_entropy: bool, aux: str | None
    ) -> LogProbs | None:
        """`_shared`, compared with the plain way if that is due; `None` if it falls back.

        Processes agree before each part that talks to the others: on the comparison, on the inputs, on the outcome.
        They cannot agree on an error that only one of them meets inside a forward pass with sharded weights.
        """
        me: Any = self
        device = me.accelerator.device
        state = random_state(device)
        why = aux or self._why_not(model)
        if why is None and torch.is_grad_enabled() and self.sharing.due("loss"):
            checked, why = self._tried(partial(self._loss_difference, model, batch))
            if checked is not None:
                self.sharing.checked["loss"] = checked
                why = None if checked.passed else checked.line()
            why = self._together(why)
        inputs, found = None, None
        if why is None:
            inputs, why = self._tried(partial(self._packed, model, batch, batch_size))
        why = self._together(why)
        if why is None and inputs is not None:
            found, why = self._tried(partial(self._shared, model, inputs, compute_entropy))
            why = self._together(why)
        if why is None:
            return found
        self.sharing.fall_back("loss", why)
        rewind_generators(state, device)
        return None

    def _packed(self, model: Any, batch: Batch, batch_size: int | None = None) -> list[tuple[list[int], Any, Any]]:
        """Whole groups in parts of about `batch_size` rows: for each its rows, packing and the model's inputs."""
        me: Any = self
        found = []
        for rows in groups.whole_chunks(batch.groups, batch_size or len(batch)):
            part = batch.rows(rows)
            written = int(part.attention_mask[:, -part.completion :].sum()) // len(part)
            prompt = int(part.attention_mask[:, : -part.completion].sum(1).max())
            parts = groups.cut_groups(model, part.groups, prompt=prompt, completion=max(1, written))
            first, place = groups.group_leaders(parts)
            packed, inputs = packed_inputs(
                model,
                part.input_ids,
                part.attention_mask,
                torch.tensor(place, device=part.input_ids.device),
                forward_fields(groups.take_rows(part.fields, first)),
                completion=part.completion,
                fill=me._tokenizer.pad_token_id,
            )
            found.append((rows, packed, inputs))
        return found

    def _shared(self, model: Any, parts: list[tuple[list[int], Any, Any]], compute_entropy: bool = False) -> LogProbs:
        """Log-probabilities and entropies, (B, C), of packed groups."""
        me: Any = self
        found: list[tuple[torch.Tensor, ...]] = []
        for _, packed, inputs in self._in_step(parts):
            with me.accelerator.autocast():
                outputs = model(**inputs, fused_lm_head=True)
            values = (outputs.log_probs, outputs.entropy) if compute_entropy else (outputs.log_probs,)
            found.append(tuple(packed.unpack(value) for value in values))
        whole = [torch.cat(values) for values in zip(*found[: len(parts)], strict=True)]
        if len(parts) > 1:
            back = torch.tensor([row for rows, _, _ in parts for row in rows], device=whole[0].device).argsort()
            whole = [values[back] for values in whole]
        return whole[0], whole[1] if compute_entropy else None

    def _plain(self, model: Any, batch: Batch) -> torch.Tensor:
        """Log-probabilities, (B, C), as TRL computes them."""
        logps: torch.Tensor = self._theirs(model, batch)[0]
        return logps

    def _loss_difference(self, model: Any, batch: Batch) -> Difference:
        """Compare the shared way with the plain one on a few completions."""
        me: Any = self
        inner = model if self._sharded else me.accelerator.unwrap_model(model)
        # torch.autograd.grad with `inputs` raises inside reentrant checkpointing, which supports `backward` alone.
        reentrant = me.args.gradient_checkpointing and (me.args.gradient_checkpointing_kwargs or {}).get(
            "use_reentrant"
        )
        parameters: Any = probe_parameters(inner)
        if self._sharded:
            parameters = "weights are sharded"
        elif reentrant:
            parameters = "reentrant checkpointing gives no gradient of one block"
        with without_dropout(inner, me.accelerator.device):
            return loss_difference(
                partial(self._plain, inner),
                lambda rows: self._shared(inner, self._packed(inner, rows))[0],
                batch.rows(batch.chosen()),
                parameters=parameters,
                low=self._low(),
                temperature=me.temperature,
                fill=me._tokenizer.pad_token_id,
            )

    # Falling back

    def _why_not(self, model: Any, *, rollouts: bool = False) -> str | None:
        """Why a model cannot share prompts, as far as that is known; also if finding out fails."""
        why, failed = self._tried(partial(why_not_shareable, model, rollouts=rollouts))
        return failed or why

    def _low(self) -> bool:
        """Whether training computes in less than float32."""
        me: Any = self
        mixed = me.accelerator.mixed_precision not in (None, "no")
        return bool(mixed or me.model.dtype != torch.float32)
