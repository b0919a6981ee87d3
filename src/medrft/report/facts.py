"""Collects what was run from a run's recipe, records and environment: data, prompt, reward, stages, versions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from medrft.evaluation.run_files import RunFiles
from medrft.masking import mask_text
from medrft.models.prompts import PROMPTS
from medrft.progress import say_seconds
from medrft.report.rewards import RewardFact, reward_facts
from medrft.report.wording import plain_number
from medrft.rundir import RunDir, read_growing

TOLD = ("learning_rate", "beta", "temperature", "num_generations", "max_steps", "num_train_epochs", "loss_type")
"""Settings that a stage's line shows; the recipe has all of them."""

REASONS = """
SELECT unscored_reason AS reason, count(*) AS n FROM rollouts
WHERE stage = '{stage}' AND split = 'train' GROUP BY 1 ORDER BY n DESC, reason
"""
LONGEST = 160
"""Most characters of a reason that are shown."""


@dataclass(frozen=True, kw_only=True)
class StageFact:
    """What the report says about one stage."""

    name: str
    kind: str
    start: str
    settings: str
    took: str
    steps: str
    kept: str
    """Which checkpoint became the final model, and why."""
    preflight: tuple[dict[str, Any], ...]
    """Checks made before step 1: `{name, passed, measured, limit, detail, fix}`."""
    failures: tuple[str, ...]
    """What went wrong while it trained, counted."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the report says about how a run was made."""

    splits: tuple[tuple[str, dict[str, Any]], ...]
    left_out: dict[str, int]
    notes: tuple[str, ...]
    leaks: tuple[str, ...]
    """What the splits that the run used have in common, a sentence for each pair of splits."""
    prompt_name: str
    prompt_hash: str
    prompt_text: str | None
    """`None` if this medrft's prompt of that name is not the one the run used."""
    reward: tuple[RewardFact, ...]
    encoder: str
    stages: tuple[StageFact, ...]
    environment: tuple[tuple[str, str], ...]
    versions: tuple[tuple[str, str], ...]
    has_images: bool


def facts_of(run: RunFiles) -> Facts:
    """Collect the facts of a run."""
    data, environment = run.data, run.environment
    prompt_hash = str(environment.get("prompts", {}).get(run.recipe.prompt, ""))
    prompt = PROMPTS.get(run.recipe.prompt)
    same = prompt is not None and prompt.hash == prompt_hash
    versions = environment.get("versions", {})
    vanished = [
        f"{len(rows):,} test examples were left out of the evaluation of {stage}: their image had vanished or broken"
        for stage, rows in data.get("evaluation_left_out", {}).items()
    ]
    return Facts(
        splits=tuple(data.get("splits", {}).items()),
        left_out=dict(data.get("left_out", {}).get("reasons", {})),
        notes=(*data.get("notes", ()), *vanished),
        leaks=tuple(data.get("leakage", {}).get("notes", ())),
        prompt_name=run.recipe.prompt,
        prompt_hash=prompt_hash,
        prompt_text=f"{prompt.role} {prompt.instruction}" if prompt is not None and same else None,
        reward=tuple(reward_facts(run)),
        encoder=_encoder(run),
        stages=tuple(_stage(run, index) for index in range(len(run.recipe.stages))),
        environment=tuple(_environment(run)),
        versions=tuple((name, str(version)) for name, version in versions.items()),
        has_images=any((run.path / "images").glob("*.png")),
    )


def _encoder(run: RunFiles) -> str:
    encoder = run.recipe.encoder
    if encoder.bertscore and encoder.bertscore != encoder.id:
        return f"{encoder.bertscore} (BERTScore), {encoder.id} (cosine)"
    return encoder.id


def _stage(run: RunFiles, index: int) -> StageFact:
    stage = run.recipe.stages[index]
    rows = run.metrics.get(stage.name, [])
    settings = [f"{key} {stage.trl[key]}" for key in TOLD if key in stage.trl]
    ways = run.record(stage.name).get("prefix", {}).get("completions", {})
    if ways and all(way.endswith("/shared") for way in ways):
        settings.append("each prompt computed once per group")
    if stage.kinds:
        settings.insert(0, f"on {', '.join(stage.kinds)} questions")
    if stage.wall_clock_of:
        settings.insert(0, f"for as long as {stage.wall_clock_of}")
    record = run.record(stage.name)
    if stage.curate:
        settings.insert(0, f"on thoughts written by {stage.curate}{_curated(record)}")
    if stage.rejection:
        settings.insert(0, f"on right answers of its own start{_sampled(record)}")
    if stage.teach == "answers":
        settings.insert(0, "on answers without thoughts")
    if stage.asked_first:
        settings.insert(0, f"on the first {plain_number(stage.asked_first)} questions that GRPO would ask")
    took = record.get("seconds") or max((row["seconds"] for row in rows if row.get("seconds")), default=None)
    steps = record.get("steps") or max((row["step"] for row in rows if row.get("step")), default=None)
    return StageFact(
        name=stage.name,
        kind=stage.kind,
        start=run.recipe.start_of(stage),
        settings=", ".join(settings),
        took=say_seconds(took) if took else "",
        steps=plain_number(steps) if steps else "",
        kept=_kept(record) if RunDir(run.path).is_trained(stage.name) else "not finished",
        preflight=tuple(run.record(stage.name, "preflight.json").get("checks", ())),
        failures=(*_failures(run, stage.name), *_fallbacks(record.get("prefix", {}))),
    )


def _curated(record: dict[str, Any]) -> str:
    """How many of the rows got a thought; empty if not recorded."""
    found = record.get("curated")
    return f" for {plain_number(found['rows'])} of {plain_number(found['of'])} rows" if found else ""


def _sampled(record: dict[str, Any]) -> str:
    """How many of the sampled completions were right and kept; empty if not recorded."""
    found = record.get("rejection")
    return f", {plain_number(found['kept'])} of {plain_number(found['completions'])} samples" if found else ""


def _failures(run: RunFiles, stage: str) -> Iterator[str]:
    """Sentences on completions that were unscored, and on rows whose picture had vanished."""
    if any((run.path / "rollouts").glob(f"{stage}-train-*.parquet")):
        from medrft.store import read_rollouts

        rows = read_rollouts(run.path, REASONS.format(stage=stage))
        reasons = Counter({row["reason"]: row["n"] for row in rows if row["reason"]})
        if reasons:
            total = sum(row["n"] for row in rows)
            yield f"{plain_number(reasons.total())} of {plain_number(total)} completions unscored: {_most(reasons)}"
    lost = run.path / "stages" / stage / "missing_images.jsonl"
    if lost.is_file():
        reasons = Counter(str(row["reason"]) for row in read_growing(lost))
        yield f"{plain_number(reasons.total())} rows gave way to another: {_most(reasons)}"


def _fallbacks(prefix: dict[str, Any]) -> Iterator[str]:
    """Sentences on completions whose prompt was not shared, or not as it should have been, with the reason."""
    counts = prefix.get("completions", {})
    for path, reason in prefix.get("fallbacks", {}).items():
        told, shared = (counts.get(f"{path}/{way}", 0) for way in ("plain", "shared"))
        of = f"{plain_number(told)} of {plain_number(told + shared)}"
        yield f"prompts not shared for {of} completions in the {path}: {reason}"
    if prefix.get("whole"):
        told = plain_number(prefix["attention"].get("by mask", 0))
        yield f"attention under a dense mask for {told} completions in the loss: {prefix['whole']}"


def _most(reasons: Counter[str]) -> str:
    """The three most frequent reasons with their counts."""
    shown = [
        f"{plain_number(n)} × {reason.removeprefix('unscored: ')[:LONGEST]}" for reason, n in reasons.most_common(3)
    ]
    more = len(reasons) - len(shown)
    return "; ".join(shown) + (f"; {more} other reasons" if more > 0 else "")


def _kept(record: dict[str, Any]) -> str:
    """Which step became the final model. It is chosen on validation, never on test."""
    best = record.get("best")
    if not best:
        return "last step"
    return f"step {best['step']} (validation {best['metric'].removeprefix('eval_')} {plain_number(best['value'])})"


def _environment(run: RunFiles) -> list[tuple[str, str]]:
    facts = run.environment
    rows = [(key, facts.get(key)) for key in ("command", "commit", "python", "platform", "cpus")]
    gpus = facts.get("gpus")
    rows.append(("gpus", ", ".join(gpus) if gpus else "none" if gpus is not None else None))
    rows.append(("seed", run.recipe.seed))
    # A run of an earlier medrft may hold a command that was not masked.
    return [(key, mask_text(str(value))) for key, value in rows if value not in (None, "")]
