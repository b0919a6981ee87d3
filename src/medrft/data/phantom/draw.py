"""From a scene to a picture: the anatomy of its modality, its findings, and the style of the scanner."""

from __future__ import annotations

import numpy as np

from medrft.data.phantom import abdomen, brain, chest
from medrft.data.phantom.canvas import Pixels, Sheet, blur, finish
from medrft.data.phantom.world import Scene

DRAWINGS = {"xray": chest.draw_chest, "ct": abdomen.draw_abdomen, "mr": brain.draw_brain}


def draw(scene: Scene, size: int, rng: np.random.Generator) -> Pixels:
    """The picture of a scene, `(size, size)` of 8-bit grey; all randomness comes from `rng`."""
    turn = 0.03 if not scene.shifted else 0.08
    sheet = Sheet(size, rng, turn=turn, bend=0.012 if scene.modality == "xray" else 0.018)
    picture = DRAWINGS[scene.modality](sheet, scene)
    if scene.shifted:
        picture = blur(picture, size / 192 * rng.uniform(0.5, 1.2))
        dark = rng.random() < 0.5
        gamma = rng.uniform(1.35, 1.7) if dark else rng.uniform(0.55, 0.7)
        return finish(picture, rng, gain=rng.uniform(0.75, 0.9), offset=rng.uniform(0.02, 0.1), gamma=gamma, grain=0.07)
    gamma = float(np.exp(rng.normal(0, 0.08)))
    return finish(picture, rng, gain=rng.uniform(0.95, 1.05), offset=rng.uniform(-0.02, 0.02), gamma=gamma, grain=0.025)
