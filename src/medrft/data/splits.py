"""Splits that a release leaves to its users: validation cut from train, and train without the images of test.

Both go by image content, so that a copy under another name does not slip through.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from medrft.data.base import Loaded
from medrft.data.images import sha256_of
from medrft.data.notes import counted, images_of, split_notes
from medrft.types import SPLITS, Example, LeftOut

IN_TEST = "image is also in test"


def exclude_test_images(loaded: Loaded) -> Loaded:
    """Leave out, row by row, the train and validation rows whose image is in test."""
    test = images_of(loaded.split("test"))
    kept, left = [], []
    for example in loaded.examples:
        shared = [] if example.split == "test" else [path for path in example.images if sha256_of(path) in test]
        if shared:
            names = ", ".join(path.name for path in shared)
            left.append(LeftOut(row=example.id, split=loaded.reported(example), reason=IN_TEST, detail=names))
        else:
            kept.append(example)
    note = f"{counted(len(left), 'row', 'rows')} left out because their image is in test (exclude_test_images)"
    return _with(loaded, kept, left_out=left, note=note)


def cut_validation(loaded: Loaded, *, fraction: float, seed: int) -> Loaded:
    """Move `fraction` of the train images, drawn by `seed`, with all their rows to validation.

    Rows that share an image stay together. Ids keep their official split. Without train rows, or with too few images
    to leave both parts something, nothing moves and a note says so.
    """
    groups = image_groups(loaded.split("train"))
    total = sum(len(images) for images in groups)
    drawn = sorted(groups)
    random.Random(seed).shuffle(drawn)
    moved: set[str] = set()
    for images in drawn[:-1]:
        if len(moved) >= max(1, round(fraction * total)):
            break
        moved |= set(images)
    if not moved:
        return _with(loaded, loaded.examples, note="no validation split: train has fewer than two separate images")
    examples = [_moved(example) if _in(example, moved) else example for example in loaded.examples]
    rows = sum(example.split == "validation" for example in examples)
    note = f"validation cut from train by image (fraction {fraction:g}, seed {seed}): {len(moved)} of {total} images"
    return _with(loaded, examples, note=f"{note}, {counted(rows, 'row', 'rows')}")


def image_groups(examples: Iterable[Example]) -> list[tuple[str, ...]]:
    """Content hashes of images in groups that no example joins to one another, each sorted."""
    parent: dict[str, str] = {}

    def find(key: str) -> str:
        while parent[key] != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    for example in examples:
        hashes = [sha256_of(path) for path in example.images]
        for key in hashes:
            parent.setdefault(key, key)
            parent[find(key)] = find(hashes[0])
    groups: dict[str, list[str]] = {}
    for key in parent:
        groups.setdefault(find(key), []).append(key)
    return [tuple(sorted(group)) for group in groups.values()]


def _in(example: Example, images: set[str]) -> bool:
    return example.split == "train" and any(sha256_of(path) in images for path in example.images)


def _moved(example: Example) -> Example:
    return replace(example, split="validation")


def _with(loaded: Loaded, examples: Sequence[Example], *, note: str, left_out: Sequence[LeftOut] = ()) -> Loaded:
    """A new `Loaded` with its counts and its notes on splits made again."""
    report = loaded.report
    stale = set(split_notes(loaded.groups()))
    all_left = (*report.left_out, *left_out)
    changed = replace(loaded, examples=tuple(examples))
    kept = Counter(changed.reported(example) for example in examples)
    read = kept + Counter(row.split for row in all_left)
    order = list(dict.fromkeys([*report.read, *read]))
    if loaded.split_by is None:
        order.sort(key=lambda name: SPLITS.index(name) if name in SPLITS else len(SPLITS))
    changed = replace(
        changed,
        report=replace(
            report,
            read={name: read[name] for name in order},
            kept={name: kept[name] for name in order},
            left_out=all_left,
        ),
    )
    notes = (*(old for old in report.notes if old not in stale), note, *split_notes(changed.groups()))
    return replace(changed, report=replace(changed.report, notes=notes))
