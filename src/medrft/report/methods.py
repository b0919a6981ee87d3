"""The methods paragraph of a paper: a run's files go in, plain sentences come out that say what was done with what.

Only what the files hold is said; what they do not hold is named as missing, so that nobody has to guess.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medrft.config import StageConfig
from medrft.evaluation.run_files import RunFiles
from medrft.report.facts import Facts, facts_of
from medrft.report.rewards import PartFact
from medrft.rundir import RunDir, fingerprint

TOLD = ("torch", "transformers", "trl", "peft", "sentence-transformers")
"""Packages named beside medrft; the run's environment.json has all of them."""
SETTINGS = {
    "learning_rate": "learning rate {}",
    "num_generations": "{} completions per question",
    "temperature": "temperature {}",
    "beta": "KL weight {}",
    "max_completion_length": "at most {} new tokens",
    "loss_type": "loss {}",
}
"""Keys of a stage's `trl:` table that readers of a paper ask for."""


def methods_paragraphs(folder: Path) -> list[str]:
    """Paragraphs on data, model, training, reward, evaluation and software of a run folder.

    Raises `DataError` for a folder that is not a run.
    """
    run = RunFiles(folder)
    facts = facts_of(run)
    parts = (_data(run, facts), _training(run, facts), _reward(run, facts), _evaluation(run, facts), _software(run))
    return [text for text in (" ".join(sentences) for sentences in parts) if text]


def _data(run: RunFiles, facts: Facts) -> Iterator[str]:
    name = run.data.get("dataset", run.recipe.data.name)
    counts = [
        f"{split['examples']:,} questions on {split['images']:,} images for {use} (fingerprint {split['fingerprint']})"
        for use, split in facts.splits
    ]
    if counts:
        yield f"Data: {name}, with {listed(counts)}."
    else:
        yield f"Data: {name}; the run kept no counts."
    if run.recipe.data.by_image is not None:
        yield f"All rows were split anew by image, with {run.recipe.data.by_image:g} of the images in test."
    if run.recipe.data.exclude_test_images:
        what = " or copies of one" if run.recipe.data.exclude_test_images == "copies" else ""
        yield f"Training rows on an image of the test split{what} were left out."
    if facts.left_out:
        total = sum(facts.left_out.values())
        yield f"Left out: {total:,} rows ({listed([f'{n:,} {why}' for why, n in facts.left_out.items()])})."
    else:
        yield "No row was left out."
    for note in (*facts.notes, *facts.leaks):
        yield f"{note.rstrip('.')}."
    if run.recipe.data.blank:
        yield "Every picture was replaced by a grey one, in training and evaluation (a control)."
    yield f"Images were shrunk to at most {run.recipe.data.max_pixels:,} pixels."


def _training(run: RunFiles, facts: Facts) -> Iterator[str]:
    model = run.recipe.model
    shown = f"a small model with random weights ({model.id})" if model.id.startswith("tiny:") else model.id
    revision = f" at revision {model.revision}" if model.revision else ""
    lora = f", trained through LoRA adapters of rank {model.lora['r']}" if model.lora and "r" in model.lora else ""
    yield f"Model: {shown}{revision}{lora}."
    done = [stage for stage in run.recipe.stages if RunDir(run.path).is_trained(stage.name)]
    if not done:
        yield "No training stage was finished."
    for stage in done:
        yield _stage(run, stage)
    yield f"Seed {run.recipe.seed} for everything that was drawn."
    hashed = f" (hash {facts.prompt_hash})" if facts.prompt_hash else ""
    yield f"Questions were asked with the prompt “{facts.prompt_name}”{hashed}" + (
        f": “{facts.prompt_text}”" if facts.prompt_text else "."
    )


def _stage(run: RunFiles, stage: StageConfig) -> str:
    record = run.record(stage.name)
    table = {**stage.trl, **(record.get("trl") or {})}
    settings = [form.format(table[key]) for key, form in SETTINGS.items() if key in table]
    method = {"sft": "supervised fine-tuning", "grpo": "GRPO"}[stage.kind]
    on = f" on {listed(list(stage.kinds))} questions" if stage.kinds else ""
    started = run.recipe.start_of(stage)
    best = record.get("best")
    kept = "the last step was kept"
    if best:
        metric = str(best["metric"]).removeprefix("eval_")
        kept = f"the checkpoint of step {best['step']} was kept, chosen on validation by {metric}"
    steps = record.get("steps")
    took = f", {steps:,} optimizer steps" if isinstance(steps, int) else ""
    more = f" with {listed(settings)}" if settings else ""
    return f"Stage {stage.name}: {method}{on} from {started}{took}{more}; {kept}."


def _reward(run: RunFiles, facts: Facts) -> Iterator[str]:
    if not any(stage.kind == "grpo" for stage in run.recipe.stages):
        return
    for one in facts.reward:
        parts = [f"{part.weight} {part.scorer}{_bent(part)}" for part in one.parts]
        gate = f"; gate: {one.gate}" if one.gate else ""
        preset = f" (preset {one.name})" if one.name else ""
        yield f"Reward, {one.kinds}{preset}, {one.combine}: {listed(parts)}{gate}."
    yield f"Sentence encoder of BERTScore and cosine: {facts.encoder}."


def _bent(part: PartFact) -> str:
    """A part's calibration in brackets; nothing for one without."""
    return "" if part.calibration in ("", "none") else f" (calibrated: {part.calibration})"


def _evaluation(run: RunFiles, facts: Facts) -> Iterator[str]:
    for dataset, stages in run.evaluations.items():
        yield f"Evaluated on {dataset}: {listed(list(stages))}, greedy answers."
    if not run.evaluations:
        yield "Nothing was evaluated."
        return
    controls = listed(list(run.recipe.eval.controls)) or "none"
    yield (
        "Metrics are per kind of question; intervals are 95 %, cluster-robust over images (CR3, Student's t), and are "
        f"conditional on this training seed. Controls: {controls}. Similarity metrics use {facts.encoder}."
    )


def _software(run: RunFiles) -> Iterator[str]:
    versions = run.environment.get("versions", {})
    told = [f"{name} {versions[name]}" for name in TOLD if name in versions]
    commit = run.environment.get("commit")
    yield (
        f"Software: medrft {versions.get('medrft', 'of an unknown version')}"
        + (f" (commit {commit})" if commit else "")
        + (f", {listed(told)}" if told else "")
        + (f", Python {run.environment['python']}" if "python" in run.environment else "")
        + "."
    )
    gpus = run.environment.get("gpus")
    yield f"Hardware: {listed(gpus) if gpus else 'a CPU' if gpus is not None else 'not recorded'}."
    yield f"The resolved recipe has the fingerprint {fingerprint([run.recipe_text])}."


def listed(words: list[Any]) -> str:
    """Words as a sentence lists them.

    >>> listed(["a"]), listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    head, last = words[:-1], words[-1:]
    return " and ".join(filter(None, (", ".join(map(str, head)), *map(str, last))))
