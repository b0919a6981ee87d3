"""From loaded examples to splits that share no image: not under one name, not as another file, and not as a copy.

Images are the same if their pixels are (`images.pixels_of`, read once when the image was checked). Copies are images
that were recompressed, resized or cropped. They are found as in `overlap.leaks`, which takes long on many images, so a
recipe has to ask for it.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

from medrft.data.base import Loaded
from medrft.data.images import pixels_of
from medrft.data.notes import count_noun, images_of, split_notes
from medrft.data.overlap.fingerprints import Fingerprint, fingerprint_of
from medrft.data.overlap.neighbours import find_neighbours
from medrft.types import SPLITS, Example, LeftOut, Split

IN_TEST = "image is also in test"
COPY_IN_TEST = "image is a copy of one in test"

Pairs = set[tuple[str, str]]
"""Pairs of images, by pixel hash, that are copies of one another."""


def by_image(loaded: Loaded, *, test: float, validation: float, seed: int, copies: bool = True) -> Loaded:
    """All rows split anew by image: `test` and `validation` are shares of all images, drawn by `seed`, train the rest.

    Rows that share an image, or with `copies` a copy, stay together. Ids keep their official split; this is not the
    authors' split, and a note says so. If there are too few separate images a split stays empty. That raises nothing,
    but the note gives the counts.
    """
    search = _Copies(loaded.examples) if copies else None
    pairs = search.among() if search else set()
    while True:
        groups = image_groups(loaded.examples, pairs)
        drawn = _draw(groups, {"test": test, "validation": validation}, seed=seed)
        examples = [_moved(example, drawn) for example in loaded.examples]
        more = search.between(examples) - pairs if search else set()
        if not more:
            break
        # Only the nearest few images of each are compared (`neighbours.CANDIDATES`). With many copies of one image some
        # pairs show only now that the nearer ones are in another split, so we look until no more come to light.
        pairs |= more
    images = {split: len(images_of(row for row in examples if row.split == split)) for split in SPLITS}
    told = ", ".join(f"{split} {count_noun(number, 'image', 'images')}" for split, number in images.items())
    how = "no image in two of them, as pixels or as a copy" if copies else "no image in two of them by its pixels"
    return _with(loaded, examples, note=f"split anew by image, {how} (seed {seed}): {told}; not the official split")


def exclude_test_images(loaded: Loaded, *, copies: bool = False) -> Loaded:
    """Leave out the train and validation rows whose image is in test; with `copies` also if a copy of it is."""
    test = images_of(loaded.split("test"))
    copied = _Copies(loaded.examples).of_test() if copies else set()
    kept, left = [], []
    for example in loaded.examples:
        images = [] if example.split == "test" else [(path, pixels_of(path)) for path in example.images]
        shared = [path.name for path, pixels in images if pixels in test]
        alike = [path.name for path, pixels in images if pixels in copied]
        if shared or alike:
            reason = IN_TEST if shared else COPY_IN_TEST
            names = ", ".join(shared or alike)
            left.append(LeftOut(row=example.id, split=loaded.reported(example), reason=reason, detail=names))
        else:
            kept.append(example)
    what = "image, or a copy of it," if copies else "image"
    note = f"{count_noun(len(left), 'row', 'rows')} left out because their {what} is in test (exclude_test_images)"
    return _with(loaded, kept, left_out=left, note=note)


def cut_validation(loaded: Loaded, *, fraction: float, seed: int, copies: bool = False) -> Loaded:
    """Move `fraction` of the train images, drawn by `seed`, with all their rows to validation.

    Rows that share an image, or with `copies` a copy, stay together. Ids keep their official split. If train has no
    rows, or fewer than two separate images, nothing moves and a note says so.
    """
    train = loaded.split("train")
    pairs = _Copies(train).among() if copies else set()
    drawn = _draw(image_groups(train, pairs), {"validation": fraction}, seed=seed)
    moved = {pixels for pixels, split in drawn.items() if split == "validation"}
    if not moved:
        return _with(loaded, loaded.examples, note="no validation split: train has fewer than two separate images")
    examples = [_moved(example, drawn) if example.split == "train" else example for example in loaded.examples]
    rows = sum(example.split == "validation" for example in examples)
    of = f"{len(moved)} of {len(drawn)} images"
    note = f"validation cut from train by image (fraction {fraction:g}, seed {seed}): {of}"
    return _with(loaded, examples, note=f"{note}, {count_noun(rows, 'row', 'rows')}")


def draw_examples(examples: Sequence[Example], limit: int | None, *, seed: int) -> list[Example]:
    """At most `limit` examples, drawn by `seed` and kept in order; all of them without a limit."""
    if limit is None or limit >= len(examples):
        return list(examples)
    chosen = sorted(random.Random(seed).sample(range(len(examples)), limit))
    return [examples[index] for index in chosen]


def image_groups(examples: Iterable[Example], pairs: Iterable[tuple[str, str]] = ()) -> list[tuple[str, ...]]:
    """Images, by pixel hash, in groups: two images are in one if an example or a pair joins them. Groups are sorted."""
    parent: dict[str, str] = {}

    def find(key: str) -> str:
        while parent[key] != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    for example in examples:
        hashes = [pixels_of(path) for path in example.images]
        for key in hashes:
            parent.setdefault(key, key)
            parent[find(key)] = find(hashes[0])
    for first, second in pairs:
        parent[find(first)] = find(second)
    groups: dict[str, list[str]] = {}
    for key in parent:
        groups.setdefault(find(key), []).append(key)
    return [tuple(sorted(group)) for group in groups.values()]


class _Copies:
    """Finds copies among the images of some examples; each image is decoded once."""

    def __init__(self, examples: Iterable[Example]) -> None:
        self.examples = list(examples)
        self.files: dict[str, Path] = {pixels_of(path): path for e in self.examples for path in e.images}
        self.prints: dict[str, Fingerprint] = {pixels: fingerprint_of(path) for pixels, path in self.files.items()}

    def among(self) -> Pairs:
        """Copies among all images."""
        return self._pairs(list(self.files), list(self.files))

    def between(self, examples: Sequence[Example]) -> Pairs:
        """Copies of which one image is in one split of these examples and the other in another."""
        parts = [sorted(images_of(row for row in examples if row.split == split)) for split in SPLITS]
        return {pair for a, b in combinations(parts, 2) for pair in self._pairs(a, b)}

    def of_test(self) -> set[str]:
        """Images of train and validation that are copies of a test image; searched until no more come to light."""
        test = images_of(row for row in self.examples if row.split == "test")
        rest = [pixels for pixels in self.files if pixels not in test]
        found: set[str] = set()
        while more := {pair[0] for pair in self._pairs([key for key in rest if key not in found], sorted(test))}:
            found |= more
        return found

    def _pairs(self, a: Sequence[str], b: Sequence[str]) -> Pairs:
        found = find_neighbours([self.prints[key] for key in a], [self.prints[key] for key in b])
        return {(a[pair.a], b[pair.b]) for pair in found if pair.label == "copy" and a[pair.a] != b[pair.b]}


def _draw(groups: list[tuple[str, ...]], shares: dict[Split, float], *, seed: int) -> dict[str, Split]:
    """The split of each image: groups are taken in a seeded order until each share is filled; the last is for train."""
    total = sum(len(images) for images in groups)
    # Sorted before the shuffle: the draw then depends on the images, and not on the order of the rows.
    drawn = sorted(groups)
    random.Random(seed).shuffle(drawn)
    found: dict[str, Split] = {pixels: "train" for images in drawn for pixels in images}
    for split, share in shares.items():
        taken = 0
        while share and len(drawn) > 1 and taken < max(1, round(share * total)):
            images = drawn.pop(0)
            found.update(dict.fromkeys(images, split))
            taken += len(images)
    return found


def _moved(example: Example, drawn: dict[str, Split]) -> Example:
    split = drawn[pixels_of(example.images[0])]
    return example if split == example.split else replace(example, split=split)


def _with(loaded: Loaded, examples: Sequence[Example], *, note: str, left_out: Sequence[LeftOut] = ()) -> Loaded:
    """A new `Loaded` with these examples, and with its counts and its notes on splits made anew."""
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
