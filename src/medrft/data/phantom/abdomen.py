"""The abdominal CT, axial, in a soft-tissue window: air is black, fat dark, organs grey, bone and contrast bright.

The picture is seen from the feet: the patient's right, with the liver, is on the left of the picture.
"""

from __future__ import annotations

import numpy as np

from medrft.data.phantom.canvas import Field, Point, Sheet, paint_mask
from medrft.data.phantom.world import Finding, Scene

AIR, FAT, FLUID, MUSCLE, LIVER, SPLEEN, KIDNEY, VESSEL, BONE = 0.02, 0.22, 0.38, 0.46, 0.56, 0.60, 0.66, 0.78, 0.97
CYST, MASS = 0.17, 0.84
KIDNEYS: dict[str, Point] = {"right": (-0.37, 0.25), "left": (0.37, 0.23)}
LIVER_SPOTS: tuple[Point, ...] = ((-0.57, -0.14), (-0.32, -0.34), (-0.64, 0.13), (-0.14, -0.36), (-0.34, -0.10))


def draw_abdomen(sheet: Sheet, scene: Scene) -> Field:
    """The picture before windowing, about 0 to 1."""
    types = {finding.type for finding in scene.findings}
    afloat = "ascites" in types
    picture = np.full_like(sheet.x, 0.01)
    _table(sheet, picture)
    cavity = _wall(sheet, picture)
    if afloat:
        paint_mask(picture, cavity, FLUID + 0.01 * sheet.noise(10))
    _bowel(sheet, picture, loops=5 if afloat else 13)
    _spine(sheet, picture)
    _vessels(sheet, picture, wide="aneurysm" in types)
    _organs(sheet, picture, large_spleen="splenomegaly" in types, inset=0.06 if afloat else 0.0)
    for finding in scene.findings:
        if finding.type in ("cyst", "mass", "stone"):
            _lesions(sheet, picture, finding)
    picture += 0.012 * sheet.noise(24) * (picture > 0.1)
    return picture


def _table(sheet: Sheet, picture: Field) -> None:
    curve = sheet.y - 0.87 + 0.10 * sheet.x**2
    for depth, value in ((0.0, 0.40), (0.06, 0.28)):
        line = sheet.edge(0.011 - np.abs(curve - depth)) * sheet.edge(0.85 - np.abs(sheet.x))
        paint_mask(picture, line, value)


def _wall(sheet: Sheet, picture: Field) -> Field:
    """Skin, fat, muscle and ribs; returns the mask of the cavity inside."""
    rng = sheet.rng
    rx, ry = 0.93 + rng.normal(0, 0.015), 0.74 + rng.normal(0, 0.015)
    fat = rng.uniform(0.04, 0.10)
    paint_mask(picture, sheet.ellipse((0, 0.04), (rx, ry)), 0.44)
    paint_mask(picture, sheet.ellipse((0, 0.04), (rx - 0.016, ry - 0.016)), FAT)
    inner, deep = rx - fat, ry - fat
    paint_mask(picture, sheet.ellipse((0, 0.05), (inner, deep)), MUSCLE + 0.015 * sheet.noise(22))
    cavity = sheet.ellipse((0, 0.03), (inner - 0.06, deep - 0.06), soft=0.02)
    paint_mask(picture, cavity, FAT + 0.03)
    for theta in np.arange(-0.35, 3.6, 0.42) + rng.uniform(-0.1, 0.1):
        x, y = (inner - 0.03) * np.cos(theta), 0.05 + (deep - 0.03) * np.sin(theta)
        if abs(x) > 0.25:
            along = float(np.arctan2(deep * np.cos(theta), -inner * np.sin(theta)))
            sheet.fill(picture, (x, y), (0.065, 0.020), BONE * 0.92, angle=along)
    for sign in (-1, 1):
        sheet.fill(picture, (sign * 0.20, 0.58), (0.18, 0.12), MUSCLE + 0.03 * sheet.noise(20), angle=sign * 0.15)
        sheet.fill(picture, (sign * 0.19, 0.36), (0.075, 0.095), MUSCLE + 0.02, soft=0.02)
    return cavity


def _spine(sheet: Sheet, picture: Field) -> None:
    for sign in (-1, 1):
        sheet.fill(picture, (sign * 0.16, 0.50), (0.11, 0.028), BONE * 0.9, angle=sign * 0.25)
    sheet.fill(picture, (0, 0.58), (0.030, 0.12), BONE * 0.9)
    sheet.fill(picture, (0, 0.47), (0.095, 0.075), BONE * 0.92)
    sheet.fill(picture, (0, 0.33), (0.14, 0.11), BONE)
    sheet.fill(picture, (0, 0.33), (0.115, 0.086), 0.78 + 0.07 * sheet.noise(30), soft=0.03)
    sheet.fill(picture, (0, 0.475), (0.05, 0.042), 0.40)


def _vessels(sheet: Sheet, picture: Field, *, wide: bool) -> None:
    """Vena cava and aorta; a wide aorta has a clot along its calcified wall."""
    rng = sheet.rng
    sheet.fill(picture, (-0.11, 0.16), (0.066, 0.048), VESSEL - 0.10)
    if not wide:
        sheet.fill(picture, (0.06, 0.16), (0.056, 0.056), VESSEL + 0.04)
        return
    at, radius = (0.08, 0.03), rng.uniform(0.17, 0.21)
    sheet.fill(picture, at, (radius, radius), 0.90)
    sheet.fill(picture, at, (radius - 0.016, radius - 0.016), 0.46)
    shift = rng.uniform(-0.03, 0.03)
    sheet.fill(picture, (at[0] + shift, at[1] + 0.02), (radius * 0.68, radius * 0.62), VESSEL + 0.06)


def _bowel(sheet: Sheet, picture: Field, *, loops: int) -> None:
    rng = sheet.rng
    for _ in range(loops):
        x, y, radius = rng.uniform(-0.28, 0.50), rng.uniform(-0.42, 0.06), rng.uniform(0.05, 0.09)
        sheet.clump(picture, (x, y), radius, MUSCLE + 0.06, rough=0.3)
        sheet.clump(picture, (x, y), radius * 0.66, MUSCLE - 0.06, rough=0.3)
        if rng.random() < 0.3:
            sheet.fill(picture, (x, y - radius * 0.25), (radius * 0.5, radius * 0.3), AIR)


def _organs(sheet: Sheet, picture: Field, *, large_spleen: bool, inset: float) -> None:
    rng = sheet.rng
    texture = 0.012 * sheet.noise(40) + 0.012 * sheet.noise(12)
    stomach = (0.32 + rng.normal(0, 0.02), -0.32 + rng.normal(0, 0.02))
    full = rng.uniform(0.85, 1.1)
    sheet.fill(picture, stomach, (0.23 * full, 0.155 * full), 0.50, angle=0.35)
    sheet.fill(picture, stomach, (0.205 * full, 0.13 * full), 0.40, angle=0.35)
    gas = sheet.ellipse(stomach, (0.195 * full, 0.12 * full), angle=0.35) * sheet.edge(stomach[1] - sheet.y)
    paint_mask(picture, gas, AIR)
    lobe = sheet.ellipse((-0.45 + inset, -0.08), (0.32 - inset, 0.44 - inset), angle=0.12, soft=0.02)
    arm = sheet.ellipse((-0.17, -0.35), (0.34, 0.14 - inset / 2), angle=0.18, soft=0.02)
    liver = np.maximum(lobe, arm)
    paint_mask(picture, liver, LIVER + texture)
    picture += 0.08 * np.clip(1 - np.abs(sheet.noise(8)) * 6.5, 0, 1) * liver
    if large_spleen:
        sheet.fill(picture, (0.56, 0.02), (0.24, 0.48), SPLEEN + texture, angle=-0.12)
    else:
        sheet.fill(picture, (0.65 - inset, 0.02), (0.13 - inset / 4, 0.23), SPLEEN + texture, angle=-0.15)
    for side, (x, y) in KIDNEYS.items():
        y += 0.05 if large_spleen and side == "left" else 0.0
        sign = -1 if x < 0 else 1
        sheet.fill(picture, (x, y), (0.19, 0.215), FAT, soft=0.03)
        sheet.fill(picture, (x, y), (0.15, 0.18), KIDNEY, angle=sign * 0.2)
        sheet.fill(picture, (x - sign * 0.075, y - 0.01), (0.085, 0.06), FAT + 0.12, angle=-sign * 0.3, soft=0.03)


def _lesions(sheet: Sheet, picture: Field, finding: Finding) -> None:
    rng = sheet.rng
    radius = {"small": 0.075, "large": 0.14, None: 0.085}[finding.size] * rng.uniform(0.94, 1.06)
    for at in _spots(sheet, finding):
        if finding.type == "stone":
            sheet.clump(picture, at, 0.045, 1.10, rough=0.2)
        elif finding.type == "cyst":
            sheet.fill(picture, at, (radius, radius * rng.uniform(0.92, 1.08)), CYST)
        else:
            sheet.clump(picture, at, radius * 1.1, MASS + 0.04 * sheet.noise(30), rough=0.3, soft=0.03)
            if finding.size == "large":
                sheet.clump(picture, at, radius * 0.5, 0.58, rough=0.6, soft=0.06, strength=0.8)


def _spots(sheet: Sheet, finding: Finding) -> list[Point]:
    rng = sheet.rng
    jitter = rng.uniform(-0.02, 0.02, (3, 2))
    if finding.place == "liver":
        chosen = rng.permutation(3 if finding.count > 1 else len(LIVER_SPOTS))[: finding.count]
        return [(LIVER_SPOTS[k][0] + jitter[i][0], LIVER_SPOTS[k][1] + jitter[i][1]) for i, k in enumerate(chosen)]
    if finding.place == "spleen":
        return [(0.65 + jitter[0][0], 0.0 + 3 * jitter[0][1])]
    x, y = KIDNEYS[str(finding.side)]
    sign = 1 if x > 0 else -1
    if finding.type == "stone":
        spots = ((sign * 0.075, -0.09), (sign * 0.075, 0.095), (-sign * 0.035, 0.0))
        return [(x + spots[k][0], y + spots[k][1]) for k in rng.permutation(3)[: finding.count]]
    return [(x + sign * (0.08 + jitter[0][0]), y + 4 * jitter[0][1])]
