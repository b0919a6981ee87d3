"""From rows of `predictions.jsonl` to metrics: a mean, its interval and n for each source, kind and metric.

    {"none": {"closed": {"accuracy": {"mean": 0.62, "low": 0.55, "high": 0.68, "n": 251, "unscored": 0}}}}

Needs the rows alone, so metrics can be computed again without a model. Several samples of one example count once, as
their mean. The formulas are in docs/evaluation.md, "Metrics, defined once".
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

from medrft.evaluation.repeated import is_verdict, judge_agreement, of_samples
from medrft.intervals import UNIT, mean_interval
from medrft.types import KINDS, Kind, Score

Row = Mapping[str, Any]
Cluster = tuple[str, ...]
Own = Mapping[str, Mapping[str, Any]]
"""The recipe's own scorers: metric -> `{range: [low, high], …}`; an end that is `None` is infinite."""

PAPERS_FOUR = ("bleu1", "rouge1", "bertscore", "cosine")
"""ARMed's figure for open questions is the mean of these (arXiv 2508.12957)."""

SCORERS: dict[Kind, tuple[str, ...]] = {
    "closed": ("yes_no_match",),
    "choice": ("choice_match",),
    "open": ("exact_match", "clinical", "recall", *PAPERS_FOUR),
}
"""Scorers whose values are reported for each kind; `answer_format` is added where the prompt asks for a form."""

METRICS: dict[str, str] = {
    "accuracy": "share answered right (closed: yes or no; choice: the option)",
    "correct": "share that meets the recipe's own test",
    "exact_match": "share equal to a reference after normalisation",
    "clinical": "findings and their facets compared: 1 the same meaning, 0 a contradiction",
    "judge": "share that a language model calls the same as the reference",
    "recall": "share of the reference's words that the answer holds",
    "bleu1": "share of the answer's words that are in the reference, less for short answers",
    "rouge1": "overlap of words with the reference (F1)",
    "bertscore": "similarity by contextual word embeddings (F1)",
    "cosine": "similarity by sentence embeddings",
    "average": "the papers' average: mean of BLEU-1, ROUGE-1, BERTScore and cosine",
    "truth": "share that the phantom's oracle calls right",
    "in_grammar": "share that the phantom's oracle can read",
    "looks": "share of thoughts that first say what lies on each side",
    "answer_format": "share with exactly one answer in the form asked for",
    "truncated": "share cut off at the token limit",
    "n_tokens": "generated tokens",
}
"""Metric -> what it says, in the order of the tables."""

POOLED = ("truth", "in_grammar", "looks", "answer_format", "truncated", "n_tokens")
"""Metrics that mean the same for every kind, so that they may be pooled over kinds as `all`. No other is pooled."""


RIGHT = ("truth", "accuracy", "correct", "exact_match")
"""Metrics that decide whether an answer is right: the first one that it has does."""
LEADING = (*RIGHT, "clinical", "average")
"""Metrics that come first in tables and that `compare` tests: is the answer right, then how much of the reference
it holds."""


def repeats_accuracy(metric: str, kind: str) -> bool:
    """Whether a metric only repeats the accuracy: `correct` does, for closed and choice questions."""
    return metric == "correct" and kind != "open"


def verdict_name(names: Container[str]) -> str:
    """The metric that tells right from wrong for all kinds: `truth` where it is among `names`, else `correct`."""
    return "truth" if "truth" in names else "correct"


def source_of(row: Row) -> str:
    """The source of a row: `none` (the model's greedy answers), `sampled`, or the name of its control."""
    return "sampled" if row["control"] == "none" and row["temperature"] else str(row["control"])


def values_of(row: Row) -> dict[str, Score]:
    """The value of every metric for one row. `None` is unscored; a metric that does not apply is absent.

    >>> row = {"kind": "closed", "scores": {"yes_no_match": 1.0}, "truncated": False, "n_tokens": 3}
    >>> values_of(row)
    {'accuracy': 1.0, 'truncated': 0.0, 'n_tokens': 3.0}
    """
    scores: Mapping[str, Score] = row["scores"]
    values: dict[str, Score] = {}
    for name, score in scores.items():
        if not is_verdict(name):
            values["accuracy" if name in ("yes_no_match", "choice_match") else name] = score
    if all(name in scores for name in PAPERS_FOUR):
        four = [score for name in PAPERS_FOUR if (score := scores[name]) is not None]
        values["average"] = sum(four) / 4 if len(four) == 4 else None
    for name in ("truncated", "n_tokens"):
        if row[name] is not None:
            values[name] = float(row[name])
    return values


def cluster_of(row: Row) -> Cluster:
    """The images of a row: questions about the same images are one cluster, the unit of every interval.

    A question without an image is a cluster of its own.
    """
    return tuple(row["images"]) or (str(row["id"]),)


def summarize_rows(rows: Iterable[Row], own: Own | None = None) -> dict[str, dict[str, dict[str, Any]]]:
    """`{source: {kind: {metric: {n, mean, low, high, unscored}}}}`; `all` holds what may be pooled over kinds.

    The source `sampled` has `pass@k` and `maj@k` as well. `own` are the recipe's own scorers with their ranges.
    """
    return {
        source: {
            kind: _metrics(kinds[kind], own or {}, pooled=kind == "all", sampled=source == "sampled")
            for kind in (*KINDS, "all")
            if kind in kinds
        }
        for source, kinds in by_source(rows).items()
    }


def by_source(rows: Iterable[Row]) -> dict[str, dict[str, list[Row]]]:
    """Rows by source and kind; each stands under its kind and under `all`."""
    sources: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        kinds = sources.setdefault(source_of(row), {})
        kinds.setdefault(row["kind"], []).append(row)
        kinds.setdefault("all", []).append(row)
    return sources


def metric_of(name: str, pairs: Sequence[tuple[Score, Cluster]], ends: Sequence[float | None] = UNIT) -> dict[str, Any]:
    """Mean, interval and n over the scored values of one metric, and how many were unscored.

    The interval stays within the metric's range `ends`, where both are finite and no value lies outside.
    """
    scored = [(value, cluster) for value, cluster in pairs if value is not None]
    unscored = len(pairs) - len(scored)
    if not scored:
        return {"mean": None, "low": None, "high": None, "n": 0, "unscored": unscored}
    values, clusters = zip(*scored, strict=True)
    low, high = (None, None) if name == "n_tokens" else ends
    bounds = None
    if low is not None and high is not None and low <= min(values) and max(values) <= high:
        bounds = (low, high)
    found = mean_interval(values, clusters=clusters, bounds=bounds).as_json()
    if name == "n_tokens" and found["low"] is not None:
        found["low"] = max(0.0, found["low"])  # t knows no bound, and no answer has fewer than no tokens
    return {**found, "unscored": unscored}


def _metrics(rows: Sequence[Row], own: Own, *, pooled: bool, sampled: bool) -> dict[str, Any]:
    """Mean, interval and n of each metric over these rows."""
    columns: dict[str, list[tuple[Score, Cluster]]] = {}
    for values, cluster in _examples(rows) if sampled else ((values_of(row), cluster_of(row)) for row in rows):
        for name, value in values.items():
            if not pooled or name in POOLED:
                columns.setdefault(name, []).append((value, cluster))
    names = [*METRICS, *sorted(columns.keys() - METRICS, key=_natural)]
    found = {
        name: metric_of(name, columns[name], own.get(name, {}).get("range", UNIT)) for name in names if name in columns
    }
    if "judge" in found:
        found["judge"] |= judge_agreement(row["scores"] for row in rows)
    return found


def _examples(rows: Sequence[Row]) -> Iterable[tuple[dict[str, Score], Cluster]]:
    """The values of each sampled example, averaged over the samples that were scored, and its cluster."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(str(row["id"]), []).append(row)
    for group in groups.values():
        columns: dict[str, list[float]] = {}
        for row in group:
            for name, value in values_of(row).items():
                columns.setdefault(name, []).extend([] if value is None else [value])
        means = {name: sum(column) / len(column) if column else None for name, column in columns.items()}
        yield {**means, **of_samples(group)}, cluster_of(group[0])


def _natural(name: str) -> tuple[str, int]:
    """Sorts `pass@4` before `pass@16`."""
    word, _, number = name.partition("@")
    return word, int(number) if number.isdigit() else 0
