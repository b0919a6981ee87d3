"""Examples as the rows TRL reads: chat messages with their pictures, opened only when a batch needs them."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrft.data.images import open_image
from medrft.errors import DataError
from medrft.models.prompts import Prompt
from medrft.types import Example

if TYPE_CHECKING:
    from datasets import Dataset

CACHED_PIXELS = 64 * 1024 * 1024
"""Decoded pixels kept in memory (192 MiB): a small data set is decoded once."""


class Pictures:
    """Opens images, shrunk to `max_pixels`, and keeps the newest ones decoded."""

    def __init__(self, *, max_pixels: int | None, cached_pixels: int = CACHED_PIXELS):
        self.max_pixels, self.cached_pixels = max_pixels, cached_pixels
        self._kept: OrderedDict[Path, Any] = OrderedDict()
        self._pixels = 0

    def __call__(self, example: Example) -> list[Any]:
        """The pictures of an example, in order."""
        return [self._open(path) for path in example.images]

    def _open(self, path: Path) -> Any:
        if path in self._kept:
            self._kept.move_to_end(path)
            return self._kept[path]
        image = open_image(path, max_pixels=self.max_pixels)
        self._kept[path] = image
        self._pixels += image.width * image.height
        while self._pixels > self.cached_pixels and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self._pixels -= oldest.width * oldest.height
        return image

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel (to a data loader's worker) without the pictures."""
        return (_pictures, (self.max_pixels, self.cached_pixels))


def _pictures(max_pixels: int | None, cached_pixels: int) -> Pictures:
    return Pictures(max_pixels=max_pixels, cached_pixels=cached_pixels)


class Rows:
    """A `datasets` transform from stored examples to TRL's rows.

    With `targets` each row has a completion to learn (SFT); without, it carries its `Example`, which the reward
    needs (GRPO). Rows of a group share their pictures.
    """

    def __init__(self, *, prompt: Prompt, pictures: Pictures, targets: bool):
        self.prompt, self.pictures, self.targets = prompt, pictures, targets

    def __call__(self, batch: dict[str, list[bytes]]) -> dict[str, list[Any]]:
        """The rows of a batch of examples."""
        examples: list[Example] = [pickle.loads(stored) for stored in batch["stored"]]
        rows: dict[str, list[Any]] = {
            "prompt": [self.prompt.messages(example) for example in examples],
            "images": [self.pictures(example) for example in examples],
        }
        if self.targets:
            rows["completion"] = [[assistant(self.prompt.target(example))] for example in examples]
        else:
            rows["example"] = examples
        return rows


def dataset(examples: Sequence[Example], rows: Rows) -> Dataset:
    """A `datasets.Dataset` that builds its rows when they are asked for.

    The examples lie in its Arrow table, pickled by us a moment ago: `datasets` hashes whatever a transform refers
    to, which takes seconds for some thousand examples.
    """
    from datasets import Dataset

    stored = Dataset.from_dict({"stored": [pickle.dumps(example) for example in examples]})
    return stored.with_transform(rows)


def assistant(text: str) -> dict[str, Any]:
    """An assistant message."""
    return {"role": "assistant", "content": [{"type": "text", "text": text}]}


def teachable(examples: Sequence[Example], prompt: Prompt) -> tuple[list[Example], list[str]]:
    """Examples that have what the prompt's form teaches, and the ids of those that do not.

    Only `think` needs more than a reference: a rationale, which is never invented. Raises `DataError` when no
    example has one.
    """
    if prompt.form != "think":
        return list(examples), []
    kept = [example for example in examples if (example.rationale or "").strip()]
    if examples and not kept:
        raise DataError(
            f"none of {len(examples)} train examples has a rationale for the {prompt.name!r} prompt to teach; "
            "use prompt: direct, which trains on the answer alone"
        )
    have = {example.id for example in kept}
    return kept, [example.id for example in examples if example.id not in have]
