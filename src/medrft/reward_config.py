"""The shape of a reward in a recipe: a preset's name, parts with weights, or one of these for each kind of question."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from medrft.types import Kind


class Shape(BaseModel):
    """Base of every recipe table: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class PartConfig(Shape):
    """One scorer with its weight and calibration."""

    scorer: str
    """A scorer's name, or `file.py:Name` for your own."""
    weight: float
    """Its share of the reward."""
    calibrate: str | dict[str, Any] = "none"
    """How its score is bent before it is weighted: a calibration's name, or a table with `kind` and settings."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the scorer."""


class GateConfig(Shape):
    """A gate: the answer parts become 0 if its scorer scores below `below`, or are multiplied by its score.

    A part by the same scorer is not multiplied by itself.
    """

    scorer: str
    """The scorer that opens or shuts the gate."""
    below: float | None = None
    """The score under which the answer parts become 0."""
    multiply: bool = False
    """Multiply the answer parts by the score instead."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the scorer."""

    @model_validator(mode="after")
    def _one_way(self) -> GateConfig:
        if (self.below is None) != self.multiply:
            raise ValueError("a gate needs `below: NUMBER` or `multiply: true`, and not both")
        return self

    @property
    def rule(self) -> str:
        """What it does, for people: "clinical below 0.05 makes the answer parts 0"."""
        if self.multiply:
            return f"the answer parts are multiplied by {self.scorer}"
        return f"{self.scorer} below {self.below:g} makes the answer parts 0"


class StackConfig(Shape):
    """Parts that make one reward."""

    combine: Literal["weighted_sum", "normalize_then_sum"] = "weighted_sum"
    """Add the weighted parts, or first standardise each within its group (GDPO)."""
    parts: tuple[PartConfig, ...] = Field(min_length=1)
    """The scorers, each with its weight."""
    gate: GateConfig | None = None
    """What can take the answer parts away."""


def _shape_of_reward(value: Any) -> str:
    """Which of the three forms a reward has; with this, pydantic reports errors for that form alone."""
    if isinstance(value, str):
        return "preset"
    by_kind = isinstance(value, Mapping) and not set(value) & {*StackConfig.model_fields}
    return "by_kind" if by_kind else "stack"


NamedOrStack = Annotated[
    Annotated[str, Tag("preset")] | Annotated[StackConfig, Tag("stack")],
    Discriminator(lambda value: "preset" if isinstance(value, str) else "stack"),
]
RewardConfig = Annotated[
    Annotated[str, Tag("preset")]
    | Annotated[StackConfig, Tag("stack")]
    | Annotated[dict[Kind, NamedOrStack], Tag("by_kind")],
    Discriminator(_shape_of_reward),
]
