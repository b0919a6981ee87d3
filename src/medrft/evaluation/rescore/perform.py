"""Rescoring: from another evaluator's output to `predictions.jsonl` with our scores and `metrics.json`.

The steps are to read the files, link rows to our examples if there are any, score them, and compare the figures.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medrft.config import CorrectConfig, EncoderConfig
from medrft.data.images import sha256_of
from medrft.errors import DataError, unknown_name
from medrft.evaluation.metrics import summarize_rows
from medrft.evaluation.rescore.against import compare_figures
from medrft.evaluation.rescore.foreign import WRITERS, Answered, Foreign, told_apart
from medrft.evaluation.rescore.mark import mark_rows
from medrft.progress import Advance
from medrft.rundir import fingerprint, write_json, write_jsonl
from medrft.text import normalize
from medrft.types import Example

EVALUATORS = {
    "medevalkit": "medrft.evaluation.rescore.medevalkit:read_medevalkit",
    "vlmevalkit": "medrft.evaluation.rescore.vlmevalkit:read_vlmevalkit",
    "lmms-eval": "medrft.evaluation.rescore.lmms_eval:read_lmms_eval",
    "inspect-ai": "medrft.evaluation.rescore.inspect_log:read_inspect",
    "medvlthinker": "medrft.evaluation.rescore.medvlthinker:read_medvlthinker",
    "jsonl": "medrft.evaluation.rescore.jsonl:read_answer_rows",
}
"""Name on the command line -> the reader of its files as `module:function`, called with the path and the options."""

OPTIONS = ("dataset", "split", "model", "encoder")
COLUMNS = ("id", "question", "reference", "prediction", "images", "options", "correct", "encoding", "delimiter")
"""What `--set` accepts: `OPTIONS` for every evaluator, and for `jsonl` also `COLUMNS`."""


@dataclass(frozen=True, kw_only=True)
class Rescored:
    """Rows with our scores, and the report on them."""

    header: dict[str, Any]
    rows: list[dict[str, Any]]
    report: dict[str, Any]
    """Results by data set, figures beside theirs, rows left out, notes."""

    def write(self, folder: Path) -> None:
        """Write `predictions.jsonl` and `metrics.json`, each whole or not at all."""
        write_jsonl(folder / "predictions.jsonl", [self.header, *self.rows])
        write_json(folder / "metrics.json", {**self.header, **self.report})


def rescore(
    evaluator: str,
    path: Path,
    options: Mapping[str, Any] | None = None,
    *,
    examples: Sequence[Example] = (),
    on_progress: Advance | None = None,
) -> Rescored:
    """Read, score and compare. Rows that match one of `examples` take over its images, id and references.

    Raises `UnknownNameError` for an evaluator or option, `RecipeError` for an option's value, `DataError` for files.
    """
    given = check_evaluator(evaluator, path, options or {})
    module, _, function = EVALUATORS[evaluator].partition(":")
    read = getattr(importlib.import_module(module), function)
    foreign: Foreign = told_apart(read(path, given))
    if examples:
        linked, notes = link_rows(foreign.rows, examples)
        foreign = replace(foreign, rows=linked, notes=(*foreign.notes, *notes))
    encoder = None if given["encoder"] == "none" else EncoderConfig(id=str(given["encoder"]))
    rows = mark_rows(foreign.rows, encoder=encoder, on_progress=on_progress)
    header = _header(foreign, path, rows, given, encoder)
    return Rescored(header=header, rows=rows, report=_report(foreign, rows, given))


def check_evaluator(evaluator: str, path: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with their defaults; raises as `rescore` for a name, an option or a path that is not known."""
    if evaluator not in EVALUATORS:
        raise unknown_name("evaluator", evaluator, EVALUATORS)
    if not path.exists():
        raise DataError(f"nothing at {path}; pass the file or folder that {evaluator} wrote")
    writer = WRITERS.get(path.suffix.lower(), evaluator)
    if evaluator == "jsonl" != writer and path.is_file():
        raise DataError(f"{path} is a file of {writer}, not rows of text; medrft rescore {writer} {path} reads it")
    known = (*OPTIONS, *COLUMNS) if evaluator == "jsonl" else OPTIONS
    for name in options:
        if name not in known:
            raise unknown_name(f"--set option of {evaluator}", name, known)
    return {"encoder": EncoderConfig().id, **options}


def _header(
    foreign: Foreign, path: Path, rows: list[dict[str, Any]], given: Mapping[str, Any], encoder: EncoderConfig | None
) -> dict[str, Any]:
    """The first line of `predictions.jsonl`; `evaluator` says whose answers these are."""
    shown = [text for row in rows for text in (row["id"], row["question"], *row["references"])]
    return {
        "stage": None,
        "evaluator": foreign.evaluator,
        "source": str(path),
        "dataset": ", ".join(sorted({row["dataset"] for row in rows})),
        "model": given.get("model"),
        "checkpoint": None,
        "prompt": None,
        "encoder": encoder.model_dump(mode="json", exclude={"cache_dir", "dtype"}) if encoder else None,
        "correct": CorrectConfig().model_dump(mode="json"),
        "seed": None,
        "examples": len({(row["dataset"], row["split"], row["id"]) for row in rows}),
        "images": len({image for row in rows for image in row["images"]}),
        "data": fingerprint(shown),
    }


def _report(foreign: Foreign, rows: list[dict[str, Any]], given: Mapping[str, Any]) -> dict[str, Any]:
    datasets = sorted({row["dataset"] for row in rows})
    known = sum(bool(row["images"]) for row in rows)
    clusters = "images" if known == len(rows) else "questions" if not known else "images where known, else questions"
    reasons = Counter(row.reason for row in foreign.left_out)
    return {
        "interval": f"95 % interval over {clusters}",
        "clustered_by": clusters,
        "results": {name: summarize_rows(row for row in rows if row["dataset"] == name) for name in datasets},
        "theirs": compare_figures(foreign, rows),
        "read": len(rows),
        "left_out": {
            "reasons": dict(reasons),
            "rows": [{"row": r.row, "reason": r.reason, "detail": r.detail} for r in foreign.left_out],
        },
        "no_answer": sum(row["answer"] is None for row in rows),
        "notes": list(foreign.notes),
    }


KEPT = ("question_type", "modality", "organ")
"""Metadata taken from the examples."""


def link_rows(rows: Sequence[Answered], examples: Sequence[Example]) -> tuple[tuple[Answered, ...], list[str]]:
    """The rows with id, split, images, question, references and options of their examples, and notes on the linking.

    A row belongs to the example with the same question and reference after normalisation. Where several examples have
    both, the rows take them in order. A row that matches none keeps its fields; its id says that it is not in the data.
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
        # Samples of one question share its id, and so must get the same example.
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
