"""The result table of the terminal, from the run's `metrics.json` files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medrft.evaluation.controls import FREQUENT_QUESTION
from medrft.report.files import RunFiles
from medrft.report.results import kinds_of

SHOWN = ("truth", "accuracy", "correct", "average")
"""Metrics of the short table; the report and `metrics.json` have all."""


def result_rows(run: Path) -> list[dict[str, Any]]:
    """One row per data set, kind, metric and stage: mean, 95 % interval and n, in [0, 1], beside the controls.

    `frequent` is the most frequent answer of train for the exact question, `blank` the same model on blank images;
    both are `None` where they were not made. Raises `DataError` for a folder that holds no run.
    """
    files = RunFiles(run)
    rows = []
    for dataset, stages in files.evaluations.items():
        for kind in kinds_of(files, dataset):
            for metric in SHOWN:
                for stage, metrics in stages.items():
                    row = _row(metrics["results"], kind, metric)
                    if row is not None:
                        rows.append({"data set": dataset, "kind": kind, "metric": metric, "stage": stage, **row})
    return rows


def _row(results: dict[str, Any], kind: str, metric: str) -> dict[str, Any] | None:
    """The model's figure and its controls; `None` where the metric does not exist or repeats another."""
    own = results.get("none", {}).get(kind, {}).get(metric)
    if own is None or (metric == "correct" and kind != "open"):  # for closed and choice, correct is the accuracy
        return None

    def control(source: str) -> float | None:
        return _short(results.get(source, {}).get(kind, {}).get(metric, {}).get("mean"))

    return {
        "mean": _short(own["mean"]),
        "low": _short(own["low"]),
        "high": _short(own["high"]),
        "n": own["n"],
        "frequent": control(FREQUENT_QUESTION),
        "blank": control("blank"),
    }


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
