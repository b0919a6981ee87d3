"""Why a completion got its reward, in lines of text: part by part, then what each scorer compared.

A scorer may explain itself with a method `explain(item) -> Iterable[str]`; the clinical one says which finding and
which facet matched or clashed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from medrft.rewards.reward import Reward
from medrft.scorers.base import is_readable
from medrft.text import normalize
from medrft.types import Item, Score, Scorer

SHOWN = 200
"""Characters of a text that are shown."""


def explain_row(item: Item, row: Mapping[str, Any], *, scorers: Iterable[Scorer], reward: Reward | None) -> list[str]:
    """Why a scored row of `medrft score` got what it got."""
    used = int(row.get("reference_used") or 0)
    lines = _reading(item, used)
    for scorer in scorers:
        lines += explain_scorer(scorer, item, row["scores"][scorer.name])
    return lines + (explain_outcome(reward, item, row, used) if reward is not None else [])


def explain_scorer(scorer: Scorer, item: Item, score: Score) -> list[str]:
    """One scorer's number, and its own explanation where it has one."""
    said = "not applicable" if not scorer.applies(item) else "unscored" if score is None else f"{score:.4f}"
    best = _best_reference(scorer, item)
    return [f"{scorer.name}: {said}", *_indented(_own(scorer, item, best))]


def explain_outcome(reward: Reward, item: Item, row: Mapping[str, Any], used: int) -> list[str]:
    """The parts of a scored row (raw -> calibrated x weight = share), the gate, and what the scorers compared."""
    lines = []
    stack = reward.stack(item.kind)
    told: list[Scorer] = []
    for part in stack.parts:
        seen = row["parts"][part.name]
        if not seen["applicable"] or seen["raw"] is None:
            lines.append(f"{part.name}: {'unscored' if seen['applicable'] else 'not applicable'}")
            continue
        bend = f" -> {seen['calibrated']:.4f} ({_why(part.calibration.kind, seen, row)})"
        changed = bend if seen["calibrated"] != seen["raw"] else ""
        share = part.weight * seen["calibrated"]
        lines.append(f"{part.name}: {seen['raw']:.4f}{changed} x {part.weight:.4g} = {share:.4f}")
        lines += _indented(_own(part.scorer, item, used))
        told.append(part.scorer)
    if stack.gate is not None:
        state = {True: "closed: the answer parts are 0", False: "open", None: "could not be computed, not applied"}
        lines.append(f"gate ({stack.gate.scorer.name} below {stack.gate.below:g}): {state[row.get('gate')]}")
        lines += [] if stack.gate.scorer in told else _indented(_own(stack.gate.scorer, item, used))
    total = row["reward"]
    return [*lines, "reward: unscored" if total is None else f"reward: {total:.4f}"]


def _why(kind: str, seen: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    return "gate" if row.get("gate") and seen["calibrated"] == 0 else kind


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def _own(scorer: Scorer, item: Item, used: int) -> list[str]:
    """What a scorer says for itself of one reference."""
    if item.answer is None or not scorer.applies(item):
        return []
    own = getattr(scorer, "explain", None)
    if own is not None:
        return [str(line) for line in own(item)]
    if scorer.name == "clinical" and item.references:
        from medrft.scorers.clinical import explain

        return explain(item.references[used], item.answer, item.question).text().splitlines()
    return []


def _best_reference(scorer: Scorer, item: Item) -> int:
    """The reference that a scorer's own explanation is about."""
    if scorer.name != "clinical" or item.answer is None or len(item.references) < 2:
        return 0
    from medrft.scorers.clinical import score_pair

    scores = [score_pair(reference, item.answer, item.question) for reference in item.references]
    return scores.index(max(scores))


def _reading(item: Item, used: int) -> list[str]:
    """How the answer was read."""
    if item.answer is None:
        return ["no single answer in the prompt's form: every answer part is 0"]
    left, right = normalize(item.answer)[:SHOWN], normalize(item.references[used])[:SHOWN]
    lines = [f"compared after normalisation: {left!r} with {right!r}"]
    if not any(is_readable(item.answer, reference=text, options=item.options) for text in item.references):
        lines.append("the answer commits to nothing: every answer part is 0")
    return lines
