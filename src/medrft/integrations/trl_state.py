"""What keeps a reward's state right in TRL: the gather over processes, and a file in each checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medrft.integrations.foreign import ForeignReward

STATE = "medrft_reward.json"
"""In each checkpoint's folder."""


def gather_ranks(rows: list[Any]) -> tuple[list[Any], int]:
    """The rows of all of torch's processes, and where this one's begin."""
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return rows, 0
    parts: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(parts, rows)
    return [row for part in parts for row in part], sum(len(part) for part in parts[: distributed.get_rank()])


def state_callback(reward: Any) -> Any:
    """A `TrainerCallback` for one reward function (`held` is its `ForeignReward`, `model` what it must be told)."""
    from transformers import TrainerCallback

    held: ForeignReward = reward.held

    class SavesState(TrainerCallback):  # type: ignore[misc]
        """Saves with every checkpoint, restores on a resume, and tells the reward which model is trained."""

        def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            """A resumed training has done steps already."""
            reward.model = model
            if state.global_step and held.reward.stateful:
                held.load_state(_state_file(args, state))

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            """After the Trainer has written its own files; states are alike on all processes, so one writes."""
            if state.is_world_process_zero:
                held.save_state(_state_file(args, state))

    return SavesState()


def _state_file(args: Any, state: Any) -> Path:
    return Path(args.output_dir) / f"checkpoint-{state.global_step}" / STATE
