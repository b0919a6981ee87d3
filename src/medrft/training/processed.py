"""Stand-ins for a processor: TRL's GRPO trainer calls them where it would misuse the real one.

TRL 1.16 does three things that lose something:

- `_tokenize_prompts` does not say whether to pad. Some processors then pad by default (Gemma 4, Aya Vision), and TRL
  would read the padding as the prompt's own tokens; others cannot make a tensor of unequal rows (Pixtral). `Padding`
  pads, and takes the padding out of the token ids again.
- `_generate_and_score_completions` processes the same images a second time. `Processed` repeats what the first call
  returned.
- `_get_per_token_logps_and_entropies` takes only multimodal inputs that are among its parameters. The others travel
  as columns of the batch (`extra_columns`, `extra_fields`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from trl import GRPOTrainer

from medrft.models.encode import SEEN, widen_seen
from medrft.training.sharing.groups import by_row, take_rows

COUNTS = ("num_images", "num_tiles", "num_patches")
"""Columns that only say how to cut multimodal inputs into rows, and that no model takes."""
KNOWN = frozenset(inspect.signature(GRPOTrainer._get_per_token_logps_and_entropies).parameters)
"""Multimodal inputs that TRL hands to the model, among other arguments."""
EXTRA = "processor/"
"""Prefix of the batch's columns that hold inputs which TRL does not know."""


class Padding:
    """A processor that pads prompts and takes the padding out of their token ids again."""

    def __init__(self, processor: Any):
        self._processor = processor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._processor, name)

    def apply_chat_template(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Token ids of each prompt without padding, and whatever else the processor returns, padded."""
        side = {"padding": True, "padding_side": "left"}
        found = self._processor.apply_chat_template(*args, **kwargs, processor_kwargs=side)
        masks = zip(found["input_ids"], found["attention_mask"], strict=True)
        rows = [[int(token) for token, real in zip(row, mask, strict=True) if real] for row, mask in masks]
        return {**found, "input_ids": rows}


class Processed:
    """Takes TRL's second call for the same prompts: returns known `fields`, or remembers what the processor returns."""

    def __init__(
        self, processor: Any, fields: dict[str, Any] | None, part: Callable[[str], AbstractContextManager[Any]]
    ):
        """`part` is entered with `processor` while the processor works."""
        self._processor, self.fields, self._repeats = processor, fields or {}, fields is not None
        self._part = part

    def __getattr__(self, name: str) -> Any:
        return getattr(self._processor, name)

    def apply_chat_template(self, *args: Any, **kwargs: Any) -> Any:
        """The text of a prompt; empty if the fields are known, since then nobody reads it."""
        return "" if self._repeats else self._processor.apply_chat_template(*args, **kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The multimodal inputs of all rows."""
        if not self._repeats:
            with self._part("processor"):
                self.fields = dict(self._processor(*args, **kwargs))
        return forward_fields(self.fields)

    @property
    def image_processor(self) -> Any:
        """The processor's own, or one that knows the tiles of each image, for which TRL asks again."""
        known = self.fields.get("num_patches")
        return self._processor.image_processor if known is None else _Counted(self._processor.image_processor, known)


class _Counted:
    """An image processor that returns known counts of tiles."""

    def __init__(self, image_processor: Any, patches: torch.Tensor):
        self._image_processor, self._patches = image_processor, patches

    def __getattr__(self, name: str) -> Any:
        return getattr(self._image_processor, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The number of tiles of each image, if TRL asks for that (`crop_to_patches`)."""
        if kwargs.get("crop_to_patches"):
            return {"num_patches": self._patches}
        return self._image_processor(*args, **kwargs)


def forward_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The multimodal fields that a forward pass takes."""
    return {key: value for key, value in fields.items() if key not in COUNTS}


def stretch_inputs(fields: Mapping[str, Any], tokens: int) -> dict[str, Any]:
    """Inputs of prompts, fitted to rows of `tokens` tokens: a completion sees the images that its prompt sees."""
    found = dict(fields)
    seen = found.get(SEEN)
    if seen is not None and seen.shape[1] < tokens:
        found[SEEN] = widen_seen(seen, after=tokens - seen.shape[1])
    return found


def extra_columns(fields: Mapping[str, Any], num_images: Any) -> dict[str, Any]:
    """The inputs that TRL would drop, as columns of the batch with an entry per row."""
    dropped = {key: value for key, value in fields.items() if key not in (*KNOWN, *COUNTS)}
    if not dropped or num_images is None:
        return {}
    cut = by_row({**dropped, "num_images": num_images})
    return {EXTRA + key: value for key, value in cut.items() if key in dropped}


def extra_fields(batch: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs that `extra_columns` put into a batch, in their own layout again."""
    kept = {key.removeprefix(EXTRA): value for key, value in batch.items() if key.startswith(EXTRA)}
    return take_rows(kept, range(len(next(iter(kept.values()))))) if kept else {}
