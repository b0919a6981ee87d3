"""Calibration state from a run's files, for `--state RUN`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medrft.errors import DataError
from medrft.rewards.reward import Reward
from medrft.rundir import read_json

FILE = "reward_state.json"
"""In a stage's folder, written when the stage ends."""


def load_state(reward: Reward, path: Path) -> str:
    """Load the state of a run (its last GRPO stage), of a stage's folder or of a file; returns where it stood.

    Raises `DataError` when there is none, `RecipeError` when it is of another reward.
    """
    found = _find(path)
    state = read_json(found)
    if found.name == "trainer_state.json":
        state = _in_checkpoint(state)
    if not isinstance(state, dict):
        raise DataError(f"{found} holds no calibration state; pass a run with a GRPO stage, or its {FILE}")
    reward.load_state_dict(state)
    return str(found)


def _find(path: Path) -> Path:
    if path.is_file():
        return path
    for pattern in (FILE, f"stages/*/{FILE}"):
        found = sorted(path.glob(pattern), key=lambda file: file.stat().st_mtime)
        if found:
            return found[-1]
    kept = [f for f in path.glob("**/checkpoint-*/trainer_state.json") if _in_checkpoint(read_json(f)) is not None]
    if not kept:
        raise DataError(f"no calibration state in {path}: no {FILE} and no checkpoint of a GRPO stage; pass a run")
    return max(kept, key=lambda file: (file.stat().st_mtime, int(file.parent.name.rpartition("-")[2])))


def _in_checkpoint(state: Any) -> Any:
    for saved in (state.get("stateful_callbacks") or {}).values():
        attributes = saved.get("attributes", {}) if isinstance(saved, dict) else {}
        if "reward" in attributes:
            return attributes["reward"]
    return None
