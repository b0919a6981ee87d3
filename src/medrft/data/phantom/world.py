"""The facts of the phantom world: which findings exist, where they may lie, and the drawing of one scene.

A scene is all that is true of one picture. Sides follow the radiological convention: they are the patient's, and the
patient's right is on the left of the picture.

    Scene(modality="xray", findings=(Finding(type="nodule", side="right", place="upper zone", size="small"),))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar

import numpy as np

Modality = Literal["xray", "ct", "mr"]
MODALITIES: tuple[Modality, ...] = ("xray", "ct", "mr")
PLANES: dict[Modality, str] = {"xray": "frontal", "ct": "axial", "mr": "axial"}
ORGANS: dict[Modality, str] = {"xray": "chest", "ct": "abdomen", "mr": "brain"}
SIDES = ("right", "left")
SIZES = ("small", "large")

P_NORMAL = 0.22
P_SECOND = 0.15
P_SEVERAL = 0.5
"""Share of findings that are two or three, where several may be."""
P_HELD_OUT = 0.6
"""Share of out-of-domain findings whose pair of type and place is one that training never shows."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sort:
    """What findings of one type may be like in one modality."""

    type: str
    places: tuple[str, ...] = ()
    """Places to choose from; empty where the type itself says the place, as in cardiomegaly."""
    sided: bool = False
    bilateral: bool = False
    sized: bool = False
    many: tuple[str, ...] = ()
    """Where several may lie at once; `spread` is a whole lung or hemisphere, without a narrower place."""


ZONES = ("upper zone", "middle zone", "lower zone")
LOBES = ("frontal lobe", "parietal lobe", "occipital lobe")
SIDED_PLACES = (*ZONES, *LOBES, "kidney")

SORTS: dict[Modality, tuple[Sort, ...]] = {
    "xray": (
        Sort(type="nodule", places=ZONES, sided=True, sized=True, many=("spread",)),
        Sort(type="consolidation", places=ZONES, sided=True, sized=True),
        Sort(type="effusion", sided=True, bilateral=True, sized=True),
        Sort(type="pneumothorax", sided=True, sized=True),
        Sort(type="cardiomegaly"),
    ),
    "ct": (
        Sort(type="cyst", places=("kidney", "liver", "spleen"), sided=True, sized=True, many=("liver",)),
        Sort(type="mass", places=("kidney", "liver", "spleen"), sided=True, sized=True, many=("liver",)),
        Sort(type="stone", places=("kidney",), sided=True, many=("kidney",)),
        Sort(type="aneurysm"),
        Sort(type="ascites"),
        Sort(type="splenomegaly"),
    ),
    "mr": (
        Sort(type="mass", places=LOBES, sided=True, sized=True, many=("spread",)),
        Sort(type="infarct", places=LOBES, sided=True, sized=True),
        Sort(type="hemorrhage", places=LOBES, sided=True, sized=True),
        Sort(type="subdural", sided=True, sized=True),
        Sort(type="hydrocephalus"),
    ),
}

HELD_OUT: frozenset[tuple[str, str]] = frozenset(
    {
        ("nodule", "lower zone"),
        ("consolidation", "upper zone"),
        ("cyst", "spleen"),
        ("mass", "kidney"),
        ("mass", "occipital lobe"),
        ("infarct", "frontal lobe"),
        ("hemorrhage", "parietal lobe"),
    }
)
"""Pairs of type and place that only the out-of-domain split shows; each type and each place is in train."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One finding. `None` says that the property does not apply, or that the picture does not settle it."""

    type: str
    side: str | None = None
    """`right`, `left` or `both`; `None` in the midline and in organs that lie on one side anyway."""
    place: str | None = None
    size: str | None = None
    count: int = 1

    @property
    def held_out(self) -> bool:
        """Whether training never shows this type in this place."""
        return (self.type, self.place) in HELD_OUT


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """All that is true of one picture."""

    modality: Modality
    findings: tuple[Finding, ...] = ()
    shifted: bool = False
    """Drawn in the other style of the out-of-domain split."""

    @property
    def plane(self) -> str:
        """`frontal` or `axial`."""
        return PLANES[self.modality]

    @property
    def organ(self) -> str:
        """`chest`, `abdomen` or `brain`."""
        return ORGANS[self.modality]

    def facts(self) -> dict[str, Any]:
        """The scene as plain JSON types, for `Example.metadata["facts"]`."""
        return {
            "modality": self.modality,
            "plane": self.plane,
            "organ": self.organ,
            "findings": [asdict(finding) for finding in self.findings],
        }


def pick_option(rng: np.random.Generator, options: Sequence[T]) -> T:
    """One of `options`, all equally likely."""
    return options[int(rng.integers(len(options)))]


def types_of(modality: Modality) -> tuple[str, ...]:
    """The finding types of a modality."""
    return tuple(sort.type for sort in SORTS[modality])


def sort_of(modality: Modality, type_: str) -> Sort:
    """What findings of a type may be like."""
    return next(sort for sort in SORTS[modality] if sort.type == type_)


def draw_scene(rng: np.random.Generator, *, shifted: bool = False) -> Scene:
    """A scene: about a fifth are normal, some of the others hold two findings. `shifted` draws for out of domain."""
    modality = pick_option(rng, MODALITIES)
    if rng.random() < P_NORMAL:
        return Scene(modality=modality, shifted=shifted)
    first = draw_finding(rng, modality, pick_option(rng, SORTS[modality]), shifted)
    findings: tuple[Finding, ...] = (first,)
    if rng.random() < P_SECOND:
        second = draw_finding(rng, modality, pick_option(rng, SORTS[modality]), shifted)
        if not _in_each_others_way(first, second):
            findings = (first, second)
    return Scene(modality=modality, findings=findings, shifted=shifted)


def draw_finding(rng: np.random.Generator, modality: Modality, sort: Sort, shifted: bool) -> Finding:
    """A finding of one sort; `shifted` allows the pairs of type and place that training never shows."""
    place, count = _draw_place(rng, sort, shifted)
    side = pick_option(rng, SIDES) if sort.sided and place not in ("liver", "spleen") else None
    if sort.bilateral and rng.random() < 0.15:
        side, count = "both", 2
    size = pick_option(rng, SIZES) if sort.sized and (count == 1 or sort.bilateral) else None
    return Finding(type=sort.type, side=side, place=place, size=size, count=count)


def _draw_place(rng: np.random.Generator, sort: Sort, shifted: bool) -> tuple[str | None, int]:
    known = [place for place in sort.places if (sort.type, place) not in HELD_OUT]
    unknown = [place for place in sort.places if (sort.type, place) in HELD_OUT]
    held_out = shifted and unknown and rng.random() < P_HELD_OUT
    count = int(rng.integers(2, 4)) if rng.random() < P_SEVERAL else 1
    if "spread" in sort.many and not held_out and count > 1:
        return None, count
    if not sort.places:
        return None, 1
    place = pick_option(rng, unknown if held_out else known)
    return place, count if place in sort.many else 1


def _in_each_others_way(first: Finding, second: Finding) -> bool:
    if first.type == second.type:
        return True
    if first.side is not None and second.side is not None:
        return first.side == second.side or "both" in (first.side, second.side)
    organs = {"splenomegaly": "spleen", "aneurysm": "aorta"}
    return organs.get(first.type, first.place) == organs.get(second.type, second.place) is not None
