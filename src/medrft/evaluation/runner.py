"""Evaluates a model: from an engine, a recipe and examples to two files per data set.

    eval/<stage>/<dataset>/predictions.jsonl   a header line, then one row per answer
    eval/<stage>/<dataset>/metrics.json        means with intervals per kind and control

The start model (stage `base`) is itself a baseline, so it is asked with the `short` prompt and without controls. Both
files are written whole or not at all. Predictions are kept if their header equals the one that would be written now.
Scored rows are saved as they come (`partial`), so that an evaluation that was killed goes on where it stopped.
"""

from __future__ import annotations

import random
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrft.errors import DataError, EndpointError
from medrft.evaluation.controls import table as controls
from medrft.evaluation.controls.biases import answer_biases
from medrft.evaluation.controls.consistency import control_table
from medrft.evaluation.engines import Engine, Transformers, check_text_only, open_pictures, weights_hash
from medrft.evaluation.judge_panel import judge_facts
from medrft.evaluation.metrics import Row, summarize_rows
from medrft.evaluation.own_scorers import own_facts
from medrft.evaluation.partial import Key, Partial, is_finished, read_predictions
from medrft.evaluation.rewarded import rewarded_metrics
from medrft.evaluation.scoring import Answer, Marker, as_row
from medrft.evaluation.strata import measure_strata, with_frequency
from medrft.intervals import LEVEL, METHOD
from medrft.models.generate import Generation
from medrft.progress import Advance
from medrft.rundir import RunDir, fingerprint, write_atomic, write_json
from medrft.scorers.clinical.own import clinical_facts
from medrft.types import Completion, Example

if TYPE_CHECKING:
    from medrft.config import Recipe
    from medrft.models.prompts import Prompt

BASE = "base"

THUMBNAILS, THUMBNAIL = 48, 192
"""How many examples keep their images for the report, and the longer side of a thumbnail in pixels."""

KEPT, SECONDS = 32, 10.0
"""Answers are scored and saved once this many wait, or after this many seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """One pass over all examples: under which control, and greedily or sampled."""

    control: str
    temperature: float = 0.0
    samples: int = 1

    def generation(self, recipe: Recipe) -> Generation:
        """The settings by which this pass's completions are generated."""
        return Generation(
            max_new_tokens=recipe.eval.max_new_tokens,
            temperature=self.temperature,
            samples=self.samples,
            seed=recipe.seed,
            batch_size=recipe.eval.batch_size,
        )


def evaluate(
    engine: Engine,
    recipe: Recipe,
    *,
    stage: str,
    examples_by_dataset: Mapping[str, Sequence[Example]],
    train: Sequence[Example],
    run: RunDir,
    on_progress: Advance | None = None,
    prompt: str | None = None,
    drawn_of: Mapping[str, int] | None = None,
) -> dict[str, dict[str, Any]]:
    """Predictions and metrics of one stage on each data set; returns what `metrics.json` holds, by data set.

    `train` are the examples that the most frequent answers are learned from; `prompt` replaces the recipe's;
    `drawn_of` says how many examples each set has of which these are a sample. Raises
    `DataError` for a data set without examples, and `EndpointError` if an endpoint fails every request of a pass.
    """
    from medrft.models.prompts import get_prompt

    asked = get_prompt(prompt or ("short" if stage == BASE else recipe.prompt))
    sweeps = plan_passes(recipe, stage=stage)
    per_example = sum(sweep.samples for sweep in sweeps)
    advance = _counter(on_progress, per_example * sum(map(len, examples_by_dataset.values())))
    marker = Marker(recipe)
    result = {}
    for dataset, examples in examples_by_dataset.items():
        if not examples:
            raise DataError(f"{dataset} has no examples to evaluate on; see: medrft data check {recipe.data.name}")
        header = _header(engine, recipe, asked, stage=stage, dataset=dataset, examples=examples, train=train, run=run)
        if (whole := (drawn_of or {}).get(dataset, 0)) > len(examples):
            header["drawn_of"] = whole
        path = run.evaluation(stage, dataset) / "predictions.jsonl"
        if is_finished(path, header):
            advance(per_example * len(examples))
        else:
            counted = with_frequency(examples, train)
            partial = Partial(path, header)
            order = []
            for sweep in sweeps:
                order += _sweep(engine, recipe, asked, sweep, counted, partial, marker, advance)
            order += _add(partial, _frequent(counted, train), marker)
            partial.finish(order)
        if recipe.report.images == "thumb":
            _keep_thumbnails(run, examples, seed=recipe.seed)
        result[dataset] = write_metrics(path)
    return result


def write_metrics(predictions: Path) -> dict[str, Any]:
    """Compute `metrics.json` from finished predictions alone, write it beside them, and return its content."""
    header, rows = read_predictions(predictions)
    metrics = measure_rows(header, rows)
    write_json(predictions.with_name("metrics.json"), metrics)
    return metrics


def plan_passes(recipe: Recipe, *, stage: str) -> list[Pass]:
    """Greedy answers first, then sampled ones, then the recipe's controls; the start model has greedy answers alone."""
    greedy = [Pass(control="none")]
    if stage == BASE:
        return greedy
    sampled = recipe.eval.sampled
    if sampled is not None:
        greedy.append(Pass(control="none", temperature=sampled.temperature, samples=sampled.samples))
    return greedy + [Pass(control=control) for control in dict.fromkeys(recipe.eval.controls)]


def _sweep(
    engine: Engine,
    recipe: Recipe,
    prompt: Prompt,
    sweep: Pass,
    examples: Sequence[Example],
    partial: Partial,
    marker: Marker,
    advance: Callable[[int], None],
) -> list[Key]:
    """Ask and save what is missing of one pass; returns the keys of all its rows, in order."""
    shown, images = controls.apply_control(sweep.control, examples, open_pictures(recipe.data), seed=recipe.seed)
    pictures = {example.id: example.images for example in examples}  # a row names them though none was shown
    order = {e.id: [(sweep.control, sweep.temperature, e.id, sample) for sample in range(sweep.samples)] for e in shown}
    left = [example for example in shown if not all(key in partial.rows for key in order[example.id])]
    advance(sweep.samples * (len(examples) - len(left)))
    if left and sweep.control == controls.QUESTION_ONLY and isinstance(engine, Transformers):
        check_text_only(engine.policy, prompt)
    waiting: list[Answer] = []
    kept = time.monotonic()
    for number, found in engine.answers(prompt, left, sweep.generation(recipe), images=images):
        example = replace(left[number], images=pictures[left[number].id])
        waiting += [_answer(example, said, sweep, sample, prompt, recipe) for sample, said in enumerate(found)]
        if len(waiting) >= KEPT or time.monotonic() - kept > SECONDS:
            _add(partial, waiting, marker)
            advance(len(waiting))
            waiting, kept = [], time.monotonic()
    _add(partial, waiting, marker)
    advance(len(waiting))
    keys = [key for example in shown for key in order[example.id]]
    _tell_failures([partial.failed[key]["error"] for key in keys if key in partial.failed], len(keys), engine)
    return keys


def _add(partial: Partial, answers: Sequence[Answer], marker: Marker) -> list[Key]:
    """Score and save the answers that are not there yet; returns the keys of all."""
    bare = {(a.control, a.temperature, a.example.id, a.sample): a for a in answers}
    new = [answer for key, answer in bare.items() if key not in partial.rows]
    partial.add(as_row(answer, scores, marker.lexicon) for answer, scores in zip(new, marker(new), strict=True))
    return list(bare)


def _tell_failures(errors: Sequence[str], asked: int, engine: Engine) -> None:
    """Warn with the number of requests that failed; raises `EndpointError` if all did."""
    if errors and len(errors) == asked:
        raise EndpointError(f"{engine.id} answered none of {asked} requests: {errors[0]}")
    if errors:
        told = f"{len(errors)} of {asked} requests failed and are unscored: {errors[0]}"
        warnings.warn(f"{engine.id}: {told}; the same command asks for them again", stacklevel=2)


def _answer(
    example: Example, said: Completion | EndpointError, sweep: Pass, sample: int, prompt: Prompt, recipe: Recipe
) -> Answer:
    from medrft.scorers.base import item_of

    if isinstance(said, EndpointError):
        bare = Answer.bare(example, "", control=sweep.control)
        return replace(bare, temperature=sweep.temperature, sample=sample, error=str(said))
    return Answer(
        example=example,
        item=item_of(example, said, form=prompt.form, max_tokens=recipe.eval.max_new_tokens),
        completion=said,
        control=sweep.control,
        temperature=sweep.temperature,
        sample=sample,
    )


def _frequent(examples: Sequence[Example], train: Sequence[Example]) -> list[Answer]:
    """The most frequent answers of train as an answer to each example, by question type and by question text."""
    frequent = controls.FrequentAnswers.learn(train)
    ways = ((controls.FREQUENT_TYPE, frequent.for_type), (controls.FREQUENT_QUESTION, frequent.for_question))
    return [Answer.bare(example, say(example), control=control) for control, say in ways for example in examples]


def _keep_thumbnails(run: RunDir, examples: Sequence[Example], *, seed: int) -> None:
    """Save thumbnails of a few examples for the report. The seed alone draws them, so every stage has the same."""
    from medrft.data.images import sha256_of, thumbnail_png

    shown = random.Random(seed).sample(list(examples), min(THUMBNAILS, len(examples)))
    for path in dict.fromkeys(path for example in shown for path in example.images):
        target = run.images / f"{sha256_of(path)}.png"
        if not target.is_file():
            write_atomic(target, thumbnail_png(path, THUMBNAIL))


def _counter(on_progress: Advance | None, total: int) -> Callable[[int], None]:
    """A function that adds to the count of answers, for a progress bar over all passes and data sets."""
    done = 0

    def advance(more: int) -> None:
        nonlocal done
        done += more
        if on_progress is not None:
            on_progress(done, total)

    return advance


def _header(
    engine: Engine,
    recipe: Recipe,
    prompt: Prompt,
    *,
    stage: str,
    dataset: str,
    examples: Sequence[Example],
    train: Sequence[Example],
    run: RunDir,
) -> dict[str, Any]:
    """Everything that the rows depend on: equal headers mean that predictions need not be made again."""
    from medrft.data.images import sha256_of

    final = run.final(stage)
    own = own_facts(recipe)
    shown = [text for e in examples for text in (e.id, e.question, *e.references, *map(sha256_of, e.images))]
    return {
        "stage": stage,
        "dataset": dataset,
        "model": engine.id,
        "checkpoint": str(final.relative_to(run.path)) if final.is_dir() else recipe.model.id,
        "weights": weights_hash(final) if final.is_dir() else recipe.model.revision,
        **engine.describe(),
        "prompt": prompt.name,
        "prompt_hash": prompt.hash,
        "generation": {
            "max_new_tokens": recipe.eval.max_new_tokens,
            "passes": [
                {"control": p.control, "temperature": p.temperature, "samples": p.samples}
                for p in plan_passes(recipe, stage=stage)
            ],
            "max_pixels": recipe.data.max_pixels,
            **({"pictures": "blank"} if recipe.data.blank else {}),
        },
        "left_out": {
            p.control: found
            for p in plan_passes(recipe, stage=stage)
            if (found := controls.left_out(p.control, examples, seed=recipe.seed))
        },
        "encoder": recipe.encoder.model_dump(mode="json", exclude={"cache_dir", "dtype"}),
        "clinical": clinical_facts(recipe.clinical),
        "correct": recipe.correct.model_dump(mode="json"),
        **judge_facts(recipe.eval.judge),
        **({"scorers": own} if own else {}),
        "rewarded": rewarded_metrics(recipe, stage, own),
        "seed": recipe.seed,
        "examples": len(examples),
        "images": len({path for e in examples for path in e.images}),
        "data": fingerprint(shown),
        "train": fingerprint([text for e in train for text in (e.id, e.question, *e.references)]),
    }


def measure_rows(header: Mapping[str, Any], rows: Sequence[Row]) -> dict[str, Any]:
    """The content of `metrics.json`: header, how intervals are made, `results`, `strata`, `controls` and `biases`."""
    return {
        **header,
        "interval": f"{100 * LEVEL:g} %: {METHOD}",
        "conditional_on": "this training seed",
        "results": summarize_rows(rows, header.get("scorers")),
        "strata": measure_strata(rows),
        "controls": control_table(rows, header.get("left_out", {})),
        "biases": answer_biases(rows),
    }
