"""Reads VLMEvalKit's output: `{model}_{dataset}.xlsx|tsv|json`, and beside it files with its marks and its figures.

    index  question               answer  prediction  category  split
    0      Is there a nodule?     yes     Yes, one.   chest     test

    what it asks     marks                                  figures
    short answers    _judge: hit, log                       _acc.csv, shares
    choices          _{judge}_result: hit, log              _acc.csv, shares
    yes or no        _auxmatch: extracted, score            _score.csv, percent
    other words      _results: eval_match, eval_score       _acc.csv, percent

Each run has its folder `{model}/T{day}-{time}`, and links beside those folders lead to its files. Reading .xlsx needs
openpyxl, which medrft does not install. `PRED_FORMAT=tsv` makes VLMEvalKit write tables instead.
"""

from __future__ import annotations

import csv
import glob
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
MARKED = re.compile(r"_(judge|result|auxmatch|results|detailed_results)$|_judge\b")
"""Endings of files with a mark of each answer."""
MADE = re.compile(rf"{MARKED.pattern}|_(acc|acc_all|fine|metrics|score|rating|config|meta|tmp|cotpost)$|^status$")
"""Endings of files that its evaluation derives from predictions; these hold no predictions of their own."""
RUN = re.compile(r"T\d{8}([-_]\w+)?")
"""The folder of one run."""
SCORES = ("hit", "score", "eval_score", "verifier_match")
"""Columns that hold a mark, the first that there is."""
BY_RULE = "exact_matching"
RANDOM = "randomly generate one"
FAILED = "Failed to obtain answer"
"""What it writes in place of an answer that a server did not give."""
LETTERS = "ABCDEFGHIJ"
CELL = 32_767
"""Characters that a cell of .xlsx can hold; longer predictions were cut there."""


def read_vlmevalkit(path: Path, options: Mapping[str, Any]) -> Foreign:
    """All predictions under `path`: the folder of one model's evaluation, or one file."""
    files, notes = ([path], []) if path.is_file() else _predictions(path)
    rows: list[Answered] = []
    left: list[LeftOut] = []
    figures: list[Figure] = []
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
        if cut := sum(len(row.output) == CELL for row in own):
            notes.append(f"{file.name}: {cut} predictions are {CELL:,} characters long, where a cell of .xlsx ends")
        if failed := sum(row.output.startswith(FAILED) for row in own):
            notes.append(f"{file.name}: {failed} predictions are failed requests ({FAILED!r}), and count as wrong")
    wanted = "{model}_{dataset}.xlsx, .tsv or .json with columns question, answer and prediction"
    foreign.needs_rows(rows, path, left, wanted)
    return Foreign(
        evaluator="vlmevalkit", rows=tuple(rows), figures=tuple(figures), left_out=tuple(left), notes=tuple(notes)
    )


def _predictions(folder: Path) -> tuple[list[Path], list[str]]:
    """The prediction files of a folder, and notes on those not taken.

    Of several formats of one file it is the first in the order of `SUFFIXES`, of several runs the last. A link counts
    as the file that it leads to.
    """
    found: dict[Path, Path] = {}
    for suffix in SUFFIXES:
        for link in sorted(folder.rglob(f"*{suffix}")):
            file = link.resolve()
            if "_" in file.stem and file.is_file():
                found.setdefault(file.with_suffix(""), file)
    last: dict[tuple[Path, str], Path] = {}
    notes = []
    for place, file in sorted(found.items()):
        if _is_made(place, found):
            continue
        model = place.parent.parent if RUN.fullmatch(place.parent.name) else place.parent
        if (earlier := last.get((model, place.name))) is not None:
            notes.append(f"{file.name}: only its last run is read, {place.parent.name}; not {earlier.parent.name}")
        last[model, place.name] = file
    return list(last.values()), notes


def _is_made(place: Path, among: Mapping[Path, Path]) -> bool:
    """Whether a file is derived from a file of predictions: by its ending, or by the name of a judge after its own.

    A data set's name goes on in capitals, as `_TEST` and `_V11` do; that is another data set.
    """
    if MADE.search(place.name):
        return True
    heads = (place.name[:i] for i, sign in enumerate(place.name) if sign == "_")
    known = [head for head in heads if place.with_name(head) in among]
    return any(not place.name[len(head) + 1 :].isupper() for head in known)


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


Mark = tuple[float | None, tuple[str, str] | None]
"""A mark, and why it was given where that is known."""


def _marks(file: Path) -> dict[str, Mark]:
    """Index of a row -> its mark, from the file with marks."""
    for other in sorted(file.parent.glob(f"{glob.escape(file.stem)}_*")):
        if other.suffix in SUFFIXES and MARKED.search(other.stem):
            return {str(row.get("index")): _mark(row, other.stem) for row in _table(other)}
    return {}


def _mark(row: Mapping[str, Any], name: str) -> Mark:
    """The mark of a row of the file `name`."""
    value = next((row[column] for column in SCORES if row.get(column) not in (None, "")), None)
    if isinstance(value, str):
        value = {"true": True, "false": False}.get(value.lower(), foreign.number_of(value))
    log, said = str(row.get("log") or ""), str(row.get("extracted") or "")
    if RANDOM in log:
        how = ("judge", "its judge found no option, and a random one was taken")
    elif log and (BY_RULE in name or log == f"Match Log: {row.get('prediction')}. "):
        how = ("their rule", log[:80])
    else:
        how = ("judge", f"its log: {log[:80]}")
    return foreign.mark_of(value), how if log else ("their rule", f"it reads {said!r}") if said else None


def _answered(
    row: Mapping[str, Any],
    number: int,
    dataset: str,
    marks: Mapping[str, Mark],
    options: Mapping[str, Any],
) -> Answered | None:
    question, answer, prediction = (foreign.text_of(row.get(key)) for key in ("question", "answer", "prediction"))
    if not question or not answer or not answer.strip() or prediction is None:
        return None
    index = foreign.text_of(row.get("index")) or str(number)
    split = foreign.split_of(options.get("split") or row.get("split") or _split_in(dataset))
    mark, how = marks[index] if index in marks else _mark(row, "")
    choices = [foreign.text_of(row.get(letter)) for letter in LETTERS]
    sets = [f"{group} {row[group]}" for group in ("category", "l2-category") if row.get(group)]
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
        how=how,
        sets=(*sets, *([f"split {row['split']}"] if row.get("split") else [])),
        metadata={"question_type": str(row["category"])} if row.get("category") else {},
    )


def _split_in(dataset: str) -> str | None:
    found = re.search(r"_(TRAIN|VAL|DEV|TEST)\b", dataset, re.IGNORECASE)
    return found[1] if found else None


def _figures(file: Path, dataset: str, rows: Sequence[Answered]) -> Iterator[Figure]:
    """Figures of the `_acc` or `_score` file: columns are `Overall` and categories, rows are splits."""
    ends = [f"{end}{suffix}" for end in ("acc", "score") for suffix in (".csv", *SUFFIXES)]
    places = [file.with_name(f"{file.stem}_{end}") for end in ends]
    tables = [place for place in places if place.is_file()]
    table = _table(tables[0]) if tables and rows else []
    values = [
        number
        for row in table
        for name, text in row.items()
        if name != "split" and (number := foreign.number_of(text)) is not None
    ]
    # Its `_score` files are in percent; of its `_acc` files some are, and nothing in them says which.
    scale = 100 if any(value > 1 for value in values) or (tables and tables[0].stem.endswith("_score")) else 1
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
    held = {own for row in rows for own in row.sets}
    groups = (f"{group} {name}" for group in ("category", "l2-category") if f"{group} {name}" in held)
    own = split if name == "Overall" else next(groups, f"split {name}")
    marks = [row.theirs for row in rows if (not own or own in row.sets) and row.theirs is not None]
    mean = sum(marks) / len(marks) if marks else None
    same = mean is None or abs(mean - value) < 1e-3
    reason = () if same else (f"not reproduced from its rows: the mean of their marks is {mean:.4f}",)
    return Figure(dataset=dataset, name=f"{name} {split}".strip(), value=value, rows=own, reasons=reason)
