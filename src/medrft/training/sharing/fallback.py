"""The state of prompt sharing in one stage (`Sharing`), and what it takes to fall back to TRL's plain way.

`Sharing` says whether rollouts and log-probabilities share prompts, what a comparison with the plain way found, and
why one of them fell back. It goes into checkpoints and into the stage's record.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from medrft.models.picture_memory import PictureMemory
from medrft.training.processes import is_main
from medrft.training.sharing.verify import Difference

Verify = Literal["first", "always", "never"]
Place = Literal["loss", "rollouts"]
"""Where a prompt may be shared: in log-probability passes, and in rollouts."""


@dataclass
class Sharing:
    """Whether prompts are shared, what the last check found, and how many completions went which way."""

    on: bool = True
    verify: Verify = "first"
    together: int | None = None
    """Completions that a process writes at a time in rollouts, at most; all by default."""
    log: Path | None = None
    """The file for the traceback of an error that caused a fallback."""
    fallen: dict[Place, str] = field(default_factory=dict)
    """Places that fell back to TRL's own way -> why."""
    whole: str | None = None
    """Why attention gets packed rows whole, under a dense mask, and does not take them apart."""
    attention: Counter[str] = field(default_factory=Counter)
    """Completions with shared prompts in updates, by how their rows were attended to: `by parts`, `by mask`."""
    pictures: PictureMemory = field(default_factory=PictureMemory)
    """What frozen vision towers gave for the pictures of this generation batch."""
    checked: dict[Place, Difference] = field(default_factory=dict)
    """The last comparison with the plain way."""
    rows: Counter[str] = field(default_factory=Counter)
    """Completions by place and way: `loss/shared`, `loss/plain`, …"""

    def shares(self, place: Place) -> bool:
        """Whether prompts are shared in `place`."""
        return self.on and place not in self.fallen

    @property
    def anywhere(self) -> bool:
        """Whether prompts are shared anywhere."""
        return self.shares("loss") or self.shares("rollouts")

    def due(self, place: Place) -> bool:
        """Whether to compare with the plain way now."""
        return self.verify == "always" or (self.verify == "first" and place not in self.checked)

    def fall_back(self, place: Place, why: str) -> None:
        """Use TRL's own way in `place` from now on, and tell the user once. Every process must call this together."""
        if self.on and place not in self.fallen:
            self.fallen[place] = why
            if is_main():
                sys.stderr.write(
                    f"warning: prompts are not shared in the {place}, which costs time, not truth: {why}\n"
                )

    def keep_whole(self, why: str) -> None:
        """Attend to packed rows under a dense mask from now on, and tell the user. Every process must call this."""
        self.whole = why
        if is_main():
            sys.stderr.write(
                f"warning: attention gets packed rows under a dense mask, which costs time where completions are long, "
                f"not truth: {why}\n"
            )

    def tell_unbounded(self, rows: int) -> None:
        """Tell the user, once, that `rows` completions are written at a time although fewer were asked for."""
        if self.together is not None and self.together < rows:
            if is_main():
                sys.stderr.write(
                    f"warning: rollout_batch_size {self.together} does not hold: `generate` writes rollouts whose "
                    f"prompts are not shared, all {rows} of a process at a time\n"
                )
            self.together = None

    def count(self, place: Place, rows: int, *, shared: bool) -> None:
        """Count `rows` completions that went one way, shared or plain."""
        self.rows[f"{place}/{'shared' if shared else 'plain'}"] += rows

    def share(self) -> float:
        """The share of completions, over both places, whose prompt was shared."""
        shared = sum(rows for name, rows in self.rows.items() if name.endswith("/shared"))
        return shared / max(1, self.rows.total())

    def state_dict(self) -> dict[str, Any]:
        """What a resumed stage goes on from, as JSON."""
        return {
            "fallbacks": dict(self.fallen),
            "whole": self.whole,
            "attention": dict(self.attention),
            "checked": {place: found.as_json() for place, found in self.checked.items()},
            "completions": dict(self.rows),
        }

    def restored(self, state: dict[str, Any] | None) -> Sharing:
        """This object, with the state of a checkpoint put into it."""
        if state is not None:
            self.fallen, self.whole = dict(state["fallbacks"]), state.get("whole")
            self.attention = Counter(state.get("attention", {}))  # a run that began before there was a choice has none
            self.checked = {place: Difference.from_json(found) for place, found in state["checked"].items()}
            self.rows = Counter(state["completions"])
        return self

    def describe(self) -> dict[str, Any]:
        """Settings and state, for the stage's record."""
        pictures = {"looked at": self.pictures.looks, "recalled": self.pictures.recalled}
        return {"on": self.on, "verify": self.verify, "pictures": pictures, **self.state_dict()}


RandomState = tuple[torch.Tensor, torch.Tensor | None]


def random_state(device: torch.device) -> RandomState:
    """The state of torch's random generators, for the CPU and for the device."""
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


def rewind_generators(state: RandomState, device: torch.device) -> None:
    """Put the generators back, so that the plain way draws what it would have drawn alone."""
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], device)


@contextmanager
def without_dropout(model: Any, device: torch.device) -> Iterator[None]:
    """Inside there is no dropout, and random numbers that are drawn do not change those of the run afterwards.

    The rest of the model stays in training mode, which gradient checkpointing needs.
    """
    layers = [module for module in model.modules() if isinstance(module, torch.nn.Dropout) and module.training]
    try:
        for layer in layers:
            layer.eval()
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        for layer in layers:
            layer.train()
