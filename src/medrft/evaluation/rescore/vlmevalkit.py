"""Reads VLMEvalKit's output: `{model}_{dataset}.tsv|json|xlsx`, its `_judge` file with marks, its `_acc` with figures.

    index  question               answer  prediction  category  split
    0      Is there a nodule?     yes     Yes, one.   chest     test

Reading .xlsx needs openpyxl, which medrft does not install. `PRED_FORMAT=tsv` makes VLMEvalKit write tables instead.
"""

from __future__ import annotations

import csv
import importlib
import importlib.util
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from medrft.errors import DataError
from medrft.evaluation.rescore import foreign
from medrft.evaluation.rescore.foreign import Answered, Figure, Foreign
from medrft.types import LeftOut

Table = list[dict[str, Any]]

SUFFIXES = (".tsv", ".json", ".xlsx")
MADE = re.compile(r"_(judge|acc|score|result|rating|tmp|openai_result|auxmatch)$|_judge\b|^status$")
"""Endings of files that its evaluation derives from predictions; these hold no predictions of their own."""
LETTERS = "ABCDEFGHIJ"
CELL = 32_767
"""Characters that a cell of .xlsx can hold; longer predictions were cut there."""


def read_vlmevalkit(path: Path, options: Mapping[str, Any]) -> Foreign:
    """All predictions under `path`: the folder of one model's evaluation, or one file."""
    files = [path] if path.is_file() else _predictions(path)
    rows: list[Answered] = []
    left: list[LeftOut] = []
    figures: list[Figure] = []
    notes: list[str] = []
    for file in files:
        dataset = str(options.get("dataset") or _dataset(file))
        marks = _marks(file)
        own = []
        for number, row in enumerate(_table(file)):
            found = _answered(row, number, dataset, marks, options)
            if found is None:
                left.append(foreign.left_out(f"{file.name}:{number}", "", "no question, answer or prediction", row))
            else:
                own.append(found)
        rows += own
        figures += _figures(file, dataset, own)
        cut = sum(len(row.output) == CELL for row in own)
        notes += (
            [f"{file.name}: {cut} predictions are {CELL:,} characters long, where a cell of .xlsx ends"] if cut else []
        )
    foreign.needs_rows(rows, path, left, "{model}_{dataset}.tsv or .json with columns question, answer and prediction")
    return Foreign(
        evaluator="vlmevalkit", rows=tuple(rows), figures=tuple(figures), left_out=tuple(left), notes=tuple(notes)
    )


def _predictions(folder: Path) -> list[Path]:
    """The prediction files of a folder; of several formats of one file, the first in the order of `SUFFIXES`."""
    found: dict[Path, Path] = {}
    for suffix in SUFFIXES:
        for file in sorted(folder.rglob(f"*{suffix}")):
            if not MADE.search(file.stem) and "_" in file.stem:
                found.setdefault(file.with_suffix(""), file)
    return list(found.values())


def _dataset(file: Path) -> str:
    """The data set in a file's name `{model}_{dataset}`.

    Both parts may contain underscores; the folder that is named after the model tells where the model's name ends.
    """
    stem = file.stem
    for parent in file.resolve().parents[:3]:
        if stem.startswith(f"{parent.name}_"):
            return stem.removeprefix(f"{parent.name}_")
    return stem.partition("_")[2] or stem


def _table(file: Path) -> Table:
    """Rows of a table in any of its formats."""
    if file.suffix == ".json":
        found = foreign.read_json(file)
        if isinstance(found, Mapping) and all(isinstance(column, Mapping) for column in found.values()):
            # Column by column, `{column: {row: value}}`, as pandas writes a table by default.
            keys = list(dict.fromkeys(key for column in found.values() for key in column))
            return [{name: column.get(key) for name, column in found.items()} for key in keys]
        return [row if isinstance(row, dict) else {} for row in found] if isinstance(found, list) else []
    if file.suffix == ".xlsx":
        return _workbook(file)
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # images stand in cells as base64
    with file.open(encoding="utf-8", newline="", errors="replace") as lines:
        return list(csv.DictReader(lines, delimiter="\t" if file.suffix == ".tsv" else ","))


def _workbook(file: Path) -> Table:
    """Rows of the first sheet; needs openpyxl."""
    if importlib.util.find_spec("openpyxl") is None:
        raise DataError(
            f"{file} is a workbook, which needs openpyxl: pip install openpyxl, or let VLMEvalKit write tables by "
            "setting PRED_FORMAT=tsv"
        )
    sheet = importlib.import_module("openpyxl").load_workbook(file, read_only=True, data_only=True).active
    lines = sheet.iter_rows(values_only=True)
    header = [str(name) for name in next(lines, ())]
    return [dict(zip(header, line, strict=False)) for line in lines]


def _marks(file: Path) -> dict[str, tuple[float | None, str]]:
    """Index of a row -> its mark and what the log says of it, from the file with marks."""
    for other in sorted(file.parent.glob(f"{file.stem}_*")):
        if other.suffix in SUFFIXES and re.search(r"(_judge|_result)$|_judge\b", other.stem):
            return {str(row.get("index")): (_hit(row.get("hit")), str(row.get("log") or "")) for row in _table(other)}
    return {}


def _hit(value: object) -> float | None:
    """A mark in [0, 1], also one that a table holds as text."""
    return foreign.mark_of(foreign.number_of(value) if isinstance(value, str) else value)


def _answered(
    row: Mapping[str, Any],
    number: int,
    dataset: str,
    marks: Mapping[str, tuple[float | None, str]],
    options: Mapping[str, Any],
) -> Answered | None:
    question, answer, prediction = (foreign.text_of(row.get(key)) for key in ("question", "answer", "prediction"))
    if not question or not answer or not answer.strip() or prediction is None:
        return None
    index = foreign.text_of(row.get("index")) or str(number)
    split = foreign.split_of(options.get("split") or row.get("split") or _split_in(dataset))
    mark, log = marks.get(index, (_hit(row.get("hit")), ""))
    choices = [foreign.text_of(row.get(letter)) for letter in LETTERS]
    sets = [f"category {row['category']}"] if row.get("category") else []
    return Answered(
        id=f"{dataset}/{split}/{index}",
        dataset=dataset,
        split=split,
        question=question,
        references=(answer,),
        output=prediction,
        options=tuple(choice for choice in choices if choice and choice.lower() != "nan"),
        images=foreign.image_ids(row.get("image_path")),
        theirs=mark,
        how=("judge", f"its log: {log[:80]}") if log else None,
        sets=(*sets, *([f"split {row['split']}"] if row.get("split") else [])),
        metadata={"question_type": str(row["category"])} if row.get("category") else {},
    )


def _split_in(dataset: str) -> str | None:
    found = re.search(r"_(TRAIN|VAL|DEV|TEST)\b", dataset, re.IGNORECASE)
    return found[1] if found else None


def _figures(file: Path, dataset: str, rows: Sequence[Answered]) -> Iterator[Figure]:
    """Figures of the `_acc` file: columns are `Overall` and categories, rows are splits; some are in percent."""
    tables = [other for other in sorted(file.parent.glob(f"{file.stem}*_acc.*")) if other.suffix in (".csv", ".json")]
    table = _table(tables[0]) if tables and rows else []
    values = [
        number
        for row in table
        for name, text in row.items()
        if name != "split" and (number := foreign.number_of(text)) is not None
    ]
    # Some of its data sets report shares and others percent; nothing in the file says which.
    scale = 100 if any(value > 1 for value in values) else 1
    for row in table:
        split = row.get("split")
        for name, text in row.items():
            number = foreign.number_of(text)
            if name == "split" or number is None:
                continue
            own = f"split {split}" if split not in (None, "none", "") else ""
            yield _figure(dataset, str(name), own, number / scale, rows)


def _figure(dataset: str, name: str, split: str, value: float, rows: Sequence[Answered]) -> Figure:
    """One figure over all rows, a split or a category."""
    own = (
        split
        if name == "Overall"
        else f"category {name}"
        if any(f"category {name}" in row.sets for row in rows)
        else f"split {name}"
    )
    marks = [row.theirs for row in rows if (not own or own in row.sets) and row.theirs is not None]
    mean = sum(marks) / len(marks) if marks else None
    same = mean is None or abs(mean - value) < 1e-3
    reason = () if same else (f"not reproduced from its rows: the mean of their marks is {mean:.4f}",)
    return Figure(dataset=dataset, name=f"{name} {split}".strip(), value=value, rows=own, reasons=reason)
