"""Loading the phantom data: scenes, questions and pictures, drawn by seed and kept in a cache folder.

One example (`facts` shortened):

    id "phantom/train/17"   question "Where is the nodule?"   references ("right upper zone",)   kind "open"
    rationale "This is a chest radiograph. There is a round opacity in the right upper zone. It is a small nodule."
    metadata {"modality": "X-ray", "organ": "chest", "question_type": "place", "plane": "frontal",
              "facts": {"findings": [...], "asked": {"attribute": "place", "finding": 0}}, "teacher_error": None, ...}
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from medrft.data.base import Loaded
from medrft.data.phantom.canvas import Pixels, save_png
from medrft.data.phantom.draw import paint_scene
from medrft.data.phantom.pretraining import FORMAL_THOUGHT, pretraining_rows
from medrft.data.phantom.questions import Asked, ask_questions
from medrft.data.phantom.rationale import teach_wrong, write_thought
from medrft.data.phantom.world import Scene, draw_scene, pick_option
from medrft.errors import DataError
from medrft.progress import Advance
from medrft.types import Example, LoadReport, Split

NAMES = {"xray": "X-ray", "ct": "CT", "mr": "MR"}
STREAMS = {"train": 0, "validation": 1, "test": 2, "ood": 3}
"""First numbers of the random streams: the splits share no scene and no picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One split to draw: `stream` is its name among `STREAMS` and its folder in the cache."""

    stream: str
    dataset: str
    split: Split
    images: int


def load_phantom(
    root: Path | None = None,
    *,
    seed: int = 0,
    images: int = 1000,
    validation_images: int = 100,
    test_images: int = 250,
    questions: int = 4,
    size: int = 192,
    teacher_errors: float = 0.0,
    thoughts: str = "drawn",
    pretraining: float | None = None,
    cache: Path | None = None,
    on_progress: Advance | None = None,
) -> Loaded:
    """Draw the phantom data: train, validation, test, and an out-of-domain test as dataset `phantom_ood`.

    `images` counts train pictures and `test_images` those of each test set; each gets `questions` questions. `size` is
    the side of a picture in pixels. `teacher_errors` is the share of train rationales that carry an error. `thoughts:
    formal` puts one sentence without any finding in the place of every rationale. `pretraining` turns train and
    validation into captions and bare answers, and is the share of rows in the form of the `think` prompt with an empty
    thought. Pictures are written once, below `root`, else `cache`, else the user's cache folder. `on_progress(done,
    total)` counts them.
    Raises `DataError` for values out of range.
    """
    _check(images, validation_images, test_images, questions, size, teacher_errors)
    _check_texts(thoughts, pretraining)
    folder = (root or cache or cache_root()) / drawing_fingerprint(seed=seed, size=size)
    plans = (
        Plan(stream="train", dataset="phantom", split="train", images=images),
        Plan(stream="validation", dataset="phantom", split="validation", images=validation_images),
        Plan(stream="test", dataset="phantom", split="test", images=test_images),
        Plan(stream="ood", dataset="phantom_ood", split="test", images=test_images),
    )
    total = sum(plan.images for plan in plans)
    examples: list[Example] = []
    done = 0
    for plan in plans:
        rows = 0
        for number in range(plan.images):
            scene = scene_of(seed, plan.stream, number)
            path = folder / plan.stream / f"{number:05d}.png"
            if not path.exists():
                save_png(path, picture_of(seed, plan.stream, number, size))
            drawn = list(_examples(scene, plan, path, seed, number, rows, questions, teacher_errors))
            rows += len(drawn)
            if thoughts == "formal":
                drawn = [replace(example, rationale=FORMAL_THOUGHT) for example in drawn]
            if pretraining is not None and plan.split != "test":
                rng = _rng(seed, plan.stream, number, 3)
                drawn = pretraining_rows(rng, scene, drawn, number=number, share=pretraining)
            examples += drawn
            done += 1
            if on_progress is not None:
                on_progress(done, total)
    return Loaded(examples=tuple(examples), report=_report(examples))


def scene_of(seed: int, stream: str, number: int) -> Scene:
    """The scene of one picture; `stream` is a key of `STREAMS`."""
    return draw_scene(_rng(seed, stream, number, 0), shifted=stream == "ood")


def picture_of(seed: int, stream: str, number: int, size: int) -> Pixels:
    """The picture of one scene, `(size, size)` of 8-bit grey."""
    return paint_scene(scene_of(seed, stream, number), size, _rng(seed, stream, number, 1))


def cache_root() -> Path:
    """Where pictures are kept: `$XDG_CACHE_HOME/medrft/phantom`, by default below `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "medrft" / "phantom"


def drawing_fingerprint(*, seed: int, size: int, scenes: tuple[str, ...] = ()) -> str:
    """A folder name that changes with whatever changes a picture: seed, size and the drawing code.

    `scenes` are further modules that make the scenes.
    """
    here = Path(__file__).parent
    content = hashlib.sha256(f"{seed} {size}".encode())
    for name in ("world", "canvas", "chest", "chest_findings", "abdomen", "brain", "draw", *scenes):
        content.update((here / f"{name}.py").read_bytes())
    return content.hexdigest()[:16]


def _rng(seed: int, stream: str, number: int, purpose: int) -> np.random.Generator:
    return np.random.default_rng([seed, STREAMS[stream], number, purpose])


def _examples(
    scene: Scene, plan: Plan, path: Path, seed: int, number: int, first: int, questions: int, teacher_errors: float
) -> Iterator[Example]:
    rng = _rng(seed, plan.stream, number, 2)
    for offset, asked in enumerate(ask_questions(rng, scene, questions)):
        error, rationale = None, write_thought(rng, scene, asked)
        wrong, name = teach_wrong(rng, scene, asked)
        if rng.random() < teacher_errors and plan.split == "train":
            error, rationale = name, wrong
        yield Example(
            id=f"{plan.dataset}/{plan.split}/{first + offset}",
            dataset=plan.dataset,
            split=plan.split,
            images=(path,),
            question=asked.question,
            references=(pick_option(rng, asked.wordings),),
            kind=asked.kind,
            options=asked.options,
            rationale=rationale,
            metadata=scene_metadata(scene, asked, error),
        )


def scene_metadata(scene: Scene, asked: Asked, error: str | None) -> dict[str, Any]:
    """What an example keeps of its scene and question, and the teacher's error in its rationale, if there is one."""
    return {
        "modality": NAMES[scene.modality],
        "organ": scene.organ,
        "question_type": asked.type,
        "plane": scene.plane,
        "facts": {**scene.facts(), "asked": asked.about},
        "held_out_pair": any(finding.held_out for finding in scene.findings),
        "teacher_error": error,
    }


def _report(examples: list[Example]) -> LoadReport:
    counts: dict[str, int] = {"train": 0, "validation": 0, "test": 0}
    for example in examples:
        counts[example.split] += 1
    outside = sum(example.dataset == "phantom_ood" for example in examples)
    errors = sum(example.metadata["teacher_error"] is not None for example in examples)
    notes = [f"{outside:,} rows of test are out of domain (dataset phantom_ood)"] if outside else []
    notes += [f"{errors:,} rationales of train carry a teacher error on purpose"] if errors else []
    return LoadReport(dataset="phantom", read=counts, kept=counts, notes=tuple(notes))


def _check(
    images: int, validation_images: int, test_images: int, questions: int, size: int, teacher_errors: float
) -> None:
    counts = {"images": images, "validation_images": validation_images, "test_images": test_images}
    for name, value in counts.items():
        if value < 0:
            raise DataError(f"phantom {name} is {value}; give 0 or more")
    if questions < 1:
        raise DataError(f"phantom questions is {questions}; give 1 or more")
    if not 32 <= size <= 1024:
        raise DataError(f"phantom size is {size} pixels; give 32 to 1024")
    if not 0.0 <= teacher_errors <= 1.0:
        raise DataError(f"phantom teacher_errors is {teacher_errors}; give a share between 0 and 1")


def _check_texts(thoughts: str, pretraining: float | None) -> None:
    if thoughts not in ("drawn", "formal"):
        raise DataError(f"phantom thoughts is {thoughts!r}; give drawn or formal")
    if pretraining is not None and not 0.0 <= pretraining <= 1.0:
        raise DataError(f"phantom pretraining is {pretraining}; give a share between 0 and 1, or leave it out")
