"""The report's sections below the scores: figures per stratum, pass@k, and answers that contradict the reference."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medrft.evaluation.controls.table import FREQUENT_QUESTION
from medrft.evaluation.run_files import Row, RunFiles
from medrft.evaluation.strata import FIELDS, SMALL
from medrft.report.results import BASE, lead_metric, subject_of
from medrft.types import KINDS

Metric = Mapping[str, Any]

CLASHES = 6
"""How many contradictions are shown."""
AGAINST = {FREQUENT_QUESTION: "frequent answer", "blank": "blank image"}
"""Controls whose leading metric is shown beside each stratum, and their names."""


@dataclass(frozen=True, kw_only=True)
class Stratum:
    """One value of one field."""

    field: str
    value: str
    n: int
    small: bool
    metrics: Mapping[str, Metric]
    against: tuple[Metric | None, ...]
    """The leading metric of each control."""


@dataclass(frozen=True, kw_only=True)
class Strata:
    """The strata of one kind of question, for the subject's greedy answers."""

    kind: str
    lead: str
    metrics: tuple[str, ...]
    controls: tuple[str, ...]
    rows: tuple[Stratum, ...]


@dataclass(frozen=True, kw_only=True)
class Tries:
    """pass@k and maj@k of each stage on one kind of question, ordered by k."""

    kind: str
    metrics: tuple[str, ...]
    rows: tuple[tuple[str, Mapping[str, Metric]], ...]


@dataclass(frozen=True, kw_only=True)
class Below:
    """All of these sections for one data set."""

    subject: str
    strata: tuple[Strata, ...]
    tries: tuple[Tries, ...]
    clashes: tuple[Row, ...]
    contradictions: int
    explained: int
    small: int = SMALL


def strata_sections(run: RunFiles, dataset: str) -> Below:
    """The sections below the scores of a data set; those that the run's files lack are empty."""
    stages = run.evaluations[dataset]
    subject = subject_of(run, dataset) or list(stages)[-1]
    rows = [row for row in run.answers(subject, dataset).values() if row.get("explanation")]
    against = [row for row in rows if row["explanation"]["contradiction"]]
    drawn = random.Random(run.recipe.seed).sample(against, min(CLASHES, len(against)))
    found = stages[subject].get("strata", {})
    own = found.get("none", {})
    tables = (_kind(kind, own[kind], found) for kind in KINDS if kind in own)
    return Below(
        subject="start model" if subject == BASE else subject,
        strata=tuple(table for table in tables if table is not None),
        tries=tuple(_tries(stages)),
        clashes=tuple(drawn),
        contradictions=len(against),
        explained=len(rows),
    )


def _kind(kind: str, fields: Mapping[str, Any], found: Mapping[str, Any]) -> Strata | None:
    """The strata of one kind. A field with a single value is left out, as it would repeat the whole."""
    told = [field for field in FIELDS if len(fields.get(field, {})) > 1]
    every = {name: metric for field in told for metrics in fields[field].values() for name, metric in metrics.items()}
    lead = lead_metric(kind, every)
    if lead is None:
        return None
    controls = [name for name in AGAINST if kind in found.get(name, {})]
    rows = []
    for field in told:
        for value, metrics in sorted(fields[field].items(), key=lambda pair: _order(pair[0], pair[1], lead)):
            beside = [found[name][kind].get(field, {}).get(value, {}).get(lead) for name in controls]
            own = metrics.get(lead, {"n": 0, "small": True})
            rows.append(
                Stratum(
                    field=field, value=value, n=own["n"], small=own["small"], metrics=metrics, against=tuple(beside)
                )
            )
    names = sorted(every, key=lambda name: name != lead)
    return Strata(
        kind=kind, lead=lead, metrics=tuple(names), controls=tuple(AGAINST[name] for name in controls), rows=tuple(rows)
    )


def _order(value: str, metrics: Mapping[str, Metric], lead: str) -> tuple[bool, int]:
    """Sort key: large strata first, but `tail` always after `head`."""
    return value == "tail", -int(metrics.get(lead, {}).get("n", 0))


def _tries(stages: Mapping[str, Row]) -> list[Tries]:
    tables = []
    for kind in KINDS:
        rows = [
            (stage, found)
            for stage, metrics in stages.items()
            if (found := _repeated(metrics["results"].get("sampled", {}).get(kind, {})))
        ]
        if rows:
            names = dict.fromkeys(name for _, found in rows for name in found)
            tables.append(Tries(kind=kind, metrics=tuple(sorted(names, key=_by_k)), rows=tuple(rows)))
    return tables


def _repeated(metrics: Mapping[str, Metric]) -> dict[str, Metric]:
    return {name: metric for name, metric in metrics.items() if name.startswith(("pass@", "maj@"))}


def _by_k(name: str) -> tuple[bool, int]:
    word, _, number = name.partition("@")
    return word == "maj", int(number)


def clash_lines(explanation: Mapping[str, Any]) -> Sequence[str]:
    """What an explanation holds against an answer, in lines, the gravest first."""
    lists = (("clashed", "contradicts"), ("missing", "not mentioned"), ("less", "says less"), ("more", "says more"))
    return [f"{word}: {text}" for key, word in lists for text in explanation.get(key, ())]
