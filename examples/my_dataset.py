"""A data set of your own in a layout that nobody else has: text files of `image|question|answer` lines.

    medrft data check examples/my_dataset.py:load FOLDER
    medrft data show examples/my_dataset.py:load FOLDER --output sheet.html

In a recipe: `data: {name: examples/my_dataset.py:load, root: FOLDER, modality: CT}`. The folder holds `train.txt`,
`test.txt` and `images/`. Most data need no code at all: a CSV, JSONL or Parquet file is read by `table`.
"""

from __future__ import annotations

from pathlib import Path

from medrft.data.base import EMPTY_ANSWER, NOT_A_ROW, Loaded, Reading
from medrft.errors import DataError
from medrft.text import infer_kind
from medrft.types import Example, Split

SPLITS: tuple[Split, ...] = ("train", "test")


def load(root: Path | None, *, modality: str | None = None) -> Loaded:
    """Read the folder; a keyword-only parameter such as `modality` is an option of `data:` and of `--set`."""
    if root is None or not (root / "images").is_dir():
        raise DataError(f"my_dataset looks for train.txt, test.txt and images/ in {root}, and there is no images/")
    reading = Reading("my_dataset", splits=SPLITS)
    for split in SPLITS:
        lines = (root / f"{split}.txt").read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines):
            name = f"my_dataset/{split}/{number}"
            parts = [part.strip() for part in line.split("|")]
            if len(parts) != 3:
                reading.leave(name, split, NOT_A_ROW, line[:80])
            elif not parts[2]:
                reading.leave(name, split, EMPTY_ANSWER)
            else:
                image, question, answer = parts
                reading.keep(
                    Example(
                        id=name,
                        dataset="my_dataset",
                        split=split,
                        images=(root / "images" / image,),
                        question=question,
                        references=(answer,),
                        kind=infer_kind([answer]),
                        metadata={"modality": modality},
                    )
                )
    return reading.done()  # checks every image, counts, and notes what the splits share
