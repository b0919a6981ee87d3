"""Turns examples into the rows that TRL reads: chat messages with pictures, opened only when a batch needs them.

    {"prompt": [{"role": "user", "content": […]}], "images": [<PIL image>], "example": Example(…), "missing": None}

A picture may have vanished since the data were loaded; such a row must train nothing. In GRPO it gets a blank picture
and is marked (`missing`), and its completions are unscored. SFT has no such mark, so another row of the batch replaces
it.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrft.data.images import UNREADABLE, BadImageError, blank_image, blank_like, open_image, shrink_image
from medrft.errors import DataError, StrictError
from medrft.models.prompts import Prompt
from medrft.rundir import append_jsonl
from medrft.types import Example

if TYPE_CHECKING:
    from datasets import Dataset

CACHED_PIXELS = 64 * 1024 * 1024
"""Decoded pixels kept in memory (192 MiB at 3 bytes each), so that a small data set is decoded once."""


class Pictures:
    """Opens images, shrunk to `max_pixels`, and keeps those used last in memory.

    With `blanked` each image is a grey one of the same size.
    """

    def __init__(self, *, max_pixels: int | None, blanked: bool = False, cached_pixels: int = CACHED_PIXELS):
        self.max_pixels, self.blanked, self.cached_pixels = max_pixels, blanked, cached_pixels
        self._kept: OrderedDict[Path, Any] = OrderedDict()
        self._pixels = 0

    def __call__(self, example: Example) -> list[Any]:
        """The pictures of an example, in order."""
        return [self._open(path) for path in example.images]

    def _open(self, path: Path) -> Any:
        if path in self._kept:
            self._kept.move_to_end(path)
            return self._kept[path]
        try:
            image = open_image(path, max_pixels=self.max_pixels)
        except OSError as error:  # a folder that is gone, a share that does not answer
            raise BadImageError(UNREADABLE, str(error), path=path) from error
        if self.blanked:
            image = blank_like(image)
        self._kept[path] = image
        self._pixels += image.width * image.height
        while self._pixels > self.cached_pixels and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self._pixels -= oldest.width * oldest.height
        return image

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle without the pictures in memory, for a data loader's worker."""
        empty = partial(Pictures, max_pixels=self.max_pixels, blanked=self.blanked, cached_pixels=self.cached_pixels)
        return (empty, ())


Shown = tuple[Example, list[Any], str | None]
"""An example, its pictures, and why they are blank (`None` if they are not)."""

BLANK = (224, 224)
"""Width and height of the blank picture that stands for one that has vanished."""


class Rows:
    """A `datasets` transform from stored examples to the rows of GRPO, each with the `Example` its reward needs.

    `missing` says why a row's picture is a blank one, and is `None` if it is not. Rows of a group share pictures.
    """

    def __init__(self, *, prompt: Prompt, pictures: Pictures):
        self.prompt, self.pictures = prompt, pictures

    def __call__(self, batch: dict[str, list[bytes]]) -> dict[str, list[Any]]:
        """The rows of a batch of examples."""
        shown = [self.shown(pickle.loads(stored)) for stored in batch["stored"]]
        return self.rows(shown) | {"missing": [why for _, _, why in shown]}

    def rows(self, shown: Sequence[Shown]) -> dict[str, list[Any]]:
        """The columns of some examples."""
        return {
            "prompt": [self.prompt.messages(example) for example, _, _ in shown],
            "images": [pictures for _, pictures, _ in shown],
            "example": [example for example, _, _ in shown],
        }

    def shown(self, example: Example) -> Shown:
        """An example with its pictures, or with as many blank ones if one of them cannot be opened."""
        try:
            return example, self.pictures(example), None
        except BadImageError as error:
            empty = shrink_image(blank_image(BLANK), max_pixels=self.pictures.max_pixels)
            return example, [empty for _ in example.images], f"{error.reason}: {error.path}"


@dataclass(frozen=True)
class Lost:
    """A file with a line for each time an example's picture had vanished: `{"example": …, "reason": …}`."""

    path: Path
    strict: bool = False

    def note(self, example: Example, reason: str) -> None:
        """Add a line; raises `StrictError` instead if the recipe is strict."""
        if self.strict:
            raise StrictError(
                f"{reason} (of {example.id}), and the recipe is strict; bring the file back and go on with --resume, "
                "or set strict=false to count such rows and train on others"
            )
        append_jsonl(self.path, [{"example": example.id, "reason": reason}])


class TaughtRows(Rows):
    """The rows of SFT, each with a completion to learn; a row whose picture has vanished is replaced by another.

    The other row is one of the same batch, or else the last whole one of an earlier batch. Before the first batch it is
    taken from `examples`. The length of a batch never changes.
    """

    def __init__(self, *, prompt: Prompt, pictures: Pictures, lost: Lost, examples: Sequence[Example] = ()):
        super().__init__(prompt=prompt, pictures=pictures)
        self.lost = lost
        whole = (row for example in examples if (row := self.shown(example))[2] is None)
        self._whole = list(islice(whole, 1))

    def __call__(self, batch: dict[str, list[bytes]]) -> dict[str, list[Any]]:
        """The rows of a batch of examples; raises `DataError` if there is no whole row to take."""
        shown = [self.shown(pickle.loads(stored)) for stored in batch["stored"]]
        whole = [row for row in shown if row[2] is None] or self._whole
        self._whole = whole[-1:]
        for example, _, why in shown:
            if why is not None:
                self.lost.note(example, why)
        if not whole:
            raise DataError(f"no picture of the batch can be opened; the first: {shown[0][2]}; bring the files back")
        return self.rows([row if row[2] is None else whole[n % len(whole)] for n, row in enumerate(shown)])

    def rows(self, shown: Sequence[Shown]) -> dict[str, list[Any]]:
        """Prompts, pictures and completions."""
        taught = [[assistant_message(self.prompt.target(example))] for example, _, _ in shown]
        columns = super().rows(shown)
        del columns["example"]
        return columns | {"completion": taught}


def lazy_dataset(examples: Sequence[Example], rows: Rows) -> Dataset:
    """A `datasets.Dataset` that builds its rows when they are asked for.

    The examples lie pickled in its Arrow table, and not in the transform: `datasets` hashes whatever a transform refers
    to, which takes seconds for some thousand examples. The pickles are our own, made here, so unpickling them is safe.
    """
    from datasets import Dataset

    stored = Dataset.from_dict({"stored": [pickle.dumps(example) for example in examples]})
    return stored.with_transform(rows)


def assistant_message(text: str) -> dict[str, Any]:
    """An assistant message with one block of text."""
    return {"role": "assistant", "content": [{"type": "text", "text": text}]}


def teachable_examples(examples: Sequence[Example], prompt: Prompt) -> tuple[list[Example], list[str]]:
    """The examples from which the prompt's form can be taught, and the ids of the others.

    Only `think` needs more than a reference: a rationale, which is never invented. Raises `DataError` if no example
    has one.
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
