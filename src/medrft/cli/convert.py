"""`medrft data convert`: reads a data set, or the rows of another trainer, and writes the rows of another trainer."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from medrft.cli import common
from medrft.cli.sources import load_dataset, load_source
from medrft.errors import DataError, unknown_name

if TYPE_CHECKING:
    from medrft.data.tables.convert import Conversion
    from medrft.data.tables.formats import Wording
    from medrft.types import Example


def convert(
    source: Annotated[str, typer.Argument(metavar="IN", help="NAME:PATH[:SPLIT], or a file or folder with --from.")],
    to: Annotated[str, typer.Option(help="llama_factory, vlm_r1, med_r1, medvlthinker or verl.")],
    output: Annotated[Path, typer.Option(help="A folder (a file per split), or one file.")],
    from_: Annotated[str | None, typer.Option("--from", help="The format of IN; the same names.")] = None,
    keep_column: Annotated[
        list[str] | None,
        typer.Option("--keep-column", help="Keep a column that may say who the patient is; repeatable."),
    ] = None,
    assignments: common.Set = None,
    as_json: common.Json = False,
) -> None:
    """Write a data set as another trainer reads it, and say what its rows cannot hold.

    Images lose their metadata (EXIF, comments, text) and keep their pixels. Columns whose names say that they may hold
    who the patient is are dropped and named. Text in questions and answers, and what is drawn into pixels, stays.

    Examples: medrft data convert slake:data/Slake1.0:train --to verl --output train.parquet;
    medrft data convert rows.json --from llama_factory --to vlm_r1 --output vlm_r1
    """
    from medrft.data.tables.convert import write_format
    from medrft.data.tables.formats import FORMATS

    for name in (to, from_):
        if name is not None and name not in FORMATS:
            raise unknown_name("format", name, FORMATS)
    if from_ is not None:
        rows = load_dataset(from_, source, assignments).examples
    else:
        _, split, loaded = load_source(source, assignments)
        rows = loaded.split(split) if split else loaded.examples
    if not rows:
        raise DataError(f"{source} has no rows to convert")
    with common.progress_bar(f"writing {to}", total=len(rows)) as update:
        done = write_format(rows, to, output, words=_words, keep=keep_column or (), on_progress=update)
    if as_json:
        common.print_json(done)
    else:
        _print(done)
        common.say_next(f"medrft data check {to} {shlex.quote(str(output))}", "reads them back")


def _words(example: Example) -> Wording:
    """An example in the words of our prompts: `think` if it has a rationale, else `direct`."""
    from medrft.data.tables.formats import Wording
    from medrft.models.prompts import get_prompt, question_text

    prompt = get_prompt("think" if (example.rationale or "").strip() else "direct")
    system = f"{prompt.role} {prompt.instruction}"
    return Wording(system=system, question=question_text(example), target=prompt.target(example))


def _print(done: Conversion) -> None:
    for name, rows in done["files"].items():
        common.out.print(Text(f"{name}: {rows:,} rows"))
    common.out.print(Text(f"{done['images']:,} images"))
    for field, rows in done["lost"].items():
        common.out.print(Text(f"not kept: {field} ({rows:,} rows)"))
    for column, rows in done["dropped"].items():
        what = "it may say who the patient is; --keep-column keeps it"
        common.out.print(Text(f"dropped: column {column} ({rows:,} rows): {what}"))
    for left in done["left_out"][:10]:
        common.out.print(Text(f"left out: {left['row']}: {left['reason']}"))
    if len(done["left_out"]) > 10:
        common.out.print(Text(f"… and {len(done['left_out']) - 10:,} more left out; --json lists them all"))
