"""Log-probability passes in which each prompt and image of a group is computed once.

A mixin for TRL's `GRPOTrainer`. It overrides `_get_per_token_logps_and_entropies` of TRL 1.16, which computes the
policy's, the old policy's and the reference model's log-probabilities.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from medrft.models.prefix import (
    keep_rows_whole,
    needs_rows_apart,
    packed_inputs,
    rows_apart,
    take_rows_apart,
    why_not_shareable,
)
from medrft.training.processed import KNOWN, forward_fields, stretch_inputs
from medrft.training.sharing import groups
from medrft.training.sharing.agree import Agrees
from medrft.training.sharing.fallback import random_state, rewind_generators, without_dropout
from medrft.training.sharing.verify import Batch, Difference, loss_difference, probe_parameters

LogProbs = tuple[torch.Tensor, torch.Tensor | None]
"""Log-probabilities and, if asked for, entropies, (B, C)."""


class SharesLoss(Agrees):
    """Goes before `GRPOTrainer` among the bases; `self.sharing` must be set before the trainer is built."""

    _groups: list[int]
    """The group of each row of the current batch."""
    _extra: dict[str, Any] = {}  # noqa: RUF012 - replaced, never changed
    """Multimodal inputs of the update's batch that TRL does not know."""

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
        with self._part("loss"):
            return self._log_probs(model, batch, batch_size, compute_entropy, compute_aux_loss)

    def _log_probs(
        self, model: Any, batch: Batch, batch_size: int | None, compute_entropy: bool, compute_aux_loss: bool
    ) -> Any:
        found = None
        if self.sharing.shares("loss"):
            aux = "a mixture of experts balances its load over all tokens" if compute_aux_loss else None
            found = self._shared_loss(model, batch, batch_size, compute_entropy, aux)
        if torch.is_grad_enabled():
            self.sharing.count("loss", len(batch), shared=found is not None)
            if found is not None:
                self.sharing.attention["by parts" if rows_apart(model) else "by mask"] += len(batch)
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

        Attention takes the rows apart. If that fails, it gets them whole, under a dense mask, and if that fails too,
        nothing is shared. Linear attention cannot have them whole.
        """
        me: Any = self
        device = me.accelerator.device
        state = random_state(device)
        why = self._together(aux or self._why_not(model))
        failed, found = None, None
        ways = (True, False) if self.sharing.whole is None else (False,)
        if needs_rows_apart(model):
            ways = (True,)
        for apart in ways:
            if why is not None:
                break
            (take_rows_apart if apart else keep_rows_whole)(model)
            found, why = self._attempted(model, batch, batch_size, compute_entropy)
            if why is None:
                break
            rewind_generators(state, device)
            if rows_apart(model) and ways[-1] is False:
                self.sharing.checked.pop("loss", None)
                failed, why = why, None
        if why is None:
            if failed is not None:
                self.sharing.keep_whole(failed)
            return found
        keep_rows_whole(model)
        self.sharing.fall_back("loss", why)
        return None

    def _attempted(
        self, model: Any, batch: Batch, batch_size: int | None, compute_entropy: bool
    ) -> tuple[LogProbs | None, str | None]:
        """What `_shared` finds, or why it cannot be had.

        Processes agree before each part that talks to the others: on the comparison, on the inputs, on the outcome.
        They cannot agree on an error that only one of them meets inside a forward pass with sharded weights.
        """
        why = None
        if torch.is_grad_enabled() and self.sharing.due("loss"):
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
        return found, why

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
                rounds=needs_rows_apart(inner),
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
