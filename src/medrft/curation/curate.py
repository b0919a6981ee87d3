"""Curation, the data stage of ARMed (arXiv 2508.12957): from train examples to a folder of pairs with thoughts.

    tries.jsonl     every completion, appended batch by batch; an interrupted curation resumes from it
    curated.jsonl   the pairs that got a thought, as rows of the `table` loader
    dropped.jsonl   the pairs that got none, with each try and the rule that dropped it
    manifest.json   settings, the writing model, counts per rule

Frequent answers are thinned first. Then the writer samples up to `tries` completions for each pair that is left; the
first one that passes every rule is kept. The rules are applied in the order of tries and then of pairs, whenever the
completions were written, so an interrupted curation ends with the same files.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medrft.config import Recipe
from medrft.curation.duplicates import Kept
from medrft.curation.rules import RULES, Rules
from medrft.curation.thinning import Thinned, thin_frequent
from medrft.curation.writers import Writer, batch_seed, think_prompt
from medrft.errors import DataError, EndpointError, RecipeError, RunExistsError, naming_extras
from medrft.files import describe_file, find_flaw, is_scrap, tell_user
from medrft.masking import mask_secrets
from medrft.progress import Advance, Bar, no_bar
from medrft.rundir import (
    append_jsonl,
    environment,
    fingerprint,
    read_growing,
    read_json,
    read_jsonl,
    write_json,
    write_jsonl,
)
from medrft.scorers.clinical.own import clinical_facts
from medrft.scorers.encoder import embed_texts
from medrft.types import Completion, Example

NAMED = ("modality", "organ", "question_type")
"""Metadata that curated rows keep, where it is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """One completion for a pair, and the verdict on it."""

    completion: Completion
    thought: str
    rule: str | None
    """The rule that dropped it; `None` if it is kept."""


@naming_extras()
def curate(
    examples: Sequence[Example],
    recipe: Recipe,
    *,
    writer: Writer,
    output: Path,
    resume: bool = False,
    bar: Bar = no_bar,
) -> dict[str, Any]:
    """Curate `examples` (the train rows) into `output`, and return its manifest.

    With `resume` an interrupted curation goes on and a finished one is left as it is. Raises `RunExistsError` for an
    output in use, `RecipeError` for one begun with other settings, `EndpointError` when a teacher fails, and
    `DataError` when no pair is left after thinning. If no pair got a thought, `check_kept` raises, not this function.
    """
    from medrft.training.processes import alone_in

    if output.exists() and not output.is_dir():
        raise RunExistsError(f"{output} is a file; choose another --output")
    header = mask_secrets(made_with(examples, recipe, writer))
    with alone_in(output):
        manifest = open_manifest(output, header, resume=resume)
        if manifest["status"] == "done":
            return manifest
        return _curate(examples, recipe, header, writer=writer, output=output, bar=bar)


def check_kept(manifest: Mapping[str, Any], output: Path) -> None:
    """Raise `DataError` if no pair got a thought."""
    if not manifest["result"]["kept"]:
        rules = ", ".join(f"{RULES[rule]}: {n:,}" for rule, n in manifest["rules"].items() if n)
        raise DataError(
            f"none of {manifest['thinning']['asked']:,} pairs got a thought ({rules}); look at "
            f"{output / 'sheet.html'}, then let another model write, lower correct.at_least or raise curate.tries"
        )


def _curate(
    examples: Sequence[Example], recipe: Recipe, header: dict[str, Any], *, writer: Writer, output: Path, bar: Bar
) -> dict[str, Any]:
    """Thin the examples, collect thoughts, and write the files."""
    with bar("Embedding questions") as advance:
        thinned = thin_frequent(
            examples, recipe.curate, seed=recipe.seed, embed=lambda texts: embed_texts(texts, recipe.encoder)
        )
        advance(1, 1)
    if not thinned.kept:
        raise DataError("no pair is left after thinning: no answer is frequent; lower curate.tau or keep the long tail")
    tries = write_thoughts(thinned.kept, recipe, writer=writer, output=output, bar=bar)
    manifest = {
        **header,
        "status": "done",
        **_counts(thinned, tries, len(examples)),
        "versions": environment()["versions"],
    }
    _write(output, thinned.kept, tries, manifest)
    return manifest


def made_with(examples: Sequence[Example], recipe: Recipe, writer: Writer) -> dict[str, Any]:
    """All settings and data that the result depends on; equal headers mean equal results."""
    from medrft.data.images import sha256_of

    prompt = think_prompt(recipe)
    rows = [
        (e.id, e.kind, e.question, e.options, e.references, [sha256_of(path) for path in e.images]) for e in examples
    ]
    return {
        "writer": writer.identity,
        "prompt": prompt.name,
        "prompt_hash": prompt.hash,
        "curate": recipe.curate.model_dump(mode="json"),
        "max_new_tokens": recipe.eval.max_new_tokens,
        "batch_size": recipe.eval.batch_size,
        "max_pixels": recipe.data.max_pixels,
        **({"pictures": "blank"} if recipe.data.blank else {}),
        "correct": recipe.correct.model_dump(mode="json"),
        "encoder": recipe.encoder.model_dump(mode="json", exclude={"cache_dir"}),
        **({"clinical": clinical_facts(recipe.clinical)} if recipe.clinical.model_fields_set else {}),
        "seed": recipe.seed,
        "dataset": recipe.data.name,
        "rows": len(examples),
        "data": fingerprint([json.dumps(row) for row in rows]),
    }


def open_manifest(output: Path, header: Mapping[str, Any], *, resume: bool) -> dict[str, Any]:
    """The manifest of the output folder, new or found, once it is certain that this curation may write there.

    Its `status` is `done` if nothing is left to do. Raises `RunExistsError`, `RecipeError` or `DataError` as `curate`.
    """
    path = output / "manifest.json"
    manifest = _read_manifest(path)
    begun = manifest is not None and (manifest["status"] == "done" or (output / "tries.jsonl").is_file())
    if manifest is None:
        if any(not is_scrap(entry) for entry in output.iterdir()):
            raise RunExistsError(f"{output} holds files but no manifest.json; choose another --output")
    elif begun and not resume:
        raise RunExistsError(f"{output} already holds a curation; choose another --output or pass --resume")
    if manifest is None or not begun:  # an error before the first thought leaves a manifest and nothing else
        manifest = {**header, "status": "running"}
        write_json(path, manifest)
    apart = [line for key in header for line in _apart(key, manifest.get(key), header[key])]
    if apart:
        raise RecipeError(f"{output} was begun otherwise: {'; '.join(apart[:2])}; choose another --output")
    flaw = find_flaw(output, manifest.get("files", {}), content=True)
    if flaw is not None:
        tell_user(f"{output} is damaged: {flaw}; it is made again from tries.jsonl")
        manifest["status"] = "running"
    return manifest


def _read_manifest(path: Path) -> dict[str, Any] | None:
    """A curation's manifest, or `None` without a file; raises `DataError` for a file that is not a manifest."""
    if not path.is_file():
        return None
    try:
        manifest = read_json(path)
    except DataError as error:
        raise DataError(f"{error}; delete {path.parent} to curate anew, or choose another --output") from error
    if not isinstance(manifest, dict) or "status" not in manifest:
        raise DataError(f"{path} is not the manifest of a curation; choose another --output")
    return manifest


def _apart(key: str, before: Any, now: Any) -> list[str]:
    """The differences of two values of the manifest, one line per setting."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [*now, *(name for name in before if name not in now)]
        return [line for name in keys for line in _apart(f"{key}.{name}", before.get(name), now.get(name))]
    return [] if before == now else [f"{key} was {before!r}, now {now!r}"]


def write_thoughts(
    pairs: Sequence[Example], recipe: Recipe, *, writer: Writer, output: Path, bar: Bar = no_bar
) -> dict[str, list[Try]]:
    """All tries of each pair, by its id; if the pair got a thought, it is the last try's, whose `rule` is `None`."""
    rules = Rules(recipe)
    done = read_tries(output)
    tries: dict[str, list[Try]] = {example.id: [] for example in pairs}
    kept = Kept(None, ())
    for number in range(recipe.curate.tries):
        left = [example for example in pairs if not tries[example.id] or tries[example.id][-1].rule]
        if not left:
            break
        with bar(f"Thoughts, try {number + 1} of {recipe.curate.tries}") as advance:
            write_round(left, recipe, number, done=done, writer=writer, output=output, advance=advance)
        completions = [done[example.id, number] for example in left]
        with bar(f"Judging, try {number + 1} of {recipe.curate.tries}") as advance:
            verdicts = rules(left, completions)
            advance(len(left), len(left))
        # The first round alone counts trigrams: counts only make the search faster, and must not change once it began.
        if number == 0:
            kept = Kept(recipe.curate.near_identical, (verdict.thought for verdict in verdicts))
        for example, completion, (thought, rule) in zip(left, completions, verdicts, strict=True):
            if rule is None and kept.repeats(thought, example.question):
                rule = "near_identical"
            if rule is None:
                kept.add(example.id, thought, example.question)
            tries[example.id].append(Try(completion=completion, thought=thought, rule=rule))
    return tries


Done = dict[tuple[str, int], Completion]
"""(example id, number of the try from 0) -> the completion."""


def write_round(
    left: Sequence[Example], recipe: Recipe, number: int, *, done: Done, writer: Writer, output: Path, advance: Advance
) -> None:
    """Have the missing completions of one round written, batch by batch, and add them to `tries.jsonl` and `done`.

    Raises `EndpointError` if a teacher fails; what it has written is kept.
    """
    size = recipe.eval.batch_size
    advance(0, len(left))
    for start in range(0, len(left), size):
        batch = left[start : start + size]
        missing = {example.id for example in batch if (example.id, number) not in done}
        if missing:
            # Sampled text depends on its neighbours in the batch, so some writers must do the whole batch again.
            asked = [example for example in batch if writer.whole or example.id in missing]
            seed = batch_seed(recipe.seed, number, [example.id for example in batch])
            written = dict(zip((example.id for example in asked), writer(asked, seed=seed), strict=True))
            good = {name: one for name, one in written.items() if name in missing and isinstance(one, Completion)}
            if good:
                append_jsonl(output / "tries.jsonl", [_try_row(name, number, one) for name, one in good.items()])
            done |= {(name, number): one for name, one in good.items()}
            failed = [one for one in written.values() if isinstance(one, EndpointError)]
            if failed:
                raise EndpointError(
                    f"the teacher failed on {len(failed)} of {len(asked)} requests ({failed[0]}); what was written is "
                    f"kept, go on with --resume"
                )
        advance(start + len(batch), len(left))


def _try_row(name: str, number: int, written: Completion) -> dict[str, Any]:
    return {
        "id": name,
        "try": number,
        "text": written.text,
        "n_tokens": written.n_tokens,
        "truncated": written.truncated,
    }


def read_tries(output: Path) -> Done:
    """The completions in `tries.jsonl`; raises `DataError` for a row that lacks a field."""
    path = output / "tries.jsonl"
    done: Done = {}
    for number, row in enumerate(read_growing(path), 1):
        try:
            written = Completion(text=row["text"], n_tokens=row["n_tokens"], truncated=row["truncated"])
            done[row["id"], row["try"]] = written
        except KeyError as error:
            raise DataError(f"{path}, row {number}: no {error}; take that line out and go on with --resume") from error
    return done


def _counts(thinned: Thinned, tries: Mapping[str, Sequence[Try]], rows: int) -> dict[str, Any]:
    """The counts in the manifest: of thinning, of each round of tries, and of each rule over all tries."""
    asked = len(thinned.kept)
    rounds: list[dict[str, Any]] = []
    for number in range(max(map(len, tries.values()))):
        rules = Counter(found[number].rule for found in tries.values() if len(found) > number)
        dropped = {rule: rules[rule] for rule in RULES}
        rounds.append({"try": number + 1, "asked": rules.total(), "kept": rules[None], "dropped": dropped})
    with_thought = [example for example in thinned.kept if tries[example.id][-1].rule is None]
    return {
        "thinning": {
            "rows": rows,
            "frequent": [
                {"answer": answer, "rows": before, "kept": after}
                for answer, (before, after) in thinned.frequent.items()
            ],
            "thinned_out": sum(before - after for before, after in thinned.frequent.values()),
            "rare_answers": thinned.rare_answers,
            "long_tail": thinned.long_tail,
            "asked": asked,
        },
        "tries": rounds,
        "rules": {rule: sum(one["dropped"][rule] for one in rounds) for rule in RULES},
        "result": {
            "kept": len(with_thought),
            "without_thought": asked - len(with_thought),
            "kinds": dict(Counter(example.kind for example in with_thought)),
            **_phantom_truth(with_thought, tries),
        },
    }


def _phantom_truth(examples: Sequence[Example], tries: Mapping[str, Sequence[Try]]) -> dict[str, int]:
    """On phantom data, how many kept completions the oracle calls right. Only reported, never used to select."""
    from medrft.data.phantom import ask_oracle
    from medrft.text import extract

    answers = [extract(tries[example.id][-1].completion.text, "think").answer for example in examples]
    asked = [ask_oracle(example, answer) for example, answer in zip(examples, answers, strict=True)]
    verdicts = [verdict for verdict in asked if verdict is not None]
    return {"true_by_phantom": sum(verdict.correct for verdict in verdicts)} if verdicts else {}


def _write(output: Path, pairs: Sequence[Example], tries: Mapping[str, Sequence[Try]], manifest: Any) -> None:
    """Write the result files; the manifest comes last, because it says that the others are complete."""
    kept = [example for example in pairs if tries[example.id][-1].rule is None]
    dropped = [example for example in pairs if tries[example.id][-1].rule is not None]
    write_jsonl(
        output / "curated.jsonl",
        [{**_pair(output, e), "rationale": tries[e.id][-1].thought, "try": len(tries[e.id])} for e in kept],
    )
    write_jsonl(
        output / "dropped.jsonl",
        [
            {
                **_pair(output, e),
                "tries": [{"rule": one.rule, "text": one.completion.text} for one in tries[e.id]],
            }
            for e in dropped
        ],
    )
    manifest["files"] = {name: describe_file(output / name) for name in ("curated.jsonl", "dropped.jsonl")}
    write_json(output / "manifest.json", manifest)


def _pair(output: Path, example: Example) -> dict[str, Any]:
    """An example as a row of the `table` loader; paths of images below `output` are relative to it, others absolute."""
    folder = output.resolve()
    places = [path.resolve() for path in example.images]
    references = list(example.references)
    return {
        "id": example.id,
        "dataset": example.dataset,
        "split": example.split,
        "kind": example.kind,
        "images": [str(p.relative_to(folder) if p.is_relative_to(folder) else p) for p in places],
        "question": example.question,
        "answer": references[0] if len(references) == 1 else references,
        **({"options": list(example.options)} if example.options else {}),
        **{key: example.metadata[key] for key in NAMED if example.metadata.get(key) is not None},
    }


def taught_examples(examples: Sequence[Example], folder: Path) -> list[Example]:
    """The examples that a curation kept, each with its thought as `rationale`."""
    thoughts = {row["id"]: row["rationale"] for row in read_jsonl(folder / "curated.jsonl")}
    return [replace(e, rationale=thoughts[e.id]) for e in examples if e.id in thoughts]
