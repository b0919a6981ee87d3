"""`medrft data leaks`: counts the images and questions that splits and data sets have in common."""

from __future__ import annotations

import shlex
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from medrft.cli import common
from medrft.cli.sources import load_source, settings_by_source
from medrft.errors import DataError
from medrft.progress import Advance

if TYPE_CHECKING:
    from medrft.data.overlap.leaks import Leak, Leaks, Pictures
    from medrft.types import Example

LISTED = 5
"""How many similar images and questions are printed per pair of sets; `--json` has them all."""

Sources = Annotated[
    list[str], typer.Argument(metavar="SOURCE…", help="NAME:PATH[:SPLIT]; without SPLIT, each split is a set.")
]


def leaks(
    sources: Sources,
    within: Annotated[bool, typer.Option("--within", help="Also compare the images of each set.")] = False,
    output: Annotated[Path | None, typer.Option(help="An HTML sheet of all pairs found, with their distance.")] = None,
    assignments: common.Set = None,
    as_json: common.Json = False,
) -> None:
    """Count the images, copies of images and questions that each pair of sets has in common.

    Examples: medrft data leaks vqa_rad:data/vqa_rad:train vqa_rad:data/vqa_rad:test; medrft data leaks
    slake:data/Slake1.0 --set lang=all; medrft data leaks table:my_cot.jsonl vqa_rad:data/vqa_rad:test --json
    """
    from medrft.data.overlap.leaks import find_leaks
    from medrft.rundir import write_atomic

    if output is not None:
        common.check_page(output)
    sets = _sets(sources, assignments)
    if len(sets) < 2 and not within:
        raise DataError(f"leaks compares sets, got only {', '.join(sets)}; name another NAME:PATH[:SPLIT], or --within")
    with ExitStack() as stack:
        bars: dict[str, Advance] = {}

        def update(label: str, done: int, total: int) -> None:
            if label not in bars:
                stack.close()  # one bar at a time
                bars[label] = stack.enter_context(common.progress_bar(label, total=total))
            bars[label](done, total)

        found = find_leaks(sets, within=within, on_progress=update)
    if output is not None:
        from medrft.report.leak_sheet import render_leaks

        write_atomic(output, render_leaks(found))
    if as_json:
        common.print_json(found)
    else:
        _print(found)
        name, path, _ = common.data_source(sources[0])
        words = list(filter(None, (name, path)))
        if len({common.data_source(text)[:2] for text in sources}) == 1:
            typed = ["medrft", "data", "check", *words, "--set", "exclude_test_images=copies"]
            common.say_next(shlex.join(typed), "leaves out train rows whose image is in test")
        elif output is None:  # an option of one data set knows nothing of another
            common.say_next(shlex.join(["medrft", *sys.argv[1:], "--output", "leaks.html"]), "the pairs as pictures")
        else:
            common.say_next(shlex.join(["medrft", "data", "show", *words]), "the first set's rows as one page")


def _sets(sources: list[str], assignments: list[str] | None) -> dict[str, tuple[Example, ...]]:
    """Examples by `NAME:SPLIT`, or by `NAME:PATH:SPLIT` where one name stands for several paths.

    What comes again even so gets a number, as in `NAME:SPLIT#2`.
    """
    paths: dict[str, set[str | None]] = {}
    for loader, path, _ in map(common.data_source, sources):
        paths.setdefault(loader, set()).add(path)
    taken = settings_by_source(list(paths), assignments)
    sets: dict[str, tuple[Example, ...]] = {}
    for text in dict.fromkeys(sources):
        loader, path, _ = common.data_source(text)
        name, split, loaded = load_source(text, taken[loader])
        groups = {name: tuple(rows) for name, rows in loaded.groups().items() if rows}
        whose = f"{name}:{path}" if len(paths[loader]) > 1 else name
        for one, rows in ({split: loaded.split(split)} if split else groups).items():
            label = key = f"{whose}:{one}"
            number = 2
            while key in sets:
                key, number = f"{label}#{number}", number + 1
            sets[key] = rows
    return sets


def _print(found: Leaks) -> None:
    if found["pairs"]:
        table = _table(found)
        wide = common.out.options.update(width=10_000)
        # A table wider than the terminal, rather than names of sets that are cut short.
        needed = Measurement.get(common.out, wide, table).maximum
        common.SafeConsole(width=max(needed, common.out.width), highlight=False).print(table)
    for pair, leak in found["pairs"].items():
        if leak["neighbours"] or leak["items"]:
            common.out.print(Text(pair.replace("|", " | ")), style="bold")
            _print_pair(leak)
    for name, one in found.get("within", {}).items():
        counts = f"within {name}: {one['copies']:,} pairs are copies, {one['similar']:,} similar"
        common.out.print(Text(counts), style="bold", soft_wrap=True)
        _print_lines([_line(pair) for pair in one["neighbours"]])


def _table(found: Leaks) -> Table:
    table = Table(
        box=SIMPLE, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False, title="Of B, in A too", title_justify="left"
    )
    for header in ("A", "B"):
        table.add_column(header, no_wrap=True)
    for header in ("images", "same", "copies", "similar", "items", "same", "nearly"):
        table.add_column(header, justify="right", no_wrap=True)
    for pair, leak in found["pairs"].items():
        images = (leak["total_images_b"], leak["shared_images"], leak["copies"], leak["similar"])
        numbers = (*images, leak["total_items_b"], leak["shared_items"], leak["similar_questions"])
        table.add_row(*(Text(name) for name in pair.split("|")), *(f"{number:,}" for number in numbers))
    return table


def _print_pair(leak: Leak) -> None:
    lines = [_line(pair) for pair in leak["neighbours"]]
    asked = sorted(leak["items"], key=lambda item: item["label"] != "shared")
    words = {"shared": "same question and answer", "similar": "nearly the same question"}
    questions = [f"{words[item['label']]}  {item['a']}  {item['b']}: {item['question_b']}" for item in asked]
    for kind in (lines, questions):
        _print_lines(kind)


def _line(pair: Pictures) -> str:
    return f"{pair['label']} ({pair['likeness']:.2f})  {pair['a']}  {pair['b']}"


def _print_lines(lines: list[str]) -> None:
    for line in lines[:LISTED]:
        common.out.print(Text(f"  {line}"), soft_wrap=True)
    if len(lines) > LISTED:
        common.out.print(Text(f"  … and {len(lines) - LISTED:,} more; --json lists them all"))
