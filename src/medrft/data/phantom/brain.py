"""The brain MR, axial at the level of the ventricles, FLAIR-like: fluid dark, cortex brighter than white matter.

Seen from the feet: the patient's right is on the left of the picture, the forehead is at the top.
"""

from __future__ import annotations

import numpy as np

from medrft.data.phantom.canvas import Field, Sheet, paint
from medrft.data.phantom.world import Finding, Scene

FLUID, WHITE, GREY = 0.10, 0.40, 0.54
SIGN = {"right": -1, "left": 1}
LOBE_SPOTS = {"frontal lobe": (0.32, -0.46), "parietal lobe": (0.40, 0.06), "occipital lobe": (0.27, 0.52)}
BRAIN_RX, BRAIN_RY = 0.66, 0.81


def draw_brain(sheet: Sheet, scene: Scene) -> Field:
    """The picture before windowing, about 0 to 1."""
    types = {finding.type for finding in scene.findings}
    picture = np.full_like(sheet.x, 0.015)
    inside = _head(sheet, picture)
    _tissue(sheet, picture, inside)
    _ventricles(sheet, picture, wide="hydrocephalus" in types)
    for finding in scene.findings:
        if finding.type == "mass":
            _mass(sheet, picture, inside, finding)
        elif finding.type == "infarct":
            _infarct(sheet, picture, inside, finding)
        elif finding.type == "hemorrhage":
            _hemorrhage(sheet, picture, inside, finding)
        elif finding.type == "subdural":
            _subdural(sheet, picture, finding)
    return picture


def _head(sheet: Sheet, picture: Field) -> Field:
    rng = sheet.rng
    scalp = rng.uniform(0.05, 0.075)
    paint(picture, sheet.ellipse(0, 0, BRAIN_RX + 0.09 + scalp, BRAIN_RY + 0.08 + scalp), 0.62)
    paint(picture, sheet.ellipse(0, 0, BRAIN_RX + 0.085, BRAIN_RY + 0.075, soft=0.02), 0.06)
    marrow = sheet.ellipse(0, 0, BRAIN_RX + 0.065, BRAIN_RY + 0.056) - sheet.ellipse(
        0, 0, BRAIN_RX + 0.04, BRAIN_RY + 0.034
    )
    paint(picture, 0.8 * np.clip(marrow, 0, 1), 0.27)
    paint(picture, sheet.ellipse(0, 0, BRAIN_RX + 0.015, BRAIN_RY + 0.015), FLUID)
    return sheet.ellipse(0, 0, BRAIN_RX, BRAIN_RY, soft=0.02)


def _tissue(sheet: Sheet, picture: Field, inside: Field) -> None:
    depth = np.sqrt((sheet.x / BRAIN_RX) ** 2 + (sheet.y / BRAIN_RY) ** 2)
    fold = sheet.noise(11) * 0.8 + sheet.noise(17) * 0.4 + (depth - 0.95) * 1.2
    shell = np.clip((depth - 0.52) * 4.0, 0, 1)
    ribbon = np.clip(1.5 - np.abs(fold) * 3.2, 0, 1) * shell
    cortex = np.maximum(ribbon, np.clip((depth - 0.87) * 14, 0, 1))
    tissue = WHITE + (GREY - WHITE) * cortex + 0.012 * sheet.noise(30)
    sulci = np.clip(1 - np.abs(fold) * 8.5, 0, 1) * np.clip((depth - 0.62) * 5.0, 0, 1)
    tissue = tissue + (FLUID + 0.08 - tissue) * sulci * 0.9
    paint(picture, inside, tissue.astype(np.float32))
    for sign in (-1, 1):
        paint(picture, 0.9 * sheet.ellipse(sign * 0.13, 0.08, 0.085, 0.14, soft=0.05), GREY)
        paint(picture, 0.8 * sheet.ellipse(sign * 0.26, -0.06, 0.06, 0.20, angle=sign * -0.15, soft=0.05), GREY)
        paint(picture, 0.8 * sheet.ellipse(sign * 0.14, -0.23, 0.04, 0.09, soft=0.04), GREY)
    sway = 0.012 * np.sin(sheet.y * 9.0)
    fissure = sheet.edge(0.016 - np.abs(sheet.x - sway).astype(np.float32), 0.02)
    ends = np.maximum(sheet.edge(-0.34 - sheet.y, 0.05), sheet.edge(sheet.y - 0.40, 0.05))
    paint(picture, 0.9 * fissure * ends * inside, FLUID)


def _ventricles(sheet: Sheet, picture: Field, *, wide: bool) -> None:
    grow = sheet.rng.uniform(1.9, 2.3) if wide else sheet.rng.uniform(0.85, 1.1)
    for sign in (-1, 1):
        lean = 0.30 * sign
        paint(
            picture, sheet.ellipse(sign * 0.085 * grow**0.7, -0.22, 0.045 * grow, 0.15 * grow**0.45, angle=-lean), FLUID
        )
        paint(
            picture,
            sheet.ellipse(sign * 0.18 * grow**0.35, 0.27, 0.045 * grow, 0.15 * grow**0.45, angle=-lean * 1.3),
            FLUID,
        )
        paint(picture, sheet.ellipse(sign * 0.085 * grow**0.5, 0.02, 0.022 * grow, 0.24, angle=-lean * 0.45), FLUID)
    paint(picture, sheet.ellipse(0, 0.05, 0.016 * grow, 0.10), FLUID)


def _mass(sheet: Sheet, picture: Field, inside: Field, finding: Finding) -> None:
    rng = sheet.rng
    radius = {"small": 0.09, "large": 0.185, None: 0.095}[finding.size] * rng.uniform(0.94, 1.06)
    for x, y in _spots(sheet, finding):
        paint(picture, 0.55 * sheet.blob(x, y, radius * 1.45, rough=0.4, soft=0.06) * inside, 0.66)
        paint(picture, sheet.blob(x, y, radius, rough=0.15), (0.93 + 0.03 * sheet.noise(30)).astype(np.float32))


def _infarct(sheet: Sheet, picture: Field, inside: Field, finding: Finding) -> None:
    """A wedge with its base on the cortex and its tip towards the ventricle."""
    rng = sheet.rng
    ((x, y),) = _spots(sheet, finding)
    half = {"small": 0.22, "large": 0.40}[str(finding.size)] * rng.uniform(0.94, 1.06)
    tip = 0.46 if finding.size == "small" else 0.24
    theta = np.arctan2(sheet.y / BRAIN_RY, sheet.x / BRAIN_RX)
    centre = np.arctan2(y / BRAIN_RY, x / BRAIN_RX)
    away = np.abs(np.angle(np.exp(1j * (theta - centre)))).astype(np.float32)
    depth = np.sqrt((sheet.x / BRAIN_RX) ** 2 + (sheet.y / BRAIN_RY) ** 2)
    wedge = np.minimum((half - away) * depth, (depth - tip) * 0.7) + 0.02 * sheet.noise(14)
    paint(
        picture,
        0.92 * sheet.edge(wedge.astype(np.float32), 0.04) * inside,
        (0.76 + 0.05 * sheet.noise(20)).astype(np.float32),
    )


def _hemorrhage(sheet: Sheet, picture: Field, inside: Field, finding: Finding) -> None:
    rng = sheet.rng
    ((x, y),) = _spots(sheet, finding)
    radius = {"small": 0.10, "large": 0.19}[str(finding.size)] * rng.uniform(0.94, 1.06)
    paint(picture, 0.95 * sheet.blob(x, y, radius * 1.4, rough=0.3, soft=0.03) * inside, 0.82)
    paint(picture, sheet.blob(x, y, radius, rough=0.25), (0.06 + 0.02 * sheet.noise(20)).astype(np.float32))


def _subdural(sheet: Sheet, picture: Field, finding: Finding) -> None:
    sign = SIGN[str(finding.side)]
    deep = {"small": 0.11, "large": 0.22}[str(finding.size)] * sheet.rng.uniform(0.94, 1.06)
    skull = sheet.ellipse(0, 0, BRAIN_RX + 0.01, BRAIN_RY + 0.01)
    rest = sheet.ellipse(-sign * deep, -0.02, BRAIN_RX + 0.005, BRAIN_RY + 0.02)
    crescent = np.clip(skull - rest, 0, 1) * sheet.edge(sign * sheet.x - 0.08, 0.05)
    paint(picture, crescent, (0.95 + 0.03 * sheet.noise(20)).astype(np.float32))


def _spots(sheet: Sheet, finding: Finding) -> list[tuple[float, float]]:
    rng, sign = sheet.rng, SIGN[str(finding.side)]
    spots = [LOBE_SPOTS[finding.place]] if finding.place else list(LOBE_SPOTS.values())
    chosen = rng.permutation(len(spots))[: finding.count]
    return [(sign * (spots[k][0] + rng.uniform(-0.04, 0.04)), spots[k][1] + rng.uniform(-0.04, 0.04)) for k in chosen]
