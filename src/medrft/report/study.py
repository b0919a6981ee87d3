"""A study's page and Markdown tables, from its small result files alone: no model and no run folder is read.

Names of arms, questions and claims come from a file somebody wrote: Jinja escapes them, and the page runs no script.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from medrft import __version__
from medrft.pipeline.answers import read_results
from medrft.pipeline.arms import arms_of
from medrft.pipeline.collect import collect
from medrft.pipeline.study import Study
from medrft.report.charts import Series, interval_mark, line_chart
from medrft.report.curves import Panel
from medrft.report.wording import MINUS, NONE, label, percent, plain, points, share
from medrft.rundir import write_atomic, write_json

Row = Mapping[str, Any]

CURVES: dict[str, tuple[str, str, bool]] = {
    "reward": ("Reward", "What each arm was paid; arms with different rewards do not compare here.", False),
    "truth": ("Oracle accuracy", "Share of sampled training answers that the phantom's own judge calls right.", True),
    "correct": ("Correct", "Share of sampled training answers that meet the recipe's own test.", True),
    "completion_length": ("Length", "Tokens per sampled answer.", False),
    "length_right": ("Length of right answers", "Tokens per sampled answer that is right.", False),
    "length_wrong": ("Length of wrong answers", "Tokens per sampled answer that is wrong.", False),
    "near_zero_spread": ("Groups without spread", "Share of questions that teach nothing at that step.", True),
    "kl": ("KL to the start model", "How far an arm has moved from its start.", False),
    "entropy": ("Entropy", "How undecided the policy is per token.", False),
    "no_answer": ("No readable answer", "Share of sampled answers without exactly one answer in the form.", True),
}
COLOURS = 7


def collected(study: Study, results: Path) -> dict[str, Any]:
    """A study's figures from a folder of result files."""
    planned = arms_of(study, list(study.arms), list(study.table.seeds))
    return collect(study, read_results(results), keys={arm.label: arm.key for arm in planned})


def write_study_page(facts: Row, folder: Path) -> Path:
    """Write `study.html`, `study.json` and `table.md` into a folder; returns the page."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "study.json", facts)
    write_atomic(folder / "table.md", study_markdown(facts) + "\n")
    page = folder / "study.html"
    write_atomic(page, study_page(facts))
    return page


def study_page(facts: Row) -> str:
    """The whole page as text."""
    environment = Environment(
        loader=PackageLoader("medrft.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"label": label, "percent": percent, "plain": plain, "points": points, "share": share}
    shown = environment.get_template("study.html.j2").render(
        facts=facts,
        verdict=verdict(facts),
        tables=[{**table, "rows": [_marked(row, table) for row in table["rows"]]} for table in facts["tables"]],
        panels=list(panels(facts["curves"])),
        of=label_of,
        version=__version__,
    )
    return str(shown)


def verdict(facts: Row) -> dict[str, str]:
    """The primary outcome in words: a class for its colour, a sign, a sentence and its detail."""
    own = facts["primary"]
    found = own["outcome"]
    what = f"{own['a']} {MINUS} {own['against']}, {own['dataset']}, {own['kind']}, {label(own['metric'])}"
    if found is None:
        return {"css": "unclear", "sign": "…", "claim": "The primary outcome has no result yet", "detail": what}
    per = ", ".join(points(value) for value in found["per_seed"].values())
    n = len(found["per_seed"])
    detail = f"{what}: {points(found['mean'])} points{_bounds(found)}; by seed {per}; {found['n']:,} pairs, {n} seeds"
    if found["low"] is None or (not found["low"] > 0 and not found["high"] < 0):
        return {"css": "unclear", "sign": "?", "claim": "Undecided at this power", "detail": detail}
    better = found["low"] > 0
    claim = f"{own['a']} is {'better' if better else 'worse'} than {own['against']}"
    return {"css": "better" if better else "worse", "sign": "✓" if better else "✗", "claim": claim, "detail": detail}


def _bounds(found: Row) -> str:
    return "" if found["low"] is None else f" [{points(found['low'])}, {points(found['high'])}]"


def _marked(row: Row, table: Row) -> dict[str, Any]:
    """A row with its difference drawn on a scale that the whole table shares."""
    apart = row["difference"]
    if apart is None:
        return {**row, "mark": None, "css": ""}
    ends = [abs(d[key]) for r in table["rows"] if (d := r["difference"]) for key in ("low", "high", "mean") if d[key]]
    reach = max([0.01, *ends])
    says = f"{points(apart['mean'])} points{_bounds(apart)}"
    mark = interval_mark(apart["mean"], apart["low"], apart["high"], scale=(-reach, reach), says=says, zero=True)
    clear = apart["low"] is not None and (apart["low"] > 0 or apart["high"] < 0)
    css = ("better" if apart["mean"] > 0 else "worse") if clear else "unclear"
    return {**row, "mark": mark, "css": css, "says": says}


def panels(curves: Mapping[str, Mapping[str, Sequence[float | None]]]) -> list[Panel]:
    """One chart per quantity, one line per arm; the mean over seeds."""
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
            write=share if is_share else plain,
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


def label_of(found: Row | None) -> str:
    """A difference in points with its interval, for a table's cell.

    >>> label_of({"mean": 0.012, "low": -0.01, "high": 0.034}), label_of(None)
    ('+1.2 [−1.0, +3.4]', '–')
    """
    return NONE if found is None else f"{points(found['mean'])}{_bounds(found)}"


# ---- Markdown -------------------------------------------------------------------------------------------------------


def study_markdown(facts: Row) -> str:
    """The study's tables as Markdown: what docs/results.md holds between its markers."""
    said = verdict(facts)
    lines = [f"**{_cell(said['claim'])}.** {_cell(said['detail'])}.", "", _status(facts), ""]
    for table in facts["tables"]:
        lines += _table_lines(table, facts["primary"]["against"])
    lines += _cost_lines(facts["cost"])
    lines += _pass_lines(facts["pass_at"])
    return "\n".join(lines).rstrip()


def _cell(text: str) -> str:
    """Text that cannot leave its table cell."""
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def _status(facts: Row) -> str:
    seeds = ", ".join(map(str, facts["seeds"])) or "none"
    parts = [f"Seeds {seeds}", f"encoder {', '.join(facts['encoder']) or NONE}"]
    if facts["form"] is not None:
        form = facts["form"]
        parts.append(f"the base writes the form in {share(form['answered'])} of {form['n']} completions at T = 1")
    if facts["missing"]:
        parts.append(f"{len(facts['missing'])} arms of the plan not run")
    return "; ".join(parts) + "."


def _table_lines(table: Row, against: str) -> list[str]:
    controls = [
        c
        for c in ("sampled", "blank", "shuffled", "frequent_question")
        if any(c in r["controls"] for r in table["rows"])
    ]
    heads = [
        "arm",
        "mean",
        f"minus {against}, points",
        *(label(c) for c in controls),
        "side flips",
        "polarity flips",
        "n",
        "seeds",
    ]
    lines = [f"{table['dataset']}, {table['kind']}, {label(table['metric'])} in percent:", ""]
    lines += ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for row in table["rows"]:
        own = f"{percent(row['mean'])}" + (
            "" if row["low"] is None else f" [{percent(row['low'])}, {percent(row['high'])}]"
        )
        cells = [row["arm"], own, label_of(row["difference"]), *(percent(row["controls"].get(c)) for c in controls)]
        cells += [
            percent(row["flips"]["side_flip"]),
            percent(row["flips"]["polarity_flip"]),
            f"{row['n']:,}",
            str(row["seeds"]),
        ]
        lines.append("| " + " | ".join(map(_cell, cells)) + " |")
    return [*lines, ""]


def _cost_lines(cost: Row) -> list[str]:
    ratio = (
        ""
        if cost["ratio"] is None
        else f" (largest over smallest {cost['ratio']:.2f}, {'kept' if cost['kept'] else 'not kept'})"
    )
    lines = [f"Budget, {cost['rule'].replace('_', ' ')}: {_cell(cost['statement'])}{ratio}. Mean per arm and seed:", ""]
    lines += [
        "| arm | steps | completions | sampled tokens | seconds | evaluation | shared stages before |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in cost["arms"]:
        cells = [
            row[key] for key in ("steps", "completions", "tokens", "seconds", "evaluation_seconds", "shared_seconds")
        ]
        lines.append(f"| {_cell(row['arm'])} | " + " | ".join(f"{value:,.0f}" for value in cells) + " |")
    return [*lines, ""]


def _pass_lines(passed: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[str]:
    if not passed:
        return []
    ks = list(next(iter(next(iter(passed.values())).values())))
    lines = [
        "pass@k of sampled answers, percent:",
        "",
        "| arm | data set | " + " | ".join(f"k = {k}" for k in ks) + " |",
    ]
    lines.append("|" + "---|" * (len(ks) + 2))
    for arm, sets in passed.items():
        for dataset, values in sets.items():
            lines.append(f"| {_cell(arm)} | {dataset} | " + " | ".join(percent(values.get(k)) for k in ks) + " |")
    return [*lines, ""]
