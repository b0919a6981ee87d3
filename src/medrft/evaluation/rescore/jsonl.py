"""Reads plain JSONL with one answer a line, or the same rows as CSV, TSV, JSON or Parquet.

    {"id": 3, "question": "which side of the heart border is obscured?", "reference": "right", "prediction": "left"}

Columns with usual names are found without help (`NAMES`); `--set reference=COLUMN` names one that is called otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from medrft.data.tables.rows import read_rows
from medrft.evaluation.rescore import foreign
from medrft.evaluation.rescore.foreign import Answered, Foreign
from medrft.rewards.answer_columns import answer_columns
from medrft.types import LeftOut

NAMES = {
    "id": ("id", "qid", "question_id", "index", "doc_id"),
    "images": ("images", "image", "img_name", "image_name", "image_id"),
    "options": ("options", "choices"),
    "correct": ("correct", "is_correct", "hit"),
}
"""Our field -> the columns that may hold it, tried in this order; `answer_columns` finds question and answers."""

TABLES = (".csv", ".tsv", ".json", ".parquet")
"""Endings of files that are read as tables of data are; any other file is read line by line."""
WORDS = ("question", "prediction", "reference")
KEPT = ("modality", "organ", "question_type")


def read_answer_rows(path: Path, options: Mapping[str, Any]) -> Foreign:
    """Rows of one file. `dataset` and `split` come from the row, else from `--set`, else the file's name and `test`."""
    rows: list[Answered] = []
    left: list[LeftOut] = []
    for number, row in _lines(path, options) if path.is_file() else ():
        found = _answered(row, number, path, options)
        if isinstance(found, Answered):
            rows.append(found)
        else:
            left.append(found)
    wanted = "JSONL, CSV or Parquet whose rows have a question, a reference and a prediction (--set question=COLUMN)"
    foreign.needs_rows(rows, path, left, wanted)
    return Foreign(evaluator="jsonl", rows=tuple(rows), left_out=tuple(left))


def _lines(path: Path, options: Mapping[str, Any]) -> Iterator[tuple[int, Any]]:
    """Rows with their numbers, from 1; what is no row is `None`."""
    if path.suffix.lower() not in TABLES:
        yield from foreign.read_lines(path)
        return
    for row in read_rows([(path, None)], options.get("encoding"), options.get("delimiter")):
        yield row.number + 1, None if row.problem else foreign.clean_texts(row.values)


def _answered(row: Any, number: int, path: Path, options: Mapping[str, Any]) -> Answered | LeftOut:
    line = f"{path.name}:{number}"
    if not isinstance(row, Mapping):
        return foreign.left_out(
            line, "", "not JSON in UTF-8" if row is None else "not an object", line if row is None else row
        )

    def field(name: str) -> Any:
        columns = (str(options[name]),) if name in options else NAMES[name]
        return next((row[column] for column in columns if row.get(column) is not None), None)

    found = answer_columns(row, {name: options[name] for name in WORDS if name in options})
    question, prediction, references = (
        foreign.text_of(row.get(found.question or "")),
        foreign.text_of(row.get(found.said or "")),
        foreign.texts_of(row.get(found.reference or "")),
    )
    for name, value in (("question", question), ("prediction", prediction), ("reference", references or None)):
        if value is None:
            return foreign.left_out(line, "", f"no {name}", f"its columns: {', '.join(map(str, row)) or 'none'}")
    dataset = str(row.get("dataset") or options.get("dataset") or path.stem)
    split = foreign.split_of(row.get("split") or options.get("split"))
    own = foreign.text_of(field("id"))
    name = str(number - 1) if own is None else own
    return Answered(
        id=name if name.startswith(f"{dataset}/") else f"{dataset}/{split}/{name}",
        dataset=dataset,
        split=split,
        question=question or "",
        references=references,
        output=prediction or "",
        options=foreign.options_of(field("options")),
        images=foreign.image_ids(field("images")),
        theirs=foreign.mark_of(field("correct")),
        metadata={key: row[key] for key in KEPT if isinstance(row.get(key), str)},
    )
