"""Reads what a reward is tried on into `Material`: data sets, our phrases, pairs, predictions, a run's rollouts.

A row of a pairs file:  contradiction <tab> side <tab> left pleural effusion <tab> right pleural effusion
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from medrft.audit.phrases import phrase_examples
from medrft.data import read_data
from medrft.data.splits import draw_examples
from medrft.errors import DataError, unknown_name
from medrft.rewards.answer_columns import EITHER, SAID, answer_columns, missing_columns
from medrft.rundir import read_jsonl
from medrft.scorers.correct import Correct
from medrft.scorers.lexical import ExactMatch
from medrft.text import infer_kind
from medrft.types import Example, Item

PAIR_KINDS = ("paraphrase", "contradiction")
COLUMNS = ("kind", "attribute", "reference", "candidate")
RIGHT_KEYS = ("correct", "is_correct", "truth")
PLAINLY = Correct(ExactMatch())
"""Decides whether an answer is right where the file does not say; a recipe uses the same by default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One probe: an answer to an example that means the same as its reference, or contradicts it."""

    kind: Literal["paraphrase", "contradiction"]
    attribute: str
    """The facet changed, or the type of paraphrase."""
    example: Example
    candidate: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One answer that a policy gave to an example."""

    example: Example
    text: str
    right: bool | None
    whole: bool = False
    """`text` is the whole completion, not the answer alone."""
    group: str | None = None
    """Answers of one rollout group share it; `None` for answers that came alone."""


@dataclass(kw_only=True)
class Material:
    """All that one audit tries its rewards on."""

    names: list[str] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    """From files; empty where probes are made from the references."""
    answers: list[Said] = field(default_factory=list)
    frequent: str = "no"
    """The most frequent answer of the data."""
    notes: list[str] = field(default_factory=list)


def default_material(*, seed: int, limit: int) -> Material:
    """Up to `limit` of the phantom's test questions, and our phrases."""
    loaded = read_data("phantom", None, seed=0, options={"images": 0, "validation_images": 0, "test_images": 100})
    drawn = draw_examples(loaded.examples, limit, seed=seed)
    return Material(names=["phantom", "phrases"], examples=[*drawn, *phrase_examples()], frequent=most_frequent(drawn))


def add_examples(material: Material, name: str, root: str | None, split: str | None, *, seed: int, limit: int) -> None:
    """Add up to `limit` examples of a data set, or our phrases; raises `DataError` for a split without rows."""
    if name == "phrases":
        found: Sequence[Example] = phrase_examples()
    else:
        options = {"images": 0, "validation_images": 0, "test_images": 100} if name == "phantom" and not root else {}
        found = read_data(name, root, seed=seed, options=options).examples
    if split is not None:
        found = [example for example in found if example.split == split]
        if not found:
            raise DataError(f"{name} has no rows in split {split!r}")
    material.names.append(":".join(part for part in (name, split) if part))
    material.examples += draw_examples(found, limit, seed=seed)
    material.frequent = most_frequent(found)


def add_pairs(material: Material, path: Path) -> None:
    """Add minimal pairs from a TSV with the columns kind, attribute, reference, candidate.

    Raises `DataError` with the line number for a wrong column, kind or empty field.
    """
    if not path.is_file():
        raise DataError(f"no pairs file at {path}; it is a TSV with the columns {', '.join(COLUMNS)}")
    try:
        # utf-8-sig: Excel begins a file with a byte-order mark. No quoting: a lone " in an answer would swallow rows.
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a UTF-8 TSV with the columns {', '.join(COLUMNS)}: {error}") from error
    if not rows or tuple(rows[0]) != COLUMNS:
        got = ", ".join(rows[0]) if rows else "nothing"
        raise DataError(f"{path}, line 1: expected the columns {', '.join(COLUMNS)} parted by tabs, got {got}")
    for number, row in enumerate(rows[1:], 2):
        if not row:
            continue
        if len(row) != len(COLUMNS) or not all(cell.strip() for cell in row):
            raise DataError(f"{path}, line {number}: expected {len(COLUMNS)} filled cells, got {row!r}")
        if row[0] not in PAIR_KINDS:
            raise unknown_name(f"kind in {path}, line {number}:", row[0], PAIR_KINDS)
        example = _example(f"{path.stem}/test/{number}", path.stem, None, row[2], ())
        kind: Any = row[0]
        material.pairs.append(Pair(kind=kind, attribute=row[1].strip(), example=example, candidate=row[3].strip()))
    distinct = {pair.example.references[0]: pair.example for pair in material.pairs}
    material.names.append(path.name)
    material.examples += distinct.values()


def add_predictions(material: Material, path: Path) -> None:
    """Add answers of a model from JSONL: rows with a reference and a prediction, by the names of `answer_columns`.

    A `correct` column says what is right. Without one the yes/no, choice or exact match decides that a recipe uses by
    default, and the notes say so. Raises `DataError` with the line number for a row without these.
    """
    if not path.is_file():
        raise DataError(f"no predictions file at {path}")
    unmarked = 0
    for number, row in enumerate(read_jsonl(path), 1):
        if number == 1 and "model" in row and "reference" not in row and "references" not in row:
            continue  # the header of our own predictions.jsonl
        found = answer_columns(row)
        reference, key = row.get(found.reference or ""), found.said
        if not reference or (key is None and not any(name in row for name in (*SAID, *EITHER))):
            raise missing_columns(row, found, f"{path}, line {number}", "rename them to reference and prediction")
        references = [str(text) for text in reference] if isinstance(reference, list) else [str(reference)]
        example = _example(
            str(row.get("id", number)), path.stem, row.get("question"), *references, row.get("options") or ()
        )
        text = str(row.get(key, "")) if key else ""
        right = next((bool(row[name]) for name in RIGHT_KEYS if row.get(name) is not None), None)
        if right is None:
            unmarked += 1
            right = plainly_matches(text, example)
        whole = key in ("completion",) or "<answer>" in text
        material.answers.append(Said(example=example, text=text, right=right, whole=whole))
    if not material.answers:
        raise DataError(f"{path} holds no prediction")
    if unmarked:
        by = "yes/no, choice or exact match"
        material.notes.append(f"{unmarked:,} answers of {path.name} were called right by {by} alone")
    distinct = {said.example.id: said.example for said in material.answers}
    material.names.append(path.name)
    material.examples += distinct.values()
    material.frequent = most_frequent(list(distinct.values()))


def add_run(material: Material, run: Path) -> None:
    """Add all training rollouts of a run. The phantom's `truth` says what is right, else the run's `correct`."""
    from medrft.store import read_rollouts

    rows = read_rollouts(run, "SELECT * FROM rollouts WHERE split = 'train' ORDER BY step, group_id, sample")
    if not rows:
        raise DataError(f"{run} has no training rollouts; only a grpo stage writes them")
    for row in rows:
        example = _example(row["example_id"], row["dataset"], row["question"], *row["references"], ())
        right = row["truth"] if row["truth"] is not None else row["correct"]
        group = f"{row['step']}/{row['group_id']}"
        material.answers.append(Said(example=example, text=row["completion"], right=right, whole=True, group=group))
    distinct = {said.example.id: said.example for said in material.answers}
    material.names.append(f"rollouts of {run.name}")
    material.examples += distinct.values()
    material.frequent = most_frequent(list(distinct.values()))


def plainly_matches(answer: str, example: Example) -> bool:
    """Whether an answer is right by a recipe's default outcome: yes/no, choice or exact match (`scorers.correct`)."""
    item = Item(
        references=example.references,
        kind=example.kind,
        answer=answer,
        question=example.question,
        options=example.options,
    )
    (right,) = PLAINLY([item])
    return bool(right)


def most_frequent(examples: Sequence[Example]) -> str:
    """The most frequent reference answer; "no" without examples."""
    counts: dict[str, int] = defaultdict(int)
    for example in examples:
        counts[example.references[0]] += 1
    return max(counts, key=lambda answer: (counts[answer], answer)) if counts else "no"


def _example(id_: str, dataset: str, question: str | None, *rest: Any) -> Example:
    """An example without an image; the last of `rest` are its options, the others its references."""
    *references, options = rest
    return Example(
        id=id_,
        dataset=dataset,
        split="test",
        images=(),
        question=question or "",
        references=tuple(references),
        kind=infer_kind(references, options),
        options=tuple(options),
    )
