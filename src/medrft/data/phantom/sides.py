"""Questions about one side of a picture, and scenes with something to say of both: what composed questions are made of.

    "What is on the right side?"  "How many nodules are on the left side?"  "Describe the right side."

`medrft.data.phantom.composed` asks what these answer only together. A model that is pretrained on the questions here
has seen every fact that a composed question needs, and no composed question.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from medrft.data.phantom import words
from medrft.data.phantom.questions import Asked
from medrft.data.phantom.world import (
    MODALITIES,
    SIDES,
    SORTS,
    Finding,
    Modality,
    Scene,
    draw_finding,
    pick_option,
    sort_of,
)

P_EMPTY = 0.2
"""Share of sides without a finding in a scene of different findings."""
MOST = 2
"""Findings at most on a side of a twin scene; a picture of 64 pixels does not show three of them well."""
COUNTED: dict[Modality, str] = {"xray": "nodule", "ct": "stone", "mr": "mass"}
"""What twin scenes hold: one type, none to two of it on each side."""
NOTHING = ("nothing",)
TOTALS: tuple[tuple[str, ...], ...] = (("none", "zero"), *(words.COUNTS[n][:2] for n in (1, 2, 3)), ("four", "4"))
"""Words for 0 to 4 findings, as answers."""


def draw_pair(rng: np.random.Generator, *, shifted: bool = False) -> Scene:
    """A scene with different findings right and left, each of which may be missing; no finding lies elsewhere."""
    modality = pick_option(rng, MODALITIES)
    right = None if rng.random() < P_EMPTY else _sided(rng, modality, "right", shifted)
    left = None if rng.random() < P_EMPTY else _sided(rng, modality, "left", shifted)
    while right is not None and left is not None and right.type == left.type:
        left = _sided(rng, modality, "left", shifted)
    return Scene(modality=modality, findings=tuple(f for f in (right, left) if f is not None), shifted=shifted)


def draw_twins(rng: np.random.Generator, *, modality: Modality | None = None, shifted: bool = False) -> Scene:
    """A scene with one type of finding, none to two of it on each side; every total from 0 to 4 is equally likely."""
    chosen = pick_option(rng, MODALITIES) if modality is None else modality
    total = int(rng.integers(2 * MOST + 1))
    right = int(rng.integers(max(0, total - MOST), min(MOST, total) + 1))
    findings = [
        _several(rng, chosen, side, count, shifted)
        for side, count in (("right", right), ("left", total - right))
        if count
    ]
    return Scene(modality=chosen, findings=tuple(findings), shifted=shifted)


def on_side(scene: Scene, side: str) -> Finding | None:
    """The finding on a side; `None` where there is none. Scenes have at most one."""
    return next((finding for finding in scene.findings if finding.side in (side, "both")), None)


def ask_sides(rng: np.random.Generator, scene: Scene) -> list[Asked]:
    """All questions about the sides of a scene: what lies on each, how many of the countable type, a description."""
    asked = []
    for side in SIDES:
        found = on_side(scene, side)
        asked.append(
            Asked(
                kind="open",
                type="side_finding",
                question=pick_option(rng, ("What is on the {} side?", "What is seen on the {} side?")).format(side),
                wordings=NOTHING if found is None else _names(found),
                about={"attribute": "side_finding", "on": side},
            )
        )
        type_ = COUNTED[scene.modality]
        here = found if found is not None and found.type == type_ else None
        if here is None or here.side != "both":
            noun = words.plural_noun(words.NOUNS[type_][0])
            asked.append(
                Asked(
                    kind="open",
                    type="side_count",
                    question=f"How many {noun} are on the {side} side?",
                    wordings=TOTALS[0 if here is None else here.count],
                    about={"attribute": "side_count", "on": side, "value": type_},
                )
            )
        asked.append(
            Asked(
                kind="open",
                type="side_description",
                question=f"Describe the {side} side.",
                wordings=(side_sentence(scene, side),),
                about={"attribute": "side_description", "on": side},
            )
        )
    return asked


def side_sentence(scene: Scene, side: str) -> str:
    """What is to be said of a side, always in the same words.

    >>> side_sentence(Scene(modality="xray", findings=(Finding(type="nodule", side="left", count=2),)), "left")
    'On the left there are two nodules.'
    """
    found = on_side(scene, side)
    if found is None:
        return f"On the {side} there is nothing."
    noun = words.NOUNS[found.type][0]
    if found.count > 1 and found.side != "both":
        body = f"{words.COUNTS[found.count][0]} {words.plural_noun(noun)}"
        return f"On the {side} there are {body}{_where(found)}."
    body = words.with_article(f"{found.size} {noun}" if found.size else noun, replace(found, count=1))
    return f"On the {side} there is {body}{_where(found)}."


def both_sides(scene: Scene) -> str:
    """What is to be said of the right side, then of the left."""
    return " ".join(side_sentence(scene, side) for side in SIDES)


def _names(finding: Finding) -> tuple[str, ...]:
    """Names of what lies on one side; of a finding on both sides, there is one on each."""
    return words.finding_nouns(replace(finding, count=1) if finding.side == "both" else finding)


def _where(finding: Finding) -> str:
    return "" if finding.place is None else f" in the {finding.place}"


def _sided(rng: np.random.Generator, modality: Modality, side: str, shifted: bool) -> Finding:
    sorts = [sort for sort in SORTS[modality] if sort.sided]
    while True:
        finding = draw_finding(rng, modality, pick_option(rng, sorts), shifted)
        if finding.side in SIDES and finding.count <= MOST:
            return replace(finding, side=side)


def _several(rng: np.random.Generator, modality: Modality, side: str, count: int, shifted: bool) -> Finding:
    sort = sort_of(modality, COUNTED[modality])
    while True:
        finding = draw_finding(rng, modality, sort, shifted)
        if finding.side in SIDES and finding.count == count:
            return replace(finding, side=side)
