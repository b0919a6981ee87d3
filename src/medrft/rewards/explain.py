"""From a scored row to lines of text that explain its reward: part by part, with what each scorer compared.

    clinical: 0.0300 x 0.6 = 0.0180
        clinical 0.03 (contradiction): 'left effusion' answered by 'fluid on the right'
    reward: 0.1500

A scorer may have a method `explain(item) -> Iterable[str]`; nothing here knows a scorer by name. The method is called
only if an answer was found and the scorer applies to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from medrft.rewards.reward import Reward
from medrft.scorers.base import is_readable
from medrft.text import normalize
from medrft.types import Item, Score, Scorer

SHOWN = 200
"""Characters shown of a text."""


def explain_row(item: Item, row: Mapping[str, Any], *, scorers: Iterable[Scorer], reward: Reward | None) -> list[str]:
    """Why a row of `medrft score` got its scores and reward, line by line."""
    used = int(row.get("reference_used") or 0)
    lines = _reading(item, used)
    for scorer in scorers:
        lines += explain_scorer(scorer, item, row["scores"][scorer.name])
    return lines + (explain_outcome(reward, item, row, used) if reward is not None else [])


def explain_scorer(scorer: Scorer, item: Item, score: Score) -> list[str]:
    """One scorer's number, and its own explanation if it has one."""
    said = "not applicable" if not scorer.applies(item) else "unscored" if score is None else f"{score:.4f}"
    return [f"{scorer.name}: {said}", *_own_lines(scorer, item)]


def explain_outcome(reward: Reward, item: Item, row: Mapping[str, Any], used: int) -> list[str]:
    """The parts of a scored row (raw -> calibrated x weight = share), the gate, and what the scorers compared.

    `used` is the index of the reference that the reward chose; the scorers are asked about that one alone.
    """
    lines = []
    item = replace(item, references=(item.references[used],))
    stack = reward.stack(item.kind)
    told: list[Scorer] = []
    for part in stack.parts:
        seen = row["parts"][part.name]
        if not seen["applicable"] or seen["raw"] is None:
            lines.append(f"{part.name}: {'unscored' if seen['applicable'] else 'not applicable'}")
            continue
        kind = part.calibration.kind
        why = "gate" if kind == "none" or (row.get("gate") and seen["calibrated"] == 0) else kind
        bend = f" -> {seen['calibrated']:.4f} ({why})"
        changed = bend if seen["calibrated"] != seen["raw"] else ""
        share = part.weight * seen["calibrated"]
        lines.append(f"{part.name}: {seen['raw']:.4f}{changed} x {part.weight:.4g} = {share:.4f}")
        lines += _own_lines(part.scorer, item)
        told.append(part.scorer)
    if stack.gate is not None:
        shut = "next to nothing is left" if stack.gate.multiply else "the answer parts are 0"
        state = {True: f"closed: {shut}", False: "open", None: "could not be computed, not applied"}
        rule = "multiplies" if stack.gate.multiply else f"below {stack.gate.below:g}"
        lines.append(f"gate ({stack.gate.scorer.name} {rule}): {state[row.get('gate')]}")
        lines += [] if stack.gate.scorer in told else _own_lines(stack.gate.scorer, item)
    total = row["reward"]
    return [*lines, "reward: unscored" if total is None else f"reward: {total:.4f}"]


def explain_parts(item: Item, reward: Reward) -> list[str]:
    """What each part of a reward compared, under its name; empty if no part explains itself."""
    stack = reward.stack(item.kind)
    scorers = [part.scorer for part in stack.parts]
    if stack.gate is not None and stack.gate.scorer not in scorers:
        scorers.append(stack.gate.scorer)
    found = ((scorer.name, _own_lines(scorer, item)) for scorer in scorers)
    return [line for name, lines in found if lines for line in (f"{name}:", *lines)]


def _own_lines(scorer: Scorer, item: Item) -> list[str]:
    """A scorer's own explanation, indented; empty if it has no `explain`, no answer was found or it does not apply."""
    explain = getattr(scorer, "explain", None)
    if explain is None or item.answer is None or not scorer.applies(item):
        return []
    return [f"    {line}" for line in explain(item)]


def _reading(item: Item, used: int) -> list[str]:
    """How the answer was read."""
    if item.answer is None:
        return ["no single answer in the prompt's form: every answer part is 0"]
    left, right = normalize(item.answer)[:SHOWN], normalize(item.references[used])[:SHOWN]
    lines = [f"compared after normalisation: {left!r} with {right!r}"]
    if not any(is_readable(item.answer, reference=text, options=item.options) for text in item.references):
        lines.append("the answer commits to nothing: every answer part is 0")
    return lines
