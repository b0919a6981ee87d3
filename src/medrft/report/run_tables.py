"""The paper tables of a run and of a study: models and their controls as rows, metrics as columns."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medrft.evaluation.compare.paired import mean_difference, pair_rows, scored_pairs
from medrft.evaluation.compare.sides import rows_by_key
from medrft.evaluation.metrics import repeats_accuracy
from medrft.evaluation.own_scorers import is_share
from medrft.evaluation.run_files import RunFiles
from medrft.report.paper_tables import Cell, PaperTable, Value
from medrft.report.results import SHOWN, Source, kinds_of, sources_of
from medrft.report.study_controls import SHARE, has_shares, share_cell
from medrft.report.study_markdown import controls_of, lead_tables, study_status
from medrft.report.wording import NONE, metric_label, outcome_label

OURS = (*SHOWN, "clinical")
"""Metrics of ours, in the order of the columns: shares, of which more is better. A recipe's own scorers follow."""


def run_table(run: Path) -> PaperTable:
    """The results of a run: baselines and controls among the rows, the best model of a column bold where it is clear.

    Raises `DataError` for a folder that holds no run.
    """
    files = RunFiles(run)
    asked = [(dataset, kind) for dataset in files.evaluations for kind in kinds_of(files, dataset)]
    asking = [(source, dataset, kind) for dataset, kind in asked for source in sources_of(files, dataset)]
    metrics = [m for m in _metrics(files) if any(_metric(files, *one, m) for one in asking)]
    rows: list[tuple[Cell, ...]] = []
    for dataset, kind in asked:
        sources = sources_of(files, dataset)
        best = {m: _best(files, dataset, kind, m, sources) if m in OURS else None for m in metrics}
        for source in sources:
            found = {metric: _metric(files, source, dataset, kind, metric) for metric in metrics}
            counts = [one["n"] for one in found.values() if one]
            if counts:
                own = files.evaluations[dataset][source.stage].get("scorers", {})
                cells = (_cell(found[m], best=best[m] == source, share=is_share(own.get(m, {}))) for m in metrics)
                rows.append((dataset, kind, source.name, *cells, max(counts)))
    encoder = files.recipe.encoder
    names = dict.fromkeys(filter(None, (encoder.id, encoder.bertscore)))
    return PaperTable(
        caption=f"Run {files.recipe.name}: shares in percent with 95 % intervals",
        heads=("data set", "kind", "model", *map(metric_label, metrics), "n"),
        rows=tuple(rows),
        notes=(
            "Brackets: 95 % intervals over images, conditional on this training seed",
            "Bold: the best model, where its paired difference from every other has an interval above 0",
            "Controls: the most frequent answers of train, and the same model on blank or wrong images; never bold",
            f"Similarity metrics use {', '.join(names)}",
        ),
    )


def _metrics(files: RunFiles) -> list[str]:
    own = [name for stages in files.evaluations.values() for m in stages.values() for name in m.get("scorers", {})]
    return list(dict.fromkeys((*OURS, *own)))


def _metric(files: RunFiles, source: Source, dataset: str, kind: str, metric: str) -> Mapping[str, Any] | None:
    found = files.evaluations[dataset][source.stage]["results"].get(source.source, {}).get(kind, {}).get(metric)
    return None if found is None or found["mean"] is None or repeats_accuracy(metric, kind) else found


def _cell(found: Mapping[str, Any] | None, *, best: bool, share: bool) -> Cell:
    if found is None:
        return NONE
    return Value(mean=found["mean"], low=found["low"], high=found["high"], best=best, share=share)


def _best(files: RunFiles, dataset: str, kind: str, metric: str, sources: list[Source]) -> Source | None:
    """The model that is clearly better than every other by this metric; `None` if none is."""
    models = {
        source: found["mean"]
        for source in sources
        if source.source == "none" and (found := _metric(files, source, dataset, kind, metric))
    }
    if len(models) < 2:
        return None
    best = max(models, key=lambda source: models[source])
    answers = {one: rows_by_key(files.answers(one.stage, dataset).values()) for one in models}
    for other in models:
        if other == best:
            continue
        pairs, _ = pair_rows(answers[other], answers[best])
        scored = scored_pairs([pair for pair in pairs if kind in (pair.kind, "all")], metric)
        low = mean_difference(scored).low if scored else None
        if low is None or low <= 0:
            return None
    return best


def study_table(facts: Mapping[str, Any]) -> PaperTable:
    """The primary outcome of a study: arms as rows; an arm is bold whose interval lies above all others'."""
    own = facts["primary"]
    rows: list[tuple[Cell, ...]] = []
    controls: list[str] = []
    shares = any(map(has_shares, lead_tables(facts)))
    for table in lead_tables(facts):
        controls = controls_of(table)
        for row in table["rows"]:
            others = [one for one in table["rows"] if one is not row]
            clear = row["low"] is not None and all(
                one["high"] is not None and row["low"] > one["high"] for one in others
            )
            apart = row["difference"]
            minus = (
                NONE if apart is None else Value(mean=apart["mean"], low=apart["low"], high=apart["high"], signed=True)
            )
            value = Value(mean=row["mean"], low=row["low"], high=row["high"], best=clear and bool(others))
            shown = (Value(mean=row["controls"].get(control)) for control in controls)
            share = (share_cell(row["share"]),) if shares else ()
            rows.append((row["arm"], value, minus, *share, *shown, row["n"], row["seeds"]))
    return PaperTable(
        caption=f"{facts['study']}: {outcome_label(own)} in percent",
        heads=(
            *("arm", "mean", f"minus {own['against']}", *([SHARE] if shares else [])),
            *(*map(metric_label, controls), "n", "seeds"),
        ),
        rows=tuple(rows),
        notes=(
            "Brackets: 95 % intervals over seeds and images, over images alone with one seed",
            "Bold: an arm whose interval lies above those of all others",
            *([f"Controls of the same models: {', '.join(map(metric_label, controls))}"] if controls else []),
            "; ".join(study_status(facts)),
        ),
    )
