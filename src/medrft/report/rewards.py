"""Describes the reward of a run for the report: its parts, weights, calibrations and encoders, per kind of question."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from medrft.evaluation.run_files import RunFiles
from medrft.report.wording import plain_number
from medrft.reward_config import StackConfig
from medrft.rewards import PRESETS

OURS = "our settings; the authors published none"
"""Said beside every adaptive calibration."""


@dataclass(frozen=True, kw_only=True)
class PartFact:
    """One part of a reward."""

    scorer: str
    weight: str
    calibration: str
    settings: str
    encoder: str


@dataclass(frozen=True, kw_only=True)
class RewardFact:
    """The reward for some kinds of question."""

    kinds: str
    name: str
    combine: str
    parts: tuple[PartFact, ...]
    gate: str


def reward_facts(run: RunFiles) -> Iterator[RewardFact]:
    """The reward as the last GRPO stage recorded it, with calibration state; from the recipe if none has yet."""
    grpo = [stage.name for stage in run.recipe.stages if stage.kind == "grpo"]
    recorded = [reward for name in grpo if (reward := run.record(name).get("reward"))]
    own = run.recipe.reward
    entries = {str(kind): entry for kind, entry in own.items()} if isinstance(own, dict) else {"all": own}
    if recorded:
        for key, stack in recorded[-1]["stacks"].items():
            yield _fact(key, entries.get(key), stack)
    elif grpo:
        for key, entry in entries.items():
            config = PRESETS.get(entry) if isinstance(entry, str) else entry
            if config is not None:
                yield _fact(key, entry, _table(config))


def _table(stack: StackConfig) -> dict[str, Any]:
    """A stack from the recipe in the form that a stage records."""
    parts = []
    for part in stack.parts:
        calibrate = {"kind": part.calibrate} if isinstance(part.calibrate, str) else part.calibrate
        parts.append({"name": part.scorer, "weight": part.weight, "calibrate": calibrate})
    gate = stack.gate.model_dump(exclude_defaults=True) if stack.gate else None
    return {"combine": stack.combine, "parts": parts, "gate": gate}


def _gate(gate: Mapping[str, Any]) -> str:
    if gate.get("multiply"):
        return f"times {gate['scorer']}"
    return f"{gate['scorer']} below {plain_number(gate['below'])}"


def _fact(key: str, entry: str | StackConfig | None, stack: Mapping[str, Any]) -> RewardFact:
    gate = stack.get("gate")
    return RewardFact(
        kinds="all kinds" if key == "all" else key,
        name=entry if isinstance(entry, str) else "",
        combine=str(stack["combine"]).replace("_", " "),
        parts=tuple(_part(part) for part in stack["parts"]),
        gate=_gate(gate) if gate else "",
    )


def _part(part: Mapping[str, Any]) -> PartFact:
    calibrate = part["calibrate"]
    kind = str(calibrate.get("kind", "none"))
    known = {key: value for key, value in calibrate.items() if key != "kind" and value is not None}
    settings = [f"{key.replace('_', ' ')} {_say(value)}" for key, value in known.items()]
    if kind == "adaptive":
        settings.append(OURS)
    return PartFact(
        scorer=str(part["name"]),
        weight=plain_number(part["weight"]),
        calibration=kind,
        settings=", ".join(settings),
        encoder=str(part.get("encoder") or ""),
    )


def _say(value: Any) -> str:
    return plain_number(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
