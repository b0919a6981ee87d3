"""Calibration state in files: those that `medrft score --fit` writes, and those that a run's stages leave.

    {"medrft_state": 1, "rows": 400, "parts": {"all": {"cosine": {"encoder": "…", "calibrate.kind": "adaptive"}}},
     "state": {"all": {"cosine": {"threshold": 0.71, "history": […]}}}}

A run's `reward_state.json` holds the inner `state` alone; the run's recipe says what it was fitted with.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medrft.errors import DataError, RecipeError
from medrft.rewards.reward import Reward
from medrft.rundir import read_json, write_json

FILE = "reward_state.json"
"""Name of the file in a stage's folder, written when the stage ends."""
VERSION = 1


def save_state(reward: Reward, path: Path, *, rows: int | None = None) -> None:
    """Write a reward's state with the settings that it belongs to; `rows` is the number of rows it was fitted on."""
    write_json(path, state_document(reward, rows=rows))


def state_document(reward: Reward, *, rows: int | None = None) -> dict[str, Any]:
    """What `save_state` writes, as plain JSON."""
    return {"medrft_state": VERSION, "rows": rows, "parts": _settings(reward), "state": reward.state_dict()}


def load_state(reward: Reward, path: Path) -> str:
    """Load the state of a run (its last GRPO stage), of a stage's folder or of a file; returns the path of the file.

    A file of `--fit` must have been fitted with the same parts, encoders and calibrations. Raises `DataError` if there
    is no state, `RecipeError` if it belongs to another reward.
    """
    found = find_state(path)
    state = read_json(found)
    if found.name == "trainer_state.json":
        state = _in_checkpoint(state)
    if not isinstance(state, dict):
        raise DataError(f"{found} holds no calibration state; pass a run with a GRPO stage, or a file of --fit")
    if "medrft_state" in state:
        load_document(reward, state, found)
    else:
        reward.load_state_dict(state)
    return str(found)


def load_document(reward: Reward, document: dict[str, Any], path: Path) -> None:
    """Load what `state_document` made; `path` is named in errors. Raises `RecipeError` for another reward's state."""
    _check_settings(document, reward, path)
    reward.load_state_dict(document["state"])


def _settings(reward: Reward) -> dict[str, dict[str, Any]]:
    """The settings that a state depends on: of scorer, encoder and calibration, for each part that learns."""
    found: dict[str, dict[str, Any]] = {}
    for key, stack in reward.stacks.items():
        for part, facts in zip(stack.parts, stack.describe()["parts"], strict=True):
            if part.calibration.has_state:
                calibration = {name: value for name, value in facts["calibrate"].items() if name != "threshold"}
                kept = {name: value for name, value in facts.items() if name not in ("name", "weight", "calibrate")}
                found.setdefault(key, {})[part.name] = {**kept, **{f"calibrate.{k}": v for k, v in calibration.items()}}
    return found


def _check_settings(saved: dict[str, Any], reward: Reward, path: Path) -> None:
    """Raise `RecipeError` if a state was fitted with other settings than this reward has."""
    again = f"fit it again: medrft score ROWS.jsonl --reward … --fit {path}"
    if saved["medrft_state"] != VERSION or not {"state", "parts"} <= set(saved):
        raise RecipeError(f"{path} is a state of another version of medrft; {again}")
    for key, parts in _settings(reward).items():
        for name, settings in parts.items():
            before = saved["parts"].get(key, {}).get(name)
            if before is None:
                raise RecipeError(f"{path} is of another reward: it holds nothing of {name}; {again}")
            for setting in {**settings, **before}:
                if settings.get(setting) != before.get(setting):
                    raise RecipeError(
                        f"{path} was fitted otherwise: {setting} of {name} was {before.get(setting)!r}, this reward "
                        f"has {settings.get(setting)!r}; {again}"
                    )


def find_state(path: Path) -> Path:
    """The newest file of calibration state in a run, or the file itself; raises `DataError` where there is none."""
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
