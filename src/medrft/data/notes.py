"""From the examples of each split to notes for the user: images that splits share, and rows that occur twice.

Images are the same if their decoded pixels are, whatever their files.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from medrft.data.images import pixels_of
from medrft.types import SPLITS, Example

Groups = Mapping[str, Sequence[Example]]
"""Examples by the name of their split in the report: `train`, or `train_en`."""


def split_notes(groups: Groups) -> list[str]:
    """Both kinds of notes on these splits."""
    return [*shared_images(groups), *repeat_notes(groups)]


def images_of(examples: Iterable[Example]) -> set[str]:
    """Pixel hashes of all images of some examples."""
    return {pixels_of(path) for path in {path for example in examples for path in example.images}}


def shared_images(groups: Groups) -> list[str]:
    """One note for each pair of different splits that have images in common."""
    hashes = {name: images_of(rows) for name, rows in groups.items()}
    names = sorted(groups, key=lambda name: SPLITS.index(_base(name)) if _base(name) in SPLITS else len(SPLITS))
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :] if _base(a) != _base(b)]
    return [_shared_note(groups, a, b, hashes[a] & hashes[b]) for a, b in pairs if hashes[a] & hashes[b]]


def repeat_notes(groups: Groups) -> list[str]:
    """Notes on rows that repeat the images, question and answers of another."""
    places: dict[tuple[object, ...], Counter[str]] = defaultdict(Counter)
    for name, rows in groups.items():
        for row in rows:
            images = tuple(pixels_of(path) for path in row.images)
            references = tuple(sorted(reference.casefold() for reference in row.references))
            places[images, row.question.casefold(), references][name] += 1
    within: Counter[str] = Counter()
    across: Counter[tuple[str, ...]] = Counter()
    for splits in places.values():
        within.update({name: count - 1 for name, count in splits.items() if count > 1})
        across.update([tuple(splits)] if len(splits) > 1 else [])
    notes = [
        f"{name}: {count_noun(count, 'row repeats', 'rows repeat')} the image, question and answer of another row of it"
        for name, count in within.items()
    ]
    what = "image with its question and answer is", "images with their question and answer are"
    return notes + [f"{count_noun(count, *what)} in both {' and '.join(names)}" for names, count in across.items()]


def count_noun(number: int, one: str, many: str) -> str:
    """A number with its noun.

    >>> count_noun(1, "row", "rows"), count_noun(1797, "row", "rows")
    ('1 row', '1,797 rows')
    """
    return f"{number:,} {one if number == 1 else many}"


def _shared_note(groups: Groups, first: str, second: str, shared: set[str]) -> str:
    rows = sum(any(pixels_of(path) in shared for path in row.images) for row in groups[first])
    note = f"{first} and {second} share {count_noun(len(shared), 'image', 'images')}, used by {rows:,} rows of {first}"
    if _base(first) == "train" and _base(second) == "test":
        note += "; exclude_test_images=true leaves those rows out"
    return note


def _base(name: str) -> str:
    """`train` of `train_en`."""
    return name.partition("_")[0]
