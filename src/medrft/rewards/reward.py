"""The reward: items in, outcomes out, by one stack or by one stack for each kind of question.

`score` runs on the process that has the completions. `combine` runs after the gather on whole groups, and gives the
same result on every process.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from medrft.errors import RecipeError
from medrft.rewards.calibration import standardize_scores, within_groups
from medrft.rewards.stack import RawScores, Stack
from medrft.types import KINDS, Item, Kind, Outcome, Score

ALL = "all"
"""Key of the one stack that serves all kinds."""


@dataclass(frozen=True)
class Reward:
    """A reward built from a preset, a stack or a table by kind; see `build_reward`."""

    stacks: Mapping[str, Stack]
    """By kind, or under `all`."""
    preset: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all parts, in order."""
        return tuple(dict.fromkeys(name for stack in self.stacks.values() for name in stack.names))

    @property
    def combine_rule(self) -> str:
        """`weighted_sum` or `normalize_then_sum`."""
        return next(iter(self.stacks.values())).combine

    @property
    def needs(self) -> tuple[str, ...]:
        """The item fields that at least one part or gate needs."""
        scorers = [part.scorer for stack in self.stacks.values() for part in stack.parts]
        scorers += [stack.gate.scorer for stack in self.stacks.values() if stack.gate]
        return tuple(sorted({field for scorer in scorers for field in scorer.needs}))

    @property
    def needs_groups(self) -> bool:
        """Whether `combine` must be told which completions belong together."""
        parts = [part for stack in self.stacks.values() for part in stack.parts]
        return self.combine_rule == "normalize_then_sum" or any(part.calibration.needs_groups for part in parts)

    @property
    def stateful(self) -> tuple[str, ...]:
        """The parts whose calibration has state, as `part` or `kind/part`."""
        return tuple(
            part.name if key == ALL else f"{key}/{part.name}"
            for key, stack in self.stacks.items()
            for part in stack.parts
            if part.calibration.has_state
        )

    def weights(self, kind: Kind) -> dict[str, float]:
        """The weight of each part for one kind."""
        return {part.name: part.weight for part in self.stack(kind).parts}

    def stack(self, kind: Kind) -> Stack:
        """The stack for a kind; raises `RecipeError` if the reward has none."""
        found = self.stacks.get(ALL) or self.stacks.get(kind)
        if found is None:
            raise RecipeError(f"the reward has no entry for kind {kind!r}, only for {sorted(self.stacks)}; add one")
        return found

    def score(self, items: Sequence[Item]) -> list[RawScores]:
        """Raw scores of each item, in order. They depend on no other item and on no state."""
        return self._by_stack(items, lambda item: item.kind, lambda stack, rows, _: stack.score(rows))

    def combine(
        self, raws: Sequence[RawScores], *, groups: Sequence[Hashable] | None = None, update: bool = False
    ) -> list[Outcome]:
        """Outcomes of the whole gathered batch; `groups` says which rows belong together, `update` is for training.

        weighted_sum: the sum of weight times calibrated score over the applicable parts. It is not rescaled.
        normalize_then_sum (GDPO, arXiv 2601.05242): an advantage. Each part is standardised within its group, then
        summed by weight, then the sum is standardised over the batch. Raises `RecipeError` if groups are missing.
        """
        # Without groups this raises what `within_groups` would raise later, after calibrations had learnt already.
        if self.needs_groups and groups is None:
            within_groups([], None, standardize_scores)

        def outcomes(stack: Stack, rows: list[RawScores], positions: list[int]) -> list[Outcome]:
            own = None if groups is None else [groups[position] for position in positions]
            calibrated = stack.calibrate(rows, groups=own, update=update)
            return [stack.outcome(raw, row) for raw, row in zip(rows, calibrated, strict=True)]

        made = self._by_stack(raws, lambda raw: raw.kind, outcomes)
        if self.combine_rule == "normalize_then_sum":
            return self._normalized(raws, made, groups=groups)
        return made

    def __call__(
        self, items: Sequence[Item], *, groups: Sequence[Hashable] | None = None, update: bool = False
    ) -> list[Outcome]:
        """`score`, then `combine`."""
        return self.combine(self.score(items), groups=groups, update=update)

    def fit(self, raws: Iterable[RawScores]) -> None:
        """Set the calibrations' state once from all these raw scores (evaluation, `score`, audit).

        Keeps 8 bytes for each row and part that has a state, so that a long file can be read row by row.
        """
        columns: dict[int, tuple[Stack, dict[str, array[float]]]] = {}
        for raw in raws:
            stack = self.stack(raw.kind)
            if id(stack) not in columns:
                learning = [part.name for part in stack.parts if part.calibration.has_state]
                columns[id(stack)] = (stack, {name: array("d") for name in learning})
            for name, column in columns[id(stack)][1].items():
                score = raw.raw[name]
                if score is not None:
                    column.append(score)
        for stack, own in columns.values():
            for part in stack.parts:
                if part.name in own:
                    part.calibration.fit(own[part.name])

    def saturated(self) -> dict[str, str]:
        """Part -> why its calibration no longer tells scores apart; the metric `calibration_saturated`."""
        found = {}
        for key, stack in self.stacks.items():
            for part in stack.parts:
                reason = part.calibration.saturated()
                if reason is not None:
                    found[part.name if key == ALL else f"{key}/{part.name}"] = reason
        return found

    def state_dict(self) -> dict[str, Any]:
        """Calibration state as plain JSON: stack -> part -> state."""
        return {k: {p.name: p.calibration.state_dict() for p in stack.parts} for k, stack in self.stacks.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a state; raises `RecipeError` if it belongs to another reward."""
        own = {key: sorted(stack.names) for key, stack in self.stacks.items()}
        other = {key: sorted(parts) for key, parts in state.items()}
        if own != other:
            raise RecipeError(f"the saved calibration state is of another reward: it has {other}, this one {own}")
        for key, stack in self.stacks.items():
            for part in stack.parts:
                part.calibration.load_state_dict(state[key][part.name])

    def describe(self) -> dict[str, Any]:
        """Preset, parts, weights, calibrations with their present state, encoders and gates."""
        return {"preset": self.preset, "stacks": {key: stack.describe() for key, stack in self.stacks.items()}}

    def _by_stack(
        self, rows: Sequence[Any], kind: Callable[[Any], Kind], work: Callable[[Stack, list[Any], list[int]], list[Any]]
    ) -> list[Any]:
        """Call `work` on all rows of a stack at once, for each stack; results are in the order of rows."""
        positions: dict[int, list[int]] = {}
        stacks = {}
        for position, row in enumerate(rows):
            stack = self.stack(kind(row))
            stacks[id(stack)] = stack
            positions.setdefault(id(stack), []).append(position)
        results: list[Any] = [None] * len(rows)
        for key, members in positions.items():
            made = work(stacks[key], [rows[position] for position in members], members)
            for position, result in zip(members, made, strict=True):
                results[position] = result
        return results

    def _normalized(
        self, raws: Sequence[RawScores], made: Sequence[Outcome], *, groups: Sequence[Hashable] | None
    ) -> list[Outcome]:
        """The outcomes with GDPO's advantages in place of the weighted sums."""
        scored = [outcome.reward is not None for outcome in made]
        totals = [0.0] * len(made)
        for name in self.names:
            column = [o.calibrated.get(name) if ok else None for o, ok in zip(made, scored, strict=True)]
            for i, z in enumerate(within_groups(column, groups, standardize_scores)):
                totals[i] += self.weights(raws[i].kind).get(name, 0.0) * (z or 0.0)
        # `or [0.0]`: where nothing was scored there is no mean to take.
        whitened = iter(standardize_scores([total for total, ok in zip(totals, scored, strict=True) if ok] or [0.0]))
        rewards: list[Score] = [next(whitened) if ok else None for ok in scored]
        assert all(reward is None or math.isfinite(reward) for reward in rewards)
        return [replace(outcome, reward=reward) for outcome, reward in zip(made, rewards, strict=True)]


def by_kind(stacks: Mapping[str, Stack]) -> dict[str, Stack]:
    """A table by kind in the order of `KINDS`; raises `RecipeError` if the kinds combine differently."""
    rules = {stack.combine for stack in stacks.values()}
    if len(rules) > 1:
        raise RecipeError(f"all kinds of one reward combine alike, got {sorted(rules)}; choose one")
    return {kind: stacks[kind] for kind in KINDS if kind in stacks}
