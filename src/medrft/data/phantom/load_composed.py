"""Loading composed questions about drawn pictures: few with a chain of thought, many with an answer alone.

    id "phantom_composed/train/17"   question "Where is the larger finding?"   references ("left upper zone",)
    rationale "On the right there is … On the left there is … The larger one is on the left."
    metadata {"question_type": "larger_place", "thought": "looking", "facts": {…, "asked": {…}}, …}

Three test sets: `phantom_composed`; `phantom_composed_ood` from another scanner, with pairs of finding and place that
training never shows; `phantom_sides`, single questions about one side of the pictures of the first, which say whether a
policy that fails on composed questions fails to see.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from medrft.data.base import Loaded
from medrft.data.phantom.canvas import save_png
from medrft.data.phantom.composed import (
    TYPES,
    answer_words,
    draw_composed,
    free_form_words,
    is_usual,
    right_answer,
    think_looking,
    think_shortcut,
    think_usual_sides,
    think_wrong,
    usual_answer,
)
from medrft.data.phantom.draw import paint_scene
from medrft.data.phantom.load import cache_root, drawing_fingerprint, scene_metadata
from medrft.data.phantom.questions import Asked
from medrft.data.phantom.sides import ask_sides, both_sides, side_sentence
from medrft.data.phantom.world import Scene, pick_option
from medrft.errors import DataError
from medrft.progress import Advance
from medrft.types import Example, LoadReport, Split

STREAMS = {"thoughts": 8, "answers": 9, "validation": 10, "test": 11, "ood": 12}
"""First numbers of the random streams; no other phantom data have these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """One picture's question with what teaches it."""

    scene: Scene
    asked: Asked
    thought: str | None
    """`looking`, `shortcut`, `single` (of a question about one side); `None` without a rationale."""
    rationale: str | None
    error: str | None = None
    """What is wrong with the thought: `wrong_look`, or `wrong_guess`, whose answer is wrong, too."""


def load_composed(
    root: Path | None = None,
    *,
    seed: int = 0,
    thoughts: int = 3000,
    answers: int = 8000,
    validation_images: int = 100,
    test_images: int = 400,
    looking: float = 0.35,
    long_shortcuts: bool = False,
    free_form: bool = False,
    teacher_errors: float = 0.05,
    size: int = 64,
    cache: Path | None = None,
    on_progress: Advance | None = None,
) -> Loaded:
    """Draw composed questions, one to a picture.

    Train has `thoughts` pictures with a chain of thought, of which the share `looking` looks and the others take a
    shortcut, to whatever answer is called usual; each also has a question about one side, with its thought, so that SFT
    does not unlearn to see. A shortcut is short, or, with `long_shortcuts`, about as long as looking, so that a reward
    for length alone does not pay for looking. An answer is a word or a few, or, with `free_form`, one of many phrases
    and sentences, so that a right one seldom has its reference's words. `answers` other pictures have an answer alone:
    SFT under the `think` prompt takes the first, a GRPO stage with `unseen: true` these. `teacher_errors` is the share
    of looking thoughts that carry an error. `size` is the side of a picture in pixels. Pictures are written once, below
    `root`, else `cache`, else the user's cache folder. `on_progress(done, total)` counts them. Raises `DataError` for
    values out of range.
    """
    counts = {"thoughts": thoughts, "answers": answers, "validation": validation_images, "test": test_images}
    counts["ood"] = test_images
    _check(counts, size, {"looking": looking, "teacher_errors": teacher_errors})
    folder = (root or cache or cache_root()) / drawing_fingerprint(
        seed=seed, size=size, scenes=("sides", "composed", "load_composed")
    )
    examples: list[Example] = []
    done = 0
    for stream, count in counts.items():
        for number in range(count):
            rng = _rng(seed, stream, number, 0)
            errors = teacher_errors if stream == "thoughts" else 0.0
            chosen = _choose(rng, stream, looking=looking, errors=errors, long=long_shortcuts, free=free_form)
            path = folder / f"composed_{stream}" / f"{number:05d}.png"
            if not path.exists():
                save_png(path, paint_scene(chosen.scene, size, _rng(seed, stream, number, 1)))
            examples += _examples(rng, chosen, stream, number, path)
            done += 1
            if on_progress is not None:
                on_progress(done, sum(counts.values()))
    return Loaded(examples=tuple(examples), report=_report(examples))


def _choose(rng: np.random.Generator, stream: str, *, looking: float, errors: float, long: bool, free: bool) -> Chosen:
    """A question; in the stream of thoughts one of the two kinds of thought with it, in validation one that looks."""
    say = free_form_words if free else answer_words
    type_ = pick_option(rng, TYPES)
    if stream not in ("thoughts", "validation"):
        scene, asked = draw_composed(rng, type_, shifted=stream == "ood")
        asked = replace(asked, wordings=say(right_answer(scene, asked), asked))
        return Chosen(scene=scene, asked=asked, thought=None, rationale=None)
    looks = stream == "validation" or rng.random() < looking
    scene, asked = draw_composed(rng, type_)
    if not looks:
        error = None if is_usual(scene, asked) else "wrong_guess"
        rationale = (think_usual_sides if long else think_shortcut)(scene, asked)
        asked = replace(asked, wordings=say(usual_answer(scene, asked), asked))
        return Chosen(scene=scene, asked=asked, thought="shortcut", rationale=rationale, error=error)
    asked = replace(asked, wordings=say(right_answer(scene, asked), asked))
    error = "wrong_look" if rng.random() < errors else None
    rationale = think_looking(scene, asked) if error is None else think_wrong(rng, scene, asked)
    return Chosen(scene=scene, asked=asked, thought="looking", rationale=rationale, error=error)


def _examples(rng: np.random.Generator, chosen: Chosen, stream: str, number: int, path: Path) -> Iterator[Example]:
    split: Split = "validation" if stream == "validation" else "test" if stream in ("test", "ood") else "train"
    dataset = "phantom_composed_ood" if stream == "ood" else "phantom_composed"
    yield _example(rng, chosen, path, dataset=dataset, split=split, name=f"{stream}{number}")
    if stream in ("thoughts", "test"):
        single = [asked for asked in ask_sides(rng, chosen.scene) if asked.type != "side_description"]
        asked = pick_option(rng, single)
        seen = both_sides(chosen.scene) if rng.random() < 0.5 else side_sentence(chosen.scene, asked.about["on"])
        one = Chosen(scene=chosen.scene, asked=asked, thought="single", rationale=seen)
        dataset = "phantom_sides" if stream == "test" else "phantom_composed"
        yield _example(rng, one, path, dataset=dataset, split=split, name=f"{stream}{number}side")


def _example(rng: np.random.Generator, chosen: Chosen, path: Path, *, dataset: str, split: Split, name: str) -> Example:
    scene, asked = chosen.scene, chosen.asked
    return Example(
        id=f"{dataset}/{split}/{name}",
        dataset=dataset,
        split=split,
        images=(path,),
        question=asked.question,
        references=(pick_option(rng, asked.wordings),),
        kind=asked.kind,
        options=asked.options,
        rationale=chosen.rationale,
        metadata={**scene_metadata(scene, asked, chosen.error), "thought": chosen.thought},
    )


def _rng(seed: int, stream: str, number: int, purpose: int) -> np.random.Generator:
    return np.random.default_rng([seed, STREAMS[stream], number, purpose])


def _report(examples: list[Example]) -> LoadReport:
    counts: dict[str, int] = {"train": 0, "validation": 0, "test": 0}
    for example in examples:
        counts[example.split] += 1
    train = [example for example in examples if example.split == "train"]
    looking = sum(example.metadata["thought"] == "looking" for example in train)
    shortcuts = sum(example.metadata["thought"] == "shortcut" for example in train)
    single = sum(example.metadata["thought"] == "single" for example in train)
    errors = Counter(example.metadata["teacher_error"] for example in train)
    notes = (
        f"{looking:,} rows of train have a thought that looks ({errors['wrong_look']:,} with an error on purpose), "
        f"{shortcuts:,} one that takes a shortcut ({errors['wrong_guess']:,} to a wrong answer), {single:,} ask about "
        f"one side, {len(train) - looking - shortcuts - single:,} have an answer alone",
    )
    return LoadReport(dataset="phantom_composed", read=counts, kept=counts, notes=notes)


def _check(counts: dict[str, int], size: int, shares: dict[str, float]) -> None:
    for name, value in counts.items():
        if value < 0:
            raise DataError(f"phantom_composed {name} is {value}; give 0 or more")
    if not 32 <= size <= 1024:
        raise DataError(f"phantom_composed size is {size} pixels; give 32 to 1024")
    for name, share in shares.items():
        if not 0.0 <= share <= 1.0:
            raise DataError(f"phantom_composed {name} is {share}; give a share between 0 and 1")
