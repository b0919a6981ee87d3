"""Opens a run: from a recipe and an output folder to a `Job`, which has the data loaded and the run folder open.

Writes `recipe.yaml`, `data.json` and `environment.json` into the run folder.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrft.config import Recipe, StageConfig
from medrft.data.splits import draw_examples
from medrft.errors import DataError, RecipeError
from medrft.progress import Advance, Bar, no_bar
from medrft.rewards import scorers_of
from medrft.rundir import RunDir, fingerprint, read_record, write_json
from medrft.scorers.clinical.own import clinical_facts
from medrft.scorers.truth import knows_truth
from medrft.types import SPLITS, Example

if TYPE_CHECKING:
    from medrft.data.base import Loaded

LEAK_IMAGES = 20_000
"""A run with more images does not look for leaks by itself, because it would take too long."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A recipe with its data loaded and its run folder open."""

    recipe: Recipe
    run: RunDir
    data: Loaded
    others: tuple[Loaded, ...] = ()
    """The data sets of `eval.data`."""
    bar: Bar = no_bar
    resume: bool = False

    def split(self, name: str) -> list[Example]:
        """The examples of one split."""
        return [example for example in self.data.examples if example.split == name]

    def drawn(self, stage: StageConfig) -> list[Example]:
        """The train examples of one stage: of its kinds, `unseen` ones, and at most `limit` of them, drawn by seed."""
        rows = [example for example in self.split("train") if takes(stage, example)]
        return draw_examples(rows, stage.limit, seed=self.recipe.seed)

    def trained(self) -> list[Example]:
        """The train examples that at least one stage trains on."""
        used = {example.id for stage in self.recipe.stages for example in self.drawn(stage)}
        return [example for example in self.split("train") if example.id in used]

    def tests(self) -> dict[str, list[Example]]:
        """Test examples by data set, those of `eval.data` last; at most `eval.limit` of each, drawn by seed."""
        sets = by_dataset(self.split("test"))
        for other in self.others:
            sets |= by_dataset(other.split("test"))
        return {
            name: draw_examples(found, self.recipe.eval.limit, seed=self.recipe.seed) for name, found in sets.items()
        }


def open_job(recipe: Recipe, *, output: Path, resume: bool = False, bar: Bar = no_bar, record: bool = True) -> Job:
    """Load the data, open the run folder, and write its records of recipe, environment and data.

    Without `record` they are not written: they describe the run itself, not the evaluation of a model from outside.
    """
    from medrft.data import load_data
    from medrft.training.processes import is_main

    with bar("Loading data") as advance:
        data = load_data(recipe.data, seed=recipe.seed, on_progress=advance)
        others = load_tests(recipe, data, on_progress=advance)
    job = Job(recipe=recipe, run=RunDir(output), data=data, others=others, bar=bar, resume=resume)
    check_rows(job)  # before the run folder is made, so that a recipe that cannot run leaves none behind
    run = RunDir.create(output, resume=resume) if is_main() else RunDir(output)
    if record and is_main():
        run.write_recipe(recipe.model_dump(mode="json"))
        tests = {"tests": [describe_data(other) for other in others]} if others else {}
        told = describe_data(data)
        write_json(run.path / "data.json", {**told, **tests, "leakage": describe_leakage(job)})
        write_environment(job, told["splits"])
    return job


def describe_data(data: Loaded) -> dict[str, Any]:
    """Counts, images, notes and fingerprints of the loaded data, for the report and the model card."""
    splits = {}
    for split in SPLITS:
        rows = [example for example in data.examples if example.split == split]
        if rows:
            splits[split] = {
                "examples": len(rows),
                "images": len({image for example in rows for image in example.images}),
                "kinds": dict(Counter(example.kind for example in rows)),
                "datasets": dict(Counter(example.dataset for example in rows)),
                "fingerprint": fingerprint([f"{e.id}\t{e.question}\t{e.references}" for e in rows]),
            }
    report = data.report
    left_out = {"reasons": dict(report.reasons()), "rows": [asdict(row) for row in report.left_out]}
    return {"dataset": report.dataset, "splits": splits, "left_out": left_out, "notes": list(report.notes)}


def describe_leakage(job: Job) -> dict[str, Any]:
    """What the train, validation and test examples of the run have in common: counts and a sentence per pair of sets.

    The result of an earlier start of the run is reused if the rows are the same.
    """
    from medrft.data.overlap.leaks import find_leaks, leak_note

    used = {"train": job.trained(), "validation": job.split("validation")}
    tests = job.tests()
    own = by_dataset(job.split("test"))
    sets = {**used, "test": [example for name in own for example in tests[name]]}
    apart = {name: rows for name, rows in tests.items() if name not in own}
    sets = {name: rows for name, rows in {**sets, **apart}.items() if rows}
    rows = fingerprint([f"{name}\t{example.id}" for name, examples in sets.items() for example in examples])
    path = job.run.path / "data.json"
    before: dict[str, Any] = read_record(path).get("leakage", {})
    if before.get("rows") == rows:
        return before
    images = len({image for examples in sets.values() for example in examples for image in example.images})
    if images > LEAK_IMAGES:
        note = f"leakage was not measured: over {LEAK_IMAGES:,} images; medrft data leaks measures it"
        return {"rows": rows, "pairs": {}, "notes": [note]}
    drawn = job.recipe.data.drawn
    with job.bar("Looking for leaks") as advance:
        found = find_leaks(
            sets,
            copies=not drawn,
            wanted=lambda a, b: a in used or b not in apart,  # what two test sets share leaks nothing into training
            on_progress=lambda label, done, total: advance(done, total),
        )
    pairs = found["pairs"]
    counts = {pair: {key: n for key, n in leak.items() if isinstance(n, int)} for pair, leak in pairs.items()}
    notes = [leak_note(pair, leak) for pair, leak in pairs.items()]
    if drawn:
        notes.append("copies were not looked for: each image is drawn anew, and two of one kind are like each other")
    return {"rows": rows, "pairs": counts, "notes": notes}


def write_environment(job: Job, splits: Mapping[str, Mapping[str, Any]]) -> None:
    """`environment.json`: versions, hardware, seed, prompt hashes, encoder, own words, fingerprints of `splits`."""
    from medrft.models.prompts import get_prompt

    prompts = {name: get_prompt(name).hash for name in (job.recipe.prompt, "short")}
    job.run.write_environment(
        seed=job.recipe.seed,
        prompts=prompts,
        encoder=job.recipe.encoder.model_dump(mode="json"),
        clinical=clinical_facts(job.recipe.clinical),
        data={split: facts["fingerprint"] for split, facts in splits.items()},
    )


def start_model(job: Job) -> str:
    """Where the start model is: a hub id or path as it is, or `stages/base/final` for a tiny model, which is built."""
    from medrft.models.load import resolve_base
    from medrft.models.prompts import get_prompt

    train = job.split("train")
    texts = (text for name in (job.recipe.prompt, "short") for text in get_prompt(name).texts(train))
    source = resolve_base(job.recipe.model, texts=texts, output=job.run.final("base"), seed=job.recipe.seed)
    write_json(job.run.stage("base") / "source.json", {"source": source})
    return source


def source_of(job: Job, stage: str) -> str:
    """Where the model of a finished stage is; raises `DataError` if the stage is not finished."""
    if stage == "base":
        return start_model(job)
    if not job.run.is_finished(stage):
        raise DataError(f"stage {stage!r} has no final model in {job.run.path}; run that stage first")
    return str(job.run.final(stage))


def takes(stage: StageConfig, example: Example) -> bool:
    """Whether a stage trains on an example: it is of its kinds, and without a thought where those are left out."""
    kind = stage.kinds is None or example.kind in stage.kinds
    return kind and not (stage.unseen and (example.rationale or "").strip())


def by_dataset(examples: Sequence[Example]) -> dict[str, list[Example]]:
    """Examples grouped by data set."""
    sets: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        sets[example.dataset].append(example)
    return dict(sets)


def load_tests(recipe: Recipe, data: Loaded, *, on_progress: Advance) -> tuple[Loaded, ...]:
    """The data sets of `eval.data`, with their test splits alone.

    Raises `DataError` for one without test rows, `RecipeError` for a name that two test sets would share.
    """
    from medrft.data import not_empty, read_data

    found: list[Loaded] = []
    taken = {example.dataset for example in data.split("test")}
    for source in recipe.eval.data:
        other = read_data(source.name, source.root, seed=recipe.seed, options=source.options, on_progress=on_progress)
        other = only_test(not_empty(other))
        names = {example.dataset for example in other.examples}
        if not names:
            raise DataError(f"eval.data: {source.name} at {source.root} has no test rows")
        if names & taken:
            raise RecipeError(
                f"eval.data: {', '.join(sorted(names & taken))} is evaluated already; leave one out, or give a table "
                "a name of its own (dataset=NAME)"
            )
        taken |= names
        found.append(other)
    return tuple(found)


def only_test(loaded: Loaded) -> Loaded:
    """A data set with its test examples alone; its report still covers all splits."""
    return replace(loaded, examples=loaded.split("test"))


def check_rows(job: Job) -> None:
    """Check that the loaded rows have what the recipe's stages and its evaluation need.

    Raises `DataError` for stages without train rows, an SFT stage with a `think` prompt whose rows have no rationale,
    and an evaluation without test rows.
    """
    from medrft.models.prompts import get_prompt

    recipe = job.recipe
    if not job.split("train") and recipe.stages:
        raise DataError(f"{recipe.data.name} has no train rows, but the recipe has stages that train")
    if any(stage.kind == "grpo" for stage in recipe.stages) and "oracle" in scorers_of(recipe.reward):
        blind = sum(not knows_truth(example.metadata) for example in job.split("train"))
        if blind:
            raise DataError(
                f"the reward is the oracle, which knows drawn data alone, but {blind:,} of {len(job.split('train')):,} "
                f"train rows of {recipe.data.name} hold no drawn facts; use data: phantom, or another scorer"
            )
    if get_prompt(recipe.prompt).form == "think":
        for stage in recipe.stages:
            if stage.kind != "sft" or stage.curate or stage.rejection or stage.teach == "answers":
                continue
            rows = job.drawn(stage)
            if rows and not any((example.rationale or "").strip() for example in rows):
                raise DataError(
                    f"stage {stage.name!r}: none of {len(rows)} train examples has a rationale for the "
                    f"{recipe.prompt!r} prompt to teach; use prompt: direct, or curate: with an earlier grpo stage"
                )
    evaluates = recipe.eval.base != "skip" or any(stage.evaluate for stage in recipe.stages)
    if evaluates and not any(job.tests().values()):
        cut = "cut some off with --set data.by_image=0.2 (a fifth of the images, with all their questions)"
        if recipe.data.by_image is not None:
            cut = "data.by_image found no image that can be split off: add images"
        raise DataError(
            f"{recipe.data.name} has no test rows to evaluate on; {cut}, name a test set in eval.data, or evaluate "
            "nothing: --set eval.base=skip and evaluate: false in each stage"
        )
