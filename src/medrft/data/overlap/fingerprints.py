"""From an image to its fingerprint, 160 x 160 grey cells whatever its shape, and from two of them to a likeness.

JPEG noise and scaling average out within a cell. A crop becomes a shift and a stretch of the cells, and
`picture_likeness` undoes it by least squares before it compares.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medrft.data.images import open_image, pixel_hash

Floats = NDArray[np.float32]
"""N pictures are (N, side, side); N crops are (N, 4): scale and shift along x, then along y; a picture is -1 to 1."""

CELLS = 160
"""Cells along each side of a fingerprint."""
COARSE = (32, 80)
"""A crop is looked for in pictures of these sides first, from coarse to fine."""
MARGIN = 0.12
"""The most by which a crop stretches or shifts: 5 % cut off every edge, and a little more."""
FLAT = 2.0
"""A picture whose grey levels have a smaller standard deviation is too empty to be told from another."""
HOPELESS = 0.5
"""A pair whose correlation at the coarsest side is below this is no copy, and is not aligned further."""
UNCROPPED = np.array([1, 0, 1, 0], np.float32)
BATCH = 64


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fingerprint:
    """One image's content."""

    pixels: str
    """SHA-256 of the decoded pixels and their size: the same for every lossless file of an image."""
    cells: NDArray[np.uint8]
    """(160, 160) grey levels."""
    side: int
    """The image's shorter side in pixels."""

    @property
    def flat(self) -> bool:
        """Whether there is too little in the picture to tell it from another."""
        return float(self.cells.std()) < FLAT


def fingerprint_of(path: Path) -> Fingerprint:
    """The fingerprint of an image file; raises `BadImageError` like `open_image`."""
    image = open_image(path)
    grey = image.convert("L").resize((CELLS, CELLS), Image.Resampling.BICUBIC)
    return Fingerprint(pixels=pixel_hash(image), cells=np.asarray(grey), side=min(image.size))


def picture_likeness(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> Floats:
    """How alike each picture is to its partner once their crops are aligned, from -1 to 1; (N, 160, 160) each.

    The likeness is a correlation of fine detail (up to 5 of 80 cells), because all chest films share their coarse
    layout. A pair below `HOPELESS` at 32 cells keeps the correlation found there and is not looked at again.
    """
    result = np.zeros(len(first), np.float32)
    for start in range(0, len(first), BATCH):
        part = slice(start, start + BATCH)
        result[part] = _likeness(first[part], second[part])
    return result


def _likeness(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> Floats:
    a, b = average_down(first, COARSE[0]), average_down(second, COARSE[0])
    crops = refine_crops(a, b, np.tile(UNCROPPED, (len(a), 1)), steps=8)
    seen, inside = warp_pictures(a, crops)
    result = correlation_inside(fine_detail(seen, 3), fine_detail(b, 3), inside)
    near = np.flatnonzero(result >= HOPELESS)
    if len(near):
        first, second, crops = first[near], second[near], crops[near]
        for side in (COARSE[1], CELLS):
            crops = refine_crops(average_down(first, side), average_down(second, side), crops, steps=3)
        warped = warp_pictures(average_down(first, CELLS), crops)
        seen, inside = (average_down(picture, COARSE[1]) for picture in warped)
        inside = (inside > 0.99).astype(np.float32)
        b = average_down(average_down(second, CELLS), COARSE[1])
        result[near] = correlation_inside(fine_detail(seen, 2), fine_detail(b, 2), inside)
    return result


def average_down(pictures: NDArray[np.generic], side: int) -> Floats:
    """Pictures averaged down to `side` cells."""
    n, before, _ = pictures.shape
    smaller: Floats = pictures.reshape(n, side, before // side, side, before // side).mean((2, 4), dtype=np.float32)
    return smaller


def warp_pictures(pictures: Floats, crops: Floats) -> tuple[Floats, Floats]:
    """Pictures seen through their crops by linear interpolation, and a mask: 1 for cells inside the picture, else 0."""
    side = pictures.shape[1]
    axis = _axis(side)
    x = (crops[:, :1] * axis + crops[:, 1:2] + 1) * side / 2 - 0.5
    y = (crops[:, 2:3] * axis + crops[:, 3:] + 1) * side / 2 - 0.5
    seen = _weights(y) @ pictures @ _weights(x).transpose(0, 2, 1)
    inside = [(p >= -0.5) & (p <= side - 0.5) for p in (y, x)]
    return seen.astype(np.float32), (inside[0][:, :, None] & inside[1][:, None, :]).astype(np.float32)


def refine_crops(a: Floats, b: Floats, crops: Floats, *, steps: int) -> Floats:
    """Crops of `a` that make it look more like `b`: `steps` of Gauss-Newton on crop, contrast and brightness together.

    The method is Lucas and Kanade's (IJCAI 1981). Crops stay within `MARGIN`.
    """
    for _ in range(steps):
        crops = _step(a, b, crops)
    return crops


def _step(a: Floats, b: Floats, crops: Floats) -> Floats:
    n, side, _ = a.shape
    axis = _axis(side)
    seen, inside = warp_pictures(a, crops)
    dy, dx = np.gradient(seen, axis=(1, 2))
    dx, dy = dx * (side / 2) / crops[:, :1, None], dy * (side / 2) / crops[:, 2:3, None]
    columns = (dx * axis, dx, dy * axis[:, None], dy, seen, np.ones_like(seen))
    slopes = np.stack([(column * inside).reshape(n, -1) for column in columns], axis=1)
    matrix = slopes @ slopes.transpose(0, 2, 1)
    scale = np.trace(matrix, axis1=1, axis2=2)[:, None, None] / 6
    # Damping: a picture without slopes in some direction would leave the matrix singular.
    matrix += np.eye(6, dtype=np.float32) * (1e-4 * scale + 1e-3)
    solved = np.linalg.solve(matrix.astype(np.float64), (slopes @ b.reshape(n, -1, 1)).astype(np.float64))[:, :, 0]
    contrast = np.where(np.abs(solved[:, 4:5]) < 0.2, 1.0, solved[:, 4:5])
    moved = crops + np.clip(solved[:, :4] / contrast, -0.05, 0.05)
    kept: Floats = (UNCROPPED + np.clip(moved - UNCROPPED, -MARGIN, MARGIN)).astype(np.float32)
    return kept


def correlation_inside(a: Floats, b: Floats, inside: Floats) -> Floats:
    """Correlation of each picture with its partner over the cells inside."""
    a, b = (_centred(picture, inside) for picture in (a, b))
    found: Floats = (a * b).sum((1, 2)) / np.sqrt((a * a).sum((1, 2)) * (b * b).sum((1, 2)) + 1e-6)
    return found


def fine_detail(pictures: Floats, radius: int) -> Floats:
    """Pictures minus their mean over a box of `2 * radius + 1` cells, so that only finer detail is left."""
    # Sums over the whole picture, in float64: float32 would round away the differences that are taken of them.
    around = np.pad(pictures, ((0, 0), (radius, radius), (radius, radius)), mode="edge").astype(np.float64)
    sums = np.pad(around.cumsum(1).cumsum(2), ((0, 0), (1, 0), (1, 0)))
    box = 2 * radius + 1
    mean = (sums[:, box:, box:] - sums[:, :-box, box:] - sums[:, box:, :-box] + sums[:, :-box, :-box]) / box**2
    fine: Floats = (pictures - mean).astype(np.float32)
    return fine


def _centred(pictures: Floats, inside: Floats) -> Floats:
    mean = (pictures * inside).sum((1, 2)) / inside.sum((1, 2))
    centred: Floats = (pictures - mean[:, None, None]) * inside
    return centred


def _axis(side: int) -> Floats:
    axis: Floats = ((np.arange(side) + 0.5) * 2 / side - 1).astype(np.float32)
    return axis


def _weights(position: Floats) -> Floats:
    """Linear interpolation as a matrix: (N, side, side)."""
    side = position.shape[1]
    near = np.clip(position, 0, side - 1)[:, :, None] - np.arange(side, dtype=np.float32)
    weights: Floats = np.maximum(0, 1 - np.abs(near)).astype(np.float32)
    return weights
