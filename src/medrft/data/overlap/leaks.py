"""From two or more sets of examples to what each pair of them has in common: images, copies, questions with answers.

Two images are the same if their decoded pixels are: a PNG made from a BMP is the same image, a JPEG of it is a copy.
Questions and answers are compared after `medrft.text.normal.normalize`, and only on the same image or a copy of it.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Literal, NotRequired, TypedDict

from medrft.data.images import sha256_of
from medrft.data.notes import count_noun
from medrft.data.overlap.fingerprints import Fingerprint, fingerprint_of
from medrft.data.overlap.neighbours import Neighbour, find_neighbours
from medrft.progress import Advance
from medrft.text import normalize
from medrft.types import Example

SAME_QUESTION = 0.75
"""Two questions that share at least this part of their words are near-duplicates."""

LabelledAdvance = Callable[[str, int, int], None]
"""Called with the name of the step, how much of it is done, and how much there is."""


class Pictures(TypedDict):
    """Two neighbouring images."""

    a: str
    b: str
    label: Literal["copy", "similar"]
    likeness: float


class Items(TypedDict):
    """Two examples that ask the same of the same image, by their ids."""

    a: str
    b: str
    label: Literal["shared", "similar"]
    question_a: str
    question_b: str


class Leak(TypedDict):
    """What set B shares with set A. Images are told apart by content, items are rows; each one of B counts once."""

    shared_images: int
    copies: int
    similar: int
    total_images_b: int
    shared_items: int
    similar_questions: int
    total_items_b: int
    neighbours: list[Pictures]
    items: list[Items]


class SetFacts(TypedDict):
    """The size of one set."""

    items: int
    images: int


class Within(TypedDict):
    """Images of one set that are copies of one another or look alike; counts are of pairs."""

    copies: int
    similar: int
    neighbours: list[Pictures]


class Leaks(TypedDict):
    """All sets, and all pairs of them as `<a>|<b>`; `within` where it was asked for."""

    sets: dict[str, SetFacts]
    pairs: dict[str, Leak]
    within: NotRequired[dict[str, Within]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Set:
    """Some examples and their images by pixel hash."""

    examples: Sequence[Example]
    pixels: Mapping[Path, str]
    files: Mapping[str, Path]
    prints: Mapping[str, Fingerprint]

    def of(self, example: Example) -> set[str]:
        return {self.pixels[path] for path in example.images}


def find_leaks(
    sets: Mapping[str, Sequence[Example]],
    *,
    copies: bool = True,
    within: bool = False,
    wanted: Callable[[str, str], bool] | None = None,
    on_progress: LabelledAdvance | None = None,
) -> Leaks:
    """What each pair of sets has in common; each image is decoded once. Raises `BadImageError` for a bad one.

    Without `copies` only images of the same pixels are found, which is quick. With `within` the images of each set are
    also compared with one another. `wanted(a, b)` chooses the pairs of sets to look at; by default all.
    """
    tell = on_progress or (lambda label, done, total: None)
    prints = _fingerprints((path for rows in sets.values() for row in rows for path in row.images), tell)
    read = {name: _set(rows, prints) for name, rows in sets.items()}
    pairs = {}
    for a, b in combinations(read, 2):
        if wanted is not None and not wanted(a, b):
            continue
        pairs[f"{a}|{b}"] = _leak(read[a], read[b], partial(tell, f"{a} | {b}"), copies=copies)
    facts: dict[str, SetFacts] = {
        name: {"items": len(one.examples), "images": len(one.files)} for name, one in read.items()
    }
    found: Leaks = {"sets": facts, "pairs": pairs}
    if within:
        found["within"] = {name: _within(one, partial(tell, f"within {name}")) for name, one in read.items()}
    return found


def leak_note(pair: str, leak: Leak) -> str:
    """A pair's leakage in one sentence, also when there is none."""
    a, b = pair.split("|", 1)
    images = count_noun(leak["total_images_b"], "image", "images")
    questions = count_noun(leak["total_items_b"], "question", "questions")
    parts = [
        f"{leak['shared_images']:,} of {images} of {b} are in {a} with the same pixels, {leak['copies']:,} as copies",
        f"{leak['shared_items']:,} of its {questions} are there too with the same answer, "
        f"{leak['similar_questions']:,} nearly so",
    ]
    return "; ".join(parts)


def _fingerprints(paths: Iterator[Path], tell: LabelledAdvance) -> dict[str, Fingerprint]:
    """Fingerprints by the hash of the file."""
    files = {sha256_of(path): path for path in dict.fromkeys(paths)}
    prints = {}
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for done, (key, found) in enumerate(zip(files, pool.map(fingerprint_of, files.values()), strict=True), 1):
            prints[key] = found
            tell("reading images", done, len(files))
    return prints


def _set(examples: Sequence[Example], prints: Mapping[str, Fingerprint]) -> _Set:
    by_path = {path: prints[sha256_of(path)] for row in examples for path in row.images}
    return _Set(
        examples=examples,
        pixels={path: found.pixels for path, found in by_path.items()},
        files={found.pixels: path for path, found in reversed(by_path.items())},
        prints={found.pixels: found for found in by_path.values()},
    )


def _leak(a: _Set, b: _Set, tell: Advance, *, copies: bool) -> Leak:
    shared = a.files.keys() & b.files.keys()
    ours, theirs = list(a.files), [key for key in b.files if key not in shared and copies]
    found = find_neighbours([a.prints[key] for key in ours], [b.prints[key] for key in theirs], on_progress=tell)
    same = defaultdict(set, {key: {key} for key in shared})
    for pair in found:
        if pair.label == "copy":
            same[theirs[pair.b]].add(ours[pair.a])
    copied = same.keys() - shared
    similar = {theirs[pair.b] for pair in found} - copied
    items = list(_items(a, b, same))
    return {
        "shared_images": len(shared),
        "copies": len(copied),
        "similar": len(similar),
        "total_images_b": len(b.files),
        "shared_items": sum(item["label"] == "shared" for item in items),
        "similar_questions": sum(item["label"] == "similar" for item in items),
        "total_items_b": len(b.examples),
        "neighbours": [_pictures(a.files[ours[pair.a]], b.files[theirs[pair.b]], pair) for pair in found],
        "items": items,
    }


def _within(one: _Set, tell: Advance) -> Within:
    """The neighbours within one set, each pair once: the search finds it from both sides."""
    keys = list(one.files)
    prints = [one.prints[key] for key in keys]
    best: dict[tuple[int, int], Neighbour] = {}
    for pair in find_neighbours(prints, prints, on_progress=tell):
        if pair.a != pair.b:
            best.setdefault((min(pair.a, pair.b), max(pair.a, pair.b)), pair)  # the first is the most alike
    found = [_pictures(one.files[keys[pair.a]], one.files[keys[pair.b]], pair) for pair in best.values()]
    copies = sum(pair["label"] == "copy" for pair in found)
    return {"copies": copies, "similar": len(found) - copies, "neighbours": found}


def _pictures(a: Path, b: Path, pair: Neighbour) -> Pictures:
    return {"a": str(a), "b": str(b), "label": pair.label, "likeness": pair.likeness}


def _items(a: _Set, b: _Set, same: Mapping[str, set[str]]) -> Iterator[Items]:
    """For each row of B the most similar row of A on the same image or a copy of it, if their questions are alike."""
    rows: dict[str, list[Example]] = defaultdict(list)
    for example in a.examples:
        for key in a.of(example):
            rows[key].append(example)
    for example in b.examples:
        keys = sorted({key for own in b.of(example) if own in same for key in same[own]})
        ranked = [(_alike(other, example), other) for key in keys for other in rows[key]]
        best, other = max(ranked, key=lambda pair: pair[0], default=(0.0, example))
        if best >= SAME_QUESTION:
            label: Literal["shared", "similar"] = "shared" if best > 1 else "similar"
            yield {
                "a": other.id,
                "b": example.id,
                "label": label,
                "question_a": other.question,
                "question_b": example.question,
            }


def _alike(a: Example, b: Example) -> float:
    """The share of words that two questions have in common; 2 for the same question with the same answer."""
    first, second = _plain(a.question), _plain(b.question)
    if first == second:
        return 2.0 if {_plain(t) for t in a.references} & {_plain(t) for t in b.references} else 1.0
    words, others = set(first.split()), set(second.split())
    return len(words & others) / max(1, len(words | others))


def _plain(text: str) -> str:
    return normalize(text) or text.strip().casefold()
