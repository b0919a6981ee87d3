"""Drawing with numpy: soft shapes on a square of coordinates, smooth noise, and writing PNGs.

A picture spans x and y from -1 to 1, y downwards, so every drawing looks the same at any size. Shapes are masks in
[0, 1] with soft edges; `paint` mixes a value into a picture through a mask.
"""

from __future__ import annotations

import io
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Field = NDArray[np.floating[Any]]
Pixels = NDArray[np.uint8]


class Sheet:
    """The coordinates of a picture, bent a little by smooth noise so that no two anatomies are alike."""

    def __init__(self, size: int, rng: np.random.Generator, *, bend: float = 0.02, turn: float = 0.03) -> None:
        self.size, self.rng = size, rng
        axis = np.linspace(-1, 1, size, dtype=np.float32)
        x, y = np.meshgrid(axis, axis)
        angle = np.float32(rng.normal(0, turn))
        zoom = np.float32(1 + rng.normal(0, 0.025))
        dx, dy = (np.float32(value) for value in rng.normal(0, 0.02, 2))
        turned_x = (np.cos(angle) * x + np.sin(angle) * y) * zoom + dx
        turned_y = (np.cos(angle) * y - np.sin(angle) * x) * zoom + dy
        self.x: Field = turned_x + np.float32(bend) * noise(size, 5, rng)
        self.y: Field = turned_y + np.float32(bend) * noise(size, 5, rng)
        self.pixel = 2.0 / size

    def ellipse(self, cx: float, cy: float, rx: float, ry: float, *, angle: float = 0.0, soft: float = 0.0) -> Field:
        """A mask of an ellipse; `soft` widens its edge beyond one pixel, in units of the picture."""
        x, y = self.x - np.float32(cx), self.y - np.float32(cy)
        if angle:
            c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
            x, y = c * x + s * y, c * y - s * x
        distance = np.sqrt((x / np.float32(rx)) ** 2 + (y / np.float32(ry)) ** 2)
        return self.edge((1 - distance) * np.float32(min(rx, ry)), soft)

    def blob(self, cx: float, cy: float, r: float, *, rough: float = 0.25, soft: float = 0.0) -> Field:
        """A mask of a roundish shape with lobes; `rough` is how far they reach."""
        x, y = self.x - np.float32(cx), self.y - np.float32(cy)
        theta = np.arctan2(y, x)
        radius = np.ones_like(theta)
        for k in (2, 3, 5, 7):
            radius += np.float32(rough * self.rng.normal(0, 0.6) / k) * np.cos(
                k * theta + np.float32(self.rng.uniform(0, 6.3))
            )
        return self.edge(np.float32(r) * radius - np.sqrt(x * x + y * y), soft)

    def edge(self, inside: Field, soft: float = 0.0) -> Field:
        """A mask from a signed distance, positive inside."""
        width = np.float32(max(soft, 1.5 * self.pixel))
        mask: Field = np.clip(inside / width + np.float32(0.5), 0, 1)
        return mask * mask * (3 - 2 * mask)

    def noise(self, cells: int) -> Field:
        """Smooth noise of the picture's size with `cells` bumps across, of unit spread."""
        return noise(self.size, cells, self.rng)


def noise(size: int, cells: int, rng: np.random.Generator) -> Field:
    """Smooth noise, `(size, size)`, of about unit spread: random cells enlarged with bicubic weights."""
    coarse = Image.fromarray(rng.standard_normal((cells + 3, cells + 3), dtype=np.float32))
    step = (cells + 3) / (cells + 1)
    wide = coarse.resize((int(size * step), int(size * step)), Image.Resampling.BICUBIC)
    start = (wide.width - size) // 2
    return np.asarray(wide, dtype=np.float32)[start : start + size, start : start + size]


def paint(picture: Field, mask: Field, value: float | Field) -> None:
    """Mix a value, or another picture, into a picture where the mask says so."""
    picture += mask * (np.float32(value) - picture if isinstance(value, float | int) else value - picture)


def blur(picture: Field, radius: float) -> Field:
    """A cheap blur: three box averages along each axis; `radius` in pixels."""
    width = max(1, round(radius * 1.1))
    if radius < 0.35:
        return picture
    out = picture
    for axis in (0, 1):
        for _ in range(3):
            out = (np.roll(out, width, axis) + out + np.roll(out, -width, axis)) / np.float32(3)
    return out


def finish(
    picture: Field, rng: np.random.Generator, *, gain: float, offset: float, gamma: float, grain: float
) -> Pixels:
    """Window, curve and grain: the last steps to 8-bit grey."""
    size = picture.shape[0]
    level = np.clip(picture * np.float32(gain) + np.float32(offset), 0, 1) ** np.float32(gamma)
    fine = rng.standard_normal((size, size), dtype=np.float32)
    level = level + np.float32(grain) * fine * (np.float32(0.35) + level)
    pixels: Pixels = (np.clip(level, 0, 1) * 255).astype(np.uint8)
    return pixels


def png_bytes(pixels: Pixels) -> bytes:
    """The picture as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=3)
    return buffer.getvalue()


def save_png(path: Path, pixels: Pixels) -> None:
    """Write a PNG whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
    with os.fdopen(handle, "wb") as file:
        file.write(png_bytes(pixels))
    os.replace(temporary, path)
