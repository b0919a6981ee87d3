"""A mixin for TRL's `GRPOTrainer`: each prompt and image of a group is computed once, in rollouts and in every
log-probability pass (policy, old and reference).

Overridden hooks of TRL 1.16, each with a test against the pinned signature: `_generate_and_score_completions`,
`_tokenize_prompts`, `_generate`, `_generate_single_turn`, `_prepare_inputs`, `_compute_loss` and
`_get_per_token_logps_and_entropies`. Where sharing is off or has fallen back, they are TRL's own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from trl.models import unwrap_model_for_generation
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer.utils import pad

from medrft.errors import ModelError
from medrft.models.prefix import TOKEN_TYPES, branches, packed_inputs, why_not
from medrft.models.rollout import Rollouts, rollouts
from medrft.training import groups
from medrft.training.fallback import Sharing
from medrft.training.groups import GROUP
from medrft.training.verify import Batch, Difference, loss_difference, probe_parameter, rollout_difference

COUNTS = ("num_images", "num_tiles")
"""Columns that only say how to cut multimodal inputs into rows."""


class _Processed:
    """A processor that has done its work: TRL asks it a second time for what its first call returned."""

    def __init__(self, processor: Any, fields: dict[str, Any]):
        self._processor, self._fields = processor, fields

    def __getattr__(self, name: str) -> Any:
        return getattr(self._processor, name)

    def apply_chat_template(self, *args: Any, **kwargs: Any) -> str:
        """The text of a prompt, which nobody needs again."""
        return ""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return self._fields


class SharesPrompts:
    """Goes before `GRPOTrainer` among the bases; `self.sharing` must be set before the trainer is built."""

    sharing: Sharing
    _groups: list[int]
    """The group of each row of the batch under way."""
    _once: dict[str, Any] | None = None
    """Multimodal inputs of the generation batch, each prompt's once, with `num_images`."""

    @property
    def _group_size(self) -> int:
        """G in training, and its counterpart in evaluation."""
        me: Any = self
        return int(me.num_generations if me.model.training else me.num_generations_eval)

    # Rollouts

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        me: Any = self
        self._groups = groups.numbers(len(inputs), size=me._group_size, process=me.accelerator.process_index)
        processor = me.processing_class
        try:
            output: dict[str, Any] = super()._generate_and_score_completions(inputs)  # type: ignore[misc]
        finally:
            me.processing_class, self._once = processor, None
        output[GROUP] = torch.tensor(self._groups, device=output["prompt_ids"].device)
        return output

    def _tokenize_prompts(self, prompts: list[Any]) -> Any:
        if not self.sharing.on:
            return super()._tokenize_prompts(prompts)  # type: ignore[misc]
        first, place = groups.leaders(self._groups)
        ids, images, fields = super()._tokenize_prompts([prompts[row] for row in first])  # type: ignore[misc]
        self._once = groups.tensors(fields, pad=pad)
        if images is not None:
            self._once["num_images"] = [len(shown or []) for shown in images]
            images = [images[number] for number in place]
        return [ids[number] for number in place], images, self._once

    def _generate(self, prompts: list[Any]) -> Any:
        found = super()._generate(prompts)  # type: ignore[misc]
        self._hand_over()
        return found

    def _hand_over(self) -> None:
        """Let TRL find what the processor has already returned for each row's prompt."""
        if self._once is not None:
            me: Any = self
            _, place = groups.leaders(self._groups)
            fields = me._prepare_input(groups.take(self._once, place))
            me.processing_class = _Processed(me.processing_class, _forward(fields))

    def _generate_single_turn(
        self, prompt_ids: Any, images: Any, multimodal_fields: Any, num_generations: int, has_tool_images: bool = False
    ) -> Any:
        made = self._shared_rollouts(prompt_ids) if self._are_ours() else None
        self.sharing.count("rollouts", len(prompt_ids), shared=made is not None)
        if made is not None:
            return made.ids, None
        if self._once is not None:
            multimodal_fields = _forward(groups.take(self._once, groups.leaders(self._groups)[1]))
        return super()._generate_single_turn(  # type: ignore[misc]
            prompt_ids, images, multimodal_fields, num_generations, has_tool_images
        )

    def _are_ours(self) -> bool:
        """Whether we write rollouts: not those of vLLM, which shares prompts itself, nor those with sharded weights,
        which `generate` gathers in step with the other processes."""
        me: Any = self
        others = me.use_vllm or me.use_transformers_continuous_batching or me.is_fsdp_enabled or me.is_deepspeed_enabled
        if others or not self.sharing.shares("rollouts"):
            return False
        why = why_not(me.model, rollouts=True)
        if why is not None:
            self.sharing.fall_back("rollouts", why)
        return why is None

    def _shared_rollouts(self, prompt_ids: Sequence[Sequence[int]]) -> Rollouts | None:
        """Completions in row order, compared with the plain path where that is due; `None` where it falls back."""
        me: Any = self
        first, place = groups.leaders(self._groups)
        prompts = [torch.tensor(prompt_ids[row]) for row in first]
        ids = pad(prompts, padding_value=me._tokenizer.pad_token_id, padding_side="left")
        mask = pad([torch.ones_like(row) for row in prompts], padding_value=0, padding_side="left")
        once = me._prepare_input({"ids": ids, "mask": mask, **(self._once or {})})
        ids, mask = once.pop("ids"), once.pop("mask")
        check = self.sharing.due("rollouts")
        copies = list(Counter(place).values())
        with unwrap_model_for_generation(
            me.model_wrapped,
            me.accelerator,
            generation_kwargs=me.generation_kwargs,
            gradient_checkpointing_kwargs=me.args.gradient_checkpointing_kwargs,
        ) as model:
            try:
                temperature = me.temperature if check else None
                made = rollouts(model, ids, mask, _forward(once), copies, me.generation_config, temperature=temperature)
            except ModelError as error:
                self.sharing.fall_back("rollouts", str(error))
                return None
        if check:
            self._check_rollouts(ids, mask, once, made, place)
        return made if self.sharing.shares("rollouts") else None

    def _check_rollouts(
        self, ids: torch.Tensor, mask: torch.Tensor, once: dict[str, Any], made: Rollouts, place: Sequence[int]
    ) -> None:
        me: Any = self
        rows = [torch.tensor(row, device=ids.device) for row in made.ids]
        completions = pad(rows, padding_value=me._tokenizer.pad_token_id, padding_side="right")
        written = pad([torch.ones_like(row) for row in rows], padding_value=0, padding_side="right")
        logps = pad([torch.tensor(row) for row in made.logps or []], padding_value=0.0, padding_side="right")
        whole = torch.cat([groups.pick(ids, place), completions], 1), torch.cat([groups.pick(mask, place), written], 1)
        fields = _extended(groups.take(once, place), completions.shape[1])
        batch = Batch(*whole, completions.shape[1], list(place), fields)
        chosen = batch.chosen()
        found = rollout_difference(
            partial(self._plain, me.model),
            batch.rows(chosen),
            groups.pick(logps.to(ids.device), chosen),
            low=self._low(),
            temperature=me.temperature,
            fill=me._tokenizer.pad_token_id,
        )
        self.sharing.judge("rollouts", found, agreed=self._agreed(found))

    # Updates

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        me: Any = self
        if not (self.sharing.on and me.model.training):
            return super()._prepare_inputs(generation_batch)  # type: ignore[misc]
        every = me.args.steps_per_generation * me.num_iterations
        if me._step % every == 0 or me._buffered_inputs is None:
            batch = self._generate_and_score_completions(generation_batch)
            me._buffered_inputs = groups.micro_batches(batch, me.args.steps_per_generation)
        return me._buffered_inputs[me._step % me.args.steps_per_generation]

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Any:
        self._groups = inputs[GROUP].tolist()
        return super()._compute_loss(model, inputs)  # type: ignore[misc]

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
        given = {key: value for key, value in fields.items() if value is not None}
        batch = Batch(input_ids, attention_mask, logits_to_keep, self._groups, given)
        if self.sharing.shares("loss"):
            why = "a mixture of experts balances its load over all tokens" if compute_aux_loss else why_not(model)
            if why is not None:
                self.sharing.fall_back("loss", why)
            elif torch.is_grad_enabled() and self.sharing.due("loss"):
                self._check_loss(model, batch)
        shared = self.sharing.shares("loss")
        if torch.is_grad_enabled():
            self.sharing.count("loss", len(batch), shared=shared)
        if shared:
            return (*self._shared(model, batch, batch_size, compute_entropy), None)
        return super()._get_per_token_logps_and_entropies(  # type: ignore[misc]
            model,
            input_ids,
            attention_mask,
            logits_to_keep,
            batch_size=batch_size,
            compute_entropy=compute_entropy,
            compute_aux_loss=compute_aux_loss,
            **groups.take(given, range(len(batch))),
        )

    def _shared(
        self, model: Any, batch: Batch, batch_size: int | None = None, compute_entropy: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Log-probabilities and entropies, (B, C), of whole groups at a time, about `batch_size` rows of them."""
        me: Any = self
        parts = _chunks(batch.groups, batch_size or len(batch))
        found: list[tuple[torch.Tensor, ...]] = []
        for rows in parts:
            part = batch if len(parts) == 1 else batch.rows(rows)
            first, place = groups.leaders(_cut(model, part))
            packed, inputs = packed_inputs(
                model,
                part.input_ids,
                part.attention_mask,
                torch.tensor(place, device=part.input_ids.device),
                _forward(groups.take(part.fields, first)),
                completion=part.completion,
                fill=me._tokenizer.pad_token_id,
            )
            with me.accelerator.autocast():
                outputs = model(**inputs, fused_lm_head=True)
            values = (outputs.log_probs, outputs.entropy) if compute_entropy else (outputs.log_probs,)
            found.append(tuple(packed.unpack(value) for value in values))
        whole = [torch.cat(values) for values in zip(*found, strict=True)]
        if len(parts) > 1:
            back = torch.tensor([row for rows in parts for row in rows], device=whole[0].device).argsort()
            whole = [values[back] for values in whole]
        return whole[0], whole[1] if compute_entropy else None

    def _plain(self, model: Any, batch: Batch) -> torch.Tensor:
        """Log-probabilities, (B, C), the way TRL computes them."""
        logps, _, _ = super()._get_per_token_logps_and_entropies(  # type: ignore[misc]
            model, batch.input_ids, batch.attention_mask, batch.completion, **batch.fields
        )
        return logps

    def _check_loss(self, model: Any, batch: Batch) -> None:
        """Compare with the plain path on a few groups; sharded weights have no gradient of one block to ask for."""
        me: Any = self
        sharded = me.is_fsdp_enabled or me.is_deepspeed_enabled
        inner = model if sharded else me.accelerator.unwrap_model(model)
        with disable_gradient_checkpointing(me.model, me.args.gradient_checkpointing_kwargs):
            found = loss_difference(
                partial(self._plain, inner),
                lambda rows: self._shared(inner, rows)[0],
                batch.rows(batch.chosen()),
                parameter=None if sharded else probe_parameter(inner),
                low=self._low(),
                temperature=me.temperature,
                fill=me._tokenizer.pad_token_id,
            )
        self.sharing.judge("loss", found, agreed=self._agreed(found))

    def _low(self) -> bool:
        """Whether training computes in less than float32."""
        me: Any = self
        return bool(me.args.bf16 or me.args.fp16 or me.model.dtype != torch.float32)

    def _agreed(self, found: Difference) -> bool:
        """Whether a comparison passed on every process, since all must go the same way."""
        me: Any = self
        passed = torch.tensor([float(found.passed)], device=me.accelerator.device)
        return bool(me.accelerator.gather(passed).min() > 0)


def _forward(fields: dict[str, Any]) -> dict[str, Any]:
    """What a forward pass takes of multimodal fields."""
    return {key: value for key, value in fields.items() if key not in COUNTS}


def _extended(fields: dict[str, Any], completion: int) -> dict[str, Any]:
    """Multimodal fields of prompts as fields of prompts with completions, whose tokens are text."""
    return {
        key: torch.nn.functional.pad(value, (0, completion)) if key in TOKEN_TYPES else value
        for key, value in fields.items()
    }


def _cut(model: Any, batch: Batch) -> list[int]:
    """The groups of a batch, in parts where completions are so long that one row would waste more than it saves."""
    size = max(Counter(batch.groups).values())
    written = int(batch.attention_mask[:, -batch.completion :].sum()) // len(batch)
    prompt = int(batch.attention_mask[:, : -batch.completion].sum(1).max())
    most = branches(model, prompt=prompt, completion=max(1, written), size=size)
    return batch.groups if most >= size else groups.divided(batch.groups, most)


def _chunks(numbers: Sequence[int], most: int) -> list[list[int]]:
    """Rows cut between groups into parts of at most `most` rows where a group allows it.

    >>> _chunks([0, 0, 1, 1, 2, 2], 4)
    [[0, 1, 2, 3], [4, 5]]
    """
    parts: list[list[int]] = []
    for rows in groups.members(numbers):
        if parts and len(parts[-1]) + len(rows) <= most:
            parts[-1] = parts[-1] + rows
        else:
            parts.append(rows)
    return parts
