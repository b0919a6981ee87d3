"""`medrft data`: looks at a data set before anything trains on it (`check`, `show`, `leaks`, `convert`)."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from medrft.cli import common
from medrft.cli.convert import convert
from medrft.cli.leaks import leaks
from medrft.cli.sources import load_dataset
from medrft.cli.words import print_survey, survey_data
from medrft.errors import DataError, RecipeError, unknown_name
from medrft.types import KINDS, SPLITS

if TYPE_CHECKING:
    from medrft.data.summary import Summary

LISTED = 10
"""How many left-out rows `check` prints; `--json` has them all."""

app = typer.Typer(no_args_is_help=True, help="Look at a data set: what is read, what is left out, what it looks like.")

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="A data set of docs/data.md (vqa_rad, slake, …), table, phantom, or my_dataset.py:load."
    ),
]
Root = Annotated[
    str | None, typer.Argument(metavar="PATH", help="The release as unpacked, a table file, or hf:owner/name.")
]

app.command("leaks")(leaks)
app.command("convert")(convert)


@app.command()
def check(
    name: Name,
    path: Root = None,
    words: Annotated[
        bool, typer.Option("--words", help="Also list the words of the answers that the clinical lexicon lacks.")
    ] = False,
    lexicon: Annotated[
        list[Path] | None, typer.Option("--lexicon", help="Your own words, known with --words; may be repeated.")
    ] = None,
    assignments: common.Set = None,
    as_json: common.Json = False,
) -> None:
    """Count rows, kinds and images per split, compare with the published counts, and list each row left out.

    Examples: medrft data check vqa_rad data/vqa_rad; medrft data check slake data/Slake1.0 --set lang=all;
    medrft data check table my.csv --set columns.image=file --set columns.answer=label
    """
    from medrft.data.summary import summarize_data

    if lexicon and not words:
        raise RecipeError("--lexicon goes with --words: it says which words are known")
    loaded = load_dataset(name, path, assignments)
    survey = survey_data(loaded, lexicon or ()) if words else None
    summary = summarize_data(loaded)
    if as_json:
        common.print_json({**summary, **({"words": survey.as_json()} if survey else {})})
        return
    print_summary(summary)
    if survey is not None:
        print_survey(survey)
    common.say_next(f"medrft init {_source(name, path, assignments)}", "a recipe for these data")


@app.command()
def show(
    name: Name,
    path: Root = None,
    output: Annotated[Path, typer.Option(help="The HTML file to write.")] = Path("sheet.html"),
    limit: Annotated[int, typer.Option(min=1, help="Examples on the sheet, spread over splits and kinds.")] = 60,
    split: Annotated[str | None, typer.Option(help="Only train, validation or test.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Draws the examples.")] = 0,
    assignments: common.Set = None,
) -> None:
    """Write a sheet of examples with their images: one HTML file that needs no network. It holds the images shown."""
    from medrft.report.data_sheet import draw_sheet, render_sheet
    from medrft.rundir import write_atomic

    common.check_page(output)
    if split is not None and split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    loaded = load_dataset(name, path, assignments)
    rows = [example for example in loaded.examples if split in (None, example.split)]
    if not rows:
        raise DataError(
            f"{name} has no {split} rows; it has {', '.join(k for k, n in loaded.report.kept.items() if n)}"
        )
    drawn = draw_sheet(rows, limit=limit, seed=seed)
    with common.progress_bar("images", total=len(drawn)) as update:
        page = render_sheet(loaded, drawn, on_progress=lambda done: update(done, len(drawn)))
    write_atomic(output, page)
    common.err.print(f"{len(drawn)} of {len(rows):,} examples in {escape(str(output))}", highlight=False)
    common.say_next(f"medrft init {_source(name, path, assignments)}", "a recipe for these data")


def _source(name: str, path: str | None, assignments: list[str] | None) -> str:
    """The data, and how they are read, as `medrft init` takes them."""
    if not path:
        return "quickstart"
    words = [
        path if name == "table" else f"{name}:{path}",
        *(word for one in assignments or () for word in ("--set", one)),
    ]
    return shlex.join(words)


def print_summary(summary: Summary) -> None:
    """Print counts, the rows left out, and the notes."""
    common.out.print(_split_table(summary))
    _print_counts(summary)
    if summary["left_out"]:
        common.out.print(_left_out_table(summary))
    for row in summary["left_out"][:LISTED]:
        detail = f": {row['detail']}" if row["detail"] else ""
        common.out.print(f"  {escape(row['row'])}  {escape(row['reason'] + detail)}", highlight=False)
    if len(summary["left_out"]) > LISTED:
        common.out.print(f"  … and {len(summary['left_out']) - LISTED:,} more; --json lists them all", highlight=False)
    if summary["notes"]:
        common.out.print("\nNotes", style="bold")
    for note in summary["notes"]:
        common.out.print(Padding(Text(f"- {note}"), (0, 0, 0, 2)))


def _print_counts(summary: Summary) -> None:
    """Print whether the row counts are the published ones; each that is not, with its likely cause."""
    counts = summary["counts"]
    wrong = [count for count in counts if count["cause"]]
    if counts and not wrong:
        forms = ", ".join(dict.fromkeys(count["form"] for count in counts))
        common.out.print(Text(f"Row counts are those of {forms}."))
    if wrong:
        common.out.print("Row counts that differ from the published ones", style="bold")
    for count in wrong:
        which = f"{count['split']}: {count['read']:,} rows read, {count['kept']:,} kept, {count['form']} has"
        common.out.print(Padding(Text(f"- {which} {count['expected']:,}; {count['cause']}"), (0, 0, 0, 2)))


def _split_table(summary: Summary) -> Table:
    table = Table(box=SIMPLE, pad_edge=False, title=escape(summary["dataset"]), title_justify="left", show_footer=True)
    table.add_column("split", footer="all", no_wrap=True, min_width=max(map(len, summary["splits"]), default=0))
    totals = {kind: sum(split["kinds"][kind] for split in summary["splits"].values()) for kind in KINDS}
    left = summary["rows"] - summary["kept"]
    footers = [summary["rows"], summary["kept"], *totals.values(), summary["images"], left]
    for header, footer in zip(("rows", "kept", *KINDS, "images", "left out"), footers, strict=True):
        table.add_column(header, justify="right", footer=f"{footer:,}")
    for name, split in summary["splits"].items():
        numbers = [
            split["rows"],
            split["kept"],
            *split["kinds"].values(),
            split["images"],
            split["rows"] - split["kept"],
        ]
        table.add_row(escape(name), *(f"{number:,}" for number in numbers))
    return table


def _left_out_table(summary: Summary) -> Table:
    table = Table(box=SIMPLE, pad_edge=False, title="Left out", title_justify="left")
    table.add_column("reason")
    names = [name for name, split in summary["splits"].items() if split["left_out"]]
    for name in names:
        table.add_column(escape(name), justify="right")
    for reason in summary["reasons"]:
        table.add_row(escape(reason), *(f"{summary['splits'][name]['left_out'].get(reason, 0):,}" for name in names))
    return table
