"""Makes `report.html` from the files of a run: each section's data classes go into the templates.

Model output is untrusted. Jinja escapes everything. The page also forbids itself scripts and the network
(Content-Security-Policy), so that even a mistake in a template could run nothing and load nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medrft import __version__
from medrft.errors import naming_extras
from medrft.evaluation.metrics import METRICS, PAPERS_FOUR, repeats_accuracy
from medrft.evaluation.own_scorers import Facts, is_share, say_scale
from medrft.evaluation.rewarded import rewarded_metrics
from medrft.evaluation.run_files import RunFiles
from medrft.report import facts, wording
from medrft.report.audit import run_fragment
from medrft.report.charts import difference_mark, interval_mark, scale_reach
from medrft.report.controls import controls_of
from medrft.report.curves import Panel, short_log, stage_panels
from medrft.report.gained_lost import HeldOut, held_out
from medrft.report.groups import Group, example_groups
from medrft.report.html import render_template
from medrft.report.results import Comparison, Source, compare_stages, kinds_of, lead_metric, sources_of
from medrft.report.strata import Below, clash_lines, strata_sections
from medrft.rundir import write_atomic
from medrft.training.monitor.watch import diagnose_run

with naming_extras():
    from markupsafe import Markup

KIND_NAMES = {"all": "all kinds", "closed": "closed (yes or no)", "choice": "multiple choice", "open": "open"}
SHARES = frozenset(METRICS) - {"n_tokens"}


@dataclass(frozen=True, kw_only=True)
class Table:
    """Results on one data set and kind: a row per source, a column per metric."""

    kind: str
    lead: str | None
    metrics: tuple[str, ...]
    rows: tuple[tuple[Source, dict[str, Any], Markup | None], ...]
    """Source, its metrics, and its leading metric drawn as a mark."""

    @property
    def asked_apart(self) -> bool:
        """Whether the models answered different numbers of questions."""
        asked = [next(iter(metrics.values())) for source, metrics, _ in self.rows if source.source == "none"]
        return len({metric["n"] + metric["unscored"] for metric in asked}) > 1


@dataclass(frozen=True, kw_only=True)
class Results:
    """All results on one data set."""

    dataset: str
    header: dict[str, Any]
    comparisons: tuple[tuple[Comparison, Markup], ...]
    tables: tuple[Table, ...]
    marks: dict[str, dict[Any, dict[str, str]]]
    """By stage, kind and metric: whether the stage was trained on that very metric."""
    below: Below
    held_out: HeldOut | None


@dataclass(frozen=True, kw_only=True)
class Stage:
    """How one stage trained."""

    name: str
    kind: str
    panels: tuple[Panel, ...]
    warning: str
    groups: tuple[Group, ...]


def write_page(run: Path) -> Path:
    """Write `report.html` and return it."""
    path = run / "report.html"
    write_atomic(path, render_page(RunFiles(run)))
    return path


def render_page(run: RunFiles) -> str:
    """The whole page as text."""
    own = {name: facts for dataset in run.evaluations for name, facts in _own_scorers(run, dataset).items()}
    return render_template(
        "page.html.j2",
        run=run,
        name=run.path.resolve().name,
        version=__version__,
        results=[_results(run, dataset) for dataset in run.evaluations],
        controls=controls_of(run),
        stages=[_stage(run, stage.name, stage.kind) for stage in run.recipe.stages],
        diagnoses=diagnose_run(row for rows in run.metrics.values() for row in rows),
        facts=facts.facts_of(run),
        audit=run_fragment(run.audit),
        metric_says=METRICS | {name: f"{facts['scorer']}: {say_scale(facts)}" for name, facts in own.items()},
        own=own,
        papers_four=PAPERS_FOUR,
        clash_lines=clash_lines,
        kind_names=KIND_NAMES,
        shares=SHARES | {name for name, facts in own.items() if is_share(facts)},
    )


def _results(run: RunFiles, dataset: str) -> Results:
    found = compare_stages(run, dataset)
    reach = scale_reach(one.difference.as_json() for one in found)
    marks = [(one, difference_mark(one.difference.as_json(), reach=reach)) for one in found]
    tables = [_table(run, dataset, kind) for kind in kinds_of(run, dataset)]
    return Results(
        dataset=dataset,
        header=list(run.evaluations[dataset].values())[-1],
        comparisons=tuple(marks),
        tables=tuple(table for table in tables if table.kind != "all" or table.lead),
        marks={
            stage: dict(rewarded_metrics(run.recipe, stage, metrics.get("scorers")))
            for stage, metrics in run.evaluations[dataset].items()
        },
        below=strata_sections(run, dataset),
        held_out=held_out(run, dataset),
    )


def _own_scorers(run: RunFiles, dataset: str) -> Facts:
    """What the evaluations of a data set say about the scorers that their recipe names under `eval.scorers`."""
    return {
        name: facts
        for metrics in run.evaluations[dataset].values()
        for name, facts in metrics.get("scorers", {}).items()
    }


def _table(run: RunFiles, dataset: str, kind: str) -> Table:
    stages = run.evaluations[dataset]
    sources = sources_of(run, dataset)
    found = [(source, stages[source.stage]["results"][source.source].get(kind, {})) for source in sources]
    rows = [(source, metrics) for source, metrics in found if metrics]
    present = {name for _, metrics in rows for name in metrics}
    known = (*METRICS, *_own_scorers(run, dataset))
    names = [name for name in known if name in present and not repeats_accuracy(name, kind)]
    leads = [lead for _, metrics in rows if (lead := lead_metric(kind, metrics))]
    lead = leads[-1] if leads else None
    ordered = sorted(names, key=lambda name: name != lead)
    return Table(
        kind=kind,
        lead=lead,
        metrics=tuple(ordered),
        rows=tuple((source, metrics, _lead_mark(metrics, lead)) for source, metrics in rows),
    )


def _lead_mark(metrics: dict[str, Any], lead: str | None) -> Markup | None:
    metric = metrics.get(lead) if lead else None
    if metric is None or metric["mean"] is None:
        return None
    says = f"{wording.plain_percent(metric['mean'])} %"
    if metric["low"] is not None:
        says += f", 95 % interval {wording.plain_percent(metric['low'])} to {wording.plain_percent(metric['high'])}"
    return interval_mark(metric["mean"], metric["low"], metric["high"], scale=(0, 1), says=f"{says}, n {metric['n']}")


def _stage(run: RunFiles, name: str, kind: str) -> Stage:
    rows = run.metrics.get(name, [])
    return Stage(
        name=name,
        kind=kind,
        panels=tuple(stage_panels(rows, kind=kind)),
        warning=short_log(rows),
        groups=tuple(example_groups(run, name)) if kind == "grpo" else (),
    )
