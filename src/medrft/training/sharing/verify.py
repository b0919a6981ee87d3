"""Checks that a shared prompt gives the plain result: two ways to compute a batch go in, a `Difference` comes out.

It compares log-probabilities and the gradient of one block of parameters. The comparison must fit into memory if the
run does. So the shared way is computed on some rows of the batch, no more than an update computes. The plain way is
computed row by row, each with its own backward pass. Both use the run's gradient checkpointing.

In float32 both may differ by 1e-4. Log-probabilities are those of logits / temperature, so that theirs is 1e-4 /
temperature for a temperature below 1. In lower precision, and where linear attention rounds more than attention does,
the plain way differs from itself if the batch has other padding. There the limit is the larger of 0.05 (in float32, of
1e-4) and twice that difference (three times for gradients).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from medrft.models.encode import widen_inputs
from medrft.training.sharing.groups import group_leaders, pick_rows, take_rows

FP32_LIMIT = 1e-4
LOW_PRECISION_LIMIT = 0.05
GRADIENT_TIMES = 3
"""How many times the plain way's difference from itself a gradient may differ in low precision. Measured with a tiny
model in bfloat16 against the same pass in float32: shared gradients were 1.2 to 2.4 times as far from it as plain ones,
since those of the prompt are summed over branches in bfloat16, and log-probabilities no farther."""
MORE_PADDING = 7
"""Tokens of padding to add when the plain way is compared with itself."""
COMPARED = 8
"""How many completions are compared, or all if there are fewer."""
PROBED = 4
"""How many blocks of parameters are tried; the first whose gradient is not zero is compared."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of prompts and completions as TRL lays them out."""

    input_ids: torch.Tensor
    """(B, P + C), prompts padded on the left, completions on the right; `attention_mask` alike."""
    attention_mask: torch.Tensor
    completion: int
    """The width of completions, C."""
    groups: list[int]
    """The number of each row's group."""
    fields: Mapping[str, Any]
    """Multimodal inputs per row, with `num_images`; pixels may be a list of one tensor per row."""

    def __len__(self) -> int:
        return len(self.groups)

    def rows(self, chosen: Sequence[int]) -> Batch:
        """The batch of some of the rows."""
        return Batch(
            pick_rows(self.input_ids, chosen),
            pick_rows(self.attention_mask, chosen),
            self.completion,
            [self.groups[row] for row in chosen],
            take_rows(self.fields, chosen),
        )

    def chosen(self) -> list[int]:
        """The rows to compare: some of the first and of the last group, whose prompts may differ in length.

        Their number depends on the size of the batch alone, so that it is the same on all processes.
        """
        first, place = group_leaders(self.groups)
        found = []
        for group in dict.fromkeys((0, len(first) - 1)):
            found += [row for row, other in enumerate(place) if other == group][: COMPARED // 2]
        rest = [row for row in range(len(self)) if row not in found]
        return sorted(found + rest[: max(0, min(COMPARED, len(self)) - len(found))])

    def padded(self, more: int, fill: int) -> Batch:
        """The same batch with `more` tokens of padding before the prompts."""
        return replace(
            self,
            input_ids=torch.nn.functional.pad(self.input_ids, (more, 0), value=fill),
            attention_mask=torch.nn.functional.pad(self.attention_mask, (more, 0)),
            fields=widen_inputs(self.fields, before=more),
        )


LogProbs = Callable[[Batch], torch.Tensor]
"""Log-probabilities of a batch's completions, (B, C), 0 where there is no token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Largest difference between a shared and a plain computation."""

    logps: float
    """Of log-probabilities, in nats per token."""
    logps_limit: float
    gradient: float | None = None
    """Of one block's gradient, relative; `None` if it was not asked for, or could not be computed (`unproven`)."""
    gradient_limit: float | None = None
    parameter: str | None = None
    unproven: str | None = None
    completions: int

    @property
    def passed(self) -> bool:
        """Whether nothing is over its limit; NaN counts as over it."""
        gradient = self.gradient is None or (self.gradient_limit is not None and self.gradient <= self.gradient_limit)
        return self.logps <= self.logps_limit and gradient

    def line(self) -> str:
        """The result in one line, for people."""
        told = f"log-probabilities differ by {self.logps:.2g} (limit {self.logps_limit:.2g})"
        if self.gradient is not None:
            told += f", the gradient of {self.parameter} by {self.gradient:.2g} (limit {self.gradient_limit:.2g})"
        elif self.unproven is not None:
            told += f", gradients not proven ({self.unproven})"
        return f"{told} on {self.completions} completions"

    def as_json(self) -> dict[str, Any]:
        """The fields and `passed`, for the run's record."""
        return {**asdict(self), "passed": self.passed}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Difference:
        """The difference that `as_json` wrote."""
        return cls(**{key: value for key, value in found.items() if key != "passed"})


def loss_difference(
    plain: LogProbs,
    shared: LogProbs,
    batch: Batch,
    *,
    parameters: Parameters | str,
    low: bool,
    rounds: bool,
    temperature: float,
    fill: int,
) -> Difference:
    """Compare two ways to compute a batch, and the gradient of the first of `parameters` that has one.

    `parameters` may instead be a text that says why there can be no gradient. `low` says that training computes in
    lower precision than float32, `rounds` that more padding changes the plain way even in float32. `fill` is the token
    id for padding.
    """
    asked = () if isinstance(parameters, str) else tuple(parameters)
    rows, all_rows = [[row] for row in range(len(batch))], [list(range(len(batch)))]
    first, gradients = _measured(plain, batch, rows, asked)
    moving = [(name, value) for name, value in asked if bool(gradients[name].norm() != 0)][:1]
    other, others = _measured(shared, batch, all_rows, moving)
    own_logps, own = 0.0, 0.0
    if low or rounds:
        padded, found = _measured(plain, batch.padded(MORE_PADDING, fill), rows, moving)
        own_logps = float((first - padded).abs().max())
        own = max((_apart(gradients[name], found[name]) for name, _ in moving), default=0.0)
    least = (LOW_PRECISION_LIMIT, LOW_PRECISION_LIMIT) if low else (_full_limit(temperature), FP32_LIMIT)
    limits = (max(least[0], 2 * own_logps), max(least[1], GRADIENT_TIMES * own))
    logps = float((first - other).abs().max())
    told = Difference(logps=logps, logps_limit=limits[0], completions=len(batch))
    if not moving:
        zero = f"zero in {', '.join(name for name, _ in asked)}" if asked else "nothing is trained"
        return replace(told, unproven=parameters if isinstance(parameters, str) else zero)
    name = moving[0][0]
    return replace(told, gradient=_apart(gradients[name], others[name]), gradient_limit=limits[1], parameter=name)


def rollout_difference(
    plain: LogProbs, batch: Batch, written: torch.Tensor, *, low: bool, temperature: float, fill: int
) -> Difference:
    """Compare the log-probabilities that rollouts were drawn with, (B, C), with those of a plain forward pass.

    Computing token by token and computing all at once use different kernels. In low precision they differ at single
    tokens by more than padding does, in any implementation, so there the means are compared.
    """
    rows = [[row] for row in range(len(batch))]
    found, _ = _measured(plain, batch, rows, ())
    padded = _measured(plain, batch.padded(MORE_PADDING, fill), rows, ())[0] if low else None
    if padded is None:
        gap, limit = float((found - written).abs().max()), _full_limit(temperature)
        return Difference(logps=gap, logps_limit=limit, completions=len(batch))
    tokens = batch.attention_mask[:, -batch.completion :].sum()
    mean, own = (float((found - other).abs().sum() / tokens) for other in (written, padded))
    return Difference(logps=mean, logps_limit=max(LOW_PRECISION_LIMIT, 2 * own), completions=len(batch))


def _full_limit(temperature: float) -> float:
    """How far log-probabilities at a temperature may differ in float32, nats per token."""
    return FP32_LIMIT / min(1.0, temperature)


Parameters = Sequence[tuple[str, torch.nn.Parameter]]


def _measured(
    way: LogProbs, batch: Batch, parts: Sequence[Sequence[int]], parameters: Parameters
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Log-probabilities, (B, C), and gradients of a fixed weighted sum of them, computed part by part."""
    size = (len(batch), batch.completion)
    # Every token has a weight of its own: in a plain sum, errors of opposite sign could cancel.
    weights = torch.linspace(-1, 1, size[0] * size[1], device=batch.input_ids.device).view(size)
    whole = torch.zeros_like(weights)
    summed = {name: torch.zeros_like(value, dtype=torch.float32) for name, value in parameters}
    for rows in parts:
        with torch.set_grad_enabled(bool(parameters)):
            logps = way(batch.rows(rows))
            if parameters:
                values = [value for _, value in parameters]
                found = torch.autograd.grad((logps * weights[rows]).sum(), values, allow_unused=True)
                for (name, _), gradient in zip(parameters, found, strict=True):
                    summed[name] += 0.0 if gradient is None else gradient.float()
        whole[rows] = logps.detach().float()
        del logps  # and with it what autograd keeps, before the next rows are computed
    return whole, summed


def _apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """The difference of two gradients, relative to the first."""
    return float((one - other).norm() / one.norm())


def probe_parameters(model: Any) -> list[tuple[str, torch.nn.Parameter]]:
    """The parameters whose gradient may be compared: trained matrices, those of the language model's first layer first.

    Of an adapter, the half that starts at zero (`lora_B`) comes before the other (`lora_A`), whose gradient is zero as
    long as `lora_B` is.
    """
    trained = [(name, value) for name, value in model.named_parameters() if value.requires_grad and value.ndim > 1]

    def rank(one: tuple[str, torch.nn.Parameter]) -> tuple[bool, bool]:
        name = one[0]
        language = "layers.0." in name and "vision" not in name and "visual" not in name and "audio" not in name
        return not language, "lora_A" in name or "lora_embedding_A" in name

    return sorted(trained, key=rank)[:PROBED]
