"""Makes a study's page and Markdown tables from its small result files; no model and no run folder is read.

Names of arms, questions and claims come from a file that somebody wrote: Jinja escapes them, and the page runs no
script.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medrft import __version__
from medrft.files import make_folder
from medrft.report.charts import Series, ends_of, interval_mark, line_chart
from medrft.report.curves import Panel
from medrft.report.forest import reach_of
from medrft.report.html import render_template
from medrft.report.study_controls import SHARE, control_words, equal_words, has_shares, share_cell, share_sentence
from medrft.report.study_markdown import (
    controls_of,
    flips_of,
    is_clear,
    label_of,
    learning_cells,
    length_cells,
    pass_cell,
    study_markdown,
    study_status,
    study_verdict,
    write_difference,
)
from medrft.report.study_predict import (
    correlation_rows,
    embedded_plot,
    error_words,
    late_words,
    predict_lines,
    predict_words,
    reward_rows,
)
from medrft.report.wording import (
    metric_label,
    outcome_label,
    percent_points,
    percent_share,
    plain_number,
    plain_percent,
)
from medrft.rundir import write_atomic, write_json
from medrft.studies.arms import arms_of
from medrft.studies.audit_file import read_audit
from medrft.studies.collect import collect_study
from medrft.studies.plan import FLIPS, Study
from medrft.studies.result_files import Places

Row = Mapping[str, Any]

CURVES: dict[str, tuple[str, str, bool]] = {
    "reward": ("Reward", "What each arm was paid; arms with different rewards do not compare here.", False),
    "truth": ("Oracle accuracy", "Share of sampled training answers that the phantom's oracle calls right.", True),
    "correct": ("Correct", "Share of sampled training answers that meet the recipe's own test.", True),
    "completion_length": ("Length", "Tokens per sampled answer.", False),
    "length_right": ("Length of right answers", "Tokens per sampled answer that is right.", False),
    "length_wrong": ("Length of wrong answers", "Tokens per sampled answer that is wrong.", False),
    "near_zero_spread": ("Groups without spread", "Share of questions that teach nothing at that step.", True),
    "kl": ("KL to the start model", "How far an arm has moved from its start.", False),
    "entropy": ("Entropy", "How undecided the policy is per token.", False),
    "no_answer": ("No readable answer", "Share of sampled answers without exactly one answer in the form.", True),
}
COLOURS = 14
"""How many line styles there are: seven colours, and the same seven dashed."""


def collect_results(study: Study, places: Places) -> dict[str, Any]:
    """A study's figures from its result files and those of its controls."""
    planned = arms_of(study, list(study.arms), list(study.table.seeds))
    keys = {arm.label: arm.key for arm in planned}
    return collect_study(study, places.read(planned), keys=keys, audit=read_audit(study, places))


def write_study_page(facts: Row, folder: Path) -> Path:
    """Write `study.html`, `study.json` and `table.md` into a folder; returns the page."""
    make_folder(folder)
    write_json(folder / "study.json", facts)
    write_atomic(folder / "table.md", study_text(facts) + "\n")
    page = folder / "study.html"
    write_atomic(page, study_page(facts))
    return page


def study_text(facts: Row) -> str:
    """All tables as Markdown: a study's prediction first, where it has one."""
    return "\n".join([*predict_lines(facts), study_markdown(facts)])


def study_page(facts: Row) -> str:
    """The whole page as text."""
    shared = (
        metric_label,
        outcome_label,
        plain_percent,
        plain_number,
        percent_points,
        percent_share,
        write_difference,
        pass_cell,
        learning_cells,
        length_cells,
        controls_of,
        flips_of,
        equal_words,
        has_shares,
        share_cell,
    )
    return render_template(
        "study.html.j2",
        **{function.__name__: function for function in shared},
        facts=facts,
        verdict=study_verdict(facts),
        positive=control_words(facts),
        share_said=share_sentence(facts),
        share_head=SHARE,
        prediction=_prediction(facts),
        status=study_status(facts),
        tables=[{**table, "rows": [_marked(row, table) for row in table["rows"]]} for table in facts["tables"]],
        panels=list(study_panels(facts["curves"])),
        of=label_of,
        flip_metrics=FLIPS,
        version=__version__,
    )


def _prediction(facts: Row) -> dict[str, Any] | None:
    """What the page shows of a study's prediction; `None` for a study without one."""
    found = facts["predicts"]
    if found is None:
        return None
    tables = [correlation_rows(found), reward_rows(found)] if found["hash"] else []
    notes = [words for words in (error_words(found), late_words(found)) if words]
    return {"says": predict_words(facts), "picture": embedded_plot(facts), "notes": notes, "tables": tables}


def _marked(row: Row, table: Row) -> dict[str, Any]:
    """A row with its difference drawn; all rows of a table share one scale."""
    apart = row["difference"]
    if apart is None:
        return {**row, "mark": None, "css": ""}
    reach = reach_of(end for other in table["rows"] for end in ends_of(other["difference"]))
    says = label_of(apart)
    mark = interval_mark(apart["mean"], apart["low"], apart["high"], scale=(-reach, reach), says=says, zero=True)
    clear = is_clear(apart) and len(apart["per_seed"]) > 1  # one seed shows no other training
    css = ("better" if apart["mean"] > 0 else "worse") if clear else "unclear"
    return {**row, "mark": mark, "css": css, "says": says}


def study_panels(curves: Mapping[str, Mapping[str, Sequence[float | None]]]) -> list[Panel]:
    """One chart per quantity with one line per arm, the mean over its seeds."""
    made = []
    for key, (title, says, is_share) in CURVES.items():
        lines = [line for i, (arm, run) in enumerate(curves.items()) if (line := _line(arm, run, key, i)) is not None]
        if not lines:
            continue
        chart = line_chart(
            lines,
            label=f"{title} by step",
            at_least=0.1,
            floor=0.0 if is_share else None,
            write=percent_share if is_share else plain_number,
        )
        legend = tuple((line.name, line.color) for line in lines)
        made.append(Panel(title=title, says=says, chart=chart, notes=(), legend=legend))
    return made


def _line(arm: str, run: Mapping[str, Sequence[float | None]], key: str, number: int) -> Series | None:
    pairs = [(s, v) for s, v in zip(run["step"], run.get(key, ()), strict=False) if s is not None and v is not None]
    if len(pairs) < 2:
        return None
    steps, values = zip(*pairs, strict=True)
    return Series(name=arm, steps=steps, values=values, color=number % COLOURS)
