"""`medrft compare`: runs, stages or files of predictions go in; differences from the first of them come out."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from medrft.cli import common
from medrft.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

SHOWN = 3
"""Changed answers shown per outcome; the page and `--json` have them all."""

MARKS = {"wrong to right": "won", "right to wrong": "lost", "wrong to other wrong": "other"}

Runs = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN…", help="A run, RUN:STAGE or predictions.jsonl; the first is the baseline. Seeds: A1,A2 B1,B2."
    ),
]
Stage = Annotated[str | None, typer.Option(help="Stage to take from runs that name none; by default the last.")]
Output = Annotated[Path | None, typer.Option(help="Write the comparison as an HTML page here.")]


def compare(
    runs: Runs,
    stage: Stage = None,
    output: Output = None,
    markdown: common.Markdown = False,
    latex: common.Latex = False,
    csv: common.Csv = False,
    as_json: common.Json = False,
) -> None:
    """Compare models on the same questions: differences, intervals, p-values, and which answers changed.

    Examples: medrft compare run:base run:grpo; medrft compare before after --output compare.html; medrft compare
    sft_0,sft_1 grpo_0,grpo_1; medrft compare run rescored/predictions.jsonl --json
    """
    from medrft.evaluation.compare.paired import compare_sides as compared
    from medrft.evaluation.compare.sides import read_sides
    from medrft.report.paper_tables import chosen_format, comparison_table, write_table

    form = chosen_format(markdown=markdown, latex=latex, as_csv=csv, json=as_json)
    if output is not None:
        common.check_page(output)
    sides = read_sides(runs, stage=stage)
    found = compared(sides)
    if not any(against["paired"] for against in found["against"]):
        others = ", ".join(against["name"] for against in found["against"])
        raise DataError(
            f"{found['baseline']} shares no example with {others}; compare takes answers to the same questions"
        )
    if output is not None:
        from medrft.report.compare import render_comparison
        from medrft.rundir import write_atomic

        write_atomic(output, render_comparison(found))
    if as_json:
        common.print_json(found)
        return
    if form is not None:
        common.print_plain(write_table(comparison_table(found), form))
        return
    _print(found)
    if output is not None:
        common.out.print(Text(f"the page: {output}"), soft_wrap=True)
    again = f"medrft compare {shlex.join(runs)}"
    if output is None:
        common.say_next(f"{again} --output compare.html", "every changed answer; --latex: the table for a paper")
    else:
        common.say_next(f"{again} --latex", "the table for a paper")


def _print(found: Mapping[str, Any]) -> None:
    for against in found["against"]:
        tests = [test for test in found["tests"] if test["b"] == against["name"]]
        _print_notes(found["baseline"], against)
        for dataset in dict.fromkeys(test["dataset"] for test in tests):
            rows = [test for test in tests if test["dataset"] == dataset]
            common.out.print(_table(found["baseline"], against["name"], dataset, rows))
        _print_changes(found["baseline"], against)
    if any(test["clustered_by"] == "question" for test in found["tests"]):
        common.out.print(Text("* questions, because their images are not known", style="dim"))
    for name in ("interval", "p", "clusters", "correction", "conditional"):
        common.out.print(Text(f"{name.replace('conditional', 'covers')}: {found[name]}", style="dim"), soft_wrap=True)


def _print_notes(baseline: str, against: Mapping[str, Any]) -> None:
    """How answers were paired, what was left out, and where the sides were asked differently."""
    from medrft.evaluation.compare.matching import say_pairing

    if said := say_pairing(against["name"], against["paired_by_question"]):
        common.out.print(Text(said), soft_wrap=True)
    for reason, left_out in against["left_out"].items():
        common.out.print(Text(f"left out: {left_out['count']} examples, {reason}"), soft_wrap=True)
    for entry in against["settings"]:
        says = (
            f"{entry['dataset']}: {entry['setting']} differs: {baseline} {entry['a']}, {against['name']} {entry['b']}"
        )
        common.out.print(Text(says), soft_wrap=True)
    for metric, why in against["not_compared"].items():
        common.out.print(Text(f"not compared: {metric} ({why})"), soft_wrap=True)
    if not against["paired"]:
        common.out.print(Text(f"{against['name']} and {baseline} share no example"))


def _table(baseline: str, other: str, dataset: str, tests: list[Mapping[str, Any]]) -> Table:
    """The tests on one data set, in percent and percentage points, narrow enough for a terminal."""
    from medrft.evaluation.own_scorers import is_share, scale_note

    title = Text(f"{dataset}: B = {other} minus A = {baseline}, in percent")
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), title=title, title_justify="left")
    table.add_column("kind, metric", no_wrap=True)
    for header in ("n", "clusters", "A", "B", "B - A", "95 % interval", "p", "p (Holm)"):
        table.add_column(header, justify="right", no_wrap=True)
    for test in tests:
        share, note = is_share(test), scale_note(test)
        low, high, difference = (_signed(test[key], share) for key in ("low", "high", "difference"))
        table.add_row(
            Text(f"{test['kind']} {test['metric']}{f' ({note})' if note else ''}"),
            str(test["n"]),
            f"{test['clusters']}{'' if test['clustered_by'] == 'image' else ' *'}",
            *(f"{100 * test[key]:.1f}" if share else f"{test[key]:.3g}" for key in ("mean_a", "mean_b")),
            difference,
            "–" if test["low"] is None else f"{low} to {high}",
            p_value(test["p"]),
            p_value(test["p_holm"]),
            style="bold" if test["p_holm"] < 0.05 else "",
        )
    return table


def _signed(value: float | None, share: bool) -> str:
    """A difference, in percentage points if the metric is a share of 0 to 1."""
    if value is None:
        return "–"
    return f"{100 * value:+.1f}" if share else f"{value:+.3g}"


def p_value(p: float) -> str:
    """A p-value as people write it.

    >>> p_value(0.0312), p_value(0.0001), p_value(1.0)
    ('0.031', '0.0001', '1')
    """
    return f"{p:.3f}".rstrip("0").rstrip(".") if p >= 0.001 else f"{p:.4f}"


def _print_changes(baseline: str, against: Mapping[str, Any]) -> None:
    """Counts per kind, then a few of the answers that changed."""
    for dataset, kinds in against["changes"]["counts"].items():
        for kind, counts in kinds.items():
            told = ", ".join(f"{n} {outcome}" for outcome, n in counts.items() if n)
            common.out.print(Text(f"{dataset}, {kind}: {told}"), soft_wrap=True)
    for outcome, word in MARKS.items():
        examples = [example for example in against["changes"]["examples"] if example["outcome"] == outcome]
        for example in examples[:SHOWN]:
            common.out.print(_example(word, example, baseline, against["name"]), soft_wrap=True)
        if len(examples) > SHOWN:
            common.out.print(Text(f"  … and {len(examples) - SHOWN} more {outcome}", style="dim"))


def _example(word: str, example: Mapping[str, Any], baseline: str, other: str) -> Text:
    clash = f" ({'; '.join(example['clash_b'])})" if example["clash_b"] else ""
    return Text(
        f"  {word}: {_cut(example['question'])} reference {_cut(' / '.join(example['references']))!r}, "
        f"{baseline} {_cut(example['a'])!r}, {other} {_cut(example['b'])!r}{clash}"
    )


def _cut(text: str | None) -> str:
    words = " ".join((text or "").split())
    return words if len(words) <= 80 else words[:79] + "…"
