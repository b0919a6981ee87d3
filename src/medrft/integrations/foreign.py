"""A reward as another trainer holds it: with a fitted state, or updated in step with training, and never by halves.

A stateful calibration (adaptive, quantile) takes its threshold from the scores it has seen. A trainer that scores one
row a call would give it one score to learn from, and every inexact answer the same number. So it needs a state that
was fitted before (`medrft score ROWS.jsonl --reward NAME --fit state.json`), or `update=True` and whole batches.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
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


class ForeignReward:
    """A preset, recipe, reward file or table, scored for another trainer. Safe to call from several threads."""

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
        """`state` is a file that `medrft score --fit` or a run wrote; `unscored` stands in for `None`.

        `rows` says whether the trainer hands over a batch or one row a call. Raises `RecipeError` where the reward
        would not mean what it says: a calibration with nothing to learn from, ranks within a group of one.
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
                f"fitted state and a reward without rank, zscore and normalize_then_sum, or score through medrft serve"
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
        """Outcomes of these items; with `update` the calibrations learn from all that `gather` brings together.

        `learns=False` leaves them as they are for this batch: an evaluation teaches nothing.

        Raises `RecipeError` where groups are needed and missing, or hold one completion each.
        """
        with self._lock:
            self._check_groups(groups)
            made = score_gathered(self.reward, items, groups=groups, update=self.update and learns, gather=gather)
            self.counts["rows"] += len(made)
            for outcome in made:
                if outcome.reward is None:
                    self.counts["unscored"] += 1
                    self.counts[outcome.unscored_reason or "unscored"] += 1
            return made

    def _check_groups(self, groups: Sequence[Hashable] | None) -> None:
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
        """The rewards, `unscored` in place of `None`."""
        return [self.unscored if one.reward is None else one.reward for one in outcomes]

    def columns(self, outcome: Outcome) -> dict[str, float]:
        """A row of numbers with the same keys for every row: the score, whether it is one, and each part."""
        score = self.unscored if outcome.reward is None else outcome.reward
        parts = {name: float(outcome.calibrated.get(name) or 0.0) for name in self.reward.names}
        return {"score": float(score or 0.0), "unscored": float(outcome.reward is None), **parts}

    def count(self, what: str, rows: int) -> None:
        """Count what an adapter saw happen, from any thread."""
        with self._lock:
            self.counts[what] += rows

    def state_dict(self) -> dict[str, Any]:
        """The calibrations' state, as plain JSON."""
        with self._lock:
            return self.reward.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a state; raises `RecipeError` for that of another reward."""
        with self._lock:
            self.reward.load_state_dict(state)

    def load_state(self, path: str | Path) -> None:
        """Read a state; raises `RecipeError` for one that was fitted otherwise."""
        with self._lock:
            load_state(self.reward, Path(path))

    def save_state(self, path: str | Path) -> None:
        """Write the state as `--fit` does, for `state=` in another process."""
        with self._lock:
            save_state(self.reward, Path(path))


class ColumnReward:
    """What the adapters of trainers share that hand over completions beside the columns of the data set."""

    trainer: ClassVar[str]
    """Its name in `CONTRACTS`."""

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
        """`columns` says which column holds the references and so on; `settings` go to `ForeignReward`."""
        self.held = ForeignReward(reward, rows=CONTRACTS[self.trainer].rows, **settings)
        self.form, self.group_by, self.names, self.max_tokens = form, group_by, columns, max_tokens

    def items(self, completions: Sequence[Any], columns: Columns, counts: Sequence[int] | None) -> list[Item]:
        """The items of a batch; `counts` are lengths in tokens."""
        return items_of(
            completions, columns, form=self.form, names=self.names, n_tokens=counts, max_tokens=self.max_tokens
        )

    def needs_ids(self) -> DataError:
        """What is said where nothing tells the completions of two questions apart."""
        return DataError(f"no column {self.group_by!r} in the data set; group_by= names what tells its rows apart")
