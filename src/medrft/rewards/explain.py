"""Why a completion got its reward, in lines of text: part by part, then what each scorer compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medrft.rewards.reward import Reward
from medrft.scorers.base import is_readable
from medrft.text import normalize
from medrft.types import Item, Score, Scorer


def explain_scorer(scorer: Scorer, item: Item, score: Score) -> list[str]:
    """One scorer's number, and its own explanation where it has one."""
    applies = scorer.applies(item)
    said = "not applicable" if not applies else "unscored" if score is None else f"{score:.4f}"
    own = getattr(scorer, "explain", None)
    lines = list(own(item)) if own is not None and applies and item.answer is not None else []
    return [f"{scorer.name}: {said}", *(f"    {line}" for line in lines)]


def explain_outcome(reward: Reward, item: Item, row: Mapping[str, Any]) -> list[str]:
    """The parts of a scored row (raw -> calibrated x weight = share), the gate, and what the scorers compared."""
    lines = _reading(item)
    stack = reward.stack(item.kind)
    for part in stack.parts:
        seen = row["parts"][part.name]
        if not seen["applicable"]:
            lines.append(f"{part.name}: not applicable")
        elif seen["raw"] is None:
            lines.append(f"{part.name}: unscored")
        else:
            share = part.weight * seen["calibrated"]
            bend = f" -> {seen['calibrated']:.4f} ({part.calibration.kind})"
            changed = bend if seen["calibrated"] != seen["raw"] else ""
            lines.append(f"{part.name}: {seen['raw']:.4f}{changed} x {part.weight:.4g} = {share:.4f}")
            own = getattr(part.scorer, "explain", None)
            lines += [f"    {line}" for line in (own(item) if own is not None and item.answer is not None else ())]
    if stack.gate is not None:
        state = {True: "closed: the answer parts are 0", False: "open", None: "could not be computed, not applied"}
        lines.append(f"gate ({stack.gate.scorer.name} below {stack.gate.below}): {state[row.get('gate')]}")
        own = getattr(stack.gate.scorer, "explain", None)
        if own is not None and item.answer is not None and stack.gate.scorer not in [p.scorer for p in stack.parts]:
            lines += [f"    {line}" for line in own(item)]
    total = row["reward"]
    lines.append("reward: unscored" if total is None else f"reward: {total:.4f}")
    return lines


def _reading(item: Item) -> list[str]:
    """How the answer was read, where that decides everything."""
    if item.answer is None:
        return ["no single answer in the prompt's form: every answer part is 0"]
    if not any(is_readable(item.answer, reference=text, options=item.options) for text in item.references):
        return [f"the answer ({normalize(item.answer)!r} after normalisation) commits to nothing: answer parts are 0"]
    return []
