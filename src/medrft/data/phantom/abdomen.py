"""The abdominal CT, axial, in a soft-tissue window: air is black, fat dark, organs grey, bone and contrast bright.

The picture is seen from the feet: the patient's right, with the liver, is on the left of the picture.
"""

from __future__ import annotations

import numpy as np

from medrft.data.phantom.canvas import Field, Sheet, paint
from medrft.data.phantom.world import Finding, Scene

FAT, WATER, MUSCLE, LIVER, SPLEEN, KIDNEY, VESSEL, BONE = 0.26, 0.40, 0.50, 0.60, 0.64, 0.70, 0.80, 0.97
KIDNEYS = {"right": (-0.36, 0.22), "left": (0.36, 0.20)}
LIVER_SPOTS = ((-0.56, -0.10), (-0.38, -0.26), (-0.50, 0.10), (-0.16, -0.28), (-0.32, -0.04))


def draw_abdomen(sheet: Sheet, scene: Scene) -> Field:
    """The picture before windowing, about 0 to 1."""
    types = {finding.type for finding in scene.findings}
    picture = np.full_like(sheet.x, 0.01)
    _table(sheet, picture)
    cavity = _wall(sheet, picture)
    if "ascites" in types:
        paint(picture, cavity, WATER)
    _bowel(sheet, picture, few="ascites" in types)
    _spine(sheet, picture, wide="aneurysm" in types)
    _organs(sheet, picture, large_spleen="splenomegaly" in types, afloat="ascites" in types)
    for finding in scene.findings:
        if finding.type in ("cyst", "mass", "stone"):
            _lesions(sheet, picture, finding)
    picture += 0.012 * sheet.noise(24)
    return picture


def _table(sheet: Sheet, picture: Field) -> None:
    curve = 0.80 - 0.10 * sheet.x**2
    for depth, value in ((0.0, 0.42), (0.07, 0.30)):
        line = sheet.edge(0.012 - np.abs(sheet.y - curve - depth).astype(np.float32)) * sheet.edge(
            0.85 - np.abs(sheet.x)
        )
        paint(picture, line, value)


def _wall(sheet: Sheet, picture: Field) -> Field:
    """Skin, fat and muscle; returns the mask of the cavity inside."""
    rng = sheet.rng
    rx, ry = 0.88 + rng.normal(0, 0.02), 0.67 + rng.normal(0, 0.02)
    fat = rng.uniform(0.05, 0.11)
    paint(picture, sheet.ellipse(0, 0.04, rx, ry), 0.45)
    paint(picture, sheet.ellipse(0, 0.04, rx - 0.018, ry - 0.018), FAT)
    paint(picture, sheet.ellipse(0, 0.05, rx - fat, ry - fat), MUSCLE)
    cavity = sheet.ellipse(0, 0.03, rx - fat - 0.055, ry - fat - 0.055, soft=0.02)
    paint(picture, cavity, FAT + 0.02)
    for angle in np.linspace(0.15, 2.99, 8) + rng.normal(0, 0.05, 8):
        for sign in (-1, 1):
            if sign > 0 or angle > 0:
                x, y = (rx - fat - 0.028) * np.cos(angle) * sign, 0.05 + (ry - fat - 0.028) * np.sin(angle - 0.5)
                paint(picture, sheet.ellipse(x, y, 0.055, 0.018, angle=np.arctan2(y, x) + 1.57), BONE * 0.9)
    for sign in (-1, 1):
        back = sheet.ellipse(sign * 0.19, 0.53, 0.17, 0.115, angle=sign * 0.15, soft=0.02)
        paint(picture, back, MUSCLE + 0.02 * sheet.noise(20))
        paint(picture, sheet.ellipse(sign * 0.185, 0.31, 0.075, 0.09, soft=0.02), MUSCLE)
    return cavity


def _spine(sheet: Sheet, picture: Field, *, wide: bool) -> None:
    rng = sheet.rng
    for sign in (-1, 1):
        paint(picture, sheet.ellipse(sign * 0.16, 0.44, 0.10, 0.028, angle=sign * 0.25), BONE * 0.9)
    paint(picture, sheet.ellipse(0, 0.52, 0.030, 0.13), BONE * 0.9)
    paint(picture, sheet.ellipse(0, 0.41, 0.095, 0.075), BONE * 0.92)
    body = sheet.ellipse(0, 0.28, 0.135, 0.105)
    paint(picture, body, BONE)
    paint(picture, sheet.ellipse(0, 0.28, 0.11, 0.082, soft=0.03), (0.80 + 0.06 * sheet.noise(26)).astype(np.float32))
    paint(picture, sheet.ellipse(0, 0.415, 0.05, 0.04), 0.42)
    paint(picture, sheet.ellipse(-0.10, 0.125, 0.062, 0.046), VESSEL - 0.08)
    if wide:
        radius = rng.uniform(0.165, 0.20)
        paint(picture, sheet.ellipse(0.07, 0.02, radius, radius), 0.50)
        paint(
            picture,
            sheet.ellipse(0.07, 0.02, radius, radius) - sheet.ellipse(0.07, 0.02, radius - 0.014, radius - 0.014),
            0.88,
        )
        paint(picture, sheet.ellipse(0.085, 0.035, radius * 0.66, radius * 0.62), VESSEL + 0.06)
    else:
        paint(picture, sheet.ellipse(0.055, 0.12, 0.055, 0.055), VESSEL + 0.04)


def _bowel(sheet: Sheet, picture: Field, *, few: bool) -> None:
    rng = sheet.rng
    for _ in range(4 if few else 9):
        x, y = rng.uniform(-0.30, 0.48), rng.uniform(-0.34, 0.06)
        radius = rng.uniform(0.05, 0.085)
        paint(picture, sheet.blob(x, y, radius, rough=0.3), MUSCLE + 0.05)
        paint(picture, sheet.blob(x, y, radius * 0.62, rough=0.3), MUSCLE - 0.08)
        if rng.random() < 0.4:
            paint(picture, sheet.ellipse(x, y - radius * 0.25, radius * 0.5, radius * 0.3), 0.03)


def _organs(sheet: Sheet, picture: Field, *, large_spleen: bool, afloat: bool) -> None:
    texture = 0.015 * sheet.noise(40) + 0.012 * sheet.noise(12)
    inset = 0.05 if afloat else 0.0
    lobe = sheet.ellipse(-0.43 + inset, -0.08, 0.29 - inset, 0.40 - inset, angle=0.12, soft=0.02)
    arm = sheet.ellipse(-0.17, -0.30, 0.33, 0.135 - inset / 2, angle=0.16, soft=0.02)
    liver = np.maximum(lobe, arm)
    paint(picture, liver, (LIVER + texture).astype(np.float32))
    veins = np.clip(1 - np.abs(sheet.noise(8)) * 6.5, 0, 1) * liver
    picture += 0.09 * veins.astype(np.float32)
    stomach = sheet.ellipse(0.34, -0.27, 0.22, 0.15, angle=0.35)
    paint(picture, stomach, 0.52)
    paint(picture, sheet.ellipse(0.34, -0.27, 0.195, 0.125, angle=0.35), 0.44)
    paint(picture, sheet.ellipse(0.34, -0.28, 0.18, 0.10, angle=0.35) * sheet.edge(-0.29 - sheet.y), 0.02)
    if large_spleen:
        spleen = sheet.ellipse(0.545, 0.05, 0.20, 0.40, angle=-0.12, soft=0.015)
    else:
        spleen = sheet.ellipse(0.60 - inset, 0.02, 0.125, 0.22, angle=-0.15, soft=0.015)
    paint(picture, spleen, (SPLEEN + texture).astype(np.float32))
    for side, (x, y) in KIDNEYS.items():
        _kidney(sheet, picture, x, y + (0.06 if large_spleen and side == "left" else 0.0), -1 if side == "right" else 1)


def _kidney(sheet: Sheet, picture: Field, x: float, y: float, sign: int) -> None:
    paint(picture, sheet.ellipse(x, y, 0.185, 0.21, soft=0.03), FAT)
    paint(picture, sheet.ellipse(x, y, 0.145, 0.175, angle=sign * 0.2), KIDNEY)
    paint(picture, sheet.ellipse(x - sign * 0.07, y - 0.01, 0.085, 0.065, angle=-sign * 0.3, soft=0.03), FAT + 0.1)


def _lesions(sheet: Sheet, picture: Field, finding: Finding) -> None:
    rng = sheet.rng
    radius = {"small": 0.07, "large": 0.135, None: 0.08}[finding.size] * rng.uniform(0.94, 1.06)
    for x, y in _spots(sheet, finding):
        if finding.type == "stone":
            paint(picture, sheet.blob(x, y, 0.042, rough=0.2), 1.08)
        elif finding.type == "cyst":
            paint(picture, sheet.ellipse(x, y, radius, radius * rng.uniform(0.9, 1.1)), WATER - 0.20)
        else:
            paint(
                picture, sheet.blob(x, y, radius * 1.1, rough=0.35), (0.90 + 0.05 * sheet.noise(26)).astype(np.float32)
            )
            if finding.size == "large":
                paint(picture, 0.8 * sheet.blob(x, y, radius * 0.4, rough=0.6, soft=0.05), 0.62)


def _spots(sheet: Sheet, finding: Finding) -> list[tuple[float, float]]:
    rng = sheet.rng
    jitter = rng.uniform(-0.02, 0.02, (3, 2))
    if finding.place == "liver":
        chosen = rng.permutation(3 if finding.count > 1 else len(LIVER_SPOTS))[: finding.count]
        return [(LIVER_SPOTS[k][0] + jitter[i][0], LIVER_SPOTS[k][1] + jitter[i][1]) for i, k in enumerate(chosen)]
    if finding.place == "spleen":
        return [(0.60 + jitter[0][0], 0.0 + 3 * jitter[0][1])]
    x, y = KIDNEYS[str(finding.side)]
    sign = 1 if x > 0 else -1
    if finding.type == "stone":
        spots = [(sign * 0.075, -0.085), (sign * 0.075, 0.09), (-sign * 0.03, 0.0)]
        chosen = rng.permutation(3)[: finding.count]
        return [(x + spots[k][0], y + spots[k][1]) for k in chosen]
    return [(x + sign * (0.09 + jitter[0][0]), y + 4 * jitter[0][1])]
