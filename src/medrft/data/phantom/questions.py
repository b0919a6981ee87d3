"""The questions of the phantom world: what is asked of a scene, in which words, and which wordings answer it.

Balanced on purpose: closed questions are answered yes as often as no, so that guessing from the question alone earns
little. `Asked.about` is what `truth` needs beside the facts:

    {"attribute": "side", "finding": 0, "value": "right"}      closed: Is the nodule on the right side?
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from medrft.data.phantom import words
from medrft.data.phantom.world import (
    HELD_OUT,
    MODALITIES,
    ORGANS,
    PLANES,
    SIDES,
    SIZES,
    Finding,
    Scene,
    pick_option,
    sort_of,
    types_of,
)
from medrft.types import Kind

KIND_SHARES: dict[Kind, float] = {"closed": 0.35, "choice": 0.20, "open": 0.45}
OPEN_WEIGHTS = {
    "abnormality": 5,
    "description": 5,
    "side": 3,
    "place": 4,
    "size": 2,
    "count": 3,
    "modality": 1,
    "plane": 1,
    "organ": 1,
}
CHOICE_WEIGHTS = {"abnormality": 5, "place": 4, "side": 3, "size": 2, "count": 2, "modality": 1, "organ": 1}
CLOSED_WEIGHTS = {"presence": 8, "side": 4, "place": 4, "size": 3, "modality": 1, "organ": 1, "plane": 1}

CONFUSABLE = (frozenset({"hemorrhage", "subdural"}),)
"""Types whose names overlap: one is never offered or asked about where the other is present."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One question with every right wording of its answer."""

    kind: Kind
    type: str
    """The question type, such as `side`; the key of its accuracy in reports."""
    question: str
    wordings: tuple[str, ...]
    options: tuple[str, ...] = ()
    about: dict[str, Any]


def ask_questions(rng: np.random.Generator, scene: Scene, number: int) -> list[Asked]:
    """Up to `number` different questions about a scene; fewer where it has no more to ask."""
    asked: list[Asked] = []
    seen: set[str] = set()
    for _ in range(8 * number):
        if len(asked) == number:
            break
        question = _ask_one(rng, scene)
        topics = {question.question}
        if question.type in ONCE:
            topics.add(f"{question.kind} {question.type}")
        if not topics & seen:
            seen |= topics
            asked.append(question)
    return asked


def _ask_one(rng: np.random.Generator, scene: Scene) -> Asked:
    kinds = list(KIND_SHARES)
    kind = kinds[int(rng.choice(len(kinds), p=list(KIND_SHARES.values())))]
    if kind == "closed":
        return _closed(rng, scene)
    return _choice(rng, scene) if kind == "choice" else _open(rng, scene)


def _weighted(rng: np.random.Generator, weights: dict[str, int], possible: set[str]) -> str:
    names = [name for name in weights if name in possible]
    shares = np.array([weights[name] for name in names], dtype=float)
    return names[int(rng.choice(len(names), p=shares / shares.sum()))]


def _possible(scene: Scene) -> dict[str, list[int]]:
    """The attributes that may be asked, and of which findings."""
    out: dict[str, list[int]] = {}
    for index, finding in enumerate(scene.findings):
        if finding.side is not None:
            out.setdefault("side", []).append(index)
        if finding.place is not None and (finding.count == 1 or finding.type == "stone"):  # the plural would tell
            out.setdefault("place", []).append(index)
        if finding.place is not None and finding.count == 1 and finding.type != "stone":
            out.setdefault("place among others", []).append(index)
        if finding.size is not None:
            out.setdefault("size", []).append(index)
        many = sort_of(scene.modality, finding.type).many
        if "spread" in many or finding.place in many:
            out.setdefault("count", []).append(index)
        if _has_site(finding) or len(scene.findings) == 1:
            out.setdefault("description", []).append(index)
    return out


def _among_others(scene: Scene) -> dict[str, list[int]]:
    """As `_possible`, where the place is asked only if the finding could have lain elsewhere."""
    possible = _possible(scene)
    possible.pop("place", None)
    if "place among others" in possible:
        possible["place"] = possible.pop("place among others")
    return possible


def _has_site(finding: Finding) -> bool:
    return finding.side is not None or finding.place is not None


ONCE = ("modality", "plane", "organ", "abnormality")
"""At most one question of each kind about these, or normal pictures would be asked little else."""


def _image_types(rng: np.random.Generator, scene: Scene) -> set[str]:
    """What may be asked of the whole picture; axial ones are asked for their plane half as often, for balance."""
    plane = {"plane"} if scene.plane == "frontal" or rng.random() < 0.5 else set()
    return {"modality", "organ"} | plane


# ---- open -----------------------------------------------------------------------------------------------------------


def _open(rng: np.random.Generator, scene: Scene) -> Asked:
    possible = _possible(scene)
    name = _weighted(rng, OPEN_WEIGHTS, _image_types(rng, scene) | {"abnormality"} | possible.keys())
    if name in IMAGE_QUESTIONS:
        return Asked(
            kind="open",
            type=name,
            question=pick_option(rng, IMAGE_QUESTIONS[name]),
            wordings=image_wordings(scene, name),
            about={"attribute": name},
        )
    index = pick_option(rng, possible[name])
    finding = scene.findings[index]
    question = _finding_question(rng, scene, finding, name)
    return Asked(
        kind="open",
        type=name,
        question=question,
        wordings=FINDING_WORDINGS[name](finding),
        about={"attribute": name, "finding": index},
    )


IMAGE_QUESTIONS: dict[str, tuple[str, ...]] = {
    "modality": ("What imaging modality is this?", "How was this image taken?"),
    "plane": ("In which plane is this image?", "What is the plane of this image?"),
    "organ": ("Which part of the body is shown?", "What body part does this image show?"),
    "abnormality": (
        "What is the abnormality?",
        "What abnormality is seen?",
        "What does this image show?",
        "What is wrong in this image?",
    ),
}
FINDING_QUESTIONS: dict[str, tuple[str, ...]] = {
    "side": ("On which side is the {noun}?", "Which side is the {noun} on?"),
    "place": ("Where is the {noun}?", "Where is the {noun} located?"),
    "size": ("How large is the {noun}?", "What is the size of the {noun}?"),
    "count": ("How many {nouns} are there?", "How many {nouns} are seen?"),
    "description": ("Describe the {noun}.", "Describe the finding.", "Describe the abnormality."),
}
FINDING_WORDINGS: dict[str, Callable[[Finding], tuple[str, ...]]] = {
    "side": words.side_words,
    "place": words.place_words,
    "size": words.size_words,
    "count": words.count_words,
    "description": words.finding_descriptions,
}


def _finding_question(rng: np.random.Generator, scene: Scene, finding: Finding, name: str) -> str:
    templates = FINDING_QUESTIONS[name]
    if name == "description" and len(scene.findings) > 1:
        templates = templates[:1]
    elif name == "description" and not _has_site(finding):  # its name would be the answer
        templates = templates[1:]
    singular = words.NOUNS[finding.type][0]
    noun = singular if finding.side == "both" else words.finding_nouns(finding)[0]
    question = pick_option(rng, templates).format(noun=noun, nouns=words.plural_noun(singular))
    return question.replace(" is the ", " are the ") if noun != singular else question


def image_wordings(scene: Scene, name: str) -> tuple[str, ...]:
    """All right wordings of a fact about the whole picture."""
    if name == "modality":
        return words.MODALITIES[scene.modality]
    if name == "plane":
        return words.PLANES[scene.plane]
    return words.ORGANS[scene.organ] if name == "organ" else words.scene_abnormalities(scene)


# ---- closed ---------------------------------------------------------------------------------------------------------


def _closed(rng: np.random.Generator, scene: Scene) -> Asked:
    possible = _among_others(scene)
    one_sided = [index for index in possible.pop("side", []) if scene.findings[index].side != "both"]
    if one_sided:
        possible["side"] = one_sided
    name = _weighted(rng, CLOSED_WEIGHTS, _image_types(rng, scene) | {"presence"} | possible.keys())
    yes = bool(rng.random() < 0.5)
    if name == "presence":
        return _presence(rng, scene)
    if name in ("modality", "organ", "plane"):
        return _closed_image(rng, scene, name, yes)
    index = pick_option(rng, possible[name])
    return _closed_finding(rng, scene, name, index, yes)


def _presence(rng: np.random.Generator, scene: Scene) -> Asked:
    normal = not scene.findings
    if rng.random() < (0.45 if normal else 0.2):
        value = pick_option(rng, ("abnormal", "normal"))
        question = pick_option(rng, ANY_QUESTIONS[value])
        return _yes_no("presence", question, (value == "normal") == normal, {"attribute": "presence", "value": value})
    present = {finding.type for finding in scene.findings}
    rich = any(_has_site(finding) for finding in scene.findings)
    if present and rng.random() < (0.8 if rich else 0.52):  # the others have fewer questions of other types
        type_, yes = pick_option(rng, sorted(present)), True
    else:
        type_, yes = pick_option(rng, absent_types(scene)), False
    question = pick_option(rng, PRESENCE_QUESTIONS)
    noun = words.with_article(pick_option(rng, words.NOUNS[type_]), Finding(type=type_))
    return _yes_no("presence", question.format(noun=noun), yes, {"attribute": "presence", "value": type_})


ANY_QUESTIONS = {
    "abnormal": ("Is there any abnormality?", "Is this image abnormal?"),
    "normal": ("Is this image normal?", "Is this a normal image?"),
}
PRESENCE_QUESTIONS = ("Is there {noun}?", "Does this image show {noun}?", "Is {noun} present?")


def absent_types(scene: Scene) -> list[str]:
    """Types of the modality that the scene certainly does not show."""
    present = {finding.type for finding in scene.findings}
    unclear = {name for pair in CONFUSABLE if pair & present for name in pair}
    return [name for name in types_of(scene.modality) if name not in present | unclear]


def _yes_no(type_: str, question: str, yes: bool, about: dict[str, Any]) -> Asked:
    return Asked(kind="closed", type=type_, question=question, wordings=("yes" if yes else "no",), about=about)


def _closed_image(rng: np.random.Generator, scene: Scene, name: str, yes: bool) -> Asked:
    modality = scene.modality if yes else pick_option(rng, [other for other in MODALITIES if other != scene.modality])
    if name == "modality":
        return _yes_no(name, f"Is this {ARTICLES[modality]}?", yes, {"attribute": name, "value": modality})
    if name == "organ":
        organ = ORGANS[modality]
        return _yes_no(name, f"Does this image show the {organ}?", yes, {"attribute": name, "value": organ})
    plane = scene.plane if yes else pick_option(rng, sorted({*PLANES.values()} - {scene.plane}))
    return _yes_no(name, f"Is this {VIEWS[plane]}?", yes, {"attribute": name, "value": plane})


VIEWS = {"axial": "an axial image", "frontal": "a frontal view"}
ARTICLES = {"xray": "an X-ray", "ct": "a CT scan", "mr": "an MRI scan"}


def _closed_finding(rng: np.random.Generator, scene: Scene, name: str, index: int, yes: bool) -> Asked:
    finding = scene.findings[index]
    right: str = getattr(finding, name)
    value = (
        right
        if yes
        else pick_option(
            rng, [other for other in answer_alternatives(scene, finding, name) if other not in (right, "both")]
        )
    )
    singular = words.NOUNS[finding.type][0]
    noun = singular if finding.side == "both" else words.finding_nouns(finding)[0]
    be = "Is" if noun == singular else "Are"
    tail = {"side": f"on the {value} side", "place": f"in the {value}", "size": value}[name]
    about = {"attribute": name, "finding": index, "value": value}
    return _yes_no(name, f"{be} the {noun} {tail}?", yes, about)


def answer_alternatives(scene: Scene, finding: Finding, name: str) -> tuple[str, ...]:
    """The values among which a question about a finding chooses, the right one included."""
    sort = sort_of(scene.modality, finding.type)
    if name == "side":
        return (*SIDES, "both") if sort.bilateral else SIDES
    if name == "size":
        return SIZES
    # In domain a held-out place would never be the answer, and the question would give that away.
    return tuple(place for place in sort.places if scene.shifted or (sort.type, place) not in HELD_OUT)


# ---- choice ---------------------------------------------------------------------------------------------------------


def _choice(rng: np.random.Generator, scene: Scene) -> Asked:
    possible = _among_others(scene)
    named = {"modality", "organ"} | (set() if len(scene.findings) > 1 else {"abnormality"})
    name = _weighted(rng, CHOICE_WEIGHTS, named | possible.keys())
    if name in named:
        question = pick_option(rng, CHOICE_QUESTIONS[name])
        return _with_options(rng, name, question, *_image_options(rng, scene, name), {"attribute": name})
    index = pick_option(rng, possible[name])
    finding = scene.findings[index]
    if name == "count":
        values = [words.COUNTS[number][0] for number in (1, 2, 3)]
        right = words.COUNTS[finding.count][0]
    else:
        values = list(answer_alternatives(scene, finding, name))
        right = getattr(finding, name)
    question = _finding_question(rng, scene, finding, name)
    if name == "place":
        question = question.replace("Where is", "In which part is").replace("Where are", "In which part are")
        question = question.replace(" located?", "?")
    wrong = [value for value in values if value != right]
    return _with_options(rng, name, question, right, wrong, {"attribute": name, "finding": index})


CHOICE_QUESTIONS = {
    "modality": ("Which imaging modality is this?",),
    "organ": ("Which body part is shown?",),
    "abnormality": ("Which abnormality is seen?", "Which of these does the image show?"),
}


def _image_options(rng: np.random.Generator, scene: Scene, name: str) -> tuple[str, list[str]]:
    if name == "modality":
        return words.MODALITIES[scene.modality][0], [
            words.MODALITIES[other][0] for other in MODALITIES if other != scene.modality
        ]
    if name == "organ":
        return scene.organ, [other for other in ORGANS.values() if other != scene.organ]
    absent = absent_types(scene)
    rng.shuffle(absent)
    wrong = [pick_option(rng, words.NOUNS[type_]) for type_ in absent[:3]]
    if not scene.findings:
        return words.NORMAL[0], wrong
    if rng.random() < 0.5:
        wrong[0] = words.NORMAL[0]
    return pick_option(rng, words.NOUNS[scene.findings[0].type]), wrong


def _with_options(
    rng: np.random.Generator, name: str, question: str, right: str, wrong: list[str], about: dict[str, Any]
) -> Asked:
    options = [right, *wrong]
    rng.shuffle(options)
    return Asked(kind="choice", type=name, question=question, wordings=(right,), options=tuple(options), about=about)
