"""A recipe from data to report: load, build the start model, then train, evaluate and report stage by stage.

Stages talk through files of the run directory, so each can be done again, and an interrupted run goes on, from files.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrft.config import Recipe, StageConfig
from medrft.errors import DataError, RecipeError, unknown_name
from medrft.pipeline.held_out import by_dataset, load_tests, with_images
from medrft.rundir import RunDir, fingerprint, read_json, write_json
from medrft.types import KINDS, SPLITS, Example

if TYPE_CHECKING:
    from medrft.config import ModelConfig
    from medrft.data.base import Loaded
    from medrft.evaluation.engines import Engine

Advance = Callable[[int, int], None]
Bar = Callable[[str], AbstractContextManager[Advance]]
"""Opens a progress bar under a label; the bar is told (done, total)."""

LEAK_IMAGES = 20_000
"""Images of a run up to which it looks for leaks by itself."""


@contextmanager
def no_bar(label: str) -> Iterator[Advance]:
    """Show nothing."""
    yield lambda done, total: None


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
        """The train examples of one stage: those of its kinds, at most `limit`, drawn by seed."""
        rows = [example for example in self.split("train") if stage.kinds is None or example.kind in stage.kinds]
        return draw(rows, stage.limit, seed=self.recipe.seed)

    def trained(self) -> list[Example]:
        """The train examples of all stages."""
        used = {example.id for stage in self.recipe.stages for example in self.drawn(stage)}
        return [example for example in self.split("train") if example.id in used]

    def tests(self) -> dict[str, list[Example]]:
        """Test examples by data set, those of `eval.data` last; at most `eval.limit` of each, drawn by seed."""
        sets = by_dataset(self.split("test"))
        for other in self.others:
            sets |= by_dataset(other.split("test"))
        return {name: draw(found, self.recipe.eval.limit, seed=self.recipe.seed) for name, found in sets.items()}


def draw(examples: Sequence[Example], limit: int | None, *, seed: int) -> list[Example]:
    """At most `limit` examples, drawn by seed and kept in order."""
    if limit is None or limit >= len(examples):
        return list(examples)
    chosen = sorted(random.Random(seed).sample(range(len(examples)), limit))
    return [examples[index] for index in chosen]


def run_recipe(
    recipe: Recipe, *, output: Path, resume: bool = False, bar: Bar = no_bar, only: Sequence[str] | None = None
) -> RunDir:
    """Run a recipe into `output` and return its run directory; the report lies in it.

    `only` names the stages to do (`base` is the start model's evaluation); by default all of them.
    Raises `UserError` for whatever the user can mend, before any work where that is possible.
    """
    from medrft.training.processes import is_main, main_first, meet

    stages = chosen_stages(recipe, only)
    if is_main():
        RunDir.check(output, resume=resume)
        check_same(recipe, output)
    check_names(recipe)
    with main_first():
        job = open_job(recipe, output=output, resume=resume, bar=bar if is_main() else no_bar)
        start_model(job)
    if is_main():
        if "base" in only if only is not None else recipe.eval.zero_shot:
            evaluate_stage(job, "base")
        audit_reward(job, stages)
    meet()
    for stage in stages:
        train_stage(job, stage)
        if is_main():
            if stage.evaluate:
                evaluate_stage(job, stage.name)
            report_run(job)
        meet()
    return job.run


def check_same(recipe: Recipe, output: Path) -> None:
    """Refuse to go on with a run under a recipe that says otherwise of what has been done already.

    Stages not begun may change, and so may what no training depends on; a changed evaluation is made anew. Raises
    `RecipeError` naming the first keys that differ.
    """
    path = output / "recipe.yaml"
    if not (path.is_file() and RunDir(output).begun):
        return
    before = recipe_of(output)
    begun = [stage for stage in before.stages if (RunDir(output).stage(stage.name) / "stage.json").is_file()]
    free = {"name", "output", "report", "eval", "audit", "stages", "strict"}
    if not any(stage.kind == "grpo" for stage in begun):
        free |= {"reward"} if any(stage.curate for stage in begun) else {"reward", "correct", "encoder"}
    if not any(stage.curate for stage in begun):
        free.add("curate")
    names = {stage.name for stage in begun}

    def settled(of: Recipe) -> dict[str, Any]:
        stages = [stage for stage in of.stages if stage.name in names]
        return _flat(of.model_dump(mode="json", exclude=free) | {"stages": [stage.model_dump() for stage in stages]})

    old, new = settled(before), settled(recipe)
    apart = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    if apart:
        shown = "; ".join(f"{key} was {old.get(key)!r}, now {new.get(key)!r}" for key in apart[:3])
        more = f"; and {len(apart) - 3} more" if len(apart) > 3 else ""
        raise RecipeError(
            f"{output} was begun with another recipe: {shown}{more}. To go on as it began: medrft run {path} --resume "
            f"--output {output}; for the new recipe choose another --output"
        )


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested tables and lists as dotted keys; a list of named tables by its names."""
    if isinstance(value, dict) and value:
        items: list[tuple[str, Any]] = [(str(key), inner) for key, inner in value.items()]
    elif isinstance(value, list | tuple) and value:
        names = [inner.get("name") if isinstance(inner, dict) else None for inner in value]
        items = [(name or str(i), inner) for i, (name, inner) in enumerate(zip(names, value, strict=True))]
    else:
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, inner in items:
        flat |= _flat(inner, f"{prefix}.{key}" if prefix else key)
    return flat


def chosen_stages(recipe: Recipe, only: Sequence[str] | None) -> list[StageConfig]:
    """The stages to do, in the recipe's order; raises `UnknownNameError` for a name that is none of them."""
    names = [stage.name for stage in recipe.stages]
    for name in only or ():
        if name not in names and name != "base":
            raise unknown_name("stage", name, ["base", *names])
    return [stage for stage in recipe.stages if only is None or stage.name in only]


def check_names(recipe: Recipe) -> None:
    """Build what can be built without data or model, so that a wrong name or device ends the run in a second."""
    from medrft.data import check_options
    from medrft.evaluation.judged import Panel
    from medrft.models.load import pick_device
    from medrft.models.prompts import get_prompt
    from medrft.rewards import build_reward
    from medrft.scorers import build_scorer
    from medrft.training import check_stage

    pick_device(recipe.model.device)
    get_prompt(recipe.prompt)
    for source in (recipe.data, *recipe.eval.data):
        check_options(source.name, source.options)
    build_scorer(recipe.correct.scorer, encoder=recipe.encoder)
    build_reward(recipe.reward, encoder=recipe.encoder, correct=recipe.correct)
    if recipe.eval.judge is not None:
        Panel(recipe.eval.judge)
    for stage in recipe.stages:
        check_stage(stage, recipe)


def open_job(recipe: Recipe, *, output: Path, resume: bool = False, bar: Bar = no_bar) -> Job:
    """Open the run folder, load the data, and write down recipe, environment and data."""
    from medrft.data import load_data
    from medrft.training.processes import is_main

    with bar("Loading data") as advance:
        data = load_data(recipe.data, seed=recipe.seed, on_progress=advance)
        others = load_tests(recipe, data, on_progress=advance)
    run = RunDir.create(output, resume=resume) if is_main() else RunDir(output)
    job = Job(recipe=recipe, run=run, data=data, others=others, bar=bar, resume=resume)
    if not job.split("train") and recipe.stages:
        raise DataError(f"{recipe.data.name} has no train rows, but the recipe has stages that train")
    if is_main():
        run.write_recipe(recipe.model_dump(mode="json"))
        tests = {"tests": [describe_data(other) for other in others]} if others else {}
        write_json(run.path / "data.json", {**describe_data(data), **tests, "leakage": describe_leakage(job)})
        write_environment(job)
    return job


def describe_data(data: Loaded) -> dict[str, Any]:
    """Counts, images, leakage notes and fingerprints of the loaded data, for the report and the model card."""
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
    """What the run trains, selects and tests on has in common: counts by pair, and a sentence for each.

    What an earlier start of the run found for the same rows is taken over.
    """
    from medrft.data.leaks import find_leaks, leak_note

    used = {"train": job.trained(), "validation": job.split("validation")}
    tests = job.tests()
    own = by_dataset(job.split("test"))
    sets = {**used, "test": [example for name in own for example in tests[name]]}
    apart = {name: rows for name, rows in tests.items() if name not in own}
    sets = {name: rows for name, rows in {**sets, **apart}.items() if rows}
    rows = fingerprint([f"{name}\t{example.id}" for name, examples in sets.items() for example in examples])
    path = job.run.path / "data.json"
    before: dict[str, Any] = read_json(path).get("leakage", {}) if path.is_file() else {}
    if before.get("rows") == rows:
        return before
    images = len({image for examples in sets.values() for example in examples for image in example.images})
    if images > LEAK_IMAGES:
        note = f"leakage was not measured: over {LEAK_IMAGES:,} images; medrft data leaks measures it"
        return {"rows": rows, "pairs": {}, "notes": [note]}
    drawn = job.recipe.data.name == "phantom"
    with job.bar("Looking for leaks") as advance:
        found = find_leaks(
            sets,
            copies=not drawn,
            wanted=lambda a, b: a in used or b not in apart,  # tests beside one another train nothing
            on_progress=lambda label, done, total: advance(done, total),
        )
    pairs = found["pairs"]
    counts = {pair: {key: n for key, n in leak.items() if isinstance(n, int)} for pair, leak in pairs.items()}
    notes = [leak_note(pair, leak) for pair, leak in pairs.items()]
    if drawn:
        notes.append("copies were not looked for: each image is drawn anew, and two of one kind are like each other")
    return {"rows": rows, "pairs": counts, "notes": notes}


def write_environment(job: Job) -> None:
    """`environment.json`: versions, hardware, seed, prompt hashes and encoder."""
    from medrft.models.prompts import get_prompt

    prompts = {name: get_prompt(name).hash for name in (job.recipe.prompt, "short")}
    splits = read_json(job.run.path / "data.json")["splits"]
    job.run.write_environment(
        seed=job.recipe.seed,
        prompts=prompts,
        encoder=job.recipe.encoder.model_dump(mode="json"),
        data={split: facts["fingerprint"] for split, facts in splits.items()},
    )


def start_model(job: Job) -> str:
    """The start model: a hub id or path as it is, a tiny one built from its config into `stages/base/final`."""
    from medrft.models.load import resolve_base
    from medrft.models.prompts import get_prompt

    train = job.split("train")
    texts = (text for name in (job.recipe.prompt, "short") for text in get_prompt(name).texts(train))
    source = resolve_base(job.recipe.model, texts=texts, output=job.run.final("base"), seed=job.recipe.seed)
    write_json(job.run.stage("base") / "source.json", {"source": source})
    return source


def source_of(job: Job, stage: str) -> str:
    """Where the model of a finished stage lies; raises `DataError` when that stage has not been done."""
    if stage == "base":
        return start_model(job)
    final = job.run.final(stage)
    if not (final / "config.json").is_file():
        raise DataError(f"stage {stage!r} has no final model in {job.run.path}; run that stage first")
    return str(final)


def audit_reward(job: Job, stages: Sequence[StageConfig]) -> None:
    """Audit the run's reward on its own train questions before any GRPO stage, once per run.

    Raises `RecipeError` for a finding that the recipe's `audit.stop_on` does not let pass.
    """
    kinds = {kind for stage in stages if stage.kind == "grpo" for kind in stage.kinds or KINDS}
    examples = [example for example in job.split("train") if example.kind in kinds]
    folder = job.run.path / "audit"
    if not examples or (folder / "summary.json").is_file():
        return
    from medrft.audit import at_least, audit_run_reward
    from medrft.models.prompts import get_prompt
    from medrft.report.audit import write_audit_page
    from medrft.rewards import build_reward

    reward = build_reward(job.recipe.reward, encoder=job.recipe.encoder, correct=job.recipe.correct)
    with job.bar("Auditing the reward") as advance:
        form = get_prompt(job.recipe.prompt).form
        name = job.recipe.reward if isinstance(job.recipe.reward, str) else "reward"
        summary = audit_run_reward(reward, examples, folder, seed=job.recipe.seed, form=form, name=name)
        advance(1, 1)
    write_audit_page(folder)
    severity = job.recipe.audit.stop_on
    found = at_least(summary, severity) if severity else []
    if found:
        raise RecipeError(
            f"the audit of the reward found {', '.join(found)}, and audit.stop_on is {severity}; read "
            f"{folder / 'audit.html'}, then change the reward or set audit.stop_on=null"
        )


def train_stage(job: Job, stage: StageConfig) -> Path:
    """Train one stage, or find it finished already."""
    from medrft.training.grpo import run_grpo
    from medrft.training.sft import run_sft
    from medrft.training.state import is_done

    if job.resume and is_done(job.run, stage.name):
        return job.run.final(stage.name)
    train = curated(job, stage) if stage.curate else job.drawn(stage)
    if not train:
        raise DataError(f"stage {stage.name!r} has nothing to train on: no train row is of kind {stage.kinds}")
    validation = [e for e in job.split("validation") if stage.kinds is None or e.kind in stage.kinds]
    return (run_sft if stage.kind == "sft" else run_grpo)(
        stage,
        job.recipe,
        start=source_of(job, job.recipe.start_of(stage)),
        train=train,
        validation=draw(validation, stage.validation_limit, seed=job.recipe.seed),
        run=job.run,
        resume=job.resume,
    )


def curated(job: Job, stage: StageConfig) -> list[Example]:
    """What a stage with `curate:` trains on: thinned pairs with thoughts; the stage's record says how many."""
    from medrft.pipeline.curation import curate_for_stage
    from medrft.training.processes import is_main
    from medrft.training.state import write_stage

    assert stage.curate is not None
    examples, folder = curate_for_stage(job, stage, policy=source_of(job, stage.curate))
    if is_main():
        facts = {"folder": str(folder.relative_to(job.run.path)), "rows": len(examples), "of": len(job.drawn(stage))}
        write_stage(job.run, stage.name, curated=facts)
    return examples


def evaluate_stage(job: Job, stage: str) -> None:
    """Evaluate a stage's model on every test set; predictions that are complete are kept."""
    evaluate_engine(job, open_engine(job, source_of(job, stage)), stage=stage)


def evaluate_engine(job: Job, engine: Engine, *, stage: str, prompt: str | None = None) -> None:
    """Evaluate whatever answers on every test set, as `stage`; `prompt` replaces the recipe's.

    An example whose image has vanished or broken since it was loaded is left out, and listed in `data.json`
    (`evaluation_left_out`). Raises `StrictError` for one where the recipe is `strict`.
    """
    from medrft.evaluation.runner import evaluate

    tests = with_images(job, stage)
    with job.bar(f"Evaluating {stage}") as advance:
        evaluate(
            engine,
            job.recipe,
            stage=stage,
            examples_by_dataset=tests,
            train=job.split("train"),
            run=job.run,
            on_progress=advance,
            prompt=prompt,
        )


def open_engine(job: Job, source: str, *, model: ModelConfig | None = None) -> Engine:
    """The model at `source` in the recipe's engine; `model` stands in for the recipe's, for one from outside."""
    from medrft.evaluation.engines import Offline, Transformers
    from medrft.models.load import load_policy

    config = model or job.recipe.model
    checkpoint, revision = (config.id, config.revision) if model else (None, None)
    if job.recipe.eval.engine == "vllm":
        from medrft.models.offline import load_offline

        images = max((len(e.images) for examples in job.tests().values() for e in examples), default=1)
        return Offline(load_offline(config, source, images=images, seed=job.recipe.seed), checkpoint, revision)
    return Transformers(load_policy(config, source), checkpoint, revision)


def open_model(job: Job, name: str) -> Engine:
    """A model from outside the run, `ID`, `ID@REVISION` or a folder, with the recipe's other model settings."""
    from medrft.models.load import resolve_base

    place, _, revision = (name, "", "") if Path(name).is_dir() else name.partition("@")
    model = job.recipe.model.model_copy(update={"id": place, "revision": revision or None, "lora": None, "freeze": ()})
    if place.startswith("tiny:"):
        raise RecipeError(f"--model {name!r} is a random model; pass a hub id or the folder of a saved one")
    source = resolve_base(model, texts=(), output=job.run.final("base"), seed=job.recipe.seed)
    return open_engine(job, source, model=model)


def outside_name(recipe: Recipe, model: str) -> str:
    """What a model from outside is called beside a recipe's stages.

    >>> from medrft.config import parse_recipe
    >>> outside_name(parse_recipe({"name": "a", "model": {"id": "m"}, "data": {"name": "d"}}), "Qwen/Qwen2.5-VL-3B")
    'qwen_qwen2_5_vl_3b'
    """
    parts = Path(model).parts[-2:] if Path(model).is_dir() else (model,)
    name = re.sub(r"[^a-z0-9]+", "_", "_".join(parts).lower()).strip("_") or "model"
    if name in ("base", *(stage.name for stage in recipe.stages)):
        return f"{name}_outside"
    return name


def report_run(job: Job) -> Path:
    """Write the report from the run's files."""
    from medrft.report import render

    return render(job.run.path)


def recipe_of(run: Path, *, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """The resolved recipe a run folder holds."""
    from medrft.config import load_recipe

    return load_recipe(run / "recipe.yaml", overrides=overrides)
