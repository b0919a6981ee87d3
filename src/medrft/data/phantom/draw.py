"""From a scene to a picture: the anatomy of its modality, its findings, and the style of the scanner."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from medrft.data.phantom.abdomen import draw_abdomen
from medrft.data.phantom.brain import draw_brain
from medrft.data.phantom.canvas import Field, Pixels, Sheet, blur_picture, finish_picture, new_sheet
from medrft.data.phantom.chest import draw_chest
from medrft.data.phantom.world import Modality, Scene

DRAWINGS: dict[Modality, Callable[[Sheet, Scene], Field]] = {
    "xray": draw_chest,
    "ct": draw_abdomen,
    "mr": draw_brain,
}
BENDS: dict[Modality, float] = {"xray": 0.012, "ct": 0.016, "mr": 0.011}


def paint_scene(scene: Scene, size: int, rng: np.random.Generator) -> Pixels:
    """The picture of a scene, `(size, size)` of 8-bit grey; all randomness comes from `rng`."""
    sheet = new_sheet(size, rng, turn=0.08 if scene.shifted else 0.03, bend=BENDS[scene.modality])
    picture = DRAWINGS[scene.modality](sheet, scene)
    if not scene.shifted:
        gain, offset = rng.uniform(0.95, 1.05), rng.uniform(-0.02, 0.02)
        return finish_picture(
            picture, rng, gain=gain, offset=offset, gamma=float(np.exp(rng.normal(0, 0.08))), grain=0.025
        )
    # The other scanner: blurred, noisy, with a flat window and a curve that is too dark or too bright.
    picture = blur_picture(picture, size / 192 * rng.uniform(0.7, 1.3))
    gain, offset = rng.uniform(0.75, 0.9), rng.uniform(0.02, 0.1)
    gamma = rng.uniform(1.35, 1.7) if rng.random() < 0.5 else rng.uniform(0.6, 0.75)
    return finish_picture(picture, rng, gain=gain, offset=offset, gamma=gamma, grain=0.06)
