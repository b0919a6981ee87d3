"""Reads MedEvalKit's output: `{out}/{DATASET}/results.json` (rows) and `metrics.json` (figures).

    {"question": "Is there a nodule?", "answer": "Yes", "answer_type": "CLOSED", "lang": "en",
     "response": "yes, there is a nodule", "correct": false}

Its figures are computed again from its rows as its code does it (commit 9b12e3b), so that a reader sees why they differ
from ours. On SLAKE, closed questions are counted by rule and again by the judge. On PATH_VQA, closed verdicts are
thrown away. `open.acc` is divided by n twice. Precision, recall and F1 are permuted. `yes` and `no` are searched inside
words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from medrft.errors import DataError
from medrft.evaluation.rescore import foreign
from medrft.evaluation.rescore import medevalkit_rules as rules
from medrft.evaluation.rescore.foreign import Answered, Figure, Foreign
from medrft.types import LeftOut

NAMES = {"PATH_VQA": "path_vqa", "VQA_RAD": "vqa_rad", "PMC_VQA": "pmc_vqa", "MedXpertQA-MM": "medxpertqa"}
IMAGES = ("img_name", "image_name", "image_path", "Figure_path", "img_id")
METRICS = {"em": "exact_match", "bleu1": "bleu1", "rouge1": "rouge1"}
OVERLAPS = ("precision", "recall", "f1")


def read_medevalkit(path: Path, options: Mapping[str, Any]) -> Foreign:
    """All data sets under `path`: the output folder, a data set's folder, or one `results.json`."""
    files = [path] if path.is_file() else sorted({*path.glob("results.json"), *path.glob("*/results.json")})
    rows: list[Answered] = []
    left: list[LeftOut] = []
    figures: list[Figure] = []
    for file in files:
        name = file.resolve().parent.name
        own, lost = _rows(file, str(options.get("dataset") or NAMES.get(name, name.lower())))
        rows += own
        left += lost
        metrics = file.with_name("metrics.json")
        if metrics.is_file() and own:
            figures += _figures(own[0].dataset, own, foreign.read_json(metrics))
    foreign.needs_rows(rows, path, left, "DATASET/results.json as MedEvalKit writes it")
    judged = [row for row in rows if row.how is not None and row.how[0] == rules.JUDGE]
    notes = [f"{len(judged)} marks are not those of its rules, so a judge gave them"] if judged else []
    return Foreign(
        evaluator="medevalkit", rows=tuple(rows), figures=tuple(figures), left_out=tuple(left), notes=tuple(notes)
    )


def _rows(file: Path, dataset: str) -> tuple[list[Answered], list[LeftOut]]:
    table = foreign.read_json(file)
    if not isinstance(table, list):
        raise DataError(f"{file} is not a list of rows, as MedEvalKit writes it; got {type(table).__name__}")
    rows, left = [], []
    for number, row in enumerate(table):
        name = f"{dataset}/test/{number}"
        fields = row if isinstance(row, Mapping) else {}
        texts = [foreign.text_of(fields.get(key)) for key in ("answer", "response")]
        question = foreign.text_of(fields.get("question")) or foreign.text_of(fields.get("prompt"))
        if question is None or texts[0] is None or not texts[0].strip() or texts[1] is None:
            reason = "not an object" if not fields else "no question, answer or response"
            left.append(foreign.left_out(name, "test", reason, row))
        else:
            rows.append(_answered(name, dataset, fields, question, texts[0], texts[1]))
    return rows, left


def _answered(name: str, dataset: str, row: Mapping[str, Any], question: str, answer: str, response: str) -> Answered:
    choices = foreign.options_of(row.get("choices") or row.get("options"))
    # Of its data sets SLAKE alone has `answer_type`; in the others any reference but yes and no is open for its code.
    open_ = row.get("answer_type") == "OPEN" if "answer_type" in row else answer.lower().strip() not in rules.YES_NO
    theirs = foreign.mark_of(row.get("correct"))
    rule = None if choices else rules.by_rule(answer, response, open_=open_, slake="answer_type" in row)
    metrics = foreign.table_of(row.get("metrics"))
    known = {ours: foreign.mark_of(metrics.get(name)) for name, ours in METRICS.items()}
    kept = {"modality": row.get("modality"), "language": row.get("lang"), "question_type": row.get("content_type")}
    return Answered(
        id=name,
        dataset=dataset,
        split="test",
        question=question,
        references=(answer,),
        output=response,
        options=choices,
        images=next((found for key in IMAGES if (found := foreign.image_ids(row.get(key)))), ()),
        theirs=theirs,
        rule=rule,
        how=None
        if rule is None or theirs is None
        else rules.how_marked(answer, response, rule=rule, theirs=bool(theirs)),
        values={key: value for key, value in known.items() if value is not None},
        sets=() if choices else ("open" if open_ else "close",),
        metadata={key: value for key, value in kept.items() if isinstance(value, str)},
    )


def _figures(dataset: str, rows: Sequence[Answered], metrics: object) -> list[Figure]:
    """The figures of `metrics.json` that one of our scorers can be compared with."""
    tables = foreign.table_of(metrics)
    found = []
    for table, own in (("total metrics", ""), ("open", "open"), ("close", "close")):
        values = foreign.table_of(tables.get(table))
        chosen = [row for row in rows if not own or own in row.sets]
        accuracy = foreign.number_of(values.get("acc"))
        if chosen and accuracy is not None:
            reason = rules.accuracy_reason(accuracy, rows, own)
            found.append(_figure(dataset, f"{table}.acc", accuracy, own, reasons=reason))
        if chosen and own == "open":
            found += _overlaps(dataset, values, chosen)
    return found


def _overlaps(dataset: str, values: Mapping[str, Any], rows: Sequence[Answered]) -> list[Figure]:
    """The figures of overlap with the reference, over open questions."""
    found = [
        _figure(dataset, f"open.{name}", value, "open", metric=ours)
        for name, ours in METRICS.items()
        if (value := foreign.number_of(values.get(name))) is not None
    ]
    theirs = [value for name in OVERLAPS if (value := foreign.number_of(values.get(name))) is not None]
    if len(theirs) < len(OVERLAPS):
        return found
    computed = [
        fmean(column)
        for column in zip(*(rules.word_overlap(row.references[0], row.output) for row in rows), strict=True)
    ]
    reason = rules.permutation_reason(theirs, computed)
    return found + [
        _figure(dataset, f"open.{name}", value, "open", metric=name, reasons=reason)
        for name, value in zip(OVERLAPS, theirs, strict=True)
    ]


def _figure(
    dataset: str, name: str, value: float, rows: str, *, metric: str = "right", reasons: tuple[str, ...] = ()
) -> Figure:
    return Figure(dataset=dataset, name=name, value=value, rows=rows, metric=metric, reasons=reasons)
