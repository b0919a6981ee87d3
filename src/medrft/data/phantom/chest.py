"""The chest radiograph, frontal: soft tissue, bones, lungs, heart and diaphragm.

Brightness is how much the rays lost: air is dark, bone is bright. `u` is the distance from the midline towards the side
at hand, so that one formula serves both lungs; sign -1 is the patient's right, on the left of the picture.
"""

from __future__ import annotations

import numpy as np

from medrft.data.phantom.canvas import Field, Sheet, paint_mask
from medrft.data.phantom.chest_findings import Lung, draw_effusion, draw_opacities, draw_pneumothorax
from medrft.data.phantom.world import Scene

SIGNS = {"right": (-1,), "left": (1,), "both": (-1, 1)}


def draw_chest(sheet: Sheet, scene: Scene) -> Field:
    """The picture before windowing, about 0 to 1."""
    lungs = {sign: _lung(sheet, sign) for sign in (-1, 1)}
    air = np.maximum(lungs[-1].mask, lungs[1].mask)
    picture = _torso(sheet)
    paint_mask(picture, air, 0.14 + 0.05 * sheet.y + 0.02 * sheet.noise(4))
    markings = _vessels(sheet) * air
    for finding in scene.findings:
        if finding.type == "pneumothorax":
            (sign,) = SIGNS[str(finding.side)]
            draw_pneumothorax(sheet, picture, lungs[sign], markings, finding)
    picture += markings
    _mediastinum(sheet, picture, large=any(finding.type == "cardiomegaly" for finding in scene.findings))
    for finding in scene.findings:
        if finding.type in ("nodule", "consolidation"):
            (sign,) = SIGNS[str(finding.side)]
            draw_opacities(sheet, picture, lungs[sign], finding)
    _bones(sheet, picture, air)
    for finding in scene.findings:
        if finding.type == "effusion":
            for sign in SIGNS[str(finding.side)]:
                draw_effusion(sheet, picture, lungs[sign], finding)
    _marker(sheet, picture)
    return picture


def _lung(sheet: Sheet, sign: int) -> Lung:
    rng = sheet.rng
    u, y = sheet.x * sign, sheet.y
    width, height = 0.375 + rng.normal(0, 0.01), 0.80 + rng.normal(0, 0.02)
    up = np.clip(-y, 0, 1)
    narrow = width * (1 - 0.28 * np.clip(up - 0.12, 0, 1))
    out = (np.abs((u - 0.45 + 0.10 * up) / narrow) ** 2.4 + np.abs(y / height) ** 2.4) ** (1 / 2.4)
    top = (0.36 if sign < 0 else 0.42) + rng.normal(0, 0.025)
    dome = top + 0.30 * ((u - 0.36) / 0.42) ** 2
    mask = sheet.edge(np.minimum((1 - out) * 0.37, (dome - y) * 0.9), 0.03)
    return Lung(sign=sign, mask=mask, out=out, dome=dome)


def _torso(sheet: Sheet) -> Field:
    picture = np.full_like(sheet.x, 0.03)
    u = np.abs(sheet.x)
    neck = np.clip(0.20 - u, 0, 1) * 3
    shoulder = sheet.y + 0.80 - 0.30 * np.clip(u - 0.16, 0, 1) ** 1.4 + neck
    arm = np.maximum(0.97 + 0.10 * np.sin(sheet.y * 2.0) - u, np.minimum(-0.16 - sheet.y, 1.2 - u))
    body = sheet.edge(np.minimum(shoulder, arm), 0.08)
    paint_mask(picture, body, 0.50 + 0.05 * sheet.y - 0.10 * np.clip(u - 0.75, 0, 1))
    belly = sheet.edge(sheet.y - 0.36, 0.5) * body
    paint_mask(picture, belly, 0.66 - 0.06 * np.clip(u - 0.4, 0, 1))
    sheet.fill(picture, (0.34, 0.70), (0.13, 0.075), 0.48, angle=0.3, soft=0.08)
    for sign in (-1, 1):
        sheet.fill(picture, (sign * 0.93, -0.47), (0.13, 0.12), 0.68, soft=0.06)
        sheet.fill(picture, (sign * 1.02, -0.15), (0.07, 0.30), 0.64, soft=0.05)
        sheet.fill(picture, (sign * 0.80, -0.32), (0.09, 0.28), 0.58, angle=sign * 0.2, soft=0.07)
    return picture


def _mediastinum(sheet: Sheet, picture: Field, *, large: bool) -> None:
    """Heart, great vessels, hila, spine and trachea; the heart is over or under half as wide as the chest."""
    rng = sheet.rng
    wide = rng.uniform(1.5, 1.72) if large else rng.uniform(0.94, 1.08)
    hila = np.zeros_like(picture)
    for sign in (-1, 1):
        sheet.fill(hila, (sign * 0.19, -0.05), (0.10, 0.17), 0.65, angle=-sign * 0.25, soft=0.14)
    paint_mask(picture, hila, 0.48)
    ventricle = sheet.ellipse((0.13 * wide**0.4, 0.26), (0.305 * wide, 0.215 * wide**0.5), angle=0.42, soft=0.05)
    atrium = sheet.ellipse((-0.06, 0.20), (0.15 * wide, 0.25), angle=0.1, soft=0.05)
    trunk = sheet.ellipse((0.05, -0.02), (0.16, 0.26), angle=-0.15, soft=0.06)
    vessels = sheet.ellipse((0.0, -0.35), (0.125, 0.55), soft=0.06)
    base = sheet.ellipse((0.10, 0.46), (0.17, 0.08), soft=0.08)
    arch = sheet.ellipse((0.11, -0.32), (0.085, 0.085), soft=0.05)
    shadow = np.maximum.reduce([ventricle, atrium, trunk, base, 0.93 * vessels, 0.95 * arch])
    paint_mask(picture, shadow, 0.62)
    bones = 0.07 + 0.035 * np.cos(sheet.y * 27.0)
    picture += sheet.edge(0.10 - np.abs(sheet.x), 0.06) * bones * sheet.edge(sheet.y + 0.95, 0.3)
    trachea = sheet.edge(0.045 - np.abs(sheet.x + 0.01), 0.03) * sheet.edge(-0.32 - sheet.y, 0.1)
    paint_mask(picture, 0.5 * trachea, 0.28)


def _bones(sheet: Sheet, picture: Field, air: Field) -> None:
    rng = sheet.rng
    u = np.abs(sheet.x)
    cage = sheet.edge(0.86 - u - 0.40 * np.clip(-sheet.y - 0.35, 0, 1), 0.06) * sheet.edge(0.62 - sheet.y, 0.3)
    phase = rng.uniform(0, 1)
    # Posterior ribs arch outwards and down; one cosine draws them all, and its rim their dense edges.
    back = np.cos(2 * np.pi * ((sheet.y - 0.42 * u**1.8 + 0.14 * u) / 0.160 + phase))
    rib = np.clip((back - 0.1) * 3.0, 0, 1) * 0.058 + np.clip(1 - np.abs(back - 0.1) * 3.5, 0, 1) * 0.035
    picture += cage * rib * sheet.edge(u - 0.06, 0.06) * (0.25 + 0.75 * air)
    front = np.cos(2 * np.pi * ((sheet.y + 0.50 * (u - 0.5) - 0.10) / 0.19 + 0.7 * phase))
    outer = sheet.edge(u - 0.38 + 0.1 * sheet.y, 0.2) * cage * air
    picture += outer * 0.030 * np.clip((front - 0.2) * 2.5, 0, 1)
    bow = sheet.y + 0.60 + 0.22 * u - 0.05 * np.sin((u - 0.1) * 7.0)
    shaft = sheet.edge(u - 0.07, 0.04) * sheet.edge(0.74 - u, 0.04)
    picture += shaft * (0.17 * sheet.edge(0.032 - np.abs(bow), 0.02) - 0.06 * sheet.edge(0.014 - np.abs(bow), 0.02))


def _vessels(sheet: Sheet) -> Field:
    """Branching markings that thin out from the hila: ridges of noise along rays."""
    u, y = np.abs(sheet.x), sheet.y
    reach = np.sqrt((u - 0.18) ** 2 + (0.75 * (y + 0.02)) ** 2)
    rays = np.arctan2(y + 0.02, u - 0.1) * 5.7 + 1.1 * sheet.noise(7)
    ridges = np.clip(np.abs(np.cos(1.9 * rays)) - 0.90, 0, 1) * 10
    fine = np.clip(1 - np.abs(sheet.noise(14)) * 3.2, 0, 1)
    fade = np.clip(1.1 - 1.5 * reach, 0, 1)
    markings: Field = fade * (0.075 * ridges + 0.06 * fine) + 0.012 * sheet.noise(30)
    return markings


def _marker(sheet: Sheet, picture: Field) -> None:
    """The letter R beside the patient's right shoulder, as technicians place it; missing from some films."""
    if sheet.rng.random() > 0.7:
        return
    window = sheet.window((-0.88, -0.88), 0.12)
    part = sheet.part(window)
    x, y = part.x + 0.88, part.y + 0.88
    stem = part.edge(0.012 - np.abs(x)) * part.edge(0.055 - np.abs(y))
    ring = np.abs(np.sqrt((x - 0.02) ** 2 + (y + 0.026) ** 2) - 0.028)
    bowl = part.edge(0.011 - ring) * part.edge(x)
    leg = part.edge(0.012 - np.abs(x - 0.012 - y * 0.75)) * part.edge(y) * part.edge(0.055 - y)
    paint_mask(picture[window], np.maximum.reduce([stem, bowl, leg]), 0.98)
