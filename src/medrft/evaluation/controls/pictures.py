"""Controls on the pictures: nothing, something else, or the same seen a little worse or in a mirror.

Each is made from how a pass opens the pictures of an example; no file is written and no picture is kept.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medrft.text import normalize
from medrft.types import Example

if TYPE_CHECKING:
    from PIL.Image import Image

    from medrft.models.encode import Images

BLUR = 0.01
"""Radius of the Gaussian, as a share of the longer side: 5 pixels of 512."""
CONTRAST = (0.6, 1.5)
"""Factors of the distance of each pixel from the picture's mean grey; each picture gets one of them, drawn by seed."""

NO_MODALITY = "its modality is not known"
NO_OTHER = "no other picture of its modality and organ"


def blank_pictures(images: Images) -> Images:
    """Every picture replaced by a grey one of its size. A good model is right less often: it looked."""
    from medrft.data.images import blank_like

    return lambda example: [blank_like(image) for image in images(example)]


def shuffled_pictures(images: Images, examples: Sequence[Example], *, seed: int) -> Images:
    """The same examples, each with the pictures of another one: the questions no longer fit them.

    The other example has as many pictures but not the same ones, where the data have such an example. A good model is
    right less often.
    """
    found = find_partners(examples, seed=seed, key=lambda example: len(example.images))
    return lambda example: images(found.get(example.id, example))


def same_modality(images: Images, examples: Sequence[Example], *, seed: int) -> Images:
    """Each example with the pictures of another patient's, of the same modality and, where that is known, organ.

    A good model is right less often, though what holds of most such pictures still holds: modality, organ, plane.
    """
    found = find_partners(examples, seed=seed, key=sort_of)
    return lambda example: images(found[example.id])


def sort_of(example: Example) -> Hashable:
    """Modality, organ and number of pictures of an example."""
    modality, organ = (normalize(str(example.metadata.get(key) or "")) for key in ("modality", "organ"))
    return modality, organ, len(example.images)


def no_partner(examples: Sequence[Example]) -> dict[str, str]:
    """Why an example has none of its modality to borrow a picture from, by id."""
    cases: dict[Hashable, set[Hashable]] = {}
    for example in examples:
        cases.setdefault(sort_of(example), set()).add(_case(example))
    return {
        example.id: NO_OTHER if example.metadata.get("modality") else NO_MODALITY
        for example in examples
        if not example.metadata.get("modality") or len(cases[sort_of(example)]) < 2
    }


def find_partners(examples: Sequence[Example], *, seed: int, key: Callable[[Example], Hashable]) -> dict[str, Example]:
    """For each example, by id, one of another case that is alike by `key`; absent where there is none."""
    order = list(examples)
    random.Random(seed).shuffle(order)
    groups: dict[Hashable, list[Example]] = {}
    for example in order:
        groups.setdefault(key(example), []).append(example)
    found = {}
    for group in groups.values():
        for i, example in enumerate(group):
            others = (group[(i + step) % len(group)] for step in range(1, len(group)))
            other = next((other for other in others if _case(other) != _case(example)), None)
            if other is not None:
                found[example.id] = other
    return found


def _case(example: Example) -> Hashable:
    """The patient, as far as the data tell: VQA-RAD names the case, elsewhere the pictures must do."""
    return example.metadata.get("image_case_url") or example.images


def blurred_pictures(images: Images) -> Images:
    """Every picture through a Gaussian of `BLUR`. A good model answers the same, but for the finest detail."""
    from PIL import ImageFilter

    def blur(image: Image) -> Image:
        return image.filter(ImageFilter.GaussianBlur(BLUR * max(image.size)))

    return lambda example: [blur(image) for image in images(example)]


def contrasted_pictures(images: Images, *, seed: int) -> Images:
    """Every picture with less or with more contrast, drawn by seed and by the pictures' names.

    A good model answers the same: windows differ from hospital to hospital.
    """
    from PIL import ImageEnhance

    def change(example: Example) -> list[Image]:
        factor = random.Random(f"{seed} {_names(example.images)}").choice(CONTRAST)
        return [ImageEnhance.Contrast(image).enhance(factor) for image in images(example)]

    return change


def _names(images: Sequence[Path]) -> str:
    """File names, without the folders that differ between machines."""
    return " ".join(f"{path.parent.name}/{path.name}" for path in images)


def mirrored_pictures(images: Images) -> Images:
    """Every picture with left and right exchanged. A good model states the other side.

    Markers burnt into a picture are mirrored with it, and anatomy that has a side of its own looks unusual.
    """
    from PIL import ImageOps

    return lambda example: [ImageOps.mirror(image) for image in images(example)]
