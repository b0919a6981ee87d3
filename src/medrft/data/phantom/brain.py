"""The brain MR, axial at the level of the ventricles, FLAIR-like: fluid dark, cortex brighter than white matter.

Seen from the feet: the patient's right is on the left of the picture, the forehead is at the top.
"""

from __future__ import annotations

import numpy as np

from medrft.data.phantom.canvas import Field, Point, Sheet, paint_mask
from medrft.data.phantom.world import Finding, Scene

FLUID, WHITE, GREY = 0.10, 0.39, 0.54
SIGN = {"right": -1, "left": 1}
LOBES: dict[str, Point] = {"frontal lobe": (0.32, -0.46), "parietal lobe": (0.40, 0.06), "occipital lobe": (0.27, 0.52)}
RX, RY = 0.68, 0.82
"""Half-axes of the brain."""


def draw_brain(sheet: Sheet, scene: Scene) -> Field:
    """The picture before windowing, about 0 to 1."""
    picture = np.full_like(sheet.x, 0.015)
    inside = _head(sheet, picture)
    _tissue(sheet, picture, inside)
    _ventricles(sheet, picture, wide=any(finding.type == "hydrocephalus" for finding in scene.findings))
    for finding in scene.findings:
        if finding.type in FINDINGS:
            FINDINGS[finding.type](sheet, picture, inside, finding)
    return picture


def _head(sheet: Sheet, picture: Field) -> Field:
    """Scalp, skull and the fluid below it; returns the mask of the brain."""
    scalp = sheet.rng.uniform(0.05, 0.075)
    sheet.fill(picture, (0, 0), (RX + 0.09 + scalp, RY + 0.08 + scalp), 0.60)
    sheet.fill(picture, (0, 0), (RX + 0.085, RY + 0.075), 0.06, soft=0.02)
    sheet.fill(picture, (0, 0), (RX + 0.065, RY + 0.056), 0.24)
    sheet.fill(picture, (0, 0), (RX + 0.04, RY + 0.034), 0.06)
    return sheet.ellipse((0, 0), (RX, RY), soft=0.02)


def _tissue(sheet: Sheet, picture: Field, inside: Field) -> None:
    depth = _depth(sheet)
    fold = 0.75 * sheet.noise(13) + 0.5 * sheet.noise(20) + (depth - 0.95) * 1.2
    ribbon = np.clip(1.7 - np.abs(fold) * 3.0, 0, 1) * np.clip((depth - 0.50) * 4.0, 0, 1)
    cortex = np.maximum(ribbon, np.clip((depth - 0.87) * 14, 0, 1))
    tissue = WHITE + (GREY - WHITE) * cortex + 0.012 * sheet.noise(30)
    sulci = np.clip(1.15 - np.abs(fold) * 7.0, 0, 1) * np.clip((depth - 0.60) * 5.0, 0, 1)
    tissue += (FLUID + 0.08 - tissue) * sulci * 0.9
    paint_mask(picture, inside, tissue)
    for sign in (-1, 1):  # thalamus, lentiform and caudate nuclei
        sheet.fill(picture, (sign * 0.13, 0.08), (0.085, 0.14), GREY, soft=0.05)
        sheet.fill(picture, (sign * 0.26, -0.06), (0.06, 0.20), GREY - 0.02, angle=sign * -0.15, soft=0.05)
        sheet.fill(picture, (sign * 0.14, -0.23), (0.04, 0.09), GREY, soft=0.04)
    fissure = sheet.edge(0.016 - np.abs(sheet.x - 0.012 * np.sin(sheet.y * 9.0)), 0.02)
    ends = np.maximum(sheet.edge(-0.34 - sheet.y, 0.05), sheet.edge(sheet.y - 0.40, 0.05))
    paint_mask(picture, 0.9 * fissure * ends * inside, FLUID)


def _ventricles(sheet: Sheet, picture: Field, *, wide: bool) -> None:
    """Frontal horns, bodies and atria of the lateral ventricles, and the third between them."""
    grow = sheet.rng.uniform(1.9, 2.3) if wide else sheet.rng.uniform(0.85, 1.1)
    radii = (0.045 * grow, 0.15 * grow**0.45)
    for sign in (-1, 1):
        sheet.fill(picture, (sign * 0.085 * grow**0.7, -0.22), radii, FLUID, angle=-0.30 * sign)
        sheet.fill(picture, (sign * 0.18 * grow**0.35, 0.27), radii, FLUID, angle=-0.39 * sign)
        sheet.fill(picture, (sign * 0.085 * grow**0.5, 0.02), (0.022 * grow, 0.24), FLUID, angle=-0.135 * sign)
    sheet.fill(picture, (0, 0.05), (0.016 * grow, 0.10), FLUID)


def _draw_mass(sheet: Sheet, picture: Field, inside: Field, finding: Finding) -> None:
    """Bright and round, with a dull centre when large, in a halo of edema."""
    radius = {"small": 0.095, "large": 0.19, None: 0.10}[finding.size] * sheet.rng.uniform(0.94, 1.06)
    for at in _spots(sheet, finding):
        sheet.clump(picture, at, radius * 1.45, 0.66, rough=0.4, soft=0.08, strength=0.6, within=inside)
        sheet.clump(picture, at, radius, 0.92 + 0.03 * sheet.noise(30), rough=0.15, soft=0.02)
        if finding.size == "large":
            sheet.clump(picture, at, radius * 0.45, 0.70, rough=0.5, soft=0.06, strength=0.8)


def _draw_infarct(sheet: Sheet, picture: Field, inside: Field, finding: Finding) -> None:
    """A wedge with its base on the cortex and its tip towards the ventricle."""
    half = {"small": 0.22, "large": 0.40}[str(finding.size)] * sheet.rng.uniform(0.94, 1.06)
    tip = 0.46 if finding.size == "small" else 0.24
    ((x, y),) = _spots(sheet, finding)
    theta = np.arctan2(sheet.y / RY, sheet.x / RX) - np.arctan2(y / RY, x / RX)
    away = np.abs((theta + np.pi) % (2 * np.pi) - np.pi)
    depth = _depth(sheet)
    wedge = np.minimum((half - away) * depth, (depth - tip) * 0.7) + 0.02 * sheet.noise(14)
    paint_mask(picture, 0.92 * sheet.edge(wedge, 0.05) * inside, 0.74 + 0.05 * sheet.noise(20))


def _draw_hemorrhage(sheet: Sheet, picture: Field, inside: Field, finding: Finding) -> None:
    """Blood is black here, edema around it bright."""
    radius = {"small": 0.105, "large": 0.195}[str(finding.size)] * sheet.rng.uniform(0.94, 1.06)
    ((x, y),) = _spots(sheet, finding)
    sheet.clump(picture, (x, y), radius * 1.45, 0.80, rough=0.35, soft=0.07, strength=0.95, within=inside)
    sheet.clump(picture, (x, y), radius, 0.09 + 0.04 * sheet.noise(20), rough=0.3, soft=0.04)


def _draw_subdural(sheet: Sheet, picture: Field, inside: Field, finding: Finding) -> None:
    """A bright crescent between skull and brain, on one side."""
    sign = SIGN[str(finding.side)]
    deep = {"small": 0.11, "large": 0.22}[str(finding.size)] * sheet.rng.uniform(0.94, 1.06)
    skull = sheet.ellipse((0, 0), (RX + 0.01, RY + 0.01))
    rest = sheet.ellipse((-sign * deep, -0.02), (RX + 0.005, RY + 0.02))
    crescent = np.clip(skull - rest, 0, 1) * sheet.edge(sign * sheet.x - 0.08, 0.05)
    paint_mask(picture, crescent, 0.93 + 0.03 * sheet.noise(20))


FINDINGS = {
    "mass": _draw_mass,
    "infarct": _draw_infarct,
    "hemorrhage": _draw_hemorrhage,
    "subdural": _draw_subdural,
}


def _depth(sheet: Sheet) -> Field:
    """0 in the middle of the brain, 1 on its surface."""
    return np.sqrt((sheet.x / np.float32(RX)) ** 2 + (sheet.y / np.float32(RY)) ** 2)


def _spots(sheet: Sheet, finding: Finding) -> list[Point]:
    rng, sign = sheet.rng, SIGN[str(finding.side)]
    spots = [LOBES[finding.place]] if finding.place else list(LOBES.values())
    chosen = rng.permutation(len(spots))[: finding.count]
    return [(sign * (spots[k][0] + rng.uniform(-0.04, 0.04)), spots[k][1] + rng.uniform(-0.04, 0.04)) for k in chosen]
