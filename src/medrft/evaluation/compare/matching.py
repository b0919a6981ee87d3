"""Pairs answers to the same questions whose names differ, such as two files that were rescored under their own names.

Where two sides share no name within a data set's split, an answer takes the name of the answer on the other side with
the same question, reference, options and images. Images count where both sides know them by the same names.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from medrft.evaluation.compare.sides import Answers, Key, Row, Side
from medrft.text import normalize

Question = tuple[Any, ...]


def by_question(baseline: Side, other: Side) -> tuple[Side, dict[str, Any]]:
    """The other side under the baseline's names where it can be matched, and how many rows were.

    `{"rows": 118, "alike": 3, "images": true}`: `alike` rows are asked alike several times and were taken in order. The
    second value is empty if no name was changed.
    """
    told: dict[str, Any] = {}
    runs = []
    for one, two in zip(baseline.runs, other.runs, strict=True):
        renamed, counts = _renamed(one, two)
        runs.append(renamed)
        if counts:
            rows, alike = told.get("rows", 0) + counts["rows"], told.get("alike", 0) + counts["alike"]
            told = {"rows": rows, "alike": alike, "images": counts["images"] and told.get("images", True)}
    return replace(other, runs=tuple(runs)), told


def say_pairing(name: str, renamed: Mapping[str, Any]) -> str:
    """How the answers of side `name` were paired where names differ, from what `by_question` says; "" if they do not.

    >>> say_pairing("after", {"rows": 118, "alike": 3, "images": True})
    'names differ: 118 answers of after were paired by question, reference and image; 3 asked alike were taken in order'
    """
    if not renamed:
        return ""
    by = "question, reference and image" if renamed["images"] else "question and reference, for images are not known"
    alike = f"; {renamed['alike']} asked alike were taken in order" if renamed["alike"] else ""
    return f"names differ: {renamed['rows']} answers of {name} were paired by {by}{alike}"


def _renamed(one: Answers, two: Answers) -> tuple[Answers, dict[str, Any]]:
    """The answers of `two` under the names of `one`, and counts of those renamed."""
    # Where both sides share a name in a data set's split, they name its rows alike, and another name is another row.
    alike_in = {key[:2] for key in one.rows.keys() & two.rows.keys()}
    free = {key: rows for key, rows in one.rows.items() if key[:2] not in alike_in}
    lost = {key: rows for key, rows in two.rows.items() if key[:2] not in alike_in}
    if not free or not lost:
        return two, {}
    images = _share_images(free, lost)
    wanted: dict[Question, list[Key]] = defaultdict(list)
    for key, rows in free.items():
        wanted[_asked(rows[0], images)].append(key)
    several = {asked for asked, keys in wanted.items() if len(keys) > 1}
    names: dict[Key, Key] = {}
    alike = 0
    for key, rows in lost.items():
        asked = _asked(rows[0], images)
        if wanted.get(asked):
            names[key] = wanted[asked].pop(0)
            alike += asked in several
    if not names:
        return two, {}
    rows_of = {
        names.get(key, key): _as(rows, names[key], one.rows[names[key]][0]) if key in names else rows
        for key, rows in two.rows.items()
    }
    headers = {**two.headers}
    for old, new in names.items():
        headers.setdefault(new[0], two.headers.get(old[0], {}))
    return replace(two, rows=rows_of, headers=headers), {"rows": len(names), "alike": alike, "images": images}


def _asked(row: Row, images: bool) -> Question:
    shown = tuple(PurePath(str(name)).name for name in row["images"]) if images else ()
    references = tuple(sorted(map(normalize, row["references"])))
    return (normalize(row["question"]), references, tuple(map(normalize, row.get("options") or ())), shown)


def _as(rows: tuple[Row, ...], key: Key, like: Row) -> tuple[Row, ...]:
    """The rows under another name, with the question as it is spelled there: it is equal after normalisation."""
    dataset, split, own = key
    spelled = {field: like[field] for field in ("question", "references", "options") if field in like}
    return tuple({**row, "dataset": dataset, "split": split, "id": own, **spelled} for row in rows)


def _share_images(free: dict[Key, tuple[Row, ...]], lost: dict[Key, tuple[Row, ...]]) -> bool:
    """Whether both sides name images alike: they share a name at least."""
    ours, theirs = (
        {PurePath(str(name)).name for rows in side.values() for name in rows[0]["images"]} for side in (free, lost)
    )
    return bool(ours & theirs)
