"""Whether prompts are shared in a stage, what comparing with the plain path found, and where that made it fall back."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

from medrft.training.processes import is_main
from medrft.training.verify import Difference

Verify = Literal["first", "always", "never"]
Path = Literal["loss", "rollouts"]


@dataclass
class Sharing:
    """Whether prompts are shared, what was found when that was checked, and how often it was done."""

    on: bool = True
    verify: Verify = "first"
    fallen: dict[Path, str] = field(default_factory=dict)
    """Why rollouts or log-probabilities are TRL's own."""
    checked: dict[Path, Difference] = field(default_factory=dict)
    """The last comparison with the plain path."""
    rows: Counter[str] = field(default_factory=Counter)
    """Completions by path and way: `loss/shared`, `loss/plain`, …"""

    def shares(self, path: Path) -> bool:
        """Whether a path shares prompts."""
        return self.on and path not in self.fallen

    def due(self, path: Path) -> bool:
        """Whether to compare a path with the plain one now."""
        return self.verify == "always" or (self.verify == "first" and path not in self.checked)

    def judge(self, path: Path, found: Difference, *, agreed: bool) -> None:
        """Take a comparison; where it did not pass, on any process, the path falls back."""
        self.checked[path] = found
        if not agreed:
            self.fall_back(path, found.line())

    def fall_back(self, path: Path, why: str) -> None:
        """From now on a path is TRL's own; said once."""
        if self.on and path not in self.fallen:
            self.fallen[path] = why
            if is_main():
                sys.stderr.write(f"warning: prompts are not shared in the {path}, which costs time, not truth: {why}\n")

    def count(self, path: Path, rows: int, *, shared: bool) -> None:
        """Note completions that went one way."""
        self.rows[f"{path}/{'shared' if shared else 'plain'}"] += rows

    def share(self) -> float:
        """The share of completions, over both paths, whose prompt was shared."""
        shared = sum(rows for name, rows in self.rows.items() if name.endswith("/shared"))
        return shared / max(1, self.rows.total())

    def state_dict(self) -> dict[str, Any]:
        """What a resumed stage goes on from, as JSON."""
        return {
            "fallbacks": dict(self.fallen),
            "checked": {path: found.as_json() for path, found in self.checked.items()},
            "completions": dict(self.rows),
        }

    def restored(self, state: dict[str, Any] | None) -> Sharing:
        """Itself, with the state of a checkpoint."""
        if state is not None:
            self.fallen = dict(state["fallbacks"])
            self.checked = {path: Difference.from_json(found) for path, found in state["checked"].items()}
            self.rows = Counter(state["completions"])
        return self

    def describe(self) -> dict[str, Any]:
        """For the stage's record."""
        return {"on": self.on, "verify": self.verify, **self.state_dict()}
