"""A reward for use in another trainer: items in, outcomes or columns of numbers out.

A stateful calibration (adaptive, quantile) takes its threshold from the scores that it has seen. A trainer that scores
one row a call would give it a single score to learn from, and then nearly every answer would get the same number. So
the reward needs a state that was fitted before (`medrft score ROWS.jsonl --reward NAME --fit state.json`), or
`update=True` and a trainer that passes whole batches.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal

from medrft.errors import DataError, RecipeError
from medrft.integrations.rows import Columns, items_of
from medrft.rewards import Reward
from medrft.rewards.contracts import CONTRACTS
from medrft.rewards.gather import Gather, keep_alone, score_gathered
from medrft.rewards.named import load_reward
from medrft.rewards.state import load_state, save_state
from medrft.types import Form, Item, Outcome, Score

REASONS = 100
"""So many reasons for rows without a score are counted one by one; a scorer may give each row a reason of its own."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """The rows of one call: what is compared within a group, and learnt from, lies within it."""

    items: Sequence[Item]
    groups: Sequence[Hashable] | None = None
    learns: bool = True


class ForeignReward:
    """A reward (preset, recipe, reward file or table) for another trainer. It may be called from several threads."""

    def __init__(
        self,
        reward: str | Path | Mapping[str, Any],
        *,
        state: str | Path | None = None,
        update: bool = False,
        unscored: float | None = None,
        encoder: str | None = None,
        options: Mapping[str, Mapping[str, Any]] | None = None,
        rows: Literal["batch", "single"] = "batch",
    ):
        """`state` is a file that `medrft score --fit` or a run wrote; `unscored` is the number to give for `None`.

        `rows` says whether the trainer passes a batch or one row a call. Raises `RecipeError` where the reward could
        not work as it is meant: a calibration that has no state and never learns, or ranks within a group of one.
        """
        self.named = load_reward(reward, encoder=encoder, options=options)
        self.reward: Reward = self.named.reward
        self.unscored, self.update = unscored, update
        self.counts: Counter[str] = Counter()
        """Rows scored (`rows`), unscored (`unscored`), and each reason for it."""
        self._lock = threading.Lock()
        self._check(state=state, single=rows == "single")
        if state is not None:
            load_state(self.reward, Path(state))

    def _check(self, *, state: str | Path | None, single: bool) -> None:
        name, learns = self.named.name, ", ".join(self.reward.stateful)
        if single and (self.update or self.reward.needs_groups):
            raise RecipeError(
                f"{name} looks at whole groups or learns from batches, but this trainer scores one row a call; use a "
                "fitted state and a reward without rank, zscore, group_sigmoid and normalize_then_sum"
            )
        if learns and state is None and not self.update:
            raise RecipeError(
                f"{name} has calibrations that learn from scores ({learns}), and no state: row by row they would give "
                f"nearly every answer the same number. Fit one on a few hundred rows or rollouts: medrft score "
                f"ROWS.jsonl --reward {name} --fit state.json; then pass state='state.json', or update=True where "
                "the trainer hands over whole batches"
            )

    def __call__(
        self,
        items: Sequence[Item],
        *,
        groups: Sequence[Hashable] | None = None,
        gather: Gather = keep_alone,
        learns: bool = True,
    ) -> list[Outcome]:
        """Outcomes of these items; with `update` the calibrations learn from the rows of all processes.

        With `learns=False` they do not learn from this batch, as is right in an evaluation. Raises `RecipeError` if
        groups are needed and missing, or if a group has one completion alone.
        """
        with self._lock:
            self.check_groups(groups)
            made = score_gathered(self.reward, items, groups=groups, update=self.update and learns, gather=gather)
            self._count(made)
            return made

    def score_batches(self, batches: Sequence[Batch]) -> list[list[Outcome]]:
        """The outcomes of several batches: what one call after the other would give, with one call of each scorer.

        Raises as a call does, before a calibration has learnt from any of the batches.
        """
        with self._lock:
            for batch in batches:
                self.check_groups(batch.groups)
            raws = iter(self.reward.score([item for batch in batches for item in batch.items]))
            made = []
            for batch in batches:
                own = list(islice(raws, len(batch.items)))
                made.append(self.reward.combine(own, groups=batch.groups, update=self.update and batch.learns))
            for outcomes in made:
                self._count(outcomes)
            return made

    def _count(self, made: Sequence[Outcome]) -> None:
        self.counts["rows"] += len(made)
        for outcome in made:
            if outcome.reward is None:
                reason = outcome.unscored_reason or "no reason told"
                self.counts["unscored"] += 1
                self.counts[reason if reason in self.counts or len(self.counts) < REASONS else "other reasons"] += 1

    def check_groups(self, groups: Sequence[Hashable] | None) -> None:
        """Raise `RecipeError` if the reward needs groups and they are missing, or one holds a single completion."""
        if not self.reward.needs_groups:
            return
        if groups is None:
            raise RecipeError(f"{self.named.name} compares completions within a group; pass each row's group")
        alone = [group for group, n in Counter(groups).items() if n == 1]
        if alone:
            raise RecipeError(
                f"{self.named.name} compares completions within a group, but group {alone[0]!r} holds one; score whole "
                "groups in one call"
            )

    def values(self, outcomes: Sequence[Outcome]) -> list[Score]:
        """The rewards, with `unscored` in place of `None`."""
        return [self.unscored if one.reward is None else one.reward for one in outcomes]

    def columns(self, outcome: Outcome) -> dict[str, float]:
        """The outcome as numbers under the same keys for every row: `score`, `unscored` (0 or 1), and each part."""
        score = self.unscored if outcome.reward is None else outcome.reward
        parts = {name: float(outcome.calibrated.get(name) or 0.0) for name in self.reward.names}
        return {"score": float(score or 0.0), "unscored": float(outcome.reward is None), **parts}

    def count(self, what: str, rows: int) -> None:
        """Add `rows` to the count of an event that an adapter names, from any thread."""
        with self._lock:
            self.counts[what] += rows

    def state_dict(self) -> dict[str, Any]:
        """The calibrations' state, as plain JSON."""
        with self._lock:
            return self.reward.state_dict()

    def load_state(self, path: str | Path) -> None:
        """Read a state from a file; raises `RecipeError` for one that was fitted with other settings."""
        with self._lock:
            load_state(self.reward, Path(path))

    def save_state(self, path: str | Path) -> None:
        """Write the state to a file as `--fit` does, for `state=` in another process."""
        with self._lock:
            save_state(self.reward, Path(path))


def shared_reward(**settings: Any) -> ForeignReward:
    """The reward of these settings, built once in a process; for trainers that call a function of a module.

    The settings are those of `ForeignReward`, as plain JSON values.
    """
    return _built(json.dumps(settings, sort_keys=True))


@lru_cache(maxsize=8)
def _built(settings: str) -> ForeignReward:
    return ForeignReward(**json.loads(settings))


class ColumnReward:
    """Base of the adapters for trainers that pass completions and the columns of the data set (TRL, ms-swift)."""

    trainer: ClassVar[str]
    """The trainer's name in `CONTRACTS`."""

    def __init__(
        self,
        reward: str | Path | Mapping[str, Any],
        *,
        form: Form = "think",
        group_by: str = "id",
        columns: Mapping[str, str] | None = None,
        max_tokens: int | None = None,
        **settings: Any,
    ):
        """`columns` maps our fields to column names, as `names` of `items_of`; `settings` go to `ForeignReward`.

        `group_by` is the column by which the completions of one question are told from those of others.
        """
        self.held = ForeignReward(reward, rows=CONTRACTS[self.trainer].rows, **settings)
        self.form, self.group_by, self.names, self.max_tokens = form, group_by, columns, max_tokens

    def items(self, completions: Sequence[Any], columns: Columns, counts: Sequence[int] | None) -> list[Item]:
        """The items of a batch; `counts` are the completions' lengths in tokens."""
        return items_of(
            completions, columns, form=self.form, names=self.names, n_tokens=counts, max_tokens=self.max_tokens
        )

    def needs_ids(self) -> DataError:
        """The error for data in which no column tells the completions of two questions apart."""
        return DataError(f"no column {self.group_by!r} in the data set; group_by= names what tells its rows apart")
