"""Controls on the pictures: grey ones, those of another example, or the same ones blurred, re-contrasted or mirrored.

Each wraps the function that opens an example's pictures and returns another such function. No file is written.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING

from medrft.text import normalize
from medrft.types import Example

if TYPE_CHECKING:
    from PIL.Image import Image

    from medrft.models.encode import Images

BLUR = 0.01
"""Radius of the Gaussian blur as a share of the longer side: 5 pixels of 512."""
CONTRAST = (0.6, 1.5)
"""Factors for each pixel's distance from the picture's mean grey; each example gets one of them, drawn by seed."""

NO_MODALITY = "its modality is not known"
NO_OTHER = "no other picture of its modality and organ"


def blank_pictures(images: Images) -> Images:
    """Every picture replaced by a grey one of its size. A model that looks at pictures is then right less often."""
    from medrft.data.images import blank_like

    return lambda example: [blank_like(image) for image in images(example)]


def shuffled_pictures(images: Images, examples: Sequence[Example], *, seed: int) -> Images:
    """The same examples, each with the pictures of another one, which do not fit the question.

    The other example has the same number of pictures and is of another patient; where the data have none, the pictures
    stay. A good model is right less often.
    """
    found = find_partners(examples, seed=seed, key=lambda example: len(example.images))
    return lambda example: images(found.get(example.id, example))


def same_modality(images: Images, examples: Sequence[Example], *, seed: int) -> Images:
    """Each example with another patient's pictures of the same modality and, where that is known, the same organ.

    A good model is right less often, but not on questions about what the two share: modality, organ, often the plane.
    """
    found = find_partners(examples, seed=seed, key=sort_of)
    return lambda example: images(found[example.id])


def sort_of(example: Example) -> Hashable:
    """Modality, organ and number of pictures: examples that agree in them may exchange pictures."""
    modality, organ = (normalize(str(example.metadata.get(key) or "")) for key in ("modality", "organ"))
    return modality, organ, len(example.images)


def no_partner(examples: Sequence[Example]) -> dict[str, str]:
    """By id, the examples that have no partner of their modality to take pictures from, with the reason."""
    cases: dict[Hashable, set[Hashable]] = {}
    for example in examples:
        cases.setdefault(sort_of(example), set()).add(_case(example))
    return {
        example.id: NO_OTHER if example.metadata.get("modality") else NO_MODALITY
        for example in examples
        if not example.metadata.get("modality") or len(cases[sort_of(example)]) < 2
    }


def find_partners(examples: Sequence[Example], *, seed: int, key: Callable[[Example], Hashable]) -> dict[str, Example]:
    """For each example, by id, one of another patient with the same `key`; absent where there is none."""
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
    """The patient, as far as the data tell: VQA-RAD names the case; elsewhere the pictures stand for it."""
    return example.metadata.get("image_case_url") or example.images


def blurred_pictures(images: Images) -> Images:
    """Every picture blurred by `BLUR`. A good model answers the same, except about the finest details."""
    from PIL import ImageFilter

    def blur(image: Image) -> Image:
        return image.filter(ImageFilter.GaussianBlur(BLUR * max(image.size)))

    return lambda example: [blur(image) for image in images(example)]


def contrasted_pictures(images: Images, *, seed: int) -> Images:
    """Every picture with less or more contrast, drawn by the seed and the pictures' file names.

    A good model answers the same, because intensity windows differ between hospitals.
    """
    from PIL import ImageEnhance

    def change(example: Example) -> list[Image]:
        # Seeded by a text, which gives the same draw on every machine and whichever examples are asked before. It has
        # the last folder alone, because the folders above differ between machines.
        names = " ".join(f"{path.parent.name}/{path.name}" for path in example.images)
        factor = random.Random(f"{seed} {names}").choice(CONTRAST)
        return [ImageEnhance.Contrast(image).enhance(factor) for image in images(example)]

    return change


def mirrored_pictures(images: Images) -> Images:
    """Every picture with left and right exchanged. A good model states the other side.

    Burnt-in markers are mirrored too, and organs that lie on one side, such as the heart, look unusual.
    """
    from PIL import ImageOps

    return lambda example: [ImageOps.mirror(image) for image in images(example)]
