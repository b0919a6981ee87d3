"""`medrft rescore`: scores the outputs of another evaluator again, and sets its figures beside ours."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from medrft.cli import common
from medrft.errors import RecipeError
from medrft.files import check_writable
from medrft.progress import Advance

if TYPE_CHECKING:
    from medrft.types import Example

LISTED = 5
"""How many left-out rows are printed; `--json` has them all."""

Evaluator = Annotated[
    str,
    typer.Argument(metavar="EVALUATOR", help="medevalkit, vlmevalkit, lmms-eval, inspect-ai, medvlthinker or jsonl."),
]
Where = Annotated[Path | None, typer.Argument(metavar="PATH", help="The file or folder that it wrote. [required]")]
Data = Annotated[
    str | None, typer.Option(metavar="NAME:PATH[:SPLIT]", help="The data set asked about: gives rows images and ids.")
]
Output = Annotated[Path | None, typer.Option(help="Write predictions.jsonl and metrics.json into this folder.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="dataset, split, model, encoder (or none), seed; columns of jsonl."
    ),
]


def rescore(
    evaluator: Evaluator,
    path: Where = None,
    data: Data = None,
    assignments: Set = None,
    output: Output = None,
    markdown: common.Markdown = False,
    latex: common.Latex = False,
    csv: common.Csv = False,
    as_json: common.Json = False,
) -> None:
    """Score another evaluator's answers again, and say where its figures differ from ours and why.

    Examples: medrft rescore medevalkit eval_results/model --output rescored; medrft rescore jsonl answers.jsonl --data
    vqa_rad:data/vqa_rad:test --set dataset=vqa_rad --set reference=gold --output rescored
    """
    from medrft.evaluation.rescore import check_evaluator
    from medrft.evaluation.rescore import rescore as rescored
    from medrft.evaluation.rescore.foreign import WRITERS
    from medrft.report.paper_tables import chosen_format, rescored_table, write_table

    form = chosen_format(markdown=markdown, latex=latex, as_csv=csv, json=as_json)
    if path is None:
        given = Path(evaluator)
        writer = WRITERS.get(given.suffix.lower(), "jsonl")
        typed = f"medrft rescore {writer} {evaluator}" if given.exists() else f"medrft rescore {evaluator} PATH"
        raise RecipeError(f"rescore takes who wrote the answers, and where they are; for example: {typed}")
    overrides = common.parse_overrides(assignments)
    check_evaluator(evaluator, path, overrides)
    examples = _examples(data) if data is not None else ()
    if output is not None:
        check_writable(output / "predictions.jsonl")
    with ExitStack() as stack:
        bar: list[Advance] = []

        def update(done: int, total: int) -> None:
            if not bar:
                bar.append(stack.enter_context(common.progress_bar("scoring", total=total)))
            bar[0](done, total)

        found = rescored(evaluator, path, overrides, examples=examples, on_progress=update)
    if output is not None:
        found.write(output)
    if as_json:
        common.print_json({**found.header, **found.report})
        return
    if form is not None:
        common.print_plain(write_table(rescored_table(found.header, found.report), form))
        return
    _print(found.header, found.report)
    if output is None:
        common.say_next(shlex.join(["medrft", *sys.argv[1:], "--output", "rescored"]), "keeps the scored answers")
    else:
        common.out.print(Text(f"{len(found.rows)} rows in {output / 'predictions.jsonl'}"), soft_wrap=True)
        common.say_next(f"medrft compare {shlex.quote(str(output))} OTHER", "another rescored folder, or a run")


def _examples(source: str) -> tuple[Example, ...]:
    """Examples of `NAME:PATH[:SPLIT]`."""
    from medrft.cli.sources import load_source

    _, split, loaded = load_source(source, None)
    return tuple(loaded.split(split) if split else loaded.examples)


def _print(header: Mapping[str, Any], report: Mapping[str, Any]) -> None:
    from medrft.data.notes import count_noun

    for dataset, sources in report["results"].items():
        common.out.print(_results(dataset, sources["none"], header))
    if report["theirs"]:
        common.out.print(_beside(report["theirs"]))
    for entry in report["theirs"]:
        for reason in entry["reasons"]:
            common.out.print(Text(f"{entry['dataset']} {entry['figure']}: {reason}"), soft_wrap=True)
    for note in report["notes"]:
        common.out.print(Text(f"note: {note}"), soft_wrap=True)
    if report["no_answer"]:
        common.out.print(Text(f"{report['no_answer']} outputs hold no single answer and are scored 0"))
    for reason, count in report["left_out"]["reasons"].items():
        common.out.print(Text(f"left out: {count_noun(count, 'row', 'rows')}, {reason}"), soft_wrap=True)
    for row in report["left_out"]["rows"][:LISTED]:
        detail = f": {row['detail']}" if row["detail"] not in ("", row["row"]) else ""
        common.out.print(Text(f"  {row['row']}{detail}"), soft_wrap=True)
    common.out.print(Text(report["interval"], style="dim"), soft_wrap=True)


def _results(dataset: str, kinds: Mapping[str, Any], header: Mapping[str, Any]) -> Table:
    encoder = header["encoder"]["id"] if header["encoder"] else "none"
    table = Table(box=SIMPLE, pad_edge=False, title=Text(f"{dataset} (encoder {encoder})"), title_justify="left")
    table.add_column("kind")
    table.add_column("metric")
    for name in ("n", "mean", "95 % interval", "unscored"):
        table.add_column(name, justify="right")
    for kind, metrics in kinds.items():
        for name, metric in metrics.items():
            if metric["mean"] is None or (name == "correct" and kind != "open"):
                continue
            bounds = "–" if metric["low"] is None else f"{metric['low']:.3f} to {metric['high']:.3f}"
            unscored = str(metric["unscored"] or "")
            table.add_row(kind, name, str(metric["n"]), f"{metric['mean']:.3f}", bounds, unscored)
    return table


def _beside(entries: list[Mapping[str, Any]]) -> Table:
    """Their figures beside ours; rows that differ are bold."""
    table = Table(
        box=SIMPLE, pad_edge=False, title="Their figures beside ours, over the same rows", title_justify="left"
    )
    for name in ("data set", "figure", "ours by"):
        table.add_column(name)
    for name in ("n", "theirs", "ours"):
        table.add_column(name, justify="right")
    for entry in entries:
        ours = "–" if entry["ours"] is None else f"{entry['ours']:.3f}"
        metric = "match" if entry["metric"] == "right" else entry["metric"]
        texts = (entry["dataset"], entry["figure"], metric, str(entry["n"]), f"{entry['theirs']:.3f}", ours)
        table.add_row(*map(Text, texts), style="bold" if entry["differs"] else "")
    return table
