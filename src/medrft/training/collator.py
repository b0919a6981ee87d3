"""TRL's collator for SFT on pictures, mended for Llama 3.2 Vision: rows go in, a batch comes out.

Its processor puts the beginning-of-text token before every text, and so also before an answer in the middle of a row.
Its input that says which pictures each token sees has the prompt's length in TRL, and must cover the answer as well.
"""

from __future__ import annotations

from typing import Any

import torch
from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

from medrft.models.encode import SEEN, widen_seen


class Collator(DataCollatorForVisionLanguageModeling):  # type: ignore[misc]
    """Rows of prompts and completions as model inputs with labels."""

    processor: Any

    @classmethod
    def mended(cls, plain: DataCollatorForVisionLanguageModeling) -> Collator:
        """Our collator with the settings of the one that TRL built."""
        return cls(**vars(plain))

    def _collate_prompt_completion(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        plain: Any = self.processor
        reader = _Reader(plain)
        self.processor = reader
        try:
            batch: dict[str, Any] = super()._collate_prompt_completion(examples)
        finally:
            self.processor = plain
        if SEEN in batch:
            batch[SEEN] = _over_answers(batch[SEEN], reader.prompts, batch["input_ids"].shape[1])
        return batch


class _Reader:
    """A processor that puts no beginning-of-text token before answers, and remembers the mask of the prompts."""

    prompts: torch.Tensor
    """The attention mask of the prompts, (B, P)."""

    def __init__(self, processor: Any):
        self._processor = processor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._processor, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Called by TRL, first for prompts and then for answers; answers come without `images`."""
        found = self._processor(*args, **kwargs)
        if "images" in kwargs:
            self.prompts = found["attention_mask"]
            return found
        tokenizer = self._processor.tokenizer
        start, texts = tokenizer.bos_token_id, kwargs.get("text") or ()
        added = start is not None and bool((found["input_ids"][:, 0] == start).all())
        if added and not any(text.startswith(tokenizer.bos_token) for text in texts):
            width = found["input_ids"].shape[1]
            for key, value in found.items():
                if isinstance(value, torch.Tensor) and value.shape[1:2] == (width,):
                    found[key] = value[:, 1:]
        return found


def _over_answers(seen: torch.Tensor, prompts: torch.Tensor, width: int) -> torch.Tensor:
    """Which pictures each token sees, from prompts padded on the left, (B, P, images, tiles), to whole rows.

    The rows, (B, width, images, tiles), are padded on the right. An answer sees what its prompt's last token sees.
    """
    rows = []
    for row, real in zip(seen, prompts.bool(), strict=True):
        kept = row[real]
        rows.append(widen_seen(kept[None], after=max(0, width - len(kept)))[0, :width])
    return torch.stack(rows)
