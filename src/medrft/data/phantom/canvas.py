"""Drawing with numpy: soft shapes on a square of coordinates, smooth noise, and writing PNGs.

A picture spans x and y from -1 to 1, y downwards, so every drawing looks the same at any size. Shapes are masks in
[0, 1] with soft edges; `paint_mask` mixes a value into a picture through a mask.
"""

from __future__ import annotations

import io
import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medrft.files import make_folder

Field = NDArray[np.floating[Any]]
Pixels = NDArray[np.uint8]
Point = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """The coordinates of a picture, bent a little by smooth noise so that no two anatomies are alike."""

    size: int
    rng: np.random.Generator
    x: Field
    y: Field
    turn: Point
    """Cosine and sine of the turn that made x and y, divided by the zoom."""

    @property
    def pixel(self) -> float:
        """The side of a pixel in units of the picture."""
        return 2.0 / self.size

    def ellipse(self, at: Point, radii: Point, *, angle: float = 0.0, soft: float = 0.0) -> Field:
        """A mask of an ellipse; `soft` widens its edge beyond a pixel or so, in units of the picture."""
        x, y = self.x - np.float32(at[0]), self.y - np.float32(at[1])
        if angle:
            c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
            x, y = c * x + s * y, c * y - s * x
        distance = np.sqrt((x / np.float32(radii[0])) ** 2 + (y / np.float32(radii[1])) ** 2)
        return self.edge((1 - distance) * np.float32(min(radii)), soft)

    def blob(self, at: Point, radius: float, *, rough: float = 0.25, soft: float = 0.0) -> Field:
        """A mask of a roundish shape with lobes; `rough` is how far they reach."""
        x, y = self.x - np.float32(at[0]), self.y - np.float32(at[1])
        theta = np.arctan2(y, x)
        reach = np.ones_like(theta)
        for k in (2, 3, 5):
            lobe, phase = self.rng.normal(0, 0.6), self.rng.uniform(0, 6.3)
            reach += np.float32(rough * lobe / k) * np.cos(k * theta + np.float32(phase))
        return self.edge(np.float32(radius) * reach - np.sqrt(x * x + y * y), soft)

    def edge(self, inside: Field, soft: float = 0.0) -> Field:
        """A mask from a signed distance, positive inside."""
        width = np.float32(max(soft, 1.5 * self.pixel))
        mask = np.clip(inside.astype(np.float32) / width + np.float32(0.5), 0, 1)
        smooth: Field = mask * mask * (3 - 2 * mask)
        return smooth

    def noise(self, cells: int) -> Field:
        """Smooth noise of the picture's size with `cells` bumps across, of unit spread or so."""
        return smooth_noise(self.size, cells, self.rng)

    def fill(
        self, picture: Field, at: Point, radii: Point, value: float | Field, *, angle: float = 0.0, soft: float = 0.0
    ) -> None:
        """Paint an ellipse, touching only the pixels about it."""
        window = self.window(at, max(radii) + soft)
        paint_mask(picture[window], self.part(window).ellipse(at, radii, angle=angle, soft=soft), _cut(value, window))

    def clump(
        self,
        picture: Field,
        at: Point,
        radius: float,
        value: float | Field,
        *,
        rough: float = 0.25,
        soft: float = 0.0,
        strength: float = 1.0,
        within: Field | None = None,
    ) -> None:
        """Paint a blob, touching only the pixels about it and staying in the mask `within`."""
        window = self.window(at, radius * (1 + rough) + soft)
        mask = self.part(window).blob(at, radius, rough=rough, soft=soft) * np.float32(strength)
        paint_mask(picture[window], mask if within is None else mask * within[window], _cut(value, window))

    def part(self, window: tuple[slice, slice]) -> Sheet:
        """The sheet of some rows and columns alone."""
        return replace(self, x=self.x[window], y=self.y[window])

    def window(self, at: Point, reach: float) -> tuple[slice, slice]:
        """Rows and columns within `reach` of a point, with room for the bend."""
        middle, room = self.size // 2, int((reach + 0.08) / self.pixel) + 2
        dx, dy = at[0] - float(self.x[middle, middle]), at[1] - float(self.y[middle, middle])
        column = middle + (self.turn[0] * dx - self.turn[1] * dy) / self.pixel
        row = middle + (self.turn[1] * dx + self.turn[0] * dy) / self.pixel
        return _span(row, room, self.size), _span(column, room, self.size)


def new_sheet(size: int, rng: np.random.Generator, *, bend: float, turn: float) -> Sheet:
    """A sheet of `size` pixels, bent, turned, moved and scaled at random; `bend` and `turn` are spreads."""
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    angle, zoom = rng.normal(0, turn), 1 + rng.normal(0, 0.02)
    c, s = np.float32(np.cos(angle) * zoom), np.float32(np.sin(angle) * zoom)
    dx, dy = (np.float32(value) for value in rng.normal(0, 0.02, 2))
    return Sheet(
        size=size,
        rng=rng,
        x=c * x + s * y + dx + np.float32(bend) * smooth_noise(size, 5, rng),
        y=c * y - s * x + dy + np.float32(bend) * smooth_noise(size, 5, rng),
        turn=(float(np.cos(angle) / zoom), float(np.sin(angle) / zoom)),
    )


def smooth_noise(size: int, cells: int, rng: np.random.Generator) -> Field:
    """Smooth noise, `(size, size)`, of about unit spread: random cells enlarged with bicubic weights."""
    coarse = Image.fromarray(rng.standard_normal((cells + 3, cells + 3), dtype=np.float32))
    wide = coarse.resize((size * (cells + 3) // (cells + 1) + 1,) * 2, Image.Resampling.BICUBIC)
    start = (wide.width - size) // 2
    return np.asarray(wide, dtype=np.float32)[start : start + size, start : start + size]


def paint_mask(picture: Field, mask: Field, value: float | Field) -> None:
    """Mix a value, or another picture, into a picture where the mask says so."""
    picture += mask * ((np.float32(value) if isinstance(value, float | int) else value) - picture)


def blur_picture(picture: Field, radius: float) -> Field:
    """A cheap blur of about `radius` pixels: a binomial kernel along each axis, repeated; edges wrap."""
    for _ in range(round(2 * radius * radius)):
        for axis in (0, 1):
            picture = (np.roll(picture, 1, axis) + 2 * picture + np.roll(picture, -1, axis)) * np.float32(0.25)
    return picture


def finish_picture(
    picture: Field, rng: np.random.Generator, *, gain: float, offset: float, gamma: float, grain: float
) -> Pixels:
    """Window, curve and grain: the last steps to 8-bit grey."""
    level = np.clip(picture * np.float32(gain) + np.float32(offset), 0, 1) ** np.float32(gamma)
    fine = rng.standard_normal(level.shape, dtype=np.float32)
    level += np.float32(grain) * fine * (np.float32(0.35) + level)
    pixels: Pixels = (np.clip(level, 0, 1) * 255).astype(np.uint8)
    return pixels


def png_bytes(pixels: Pixels) -> bytes:
    """The picture as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=3)
    return buffer.getvalue()


def save_png(path: Path, pixels: Pixels) -> None:
    """Write a PNG whole or not at all."""
    make_folder(path.parent)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
    with os.fdopen(handle, "wb") as file:
        file.write(png_bytes(pixels))
    os.replace(temporary, path)


def _span(middle: float, room: int, size: int) -> slice:
    return slice(max(0, int(middle) - room), max(0, min(size, int(middle) + room + 2)))


def _cut(value: float | Field, window: tuple[slice, slice]) -> float | Field:
    return value if isinstance(value, float | int) else value[window]
