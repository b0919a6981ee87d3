"""Evaluate a policy: generate, score, set beside its controls, and write it down.

    eval/<stage>/<dataset>/predictions.jsonl   a header line, then one row per answer
    eval/<stage>/<dataset>/metrics.json        means with intervals per kind and control

The start model (stage `base`) is asked with the `short` prompt and without controls: it is a baseline itself. Both
files are written whole or not at all; predictions whose header is what would be written again are kept.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrft.errors import DataError
from medrft.evaluation import controls
from medrft.evaluation.metrics import summarise
from medrft.evaluation.scoring import Answer, Marker, as_row
from medrft.rundir import RunDir, fingerprint, read_json, read_jsonl, write_atomic, write_json, write_jsonl
from medrft.types import Completion, Example

if TYPE_CHECKING:
    from medrft.config import Recipe
    from medrft.models.load import Policy
    from medrft.models.prompts import Prompt

Row = dict[str, Any]
Progress = Callable[[int, int], None]
"""Called with how many answers are done and how many there will be."""

BASE = "base"

THUMBNAILS, THUMBNAIL = 48, 192
"""Examples whose images are kept for the report, and their longer side in pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """One sweep of the policy over the examples."""

    control: str
    temperature: float = 0.0
    samples: int = 1


def evaluate(
    policy: Policy,
    recipe: Recipe,
    *,
    stage: str,
    examples_by_dataset: Mapping[str, Sequence[Example]],
    train: Sequence[Example],
    run: RunDir,
    on_progress: Progress | None = None,
) -> dict[str, dict[str, Any]]:
    """Predictions and metrics of one stage on each data set; returns what `metrics.json` holds, by data set.

    `train` is what the most frequent answers are learned on. Raises `DataError` for a data set without examples.
    """
    from medrft.models.prompts import get_prompt

    prompt = get_prompt("short" if stage == BASE else recipe.prompt)
    sweeps = passes(recipe, stage=stage)
    per_example = sum(sweep.samples for sweep in sweeps)
    advance = _counter(on_progress, per_example * sum(map(len, examples_by_dataset.values())))
    marker = Marker(recipe)
    result = {}
    for dataset, examples in examples_by_dataset.items():
        if not examples:
            raise DataError(f"{dataset} has no examples to evaluate on; see: medrft data check {recipe.data.name}")
        header = _header(policy, recipe, prompt, stage=stage, dataset=dataset, examples=examples, train=train, run=run)
        path = run.evaluation(stage, dataset) / "predictions.jsonl"
        if is_finished(path, header):
            advance(per_example * len(examples))
        else:
            answers = _ask(policy, recipe, prompt, sweeps, examples, advance) + _frequent(examples, train)
            rows = [as_row(answer, scores) for answer, scores in zip(answers, marker(answers), strict=True)]
            write_jsonl(path, [header, *rows])
        if recipe.report.images == "thumb":
            _keep_thumbnails(run, examples, seed=recipe.seed)
        result[dataset] = write_metrics(path, resamples=recipe.eval.resamples)
    return result


def write_metrics(predictions: Path, *, resamples: int) -> dict[str, Any]:
    """Write `metrics.json` beside finished predictions, from them alone, and return it."""
    header, *rows = read_jsonl(predictions)
    metrics = {
        **header,
        "interval": f"95 % percentile bootstrap, {resamples} resamples over images, seed {header['seed']}",
        "results": summarise(rows, seed=header["seed"], resamples=resamples),
    }
    write_json(predictions.with_name("metrics.json"), metrics)
    return metrics


def is_finished(path: Path, header: Mapping[str, Any]) -> bool:
    """Whether predictions with exactly this header are there; they are written whole, so their start tells."""
    return path.is_file() and next(read_jsonl(path), None) == header


def passes(recipe: Recipe, *, stage: str) -> list[Pass]:
    """Greedy answers first, then sampled ones and the picture controls; the start model is a baseline and has none."""
    greedy = [Pass(control="none")]
    if stage == BASE:
        return greedy
    sampled = recipe.eval.sampled
    if sampled is not None:
        greedy.append(Pass(control="none", temperature=sampled.temperature, samples=sampled.samples))
    return greedy + [Pass(control=control) for control in recipe.eval.controls]


def _ask(
    policy: Policy,
    recipe: Recipe,
    prompt: Prompt,
    sweeps: Sequence[Pass],
    examples: Sequence[Example],
    advance: Callable[[int], None],
) -> list[Answer]:
    """What the policy says in every pass."""
    from medrft.models.generate import generate

    answers = []
    for sweep in sweeps:
        groups = generate(
            policy,
            prompt,
            examples,
            images=_images(recipe, sweep.control, examples),
            max_new_tokens=recipe.eval.max_new_tokens,
            temperature=sweep.temperature,
            samples=sweep.samples,
            seed=recipe.seed,
            batch_size=recipe.eval.batch_size,
            on_progress=advance,
        )
        answers += [
            _answer(example, completion, sweep, sample, prompt, recipe)
            for example, group in zip(examples, groups, strict=True)
            for sample, completion in enumerate(group)
        ]
    return answers


def _answer(
    example: Example, completion: Completion, sweep: Pass, sample: int, prompt: Prompt, recipe: Recipe
) -> Answer:
    from medrft.scorers import item_of

    return Answer(
        example=example,
        item=item_of(example, completion, form=prompt.form, max_tokens=recipe.eval.max_new_tokens),
        completion=completion,
        control=sweep.control,
        temperature=sweep.temperature,
        sample=sample,
    )


def _frequent(examples: Sequence[Example], train: Sequence[Example]) -> list[Answer]:
    """The most frequent answers of train, for each example and in both ways."""
    frequent = controls.FrequentAnswers.learn(train)
    ways = ((controls.FREQUENT_TYPE, frequent.for_type), (controls.FREQUENT_QUESTION, frequent.for_question))
    return [Answer.bare(example, say(example), control=control) for control, say in ways for example in examples]


def _images(recipe: Recipe, control: str, examples: Sequence[Example]) -> controls.Images:
    """How a pass opens the pictures of an example."""
    from medrft.data.images import open_image

    def opened(example: Example) -> list[Any]:
        return [open_image(path, max_pixels=recipe.data.max_pixels) for path in example.images]

    if control == "blank" or recipe.data.blank:
        return controls.blank(opened)
    if control == "shuffled":
        return controls.shuffled(opened, examples, seed=recipe.seed)
    return opened


def _keep_thumbnails(run: RunDir, examples: Sequence[Example], *, seed: int) -> None:
    """Thumbnails of a few examples, the same for every stage, so that the report can show what was asked."""
    from medrft.data.images import sha256_of, thumbnail

    shown = random.Random(seed).sample(list(examples), min(THUMBNAILS, len(examples)))
    for path in dict.fromkeys(path for example in shown for path in example.images):
        target = run.images / f"{sha256_of(path)}.png"
        if not target.is_file():
            write_atomic(target, thumbnail(path, THUMBNAIL))


def _counter(on_progress: Progress | None, total: int) -> Callable[[int], None]:
    """Counts answers as batches come in, for a progress bar over all passes and data sets."""
    done = 0

    def advance(more: int) -> None:
        nonlocal done
        done += more
        if on_progress is not None:
            on_progress(done, total)

    return advance


def _header(
    policy: Policy,
    recipe: Recipe,
    prompt: Prompt,
    *,
    stage: str,
    dataset: str,
    examples: Sequence[Example],
    train: Sequence[Example],
    run: RunDir,
) -> dict[str, Any]:
    """All that the rows depend on; equal headers mean equal predictions."""
    from medrft.data.images import sha256_of

    final = run.final(stage)
    shown = [text for e in examples for text in (e.id, e.question, *e.references, *map(sha256_of, e.images))]
    return {
        "stage": stage,
        "dataset": dataset,
        "model": policy.id,
        "checkpoint": str(final.relative_to(run.path)) if final.is_dir() else recipe.model.id,
        "weights": weights_hash(final) if final.is_dir() else recipe.model.revision,
        "prompt": prompt.name,
        "prompt_hash": prompt.hash,
        "generation": {
            "max_new_tokens": recipe.eval.max_new_tokens,
            "passes": [
                {"control": p.control, "temperature": p.temperature, "samples": p.samples}
                for p in passes(recipe, stage=stage)
            ],
            "max_pixels": recipe.data.max_pixels,
            **({"pictures": "blank"} if recipe.data.blank else {}),
        },
        "encoder": recipe.encoder.model_dump(mode="json", exclude={"cache_dir", "dtype"}),
        "correct": recipe.correct.model_dump(mode="json"),
        "seed": recipe.seed,
        "examples": len(examples),
        "images": len({path for e in examples for path in e.images}),
        "data": fingerprint(shown),
        "train": fingerprint([text for e in train for text in (e.id, e.question, *e.references)]),
    }


def weights_hash(folder: Path) -> str:
    """16 hex digits over the weight files of a model folder, so that a stage trained again is evaluated again."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def read_metrics(run: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """`{stage: {dataset: metrics}}` of every evaluation that a run holds."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for path in sorted((run / "eval").glob("*/*/metrics.json")):
        found.setdefault(path.parent.parent.name, {})[path.parent.name] = read_json(path)
    return found
