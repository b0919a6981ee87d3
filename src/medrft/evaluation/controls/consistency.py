"""Compares each answer under a control with the plain one: from rows of `predictions.jsonl` to the table of controls.

    {"flip": {"good": "turns", "left_out": {"states no side": 412}, "kinds": {"open": {
        "n": 61, "metric": "correct", "score": {…}, "difference": {…}, "same": {…}, "turned": {…}, "unread": 2}}}}

`score` is the mean under the control. `difference` is that mean minus the one of the plain answers to the same
questions, paired. `same` is the share of answers that stayed and `turned` the share that became the opposite: no for
yes, left for right. Each has its interval over images. `unread` counts plain answers with nothing to compare.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

from medrft.evaluation.controls.left_right import side_of, swap_sides
from medrft.evaluation.controls.table import CONTROLS, FREQUENT_QUESTION, FREQUENT_TYPE
from medrft.evaluation.metrics import Row, cluster_of, source_of, verdict_name
from medrft.intervals import mean_interval, paired_difference
from medrft.text import chosen, normalize, yes_no
from medrft.types import KINDS, Score

Pair = tuple[Row, Row]
"""The plain answer and the one under the control, to the same example."""


def control_table(rows: Iterable[Row], left_out: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, Any]]:
    """`{control: {good, left_out, kinds: {kind: figures}}}` of every control that was asked, in the tables' order.

    `left_out` is the header's `{control: {reason: n}}`. Train's most frequent answers are listed as well; no model gave
    them, so their `good` is `below`: a good model scores above them. Without plain answers the table is empty.
    """
    first = [row for row in rows if row["sample"] == 0]
    plain = {row["id"]: row for row in first if source_of(row) == "none"}
    pairs: dict[str, list[Pair]] = {}
    for row in first:
        if row["control"] != "none" and row["id"] in plain:
            pairs.setdefault(row["control"], []).append((plain[row["id"]], row))
    return {
        name: {
            "good": CONTROLS[name].good if name in CONTROLS else "below",
            "left_out": dict(left_out.get(name, {})),
            "kinds": _by_kind(name, pairs.get(name, [])),
        }
        for name in (FREQUENT_TYPE, FREQUENT_QUESTION, *CONTROLS)
        if name in pairs or (plain and left_out.get(name))
    }


def _by_kind(control: str, pairs: Sequence[Pair]) -> dict[str, dict[str, Any]]:
    found = {kind: [pair for pair in pairs if pair[0]["kind"] == kind] for kind in KINDS}
    return {kind: _figures(control, some) for kind, some in found.items() if some}


def _figures(control: str, pairs: Sequence[Pair]) -> dict[str, Any]:
    """One row of the table."""
    metric = verdict_name(pairs[0][0]["scores"])
    marked = [
        (after, before, cluster_of(plain))
        for plain, row in pairs
        if (after := _score(row, metric)) is not None and (before := _score(plain, metric)) is not None
    ]
    figures: dict[str, Any] = {"n": len(pairs), "metric": metric, "score": None, "difference": None}
    if marked:
        after_all, before_all, clusters = zip(*marked, strict=True)
        figures["score"] = share_with_interval(after_all, clusters)
        figures["difference"] = paired_difference(after_all, before_all, clusters=clusters).as_json()
    return figures | (_answers(control, pairs) if control in CONTROLS else {})


def _answers(control: str, pairs: Sequence[Pair]) -> dict[str, Any]:
    """Shares of answers that stayed and, for a control under which they should turn, that turned."""
    turns = CONTROLS[control].good == "turns"
    read = [pair for pair in pairs if (opposite_stance(pair[0]) if turns else read_stance(pair[0])) is not None]
    out: dict[str, Any] = {"same": None, "turned": None, "unread": len(pairs) - len(read)}
    if read:
        clusters = [cluster_of(plain) for plain, _ in read]
        stayed = [float(read_stance(plain) == read_stance(row)) for plain, row in read]
        out["same"] = share_with_interval(stayed, clusters)
    if read and turns:
        turned = [float(opposite_stance(plain) == read_stance(row)) for plain, row in read]
        out["turned"] = share_with_interval(turned, clusters)
    return out


def read_stance(row: Row) -> str | None:
    """An answer in the form in which two are compared: yes or no, the text of an option, else its normalised text.

    The text of an option and not its letter, because under the control `options` the letters change.
    `None` where there is no answer to read.

    >>> read_stance({"kind": "closed", "answer": "Yes, it is.", "options": []})
    'yes'
    >>> read_stance({"kind": "choice", "answer": "B", "options": ["CT", "MRI"]})
    'mri'
    """
    answer = row["answer"]
    if answer is None:
        return None
    if row["kind"] == "closed" and (word := yes_no(answer)) is not None:
        return word
    if row["kind"] == "choice" and (option := chosen(answer, tuple(row["options"]))) is not None:
        return option
    return normalize(answer) or None


def opposite_stance(row: Row) -> str | None:
    """The opposite of an answer, in the form of `read_stance`; `None` where it has none.

    >>> opposite_stance({"kind": "closed", "answer": "No", "options": []})
    'yes'
    >>> opposite_stance({"kind": "open", "answer": "Left lung", "options": []})
    'right lung'
    """
    words = read_stance(row)
    if words is None:
        return None
    if row["kind"] == "closed":
        return {"yes": "no", "no": "yes"}.get(words)
    return normalize(swap_sides(words)) if side_of(words) is not None else None


def share_with_interval(values: Sequence[float], clusters: Sequence[Hashable]) -> dict[str, float | int | None]:
    """Mean of values in [0, 1] with its interval over images, as JSON."""
    return mean_interval(values, clusters=clusters).as_json()


def _score(row: Row, metric: str) -> Score:
    scores: Mapping[str, Score] = row["scores"]
    return scores.get(metric)
