"""What a stage leaves on disk: its record, and the checkpoint from which an interrupted one goes on.

    stages/grpo/stage.json                        what was done, from where, in how long
    stages/grpo/checkpoints/checkpoint-40/        TRL's, with our state inside its trainer_state.json

A checkpoint counts once its `trainer_state.json` is whole, which the trainer writes last. Whatever was logged after
the checkpoint is dropped on resume, so that no step is counted twice.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medrft.rundir import RunDir, read_json, read_jsonl, write_json, write_jsonl
from medrft.store import supersede

TRAINER_STATE = "trainer_state.json"
KEY = "StageState"
"""Name under which our state lies among the trainer's stateful callbacks."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A whole checkpoint and what we had put into it."""

    path: Path
    step: int
    saved: dict[str, Any] = field(default_factory=dict)
    last: bool = False
    """It is of the stage's last step: only the final model was still to be saved."""


def last_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest whole checkpoint in `folder`; broken ones, left by a killed save, are removed."""
    found: list[Checkpoint] = []
    for path in sorted(folder.glob("checkpoint-*")):
        checkpoint = _read(path)
        if checkpoint is None:
            shutil.rmtree(path, ignore_errors=True)
        else:
            found.append(checkpoint)
    return max(found, key=lambda checkpoint: checkpoint.step, default=None)


def _read(path: Path) -> Checkpoint | None:
    try:
        state = json.loads((path / TRAINER_STATE).read_text(encoding="utf-8"))
        saved = state["stateful_callbacks"][KEY]["attributes"]
        step = int(state["global_step"])
        return Checkpoint(path, step, saved, last=step >= int(state["max_steps"]))
    except (OSError, ValueError, KeyError, TypeError):  # cut short, or another program's
        return None


def rewind(run: RunDir, stage: str, checkpoint: Checkpoint | None) -> None:
    """Drop the stage's metrics, warnings and rollouts after `checkpoint`; all of them where there is none."""
    step = checkpoint.step if checkpoint else -1
    if checkpoint is None:
        run.lost(stage).unlink(missing_ok=True)
    for path in (run.metrics, run.warnings):
        if path.is_file():
            rows = list(read_jsonl(_whole_lines(path)))
            kept = [row for row in rows if row["stage"] != stage or row["step"] <= step]
            if len(kept) < len(rows):
                write_jsonl(path, kept)
    if run.rollouts.is_dir():
        supersede(run.rollouts, stage=stage, step=step)


def _whole_lines(path: Path) -> Path:
    """Cut off a last line that a kill left unfinished."""
    content = path.read_bytes()
    end = content.rfind(b"\n") + 1
    if end < len(content):
        with path.open("r+b") as file:
            file.truncate(end)
    return path


def read_stage(run: RunDir, stage: str) -> dict[str, Any]:
    """A stage's record; empty when it has none."""
    path = run.stage(stage) / "stage.json"
    found: dict[str, Any] = read_json(path) if path.is_file() else {}
    return found


def write_stage(run: RunDir, stage: str, **facts: Any) -> None:
    """Add facts to a stage's record."""
    write_json(run.stage(stage) / "stage.json", {**read_stage(run, stage), **facts})


def is_done(run: RunDir, stage: str) -> bool:
    """Whether the stage has trained to its end and its final model is there."""
    return read_stage(run, stage).get("status") == "done" and (run.final(stage) / "config.json").is_file()
