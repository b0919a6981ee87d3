"""Rejection sampling: a model writes several completions of each row, and those that are right are what it learns from.

    tries.jsonl     every completion, appended batch by batch; an interrupted sampling resumes from it
    kept.jsonl      {"id": "phantom/train/17", "try": 2, "thought": "…", "answer": "left upper zone"}
    manifest.json   settings, the writing model, counts, seconds

A completion is kept if it is whole, in its form, right, and not the same text as one kept for its row. It is taught as
it was written: with its own thought and its own words for the answer, not with the reference.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from medrft.config import Recipe, RejectionConfig
from medrft.curation.curate import Done, made_with, open_manifest, read_tries, write_round
from medrft.curation.writers import Writer, think_prompt
from medrft.errors import DataError
from medrft.files import describe_file
from medrft.masking import mask_secrets
from medrft.progress import Bar, no_bar
from medrft.rewards import correct_of
from medrft.rundir import read_jsonl, write_json, write_jsonl
from medrft.scorers import build_scorer
from medrft.scorers.base import item_of
from medrft.text import extract
from medrft.types import Example, Item, Score


def sampling_recipe(recipe: Recipe, config: RejectionConfig) -> Recipe:
    """The recipe whose `curate` samples at the temperature of `config`, as a `Writer` reads it."""
    curate = recipe.curate.model_copy(update={"temperature": config.temperature})
    return recipe.model_copy(update={"curate": curate})


def rejection_header(examples: Sequence[Example], recipe: Recipe, config: RejectionConfig, writer: Writer) -> Any:
    """All settings and data that the result depends on. `recipe` is the one of `sampling_recipe`."""
    return mask_secrets({**made_with(examples, recipe, writer), "rejection": config.model_dump(mode="json")})


def sample_right(
    examples: Sequence[Example],
    recipe: Recipe,
    config: RejectionConfig,
    *,
    writer: Writer,
    output: Path,
    bar: Bar = no_bar,
) -> dict[str, Any]:
    """Sample completions of `examples` into `output`, keep the right ones, and return the manifest.

    It goes on where it was interrupted, and leaves a finished folder as it is. Its `seconds` count whole rounds. Raises
    `DataError` if no completion is right, and what a scorer of `config.keep` raises.
    """
    from medrft.training.processes import alone_in

    with alone_in(output):
        header = rejection_header(examples, recipe, config, writer)
        manifest = open_manifest(output, header, resume=True)
        if manifest["status"] != "done":
            done = read_tries(output)
            for number in range(config.samples):
                began = time.monotonic()
                with bar(f"Samples, {number + 1} of {config.samples}") as advance:
                    write_round(examples, recipe, number, done=done, writer=writer, output=output, advance=advance)
                manifest["seconds"] = round(manifest.get("seconds", 0.0) + time.monotonic() - began, 3)
                write_json(output / "manifest.json", manifest)
            manifest |= _keep(examples, recipe, config, done, output) | {"status": "done"}
            write_json(output / "manifest.json", manifest)
    if not manifest["kept"]:
        raise DataError(
            f"none of {manifest['completions']:,} completions of {manifest['rows']:,} rows is whole, in its form and "
            f"right ({output / 'tries.jsonl'} has them); raise rejection.samples, or start from a model that knows more"
        )
    return manifest


def _keep(
    examples: Sequence[Example], recipe: Recipe, config: RejectionConfig, done: Done, output: Path
) -> dict[str, Any]:
    """Judge all completions, write `kept.jsonl`, and count."""
    prompt, limit = think_prompt(recipe), recipe.eval.max_new_tokens
    written = [(example, number, done[example.id, number]) for example in examples for number in range(config.samples)]
    items = [item_of(example, one, form=prompt.form, max_tokens=limit) for example, _, one in written]
    rows: list[dict[str, Any]] = []
    seen: set[tuple[str, str]] = set()
    verdicts = _right(items, recipe, config)
    for (example, number, one), item, right in zip(written, items, verdicts, strict=True):
        text = one.text.strip()
        whole = not one.truncated and extract(one.text, prompt.form).well_formed
        if right and whole and (example.id, text) not in seen:
            seen.add((example.id, text))
            rows.append({"id": example.id, "try": number, "thought": item.thinking, "answer": item.answer})
    write_jsonl(output / "kept.jsonl", rows)
    return {
        "completions": len(written),
        "tokens": sum(one.n_tokens or 0 for _, _, one in written),
        "right": sum(verdicts),
        "kept": len(rows),
        "rows_with": len({row["id"] for row in rows}),
        "files": {"kept.jsonl": describe_file(output / "kept.jsonl")},
    }


def _right(items: Sequence[Item], recipe: Recipe, config: RejectionConfig) -> list[bool]:
    """Whether each completion is right; one that cannot be scored is not."""
    if config.keep is None:
        scores: Sequence[Score] = correct_of(recipe)(items)
        return [bool(score) for score in scores]
    scorer = build_scorer(config.keep.scorer, encoder=recipe.encoder, clinical=recipe.clinical, correct=recipe.correct)
    least = config.keep.at_least
    return [score is not None and score >= least for score in scorer(items)]


def right_examples(examples: Sequence[Example], folder: Path) -> list[Example]:
    """A row for each completion that was kept, with its thought and its answer in the place of the data's own."""
    by_id: Mapping[str, Example] = {example.id: example for example in examples}
    return [
        replace(by_id[row["id"]], rationale=row["thought"], references=(row["answer"],))
        for row in read_jsonl(folder / "kept.jsonl")
    ]
