"""Reads what people judged: `FILE` with the columns below, or `READER:PATH` for a public set as it is released.

    reference,candidate,rating,rater,study
    Small left effusion.,Left pleural effusion.,4,r1,s12

A row holds one rater's `rating` (a number, higher is better) or `label` (right, wrong, entailment, contradiction …).
`rater`, `study` and `question` may be absent. JSONL, JSON, CSV, TSV and Parquet are read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from medrft.audit.human.releases import read_kqa, read_medec, read_radjudge, read_radpref
from medrft.audit.human.rows import RIGHT, WRONG, HumanSet, Rated, Vote
from medrft.audit.human.tables import columns_of, filled, table_rows, text_of
from medrft.errors import DataError, unknown_name

READERS: dict[str, Callable[[Path], HumanSet]] = {
    "radpref": read_radpref,
    "radjudge": read_radjudge,
    "kqa": read_kqa,
    "medec": read_medec,
}
COLUMNS = "reference, candidate, rating or label, and where known rater, study, question"


def read_human(spec: str) -> HumanSet:
    """What people judged in `FILE`, or in `READER:PATH` as that set is released.

    Raises `UnknownNameError` for another reader, `DataError` for a file that is not there or does not hold what the
    reader expects.
    """
    reader, colon, rest = spec.partition(":")
    if reader in READERS:
        return READERS[reader](Path(rest))
    if colon and not Path(spec).exists() and reader.isidentifier():
        raise unknown_name("reader for --human", reader, READERS)
    return _read_columns(Path(spec))


def _read_columns(path: Path) -> HumanSet:
    """A table of one judgement a row; rows of one answer by several raters come together."""
    rows = table_rows(path, what=f"it is a table with the columns {COLUMNS}")
    names = columns_of(rows)
    kind = "rating" if "rating" in names else "label"
    missing = [name for name in ("reference", "candidate", kind) if name not in names]
    if missing:
        raise DataError(
            f"{path} has no column {missing[0] if missing[0] != 'label' else 'rating or label'!r}; it has "
            f"{', '.join(sorted(names))}. Needed: {COLUMNS}. Released sets are read as "
            f"{', '.join(f'{name}:PATH' for name in READERS)}"
        )
    if {"rating", "label"} <= names:
        raise DataError(f"{path} has both a rating and a label; keep the column that is to be compared")
    raters = tuple(dict.fromkeys(text_of(row.get("rater")) or "people" for _, row in rows))
    made, twice = _gather(path, rows, kind, raters)
    notes = [] if "study" in names else ["no column `study`: rows of one reference count as one study"]
    if twice:
        notes.append(f"{twice} judgements repeat an answer that their rater judged before; the last one counts")
    return HumanSet(
        name=path.name,
        reader="columns",
        kind="ratings" if kind == "rating" else "labels",
        rows=tuple(made),
        raters=raters,
        notes=notes,
    )


def _gather(
    path: Path, rows: Sequence[tuple[int, dict[str, Any]]], kind: str, raters: tuple[str, ...]
) -> tuple[list[Rated], int]:
    """One `Rated` per study, question, reference and candidate, and how many judgements were given twice."""
    found: dict[tuple[str, str, str, str], tuple[int, dict[str, Vote]]] = {}
    twice = 0
    for number, row in rows:
        where = f"{path}, row {number}"
        reference, candidate = filled(row, "reference", where), text_of(row.get("candidate"))
        study = text_of(row.get("study")) or reference
        _, votes = found.setdefault((study, text_of(row.get("question")), reference, candidate), (number, {}))
        rater = text_of(row.get("rater")) or "people"
        twice += rater in votes
        votes[rater] = _rating(row.get(kind), where) if kind == "rating" else _label(row.get(kind), where)
    return [
        Rated(
            id=f"row {number}",
            references=(reference,),
            candidate=candidate,
            question=question,
            study=study,
            votes=tuple(votes.get(rater) for rater in raters),
        )
        for (study, question, reference, candidate), (number, votes) in found.items()
    ], twice


def _rating(value: Any, where: str) -> float | None:
    if not text_of(value):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"{where}: a rating is a number, higher is better; got {value!r:.60}")
    return number


def _label(value: Any, where: str) -> str | None:
    word = text_of(value).lower()
    if word and word not in RIGHT | WRONG:
        raise DataError(
            f"{where}: unknown label {value!r:.60}; right is {', '.join(sorted(RIGHT))}; wrong is "
            f"{', '.join(sorted(WRONG))}"
        )
    return word or None
