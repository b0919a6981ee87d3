"""The chest radiograph, frontal: bones, lungs, heart and diaphragm, and the findings in them.

Brightness is how much the rays lost: air is dark, bone is bright. `u` is the distance from the midline towards the side
at hand, so that one formula serves both lungs; side -1 is the patient's right, on the left of the picture.
"""

from __future__ import annotations

import numpy as np

from medrft.data.phantom.canvas import Field, Sheet, paint
from medrft.data.phantom.world import Finding, Scene

SIGN = {"right": -1, "left": 1}
ZONE_Y = {"upper zone": -0.42, "middle zone": -0.08, "lower zone": 0.22}


def draw_chest(sheet: Sheet, scene: Scene) -> Field:
    """The picture before windowing, about 0 to 1."""
    rng = sheet.rng
    types = {finding.type for finding in scene.findings}
    lungs = {sign: _lung(sheet, sign) for sign in (-1, 1)}
    picture = _torso(sheet)
    air = np.maximum(lungs[-1], lungs[1])
    depth = 0.15 + 0.05 * sheet.y + 0.025 * sheet.noise(4)
    paint(picture, air, depth.astype(np.float32))
    markings = _vessels(sheet) * air
    for finding in scene.findings:
        if finding.type == "pneumothorax":
            _pneumothorax(sheet, picture, lungs[SIGN[str(finding.side)]], markings, finding)
    picture += markings
    _heart(sheet, picture, large="cardiomegaly" in types)
    for finding in scene.findings:
        if finding.type in ("nodule", "consolidation"):
            _opacities(sheet, picture, lungs, finding)
        elif finding.type == "effusion":
            for sign in (-1, 1) if finding.side == "both" else (SIGN[str(finding.side)],):
                _effusion(sheet, picture, lungs[sign], sign, finding.size)
    _bones(sheet, picture, air)
    if rng.random() < 0.7:
        _marker(sheet, picture)
    return picture


def _torso(sheet: Sheet) -> Field:
    picture = np.full_like(sheet.x, 0.02)
    soft = 0.10
    paint(picture, sheet.ellipse(0, 0.55, 1.02, 1.35, soft=soft), 0.52)
    paint(picture, sheet.ellipse(0, -0.72, 0.62, 0.22, soft=0.2), 0.55)
    paint(picture, sheet.ellipse(0, -1.0, 0.22, 0.5, soft=0.1), 0.55)
    below = sheet.edge(sheet.y - 0.42, 0.25) * sheet.ellipse(0, 0.55, 0.98, 1.3, soft=0.1)
    paint(picture, below, 0.68)
    return picture


def _lung(sheet: Sheet, sign: int) -> Field:
    rng = sheet.rng
    u, y = sheet.x * sign, sheet.y
    width = 0.37 + rng.normal(0, 0.012)
    height = 0.79 + rng.normal(0, 0.02)
    # An ellipse that narrows towards its apex.
    taper = 1 - 0.30 * np.clip(-(y + 0.15), 0, 1)
    distance = (
        np.abs((u - 0.44 + 0.10 * np.clip(-y, 0, 1)) / (width * taper)) ** 2.4 + np.abs((y + 0.0) / height) ** 2.4
    ) ** (1 / 2.4)
    inside = (1 - distance) * 0.37
    base = (0.36 if sign < 0 else 0.42) + rng.normal(0, 0.025)
    dome = base + 0.30 * ((u - 0.36) / 0.42) ** 2
    mask: Field = sheet.edge(np.minimum(inside, (dome - y) * 0.9).astype(np.float32), 0.03)
    return mask


def _heart(sheet: Sheet, picture: Field, *, large: bool) -> None:
    rng = sheet.rng
    wide = rng.uniform(0.46, 0.53) if large else rng.uniform(0.29, 0.335)
    x = 0.15 if large else 0.12
    heart = sheet.ellipse(x, 0.24, wide, 0.30 if large else 0.265, angle=0.28, soft=0.05)
    great = sheet.ellipse(0.0, -0.25, 0.125, 0.42, soft=0.06)
    knob = sheet.ellipse(0.115, -0.30, 0.085, 0.085, soft=0.05)
    hila = np.maximum(
        sheet.ellipse(-0.19, -0.02, 0.085, 0.15, angle=0.3, soft=0.12),
        sheet.ellipse(0.19, -0.06, 0.085, 0.14, angle=-0.3, soft=0.12),
    )
    paint(picture, 0.65 * hila, 0.5)
    paint(picture, np.maximum(np.maximum(great, knob) * 0.92, heart), 0.62)
    spine = sheet.edge(0.095 - np.abs(sheet.x), 0.05) * sheet.edge(0.9 - sheet.y, 0.2)
    discs = 0.5 + 0.5 * np.cos(sheet.y * 27.0)
    picture += spine * (0.06 + 0.04 * discs.astype(np.float32)) * sheet.edge(sheet.y + 0.95, 0.3)
    trachea = sheet.edge(0.042 - np.abs(sheet.x + 0.01), 0.03) * sheet.edge(-0.30 - sheet.y, 0.1)
    paint(picture, 0.55 * trachea, 0.25)


def _bones(sheet: Sheet, picture: Field, air: Field) -> None:
    rng = sheet.rng
    u = np.abs(sheet.x)
    inside = sheet.edge(0.86 - u - 0.35 * np.clip(-sheet.y - 0.35, 0, 1), 0.06) * sheet.edge(0.75 - sheet.y, 0.2)
    phase = rng.uniform(0, 1)
    # Posterior ribs arch outwards and down; one cosine draws them all.
    back = np.cos(2 * np.pi * ((sheet.y - 0.34 * u**1.7 + 0.10 * u) / 0.158 + phase))
    rib = np.clip((back - 0.15) * 3.0, 0, 1)
    rim = np.clip(1 - np.abs(back - 0.15) * 3.0, 0, 1)
    picture += inside * (0.050 * rib + 0.028 * rim) * sheet.edge(u - 0.05, 0.06) * (0.4 + 0.6 * air)
    front = np.cos(2 * np.pi * ((sheet.y + 0.42 * (u - 0.5) - 0.10) / 0.185 + phase * 0.7))
    lower = sheet.edge(u - 0.36 + 0.1 * sheet.y, 0.2) * inside
    picture += lower * 0.035 * np.clip((front - 0.2) * 2.5, 0, 1) * air
    bow = -0.60 - 0.24 * u + 0.05 * np.sin((u - 0.1) * 7.0)
    bone = sheet.edge(0.030 - np.abs(sheet.y - bow), 0.025)
    hollow = sheet.edge(0.014 - np.abs(sheet.y - bow), 0.025)
    picture += (0.17 * bone - 0.05 * hollow) * sheet.edge(u - 0.07, 0.04) * sheet.edge(0.80 - u, 0.04)
    for sign in (-1, 1):
        blade = sheet.ellipse(sign * 0.80, -0.38, 0.10, 0.32, angle=sign * 0.22, soft=0.05)
        picture += 0.06 * blade
        picture += 0.20 * sheet.ellipse(sign * 0.95, -0.62, 0.12, 0.14, soft=0.04)


def _vessels(sheet: Sheet) -> Field:
    """Branching markings that thin out from the hila, drawn as ridges of noise."""
    u, y = np.abs(sheet.x), sheet.y
    reach = np.sqrt((u - 0.18) ** 2 + (0.75 * (y + 0.02)) ** 2)
    angle = np.arctan2(y + 0.02, u - 0.1) * 2.6
    bent = angle * 2.2 + 1.1 * sheet.noise(7)
    ridges = np.clip(np.abs(np.cos(bent * 1.9)) - 0.90, 0, 1) * 10
    fine = np.clip(1 - np.abs(sheet.noise(14)) * 3.2, 0, 1)
    fade = np.clip(1.1 - 1.5 * reach, 0, 1)
    out: Field = (fade * (0.075 * ridges + 0.06 * fine) + 0.012 * sheet.noise(30)).astype(np.float32)
    return out


def _opacities(sheet: Sheet, picture: Field, lungs: dict[int, Field], finding: Finding) -> None:
    rng, sign = sheet.rng, SIGN[str(finding.side)]
    if finding.type == "nodule":
        radius = {"small": 0.075, "large": 0.15, None: 0.085}[finding.size] * rng.uniform(0.92, 1.08)
        for x, y in _spots(sheet, finding):
            paint(picture, 0.95 * sheet.blob(sign * x, y, radius, rough=0.12, soft=0.03), 0.66)
        return
    radius = {"small": 0.17, "large": 0.29}[str(finding.size)] * rng.uniform(0.95, 1.08)
    ((x, y),) = _spots(sheet, finding)
    patch = sheet.blob(sign * x, y, radius, rough=0.5, soft=0.16) * lungs[sign]
    texture = 0.62 + 0.09 * sheet.noise(22) + 0.05 * sheet.noise(9)
    paint(picture, patch * np.clip(0.82 + 0.16 * sheet.noise(14), 0, 1), texture.astype(np.float32))


def _spots(sheet: Sheet, finding: Finding) -> list[tuple[float, float]]:
    """Distances from the midline and heights: in the zone, or spread over the lung far from each other."""
    rng = sheet.rng
    if finding.place is not None:
        low = finding.place == "lower zone"
        return [(rng.uniform(0.44, 0.56) + 0.04 * low, ZONE_Y[finding.place] + rng.uniform(-0.06, 0.06))]
    heights = rng.permutation([-0.46, -0.1, 0.2])[: finding.count]
    return [(rng.uniform(0.38, 0.6), height + rng.uniform(-0.05, 0.05)) for height in heights]


def _effusion(sheet: Sheet, picture: Field, lung: Field, sign: int, size: str | None) -> None:
    rng = sheet.rng
    level = {"small": 0.27, "large": -0.12}[str(size)] + rng.uniform(-0.05, 0.05)
    u = sheet.x * sign
    meniscus = level + 0.10 - 0.32 * np.clip(u - 0.30, 0, 1) ** 1.3 + 0.20 * np.clip(0.25 - u, 0, 1)
    chest = sheet.ellipse(sign * 0.44, 0.05, 0.385, 0.86, soft=0.03)
    fluid = sheet.edge((sheet.y - meniscus).astype(np.float32), 0.07) * chest * sheet.edge(u - 0.05, 0.05)
    paint(picture, 0.95 * fluid, 0.74)


def _pneumothorax(sheet: Sheet, picture: Field, lung: Field, markings: Field, finding: Finding) -> None:
    sign = SIGN[str(finding.side)]
    u, y = sheet.x * sign, sheet.y
    rng = sheet.rng
    if finding.size == "large":
        edge = 0.36 + rng.uniform(-0.03, 0.03) + 0.10 * np.cos((y + 0.1) * 2.2)
        outside = u - edge
    else:
        edge = 0.63 + rng.uniform(-0.02, 0.02) - 0.28 * np.clip(-0.10 - y, 0, 1) ** 1.2
        outside = np.maximum(u - edge, -0.46 - y + 0.25 * (u - 0.4))
    free = sheet.edge(outside.astype(np.float32), 0.02) * lung
    markings *= 1 - free
    paint(picture, free, 0.03)
    line = sheet.edge(0.016 - np.abs(outside).astype(np.float32), 0.02) * lung
    paint(picture, 0.8 * line, 0.55)
    if finding.size == "large":
        paint(picture, 0.35 * lung * (1 - free), 0.42)


def _marker(sheet: Sheet, picture: Field) -> None:
    """The letter R beside the patient's right shoulder, as technicians place it."""
    x, y = sheet.x + 0.90, sheet.y + 0.86
    stem = sheet.edge(0.012 - np.abs(x), 0.0) * sheet.edge(0.055 - np.abs(y), 0.0)
    ring = np.abs(np.sqrt((x - 0.02) ** 2 + (y + 0.026) ** 2) - 0.028)
    bowl = sheet.edge((0.011 - ring).astype(np.float32)) * sheet.edge(x, 0.0)
    leg = sheet.edge(0.012 - np.abs(x - 0.012 - y * 0.75)) * sheet.edge(y) * sheet.edge(0.055 - y)
    paint(picture, np.maximum(np.maximum(stem, bowl), leg), 0.98)
