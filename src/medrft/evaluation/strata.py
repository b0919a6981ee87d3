"""Metrics per stratum: imaging modality, organ, question type, and how frequent the right answer is in train.

A question is `head` if its answer is among the most frequent ones that together make up half of train's rows of that
kind, else `tail`. A model that has only learnt which answers are common scores well on `head` and badly on `tail`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from medrft.evaluation.metrics import LEADING, Row, by_source, cluster_of, metric_of, repeats_accuracy, values_of
from medrft.text import normalize
from medrft.types import Example, Kind

FIELDS = ("modality", "organ", "question_type", "frequency")
METRICS = tuple(name for name in LEADING if name != "average")
"""Metrics reported per stratum."""
HEAD = 0.5
"""Share of train's rows that the `head` answers make up."""
SMALL = 20
"""A stratum of fewer questions is listed but marked as small: its interval says little."""


def head_answers(train: Sequence[Example]) -> dict[Kind, frozenset[str]]:
    """The most frequent normalised answers of each kind that together make up half of its rows; ties by alphabet.

    Only the first reference of each example counts.
    """
    counts: dict[Kind, Counter[str]] = {}
    for example in train:
        counts.setdefault(example.kind, Counter())[normalize(example.references[0])] += 1
    return {kind: frozenset(_head(counter)) for kind, counter in counts.items()}


def _head(counts: Counter[str]) -> Iterable[str]:
    missing = HEAD * counts.total()
    for answer, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])):
        if missing <= 0:
            return
        yield answer
        missing -= count


def with_frequency(examples: Sequence[Example], train: Sequence[Example]) -> list[Example]:
    """The examples with `frequency` (`head` or `tail`) in their metadata; unchanged where train has none of a kind."""
    head = head_answers(train)

    def tagged(example: Example) -> Example:
        if example.kind not in head:
            return example
        common = any(normalize(reference) in head[example.kind] for reference in example.references)
        return replace(example, metadata={**example.metadata, "frequency": "head" if common else "tail"})

    return [tagged(example) for example in examples]


def measure_strata(rows: Iterable[Row]) -> dict[str, Any]:
    """`{source: {kind: {field: {value: {metric: {mean, low, high, n, unscored, small}}}}}}`, sampled answers left out.

    The kind `all` has `truth` alone, the one leading metric that may be pooled over kinds.
    """
    return {
        source: {kind: found for kind, own in kinds.items() if (found := _fields(own, pooled=kind == "all"))}
        for source, kinds in by_source(rows).items()
        if source != "sampled"
    }


def _fields(rows: Sequence[Row], *, pooled: bool) -> dict[str, Any]:
    found = {}
    for field in FIELDS:
        values: dict[str, list[Row]] = {}
        for row in rows:
            value = row.get("metadata", {}).get(field)
            if value is not None:
                values.setdefault(str(value), []).append(row)
        metrics = {value: _leading(own, pooled=pooled) for value, own in sorted(values.items())}
        if any(metrics.values()):
            found[field] = metrics
    return found


def _leading(rows: Sequence[Row], *, pooled: bool) -> dict[str, Any]:
    """The leading metrics of one stratum; `correct` is left out where it repeats the accuracy."""
    table = [(values_of(row), cluster_of(row)) for row in rows]
    found = {}
    for name in ("truth",) if pooled else METRICS:
        column = [(values[name], cluster) for values, cluster in table if name in values]
        if column and not repeats_accuracy(name, rows[0]["kind"]):
            metric = metric_of(name, column)
            found[name] = {**metric, "small": metric["n"] < SMALL}
    return found
