"""Findings of the chest radiograph: nodules, consolidation, effusion, pneumothorax."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medrft.data.phantom.canvas import Field, Point, Sheet, paint_mask
from medrft.data.phantom.world import Finding

ZONE_Y = {"upper zone": -0.42, "middle zone": -0.08, "lower zone": 0.22}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lung:
    """One lung: its mask, how far out each point lies (1 on the chest wall), and the height of its diaphragm."""

    sign: int
    """-1 for the patient's right lung, on the left of the picture."""
    mask: Field
    out: Field
    dome: Field


def draw_opacities(sheet: Sheet, picture: Field, lung: Lung, finding: Finding) -> None:
    """Nodules are round and even; consolidation is a large patch without an edge, with air in it."""
    grow = sheet.rng.uniform(0.93, 1.07)
    if finding.type == "nodule":
        radius = grow * {"small": 0.075, "large": 0.15, None: 0.085}[finding.size]
        shade = 0.62 + 0.02 * sheet.noise(20)
        for at in _spots(sheet, lung, finding):
            sheet.clump(picture, at, radius, shade, rough=0.12, soft=0.035, strength=0.95)
        return
    radius = grow * {"small": 0.18, "large": 0.30}[str(finding.size)]
    within = lung.mask * np.clip(0.84 + 0.14 * sheet.noise(14), 0, 1)
    shade = 0.60 + 0.05 * sheet.noise(22) + 0.04 * sheet.noise(9)
    for at in _spots(sheet, lung, finding):
        sheet.clump(picture, at, radius, shade, rough=0.5, soft=0.17, within=within)


def _spots(sheet: Sheet, lung: Lung, finding: Finding) -> list[Point]:
    """In the zone, or spread over the lung far from each other."""
    rng = sheet.rng
    if finding.place is not None:
        low = 0.04 if finding.place == "lower zone" else 0.0
        return [(lung.sign * (rng.uniform(0.44, 0.56) + low), ZONE_Y[finding.place] + rng.uniform(-0.06, 0.06))]
    heights = rng.permutation([-0.46, -0.1, 0.2])[: finding.count]
    return [(lung.sign * rng.uniform(0.46, 0.62), float(height) + rng.uniform(-0.05, 0.05)) for height in heights]


def draw_effusion(sheet: Sheet, picture: Field, lung: Lung, finding: Finding) -> None:
    """Fluid below a meniscus that climbs the chest wall; it hides the diaphragm."""
    level = {"small": 0.20, "large": -0.16}[str(finding.size)] + sheet.rng.uniform(-0.05, 0.05)
    u = sheet.x * lung.sign
    surface = level + 0.14 - 0.85 * np.clip(u - 0.28, 0, 1) ** 2
    chest = sheet.edge((1 - lung.out) * 0.37 + 0.01, 0.03) * sheet.edge(u - 0.08, 0.08)
    fluid = sheet.edge(sheet.y - surface, 0.08) * chest * sheet.edge(lung.dome + 0.03 - sheet.y, 0.12)
    paint_mask(picture, 0.96 * fluid, 0.72 + 0.01 * sheet.noise(20))


def draw_pneumothorax(sheet: Sheet, picture: Field, lung: Lung, markings: Field, finding: Finding) -> None:
    """Air between the chest wall and a lung that has shrunk towards its hilum, with a thin line at its edge."""
    u, y = sheet.x * lung.sign, sheet.y
    # The edge of the shrunken lung is a level line of `out`, farther in at the apex than at the base.
    apex = np.clip(-(y + 0.1) / 0.6, 0, 1)
    share = {"small": 0.20, "large": 0.50}[str(finding.size)] * sheet.rng.uniform(0.93, 1.07)
    lateral = np.clip((u - 0.22 - 0.1 * apex + 0.35 * apex) / 0.25, 0, 1)
    depth = (lung.out - (1 - share * (0.75 + 0.6 * apex) * lateral)) * 0.37
    free = sheet.edge(depth, 0.02) * lung.mask
    markings *= 1 - free
    paint_mask(picture, free, 0.03)
    paint_mask(picture, 0.75 * sheet.edge(0.014 - np.abs(depth), 0.02) * lung.mask, 0.50)
    if finding.size == "large":
        paint_mask(picture, 0.30 * lung.mask * (1 - free), 0.40)
