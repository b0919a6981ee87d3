"""What a base is pretrained on: a picture with many questions, each answered on its own, and the labels of its facts.

A lesson is one picture, one prompt and ten to fifteen pairs of a question and an answer. Half of the pictures are drawn
as in every phantom data set, a third have findings on both sides, the rest have the same finding on both sides. The
questions are those of `questions` and `sides`, and captions; composed questions are never among them.

Answers are bare, also under the words of the `think` prompt, but for a share of those that has the prompt's form with a
thought, because a policy that never writes the form earns nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from medrft.data.phantom.canvas import Pixels
from medrft.data.phantom.draw import paint_scene
from medrft.data.phantom.pretraining import CAPTION_QUESTIONS
from medrft.data.phantom.questions import Asked, ask_questions
from medrft.data.phantom.rationale import write_thought
from medrft.data.phantom.sides import ask_sides, both_sides, draw_pair, draw_twins, side_sentence
from medrft.data.phantom.world import SIDES, SORTS, Finding, Scene, draw_scene, pick_option

STREAM = 4
"""First number of the random stream; those below are the splits' (`load.STREAMS`)."""
ORDINARY, PAIR = 0.5, 0.8
"""Below which number from 0 to 1 a picture is drawn as usual, and below which with different findings on both sides."""
QUESTIONS = 8
UNDER_THINK = 0.35
"""Share of the pictures that are shown under the words of the `think` prompt."""
IN_FORM = 0.2
"""Share of the answers under these words that have the prompt's form: 7 % of all answers."""
BOTH_QUESTIONS = ("Describe both sides.", "Describe each side.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """One picture with its questions."""

    scene: Scene
    pixels: Pixels
    """`(size, size)` of 8-bit grey."""
    prompt: str
    """`short`, or `plain`, which has the words of `think`."""
    pairs: tuple[tuple[str, str], ...]
    """Question, with its options as a prompt prints them, and answer."""


def draw_lesson(seed: int, number: int, size: int) -> Lesson:
    """The lesson of a number; the same one for the same arguments."""
    rng = np.random.default_rng([seed, STREAM, number, 0])
    kind = rng.random()
    scene = draw_scene(rng) if kind < ORDINARY else draw_pair(rng) if kind < PAIR else draw_twins(rng)
    asked = _questions(rng, scene)
    prompt = "plain" if rng.random() < UNDER_THINK else "short"
    pairs = [(print_question(one), _answer(rng, scene, one, formal=prompt == "plain")) for one in asked]
    pairs.append((pick_option(rng, BOTH_QUESTIONS), both_sides(scene)) if kind >= ORDINARY else _caption(rng, scene))
    pixels = paint_scene(scene, size, np.random.default_rng([seed, STREAM, number, 1]))
    return Lesson(scene=scene, pixels=pixels, prompt=prompt, pairs=tuple(pairs))


def print_question(asked: Asked) -> str:
    """A question with its options below it, as prompts print them."""
    return "\n".join([asked.question, *(f"({'ABCD'[i]}) {option}" for i, option in enumerate(asked.options))])


def fact_names() -> tuple[str, ...]:
    """The names of all facts that `facts_of` may return, sorted."""
    names: set[str] = set()
    for modality, sorts in SORTS.items():
        names.add(modality)
        for sort in sorts:
            sides = (*SIDES, "middle") if sort.sided else ("middle",)
            details = {*sort.places, "small", "large", "1", "2", "3", ""}
            names |= {f"{modality} {sort.type} {side} {detail}".strip() for side in sides for detail in details}
    return tuple(sorted(names))


def facts_of(scene: Scene) -> set[str]:
    """The facts of a scene as names, such as `xray nodule left small`."""
    return {scene.modality, *(name for finding in scene.findings for name in _names(scene, finding))}


def _names(scene: Scene, finding: Finding) -> Iterable[str]:
    sides = SIDES if finding.side == "both" else (finding.side or "middle",)
    count = 1 if finding.side == "both" else finding.count
    for side in sides:
        for detail in ("", finding.place, finding.size, str(count)):
            if detail is not None:
                yield f"{scene.modality} {finding.type} {side} {detail}".strip()


def _questions(rng: np.random.Generator, scene: Scene) -> list[Asked]:
    """Ordinary questions, and some or all of those about sides; where both sides have one type, the latter alone."""
    types = [finding.type for finding in scene.findings]
    if any(finding.side is None for finding in scene.findings):  # what lies in the liver is on no side here
        return ask_questions(rng, scene, QUESTIONS + 3)
    sides = ask_sides(rng, scene)
    if len(set(types)) < len(types):  # "the nodule" would name two
        return sides
    paired = sum(finding.side in SIDES for finding in scene.findings) > 1
    chosen = sides if paired else [sides[int(index)] for index in rng.permutation(len(sides))[:3]]
    return [*ask_questions(rng, scene, QUESTIONS), *chosen]


def _answer(rng: np.random.Generator, scene: Scene, asked: Asked, *, formal: bool) -> str:
    answer = pick_option(rng, asked.wordings)
    if not formal or asked.type == "side_description" or rng.random() >= IN_FORM:  # its thought would be the answer
        return answer
    if "on" not in asked.about:
        thought = write_thought(rng, scene, asked)
    else:
        thought = both_sides(scene) if rng.random() < 0.5 else side_sentence(scene, asked.about["on"])
    return f"<think>{thought}</think><answer>{answer}</answer>"


def _caption(rng: np.random.Generator, scene: Scene) -> tuple[str, str]:
    whole = Asked(kind="open", type="caption", question="", wordings=(), about={"attribute": "abnormality"})
    return pick_option(rng, CAPTION_QUESTIONS), write_thought(rng, scene, whole)
