"""Rows that stand for a vision-language model's pretraining: captions and short answers, a few in an answer form.

Study bases are trained on these. A policy that never writes `<answer>` earns nothing from any reward, so a stated share
of the rows has the form of the `think` prompt with an empty thought; all others are the bare text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from medrft.data.phantom.questions import Asked
from medrft.data.phantom.rationale import write_thought
from medrft.data.phantom.world import Scene, pick_option
from medrft.types import Example

CAPTION_QUESTIONS = ("Describe the image.", "Write a caption for this image.", "Report what you see.")
FORMAL_THOUGHT = "I look at the image and answer."
"""A thought without any finding: what teaches the form alone."""


def pretraining_rows(
    rng: np.random.Generator, scene: Scene, examples: Sequence[Example], *, number: int, share: float
) -> list[Example]:
    """The rows of one picture: a caption, and its questions, of which some are answered in the form.

    `share` in [0, 1] is that of all rows, captions included, which are never in the form.
    """
    odds = min(1.0, share * (len(examples) + 1) / len(examples)) if examples else 0.0
    rows = []
    for example in examples:
        in_form = f"<think></think><answer>{example.references[0]}</answer>"
        references = (in_form,) if rng.random() < odds else example.references
        rows.append(replace(example, references=references, rationale=None))
    return [_caption(rng, scene, examples[0], number), *rows] if examples else []


def _caption(rng: np.random.Generator, scene: Scene, like: Example, number: int) -> Example:
    """The facts of the picture as sentences."""
    whole = Asked(kind="open", type="caption", question="", wordings=(), about={"attribute": "abnormality"})
    return replace(
        like,
        id=f"{like.dataset}/{like.split}/caption{number}",
        question=pick_option(rng, CAPTION_QUESTIONS),
        references=(write_thought(rng, scene, whole),),
        kind="open",
        options=(),
        rationale=None,
        metadata={**like.metadata, "question_type": "caption"},
    )
