"""From the fingerprints of two sets to pairs of images that are copies, or only look alike.

The nearest images are looked up by 16 x 16 cells, uncropped and cropped in 16 ways. Each candidate is then aligned and
compared in detail (`fingerprints.picture_likeness`). The limits were chosen on VQA-RAD and SLAKE, see
`benchmarks/leaks.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np

from medrft.data.overlap.fingerprints import CELLS, Fingerprint, Floats, average_down, picture_likeness, warp_pictures
from medrft.progress import Advance

COPY = 0.96
"""A pair of at least this likeness is a copy."""
COPY_SMALL = 0.85
"""The same limit if one of the two is smaller than a fingerprint (shorter side below 160 pixels) and lacks detail."""
SIMILAR = 0.7
"""A pair that is no copy is worth a look from this likeness on: neighbouring slices, or films of one patient."""
CANDIDATES = 5
"""Nearest images that are compared in detail."""
NEAR = 0.7
"""An image is a candidate if the correlation of the 16 x 16 cells is at least this."""
EDGES = (*product((0.0, 0.05), repeat=4), (0.025,) * 4)
"""The crops under which images are looked up: shares cut off left, right, top and bottom. The first cuts nothing."""
CHUNK = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """Two images by their places in their sets."""

    a: int
    b: int
    likeness: float
    label: Literal["copy", "similar"]


def find_neighbours(
    a: Sequence[Fingerprint], b: Sequence[Fingerprint], *, on_progress: Advance | None = None
) -> list[Neighbour]:
    """Images of `a` that are copies of an image of `b` or similar to it, most alike first.

    Flat pictures have no neighbours. `on_progress(done, total)` counts images of `b`.
    """
    known = [place for place, image in enumerate(a) if not image.flat]
    asked = [place for place, image in enumerate(b) if not image.flat]
    found: list[Neighbour] = []
    if known and asked:
        lookups = [_lookup([a[place] for place in known], edges) for edges in EDGES]
        for start in range(0, len(asked), CHUNK):
            chunk = asked[start : start + CHUNK]
            pairs = [(known[i], chunk[j]) for i, j in _candidates(lookups, [b[place] for place in chunk])]
            found += _compared(a, b, pairs)
            if on_progress is not None:
                on_progress(start + len(chunk), len(asked))
    return sorted(found, key=lambda pair: (-pair.likeness, pair.b, pair.a))


def _compared(
    a: Sequence[Fingerprint], b: Sequence[Fingerprint], pairs: Sequence[tuple[int, int]]
) -> Iterator[Neighbour]:
    if not pairs:
        return
    alike = picture_likeness(np.stack([a[i].cells for i, _ in pairs]), np.stack([b[j].cells for _, j in pairs]))
    for (i, j), value in zip(pairs, alike.tolist(), strict=True):
        copy = value >= (COPY if min(a[i].side, b[j].side) >= CELLS else COPY_SMALL)
        if copy or value >= SIMILAR:
            yield Neighbour(a=i, b=j, likeness=round(value, 4), label="copy" if copy else "similar")


def _candidates(lookups: Sequence[Floats], asked: Sequence[Fingerprint]) -> Iterator[tuple[int, int]]:
    """The pairs worth comparing, as places in both sets; either picture may be a crop of the other."""
    own = [_lookup(asked, edges) for edges in EDGES]
    best = lookups[0] @ own[0].T
    for edges in range(1, len(EDGES)):
        np.maximum(best, lookups[edges] @ own[0].T, out=best)
        np.maximum(best, lookups[0] @ own[edges].T, out=best)
    for j in range(len(asked)):
        for i in np.argsort(-best[:, j], kind="stable")[:CANDIDATES].tolist():
            if best[i, j] >= NEAR:
                yield i, j


def _lookup(images: Sequence[Fingerprint], edges: Sequence[float]) -> Floats:
    """Pictures cut by `edges`, each as a unit vector of 256 numbers with mean 0: a dot product is a correlation."""
    left, right, top, bottom = edges
    crop = np.array([1 - left - right, left - right, 1 - top - bottom, top - bottom], np.float32)
    pictures = np.concatenate([average_down(image.cells[None], 32) for image in images])
    if any(edges):
        pictures, _ = warp_pictures(pictures, np.tile(crop, (len(images), 1)))
    cells = average_down(pictures, 16).reshape(len(images), -1)
    cells = cells - cells.mean(1, keepdims=True)
    length = np.maximum(np.linalg.norm(cells, axis=1, keepdims=True), 1e-6)
    unit: Floats = (cells / length).astype(np.float32)
    return unit
