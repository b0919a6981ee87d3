"""Keeps a reward's state right in TRL: gathers rows over all processes, and saves the state in each checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medrft.integrations.foreign import ForeignReward

STATE = "medrft_reward.json"
"""Name of the file in each checkpoint's folder."""


def gather_ranks(rows: list[Any]) -> tuple[list[Any], int]:
    """The rows of all processes of torch.distributed in the order of ranks, and the place where this one's begin."""
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return rows, 0
    parts: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(parts, rows)
    return [row for part in parts for row in part], sum(len(part) for part in parts[: distributed.get_rank()])


def state_callback(reward: Any) -> Any:
    """A `TrainerCallback` for a reward function, which has a `ForeignReward` as `held` and is told its `model`."""
    from transformers import TrainerCallback

    held: ForeignReward = reward.held

    class SavesState(TrainerCallback):  # type: ignore[misc]
        """Saves the state with each checkpoint, restores it on a resume, and tells the reward its model."""

        def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            """Restore the state of a training that resumes, which is one that has done steps already."""
            reward.model = model
            if state.global_step and held.reward.stateful:
                held.load_state(_state_file(args, state))

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            """Save the state into the checkpoint that the Trainer has just written; all processes have the same one."""
            if state.is_world_process_zero:
                held.save_state(_state_file(args, state))

    return SavesState()


def _state_file(args: Any, state: Any) -> Path:
    return Path(args.output_dir) / f"checkpoint-{state.global_step}" / STATE
