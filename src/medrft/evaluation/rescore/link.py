"""Other evaluators' rows tied to the examples of a data set: its ids, its references, and above all its images.

Few evaluators write down which image a question was about. Question and reference say it nearly always.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from medrft.data.images import sha256_of
from medrft.evaluation.rescore.foreign import Answered
from medrft.text import normalize
from medrft.types import Example

KEPT = ("question_type", "modality", "organ")
"""Metadata taken from the examples."""


def link(rows: Sequence[Answered], examples: Sequence[Example]) -> tuple[tuple[Answered, ...], list[str]]:
    """The rows with id, split, images, question, references and options of their examples, and notes on the rest.

    A row belongs to the example with its question and reference after normalisation; where several have both, the rows
    take them in order. A row that fits none keeps what it has, and an id that no example has.
    """
    free: dict[tuple[str, str], list[Example]] = {}
    for example in examples:
        for key in dict.fromkeys((normalize(example.question), normalize(text)) for text in example.references):
            free.setdefault(key, []).append(example)
    several = {key for key, group in free.items() if len({example.images for example in group}) > 1}
    taken: dict[str, Example | None] = {}
    made = []
    unsure = 0
    for row in rows:
        key = (normalize(row.question), normalize(row.references[0]))
        if row.id not in taken:
            group = free.get(key, [])
            taken[row.id] = group.pop(0) if group else None
            unsure += key in several
        found = taken[row.id]
        made.append(_with(row, found) if found else replace(row, id=f"{row.id} (not in the data)"))
    lost = sum(example is None for example in taken.values())
    notes = [f"{len(taken) - lost} of {len(taken)} questions found in the data, by question and reference"]
    notes += [f"{unsure} of them are asked alike about several images and were given these in order"] if unsure else []
    return tuple(made), notes


def _with(row: Answered, example: Example) -> Answered:
    kept = {key: example.metadata[key] for key in KEPT if example.metadata.get(key) is not None}
    return replace(
        row,
        id=example.id,
        split=example.split,
        question=example.question,
        references=example.references,
        options=example.options,
        images=tuple(sha256_of(path) for path in example.images),
        metadata={**row.metadata, **kept},
    )
