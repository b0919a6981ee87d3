"""Is a shared prompt's result the plain one? Compared on a batch under way: log-probabilities, and the gradient of one
block of parameters.

In float32 both may differ by 1e-4, log-probabilities by 1e-4 / temperature where it is below 1, since they are those of
logits / temperature. In lower precision the plain path does not agree with itself once its batch is
padded otherwise, so there the limit is the larger of 0.05 and twice that difference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from medrft.models.prefix import TOKEN_TYPES
from medrft.training.groups import leaders, pick, take

FP32_LIMIT = 1e-4
LOW_PRECISION_LIMIT = 0.05
MORE_PADDING = 7


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of prompts and completions as TRL lays them out."""

    input_ids: torch.Tensor
    """(B, P + C), prompts padded on the left, completions on the right."""
    attention_mask: torch.Tensor
    completion: int
    """C."""
    groups: list[int]
    """The number of each row's group."""
    fields: Mapping[str, Any]
    """Multimodal inputs per row, with `num_images`; pixels may be a list of one tensor per row."""

    def __len__(self) -> int:
        return len(self.groups)

    def rows(self, chosen: Sequence[int]) -> Batch:
        """Some of the rows."""
        return Batch(
            pick(self.input_ids, chosen),
            pick(self.attention_mask, chosen),
            self.completion,
            [self.groups[row] for row in chosen],
            take(self.fields, chosen),
        )

    def chosen(self) -> list[int]:
        """The rows to compare: those of the first and the last group, which may have prompts of two lengths."""
        first, place = leaders(self.groups)
        return [row for row, group in enumerate(place) if group in (0, len(first) - 1)]

    def padded(self, more: int, fill: int) -> Batch:
        """The same with `more` padding before the prompts."""
        wide = {
            key: torch.nn.functional.pad(value, (more, 0)) if key in TOKEN_TYPES else value
            for key, value in self.fields.items()
        }
        return replace(
            self,
            input_ids=torch.nn.functional.pad(self.input_ids, (more, 0), value=fill),
            attention_mask=torch.nn.functional.pad(self.attention_mask, (more, 0)),
            fields=wide,
        )


LogProbs = Callable[[Batch], torch.Tensor]
"""Log-probabilities of a batch's completions, (B, C), 0 where there is no token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Largest difference between a shared and a plain computation."""

    logps: float
    """Nats per token, absolute."""
    logps_limit: float
    gradient: float | None = None
    """Of one block of parameters, relative; `None` where it cannot be asked for."""
    gradient_limit: float | None = None
    parameter: str | None = None
    completions: int

    @property
    def passed(self) -> bool:
        """Whether nothing is over its limit; what is no number is."""
        gradient = self.gradient is None or (self.gradient_limit is not None and self.gradient <= self.gradient_limit)
        return self.logps <= self.logps_limit and gradient

    def line(self) -> str:
        """For people."""
        told = f"log-probabilities differ by {self.logps:.2g} (limit {self.logps_limit:.2g})"
        if self.gradient is not None:
            told += f", the gradient of {self.parameter} by {self.gradient:.2g} (limit {self.gradient_limit:.2g})"
        return f"{told} on {self.completions} completions"

    def as_json(self) -> dict[str, Any]:
        """For the run's record."""
        return {**asdict(self), "passed": self.passed}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Difference:
        """What `as_json` wrote."""
        return cls(**{key: value for key, value in found.items() if key != "passed"})


def loss_difference(
    plain: LogProbs,
    shared: LogProbs,
    batch: Batch,
    *,
    parameter: tuple[str, torch.nn.Parameter] | None,
    low: bool,
    temperature: float,
    fill: int,
) -> Difference:
    """Compare two ways to compute a batch; with a `parameter` also its gradient. `low`: less than float32."""
    measured = [_measured(way, batch, parameter) for way in (plain, shared)]
    own = _gap(measured[0], _measured(plain, batch.padded(MORE_PADDING, fill), parameter)) if low else (0.0, 0.0)
    logps, gradient = _gap(*measured)
    full = (_full_limit(temperature), FP32_LIMIT)
    limits = [max(LOW_PRECISION_LIMIT, 2 * value) if low else limit for value, limit in zip(own, full, strict=True)]
    return Difference(
        logps=logps,
        logps_limit=limits[0],
        gradient=None if parameter is None else gradient,
        gradient_limit=None if parameter is None else limits[1],
        parameter=None if parameter is None else parameter[0],
        completions=len(batch),
    )


def rollout_difference(
    plain: LogProbs, batch: Batch, written: torch.Tensor, *, low: bool, temperature: float, fill: int
) -> Difference:
    """Compare the log-probabilities that rollouts were drawn with, (B, C), with those of a plain forward pass.

    Token by token and all at once are different kernels, which in low precision differ by more than padding does at
    single tokens, in any implementation; so there the means are compared.
    """
    with torch.no_grad():
        found, padded = plain(batch), plain(batch.padded(MORE_PADDING, fill)) if low else None
    if padded is None:
        gap, limit = float((found - written).abs().max()), _full_limit(temperature)
        return Difference(logps=gap, logps_limit=limit, completions=len(batch))
    tokens = batch.attention_mask[:, -batch.completion :].sum()
    mean, own = (float((found - other).abs().sum() / tokens) for other in (written, padded))
    return Difference(logps=mean, logps_limit=max(LOW_PRECISION_LIMIT, 2 * own), completions=len(batch))


def _full_limit(temperature: float) -> float:
    """How far log-probabilities at a temperature may differ in float32, nats per token."""
    return FP32_LIMIT / min(1.0, temperature)


Measured = tuple[torch.Tensor, torch.Tensor]


def _measured(way: LogProbs, batch: Batch, parameter: tuple[str, torch.nn.Parameter] | None) -> Measured:
    """Log-probabilities, and the gradient of a fixed weighing of them."""
    if parameter is None:
        with torch.no_grad():
            return way(batch), torch.zeros(1)
    logps = way(batch)
    weights = torch.linspace(-1, 1, logps.numel(), device=logps.device).view(logps.shape)
    (gradient,) = torch.autograd.grad((logps * weights).sum(), parameter[1])
    return logps.detach(), gradient.float()


def _gap(one: Measured, other: Measured) -> tuple[float, float]:
    logps = float((one[0] - other[0]).abs().max())
    size = float(one[1].norm())
    gradient = float((one[1] - other[1]).norm())
    return logps, gradient / size if size else gradient


def probe_parameter(model: Any) -> tuple[str, torch.nn.Parameter] | None:
    """The parameter whose gradient is compared: the first trained matrix of the language model's layers, else any."""
    trained = [(name, value) for name, value in model.named_parameters() if value.requires_grad and value.ndim > 1]
    inner = [
        (name, value)
        for name, value in trained
        if "layers.0." in name and "vision" not in name and "visual" not in name
    ]
    return next(iter(inner or trained), None)
