"""Reading weights back from a checkpoint, for a resume or for the best model at the end.

The Trainer of transformers 5 reads them with `load_state_dict(strict=False)`. Many vision-language models are saved
under other names than their modules have (`language_model.model.…` for `model.language_model.…`), so nothing would be
loaded, without an error: a resumed run would begin from its start again, and the "best" model would be the last.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from accelerate.utils import is_peft_model


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

    def _whole(self, model: Any) -> bool:
        sharded = self.is_fsdp_enabled or self.is_deepspeed_enabled  # type: ignore[attr-defined]
        return not (sharded or is_peft_model(model))
