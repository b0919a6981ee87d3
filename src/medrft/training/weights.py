"""Which checkpoint is the best on validation, and reading weights back from one: for a resume, or the best at the end.

The Trainer of transformers 5 reads them with `load_state_dict(strict=False)`. Many vision-language models are saved
under other names than their modules have (`language_model.model.…` for `model.language_model.…`), so nothing would be
loaded, without an error: a resumed run would begin from its start again, and the "best" model would be the last.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate.utils import is_peft_model

from medrft.errors import RecipeError
from medrft.files import tell_user

MAY_LACK = ("eval_reward", "eval_correct", "eval_truth")
"""Figures that a validation does not have where nothing in it could be scored."""


def load_weights(model: Any, folder: str | Path) -> None:
    """Put the weights saved in `folder` into `model`, through the loader that knows their names; every one of them."""
    types = {parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()}
    saved = type(model).from_pretrained(folder, dtype=max(types, key=lambda dtype: dtype.itemsize))  # loses no bit
    model.load_state_dict(saved.state_dict(), strict=True)


class ReadsWeights:
    """Mixin for trainers; adapters and sharded weights have formats of their own and stay the Trainer's."""

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
        """Called by the Trainer after each validation; one without a figure cannot be the best, and that is told.

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
