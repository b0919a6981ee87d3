"""Makes a resumed run give the same bits as one that was never stopped.

The Trainer restores weights, optimizer, schedule, random numbers and counters. It does not restore how often TRL has
used a generation batch (`_step`), that batch itself (`_buffered_inputs`), or what was measured since the last log.
`Exact` saves these beside TRL's files, one `exact-<process>.pt` for each process, and puts them back. `Boundaries`
mends two places where the Trainer's own resume differs from an uninterrupted run, and `ReadsWeights` how it reads
weights. The list of a checkpoint's files is written last, and makes it count; only then are older ones removed.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import is_peft_model
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from medrft.errors import DataError, RecipeError
from medrft.files import tell_user
from medrft.training.disk import storage_errors
from medrft.training.state import Checkpoint, rotate_checkpoints, seal_checkpoint

KEPT = ("_step", "_buffered_inputs", "_total_train_tokens", "_tr_loss", "_globalstep_last_logged")
"""Attributes of the trainers that a resume must find as they were; SFT lacks the first two."""
MAY_LACK = ("eval_reward", "eval_correct", "eval_truth")
"""Figures that a validation lacks if nothing in it could be scored."""


class Exact:
    """Mixin for TRL's trainers: a checkpoint holds all that the next step depends on, and counts only when whole."""

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Called by the Trainer; older checkpoints are removed once this one is sealed, not before."""
        args, state, accelerator = self.args, self.state, self.accelerator  # type: ignore[attr-defined]
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        with storage_errors(folder, whole=True):
            with _keeping_all(args):
                super()._save_checkpoint(model, trial)  # type: ignore[misc]
            torch.save(_plain(_kept(self)), folder / _name(args))
            accelerator.wait_for_everyone()
            if args.should_save:
                seal_checkpoint(folder, processes=args.world_size)
        if args.should_save:
            best = Path(state.best_model_checkpoint) if state.best_model_checkpoint else None
            rotate_checkpoints(folder.parent, limit=args.save_total_limit, best=best)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Called by the Trainer once when it resumes, after its counters are set and before the first step."""
        super()._load_rng_state(checkpoint)  # type: ignore[misc]
        if checkpoint is not None:
            _restore(self, Path(checkpoint) / _name(self.args))  # type: ignore[attr-defined]

    def _finalize_training(self, *args: Any, **kwargs: Any) -> Any:
        """Called by the Trainer at the end or after a signal.

        With `save_total_limit` 1 it would remove the last checkpoint here.
        """
        with _keeping_all(self.args):  # type: ignore[attr-defined]
            return super()._finalize_training(*args, **kwargs)  # type: ignore[misc]


class Boundaries(TrainerCallback):  # type: ignore[misc]
    """Mends the Trainer's resume where it differs from an uninterrupted run: at the start, and at ends of epochs."""

    def __init__(self, checkpoint: Checkpoint | None):
        self.checkpoint = checkpoint
        self._postponed = self._at_start = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """A resumed stage does not evaluate its start again. Its best checkpoint is found even if the run was moved."""
        self._at_start, args.eval_on_start = args.eval_on_start, args.eval_on_start and self.checkpoint is None
        if self.checkpoint is not None:
            self.checkpoint.settle(state)

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Tell the sampler its epoch: the Trainer does not reach it in a resumed epoch of several processes."""
        args.eval_on_start = self._at_start
        loader: Any = kwargs.get("train_dataloader")
        if hasattr(loader, "set_epoch"):
            loader.set_epoch(int(state.epoch or 0))

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """After the last step of an epoch, or of the stage, put off saving until the evaluation at that step is done.

        A run resumed from a checkpoint that was written before that evaluation would leave it out.
        """
        if control.should_save and (control.should_training_stop or float(state.epoch or 0).is_integer()):
            control.should_save, self._postponed = False, True

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Save what was postponed."""
        control.should_save, self._postponed = control.should_save or self._postponed, False


def _kept(trainer: Any) -> dict[str, Any]:
    found = {name: getattr(trainer, name) for name in KEPT if hasattr(trainer, name)}
    found["_metrics"] = trainer._metrics
    if getattr(trainer.args, "sync_ref_model", False):  # TRL then changes the reference model
        found["ref_model"] = trainer.accelerator.unwrap_model(trainer.ref_model).state_dict()
    return found


def _restore(trainer: Any, path: Path) -> None:
    found = _load(path, trainer.args.device)
    for mode, metrics in found.pop("_metrics").items():
        trainer._metrics[mode].clear()
        trainer._metrics[mode].update(metrics)
    if "ref_model" in found:
        trainer.accelerator.unwrap_model(trainer.ref_model).load_state_dict(found.pop("ref_model"))
    for name in KEPT:
        if hasattr(trainer, name):
            setattr(trainer, name, found[name])


def _load(path: Path, device: torch.device) -> dict[str, Any]:
    """Read tensors, numbers, texts and containers from a file; what was on a GPU comes back on this process's own.

    Nothing else is read: a checkpoint may come from somebody else, and unpickling other types could run code. Raises
    `DataError` for such a file.
    """

    def place(storage: Any, where: str) -> Any:
        return torch.serialization.default_restore_location(storage, "cpu" if where == "cpu" else str(device))

    try:
        found: dict[str, Any] = torch.load(path, map_location=place, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise DataError(
            f"{path} is not a state that medrft wrote ({str(error).splitlines()[0]}); delete {path.parent} and "
            "--resume from the checkpoint before it"
        ) from error
    return found


def _plain(value: Any) -> Any:
    """The value in the plain types that `weights_only=True` loads: containers of tensors, numbers and texts.

    >>> from collections import defaultdict
    >>> _plain(defaultdict(list, kl=[0.5, None], n=(1, True)))
    {'kl': [0.5, None], 'n': (1, True)}
    """
    if isinstance(value, torch.Tensor):
        return value.detach()
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return tuple(map(_plain, value)) if isinstance(value, tuple) else list(map(_plain, value))
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, Real):  # numpy's among them
        return int(value) if isinstance(value, Integral) else float(value)
    raise TypeError(f"a checkpoint can hold tensors, numbers and texts, got {type(value).__name__}")


def _name(args: TrainingArguments) -> str:
    return f"exact-{args.process_index}.pt"


@contextmanager
def _keeping_all(args: TrainingArguments) -> Iterator[None]:
    """Inside, the Trainer removes no checkpoint."""
    limit, args.save_total_limit = args.save_total_limit, None
    try:
        yield
    finally:
        args.save_total_limit = limit


def load_weights(model: Any, folder: str | Path) -> None:
    """Put all weights saved in `folder` into `model`, by way of `from_pretrained`, which knows their names."""
    # The Trainer's `_load_from_checkpoint` and `_load_best_model` match the file's tensors to parameters by name, not
    # strictly. Some families are saved under the names of older checkpoints: what does not match would stay as it is,
    # with no more than a warning.
    types = {parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()}
    saved = type(model).from_pretrained(folder, dtype=max(types, key=lambda dtype: dtype.itemsize))  # loses no bit
    model.load_state_dict(saved.state_dict(), strict=True)


class ReadsWeights:
    """Mixin for trainers that reads whole models by `load_weights`, and refuses to choose a best without a figure.

    Adapters and sharded weights have formats of their own, and the Trainer reads them as ever.
    """

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Called by the Trainer when it resumes."""
        target = self.model if model is None else model  # type: ignore[attr-defined]
        if self._whole(target):
            load_weights(target, resume_from_checkpoint)
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)  # type: ignore[misc]

    def _load_best_model(self) -> None:
        """Called by the Trainer at the end, when there was validation to choose on."""
        target = self.model  # type: ignore[attr-defined]
        if self._whole(target):
            load_weights(target, self.state.best_model_checkpoint)  # type: ignore[attr-defined]
        else:
            super()._load_best_model()  # type: ignore[misc]

    def _determine_best_metric(self, metrics: Mapping[str, Any], trial: Any) -> bool:
        """Called by the Trainer after each validation; one without the figure cannot be the best, and the user is told.

        Raises `RecipeError` for a `metric_for_best_model` that no validation has.
        """
        args, state = self.args, self.state  # type: ignore[attr-defined]
        name = args.metric_for_best_model
        if name is None:
            return False
        name = name if name.startswith("eval_") else f"eval_{name}"
        value = metrics.get(name)
        if value is not None and math.isfinite(value):
            return bool(super()._determine_best_metric(metrics, trial))  # type: ignore[misc]
        if name not in metrics and name not in MAY_LACK:
            numbers = ", ".join(key for key, figure in metrics.items() if isinstance(figure, int | float))
            raise RecipeError(f"trl.metric_for_best_model is {args.metric_for_best_model!r}; validation has {numbers}")
        if state.is_world_process_zero:
            why = "nothing in it was scored" if value is None else f"it is {value}"
            tell_user(f"validation at step {state.global_step} has no {name} ({why}), so it cannot be the best")
        return False

    def _whole(self, model: Any) -> bool:
        sharded = self.is_fsdp_enabled or self.is_deepspeed_enabled  # type: ignore[attr-defined]
        return not (sharded or is_peft_model(model))
