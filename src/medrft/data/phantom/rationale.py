"""Chains of thought grounded in the facts, and the errors that teachers make in them.

    This is a frontal chest X-ray. A round opacity lies in the right upper zone. That is a small nodule.

A teacher error changes the thought only: the reference answer stays right, as in chains of thought that a larger model
wrote and nobody read.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from medrft.data.phantom import words
from medrft.data.phantom.questions import Asked, absent_types
from medrft.data.phantom.world import MODALITIES, SIDES, SIZES, Finding, Modality, Scene, pick_option, sort_of

IMAGE_NAMES: dict[Modality, tuple[str, ...]] = {
    "xray": ("frontal chest X-ray", "chest radiograph"),
    "ct": ("axial CT of the abdomen", "abdominal CT scan"),
    "mr": ("axial MRI of the brain", "brain MRI scan"),
}
SIGNS: dict[str, tuple[str, ...]] = {
    "nodule": ("a round opacity", "a round density"),
    "consolidation": ("a patchy opacity", "a hazy opacity"),
    "effusion": ("a blunted costophrenic angle", "fluid with a meniscus"),
    "pneumothorax": ("a pleural line without lung markings", "a dark space beside the lung"),
    "cardiomegaly": ("a wide heart", "a heart wider than half the chest"),
    "cyst": ("a dark round lesion", "a lesion with fluid density"),
    "mass": ("a bright lesion", "an enhancing lesion"),
    "stone": ("a very bright spot", "a dense focus"),
    "aneurysm": ("a wide aorta", "an aorta of large diameter"),
    "ascites": ("fluid around the organs", "fluid along the wall"),
    "splenomegaly": ("a spleen of great size", "a very long spleen"),
    "infarct": ("a bright wedge at the cortex", "a wedge of bright signal"),
    "hemorrhage": ("a dark focus with a bright rim", "dark signal with edema"),
    "subdural": ("a bright crescent along the skull", "a crescent outside the brain"),
    "hydrocephalus": ("enlargement of the ventricles", "a great width of the ventricles"),
}
CLEAR: dict[Modality, tuple[str, ...]] = {
    "xray": ("the lungs are clear and the heart is of normal size", "heart and lungs are normal"),
    "ct": ("liver, spleen and kidneys are normal", "the organs show no lesion"),
    "mr": ("the ventricles are normal and the brain shows no lesion", "the brain tissue is normal"),
}
LANDMARKS: dict[Modality, tuple[str, ...]] = {
    "xray": ("ribs, lungs and heart are seen from the front", "the heart lies between two dark lungs"),
    "ct": ("liver, spleen and spine are seen in cross section", "the liver and the kidneys are cut across"),
    "mr": ("the ventricles are seen between two hemispheres", "the skull surrounds the brain in cross section"),
}
ERRORS = ("missed_finding", "wrong_side", "wrong_place", "wrong_size", "wrong_type", "invented_finding")
"""Errors about findings; a thought about the picture as a whole can only carry `wrong_modality`."""


def write_thought(rng: np.random.Generator, scene: Scene, asked: Asked) -> str:
    """A thought of 12 to 30 words or so that leads from the picture to the answer."""
    opening = (
        f"{pick_option(rng, ('This is a', 'The image is a', 'This'))} {pick_option(rng, IMAGE_NAMES[scene.modality])}"
    )
    opening = opening.replace("a axial", "an axial").replace("a abdominal", "an abdominal")
    if opening.startswith("This ") and not opening.startswith("This is"):
        opening = f"{opening} is seen".replace("This ", "A ", 1).replace("A a", "An a", 1)
    if asked.type in ("modality", "plane", "organ"):
        return _sentences(pick_option(rng, LANDMARKS[scene.modality]), opening)
    findings = _concerned(scene, asked)
    if not findings:
        return _sentences(opening, pick_option(rng, CLEAR[scene.modality]), _absence(rng, asked))
    seen, named = zip(*(_observe(rng, finding) for finding in findings), strict=True)
    several = findings[0].count > 1 and findings[0].side != "both"
    be, that = (
        ("there are", "these are") if several else ("there is", pick_option(rng, ("this is", "this means", "it is")))
    )
    return _sentences(opening, f"{be} {' and '.join(seen)}", f"{that} {' and '.join(named)}")


def teach_wrong(rng: np.random.Generator, scene: Scene, asked: Asked) -> tuple[str, str]:
    """A thought with one teacher error in it, and the error's name."""
    if asked.type in ("modality", "plane", "organ"):
        other = pick_option(rng, [m for m in MODALITIES if m != scene.modality])
        return write_thought(rng, Scene(modality=other), asked), "wrong_modality"
    wrong = {name: changed for name in ERRORS if (changed := _spoil(rng, scene, asked, name)) is not None}
    name = pick_option(rng, list(wrong))
    return write_thought(rng, wrong[name], asked), name


def _spoil(rng: np.random.Generator, scene: Scene, asked: Asked, error: str) -> Scene | None:
    """The scene as the erring teacher saw it; `None` where the error cannot be made."""
    concerned = _concerned(scene, asked)
    if not concerned:
        if error != "invented_finding":
            return None
        asked_for, absent = asked.about.get("value"), absent_types(scene)
        type_ = asked_for if asked_for in absent else pick_option(rng, absent)
        side = pick_option(rng, SIDES) if sort_of(scene.modality, type_).sided else None
        return replace(scene, findings=(Finding(type=type_, side=side),))
    if error == "missed_finding":
        return replace(scene, findings=())
    target = concerned[0]
    changed = _changed(rng, scene, target, error)
    if changed is None:
        return None
    return replace(scene, findings=tuple(changed if f is target else f for f in scene.findings))


def _changed(rng: np.random.Generator, scene: Scene, finding: Finding, error: str) -> Finding | None:
    if error == "wrong_side" and finding.side in SIDES:
        return replace(finding, side=SIDES[1 - SIDES.index(finding.side)])
    if error == "wrong_size" and finding.size is not None:
        return replace(finding, size=SIZES[1 - SIZES.index(finding.size)])
    places = sort_of(scene.modality, finding.type).places
    if error == "wrong_place" and finding.place is not None and finding.side is not None and len(places) > 1:
        sided = [place for place in places if place not in (finding.place, "liver", "spleen")]
        return replace(finding, place=pick_option(rng, sided)) if sided else None
    if error == "wrong_type":
        return replace(finding, type=pick_option(rng, absent_types(scene)), place=None, count=1)
    return None


def _concerned(scene: Scene, asked: Asked) -> tuple[Finding, ...]:
    """The findings a thought has to mention: the one asked about, else all."""
    if "finding" in asked.about and scene.findings:
        return (scene.findings[asked.about["finding"]],)
    return scene.findings


def _observe(rng: np.random.Generator, finding: Finding) -> tuple[str, str]:
    """What is seen, with its place, and what it is called."""
    sign = pick_option(rng, SIGNS[finding.type])
    if finding.count > 1 and finding.side != "both":
        head, joint, tail = sign.removeprefix("an ").removeprefix("a ").partition(" with ")
        sign = f"{words.COUNTS[finding.count][0]} {words.plural_noun(head)}{joint}{tail}"
    name = pick_option(rng, words.finding_nouns(finding))
    body = f"{finding.size} {name}" if finding.size is not None else name
    return " ".join((sign, *_where(finding))), words.with_article(body, finding)


def _where(finding: Finding) -> tuple[str, ...]:
    if finding.side == "both":
        return ("on both sides",)
    if finding.place is None:
        return () if finding.side is None else (f"on the {finding.side}",)
    return (f"in the {finding.side} {finding.place}" if finding.side else f"in the {finding.place}",)


def _absence(rng: np.random.Generator, asked: Asked) -> str:
    value = asked.about.get("value")
    if asked.about["attribute"] == "presence" and value in words.NOUNS:
        return f"there is no {pick_option(rng, words.NOUNS[value])}"
    return pick_option(rng, ("nothing abnormal is seen", "there is no abnormality"))


def _sentences(*parts: str) -> str:
    return " ".join(f"{part[0].upper()}{part[1:]}." for part in parts)
