"""What a stage leaves on disk: its record, and the checkpoint from which an interrupted one goes on.

    stages/grpo/stage.json                        what was done, from where, in how long
    stages/grpo/checkpoints/checkpoint-40/        TRL's, with our state inside its trainer_state.json
        exact-0.pt                                what else the next step depends on, one per process
        checkpoint.json                           every file with its size and sha256, written last

A checkpoint without its list of files was cut off while it was written; it does not count and is removed. One whose
files are not as listed is damaged; the one before it counts, and the user is told. What was logged after the checkpoint
is dropped on resume, so that no step is counted twice.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medrft.errors import DataError
from medrft.files import find_flaw, list_files, tell_user
from medrft.models.saved import find_damage
from medrft.rundir import RunDir, read_growing, read_json, write_json, write_jsonl
from medrft.store import drop_later
from medrft.training.processes import is_main, world_size

TRAINER_STATE = "trainer_state.json"
FILES = "checkpoint.json"
KEY = "StageState"
"""Name of our state among the Trainer's stateful callbacks: that of the class `callbacks.StageState`."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A whole checkpoint, with our own state in it."""

    path: Path
    step: int
    saved: dict[str, Any] = field(default_factory=dict)
    last: bool = False
    """Whether it is of the stage's last step, so that only the final model is still to be saved."""
    best: Path | None = None
    """The checkpoint that was the best on validation by then."""

    def settle(self, state: Any) -> None:
        """Make a restored `TrainerState` point to where the best checkpoint is now; one that is gone is forgotten."""
        if self.best is None:
            return
        if self.best.is_dir():
            state.best_model_checkpoint = str(self.best)
        else:
            _tell(f"{self.best}, the best on validation so far, is gone; choosing among the later ones")
            state.best_model_checkpoint = state.best_metric = state.best_global_step = None


def seal_checkpoint(folder: Path, *, processes: int) -> None:
    """Make a checkpoint count: put its files on disk, then list them with their sizes and hashes."""
    write_json(folder / FILES, {"processes": processes, "files": list_files(folder, without=(FILES,))})


def rotate_checkpoints(folder: Path, *, limit: int | None, best: Path | None) -> None:
    """Remove the oldest checkpoints beyond `limit`; never the newest, nor the best."""
    found = _folders(folder)
    stay = {path.name for path in found[-1:]} | ({best.name} if best else set())
    spare = [path for path in found if path.name not in stay]
    for path in spare[: max(0, len(found) - max(limit, len(stay)))] if limit else ():
        _remove(path)


def last_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest whole checkpoint in `folder`, `None` if there is none.

    Removes what a killed save has left, and damaged checkpoints that are newer than the whole one. Raises `DataError`
    if there are damaged ones only, or if another number of processes wrote it.
    """
    damaged: dict[Path, str] = {}
    for path in reversed(_folders(folder)):
        flaw = _flaw(path)
        if flaw is None:
            for other, why in damaged.items():
                _tell(f"{other} is damaged: {why}; going on from {path.name} before it")
                _remove(other)
            return _read(path)
        if flaw:
            damaged[path] = flaw
        else:
            _remove(path)
    for path, why in damaged.items():
        raise DataError(
            f"{path} is damaged: {why}; none before it is whole, so delete {folder} to begin the stage anew"
        )
    return None


def _folders(folder: Path) -> list[Path]:
    """The folders of checkpoints, by step."""
    found = [path for path in folder.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdecimal()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("checkpoint-")))


def _flaw(path: Path) -> str | None:
    """What is wrong with a checkpoint: nothing (`None`), cut off while written (empty), or a file not as listed."""
    if not (path / FILES).is_file():
        return ""
    try:
        listed = read_json(path / FILES)["files"]
    except (DataError, KeyError, TypeError):
        return f"{FILES} is not the list of files that was written"
    return find_flaw(path, listed, content=True)


def _read(path: Path) -> Checkpoint:
    """Read a whole checkpoint; the best one that it names must be whole too, unless it is gone."""
    state = read_json(path / TRAINER_STATE)
    processes = read_json(path / FILES)["processes"]
    if processes != world_size():
        raise DataError(
            f"{path} was written by {processes} processes, and {world_size()} are to go on; a generation batch may lie "
            f"spread over them, so start as many"
        )
    best = state["best_model_checkpoint"] and path.with_name(Path(state["best_model_checkpoint"]).name)
    if best and best.is_dir() and (flaw := _flaw(best)) is not None:
        raise DataError(
            f"{best}, the best on validation so far, is damaged: {flaw or 'it was being removed'}; delete it to choose "
            "among the later ones"
        )
    saved, step = state["stateful_callbacks"][KEY]["attributes"], int(state["global_step"])
    return Checkpoint(path, step, saved, last=step >= int(state["max_steps"]), best=best or None)


def _remove(path: Path) -> None:
    """Remove a checkpoint, its list of files first, so that a kill meanwhile leaves nothing that looks damaged."""
    if is_main():
        (path / FILES).unlink(missing_ok=True)
        shutil.rmtree(path, ignore_errors=True)


def _tell(message: str) -> None:
    if is_main():
        tell_user(message)


def rewind_stage(run: RunDir, stage: str, checkpoint: Checkpoint | None) -> None:
    """Drop the stage's metrics, warnings and rollouts after `checkpoint`; all of them if there is none."""
    step = checkpoint.step if checkpoint else -1
    if checkpoint is None:
        run.lost(stage).unlink(missing_ok=True)
    for path in (run.metrics, run.warnings):
        if path.is_file():
            kept = [row for row in read_growing(path) if row["stage"] != stage or row["step"] <= step]
            write_jsonl(path, kept)
    if run.rollouts.is_dir():
        drop_later(run.rollouts, stage=stage, step=step)


def write_stage(run: RunDir, stage: str, **facts: Any) -> None:
    """Add facts to a stage's record."""
    write_json(run.stage(stage) / "stage.json", {**run.record(stage), **facts})


def needs_training(run: RunDir, stage: str) -> bool:
    """Whether a resumed run must train the stage: it is not finished, or its final model is not as it was written.

    If the model is damaged, the user is told, and the stage goes on from its last checkpoint. Every file of the model
    is read and hashed here; `RunDir.is_finished` is the quick check for those who only load it.
    """
    if not run.is_finished(stage):
        return True
    flaw = find_damage(run.final(stage), content=True)
    if flaw is not None:
        _tell(f"{run.final(stage)} is damaged: {flaw}; stage {stage} goes on from its last checkpoint")
    return flaw is not None
