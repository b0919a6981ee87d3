"""The same 64 rows through every trainer: what our own reward says of them is what each of them must see."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from medrft.rewards.named import load_reward
from medrft.rewards.rows import read_row
from medrft.rewards.state import load_state, save_state
from medrft.types import Item, Outcome

HERE = Path(__file__).parent
ROWS: list[dict[str, Any]] = [
    json.loads(line) for line in (HERE / "rows.jsonl").read_text(encoding="utf-8").splitlines()
]
"""16 questions with four completions each: closed, choice and open, some without form, one that nobody can score."""
EXACT, FLOAT32 = 1e-9, 1e-6
"""How close a number must come where the adapter returns it, and in a trainer's tensor."""


def items() -> list[Item]:
    """The rows as `medrft score` reads them."""
    return [read_row(row, where=row["id"]).item for row in ROWS]


@dataclass
class Case:
    """A reward, the state it was fitted to, and what our own code says of the rows."""

    reward: str
    state: str | None = None

    @cached_property
    def outcomes(self) -> list[Outcome]:
        """Our own reward on all rows at once."""
        reward = load_reward(self.reward).reward
        if self.state is not None:
            load_state(reward, Path(self.state))
        return reward(items())

    @property
    def expected(self) -> list[float | None]:
        """The 64 numbers; `None` for what cannot be scored."""
        return [outcome.reward for outcome in self.outcomes]

    @property
    def settings(self) -> dict[str, Any]:
        """What a user writes beside the reward's name."""
        return {} if self.state is None else {"state": self.state}


def make_case(name: str, folder: Path) -> Case:
    """`stateless`, or `fitted` to the 64 rows as `medrft score --fit` does it."""
    file = str(HERE / f"{name}.yaml")
    if name == "stateless":
        return Case(file)
    reward = load_reward(file).reward
    reward.fit(reward.score(items()))
    save_state(reward, folder / "state.json", rows=len(ROWS))
    return Case(file, str(folder / "state.json"))


def label(row: dict[str, Any]) -> str:
    """A reference with its question, options and kind in one text, for trainers that pass one field."""
    fields = {key: row[key] for key in ("reference", "question", "options", "kind") if key in row}
    return json.dumps(fields, ensure_ascii=False)


def or_zero(values: list[float | None]) -> list[float]:
    """What trainers without a missing reward get."""
    return [0.0 if value is None else value for value in values]
