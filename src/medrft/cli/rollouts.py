"""`medrft rollouts`: completions that a policy wrote while it trained, with their rewards, printed or in a browser."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from medrft.cli.common import err, existing_run, out, print_json, say_next
from medrft.errors import RecipeError

SHOWN = ("step", "split", "kind", "question", "references", "answer", "reward", "correct")
"""Columns of the table unless others are asked for."""
SHOWN_ROWS = 20
PORT = 8422
"""Where the viewer listens: `medrft serve` has 8421."""
LONGEST = 1000
"""Most characters of a cell; the terminal's width cuts most cells earlier."""

Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]
Where = Annotated[
    str | None, typer.Option(metavar="SQL", help="Only rows for which this is true, such as: reward < 0.1")
]
Limit = Annotated[int | None, typer.Option(min=1, help="At most so many rows.  [default: 20]")]
Columns = Annotated[
    str | None, typer.Option(metavar="A,B", help="Columns to show; parts of the reward as raw.NAME, calibrated.NAME.")
]
Order = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="Sort by a column; 'reward desc' has the highest first.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the rows as one JSON list and nothing else.")]
Browse = Annotated[bool, typer.Option("--browse", help="Show whole groups, pictures and curves in a browser.")]
Port = Annotated[int | None, typer.Option(min=0, max=65535, help="Of --browse; 0: any that is free.  [default: 8422]")]


def rollouts(
    run: Run,
    where: Where = None,
    limit: Limit = None,
    columns: Columns = None,
    order: Order = None,
    json_: Json = False,
    browse: Browse = False,
    port: Port = None,
) -> None:
    """Show rollouts of a run, while it trains or later: every completion of every group, with its reward.

    Examples: medrft rollouts runs/quickstart --where "reward < 0.1" --limit 20;
    medrft rollouts runs/quickstart --where "split = 'train' AND raw.bleu1 = 0 AND NOT truncated" --order "step desc";
    medrft rollouts runs/quickstart --columns step,completion,raw.bleu1 --json; medrft rollouts runs/quickstart
    --browse. The column "references" is a word of SQL and stands in double quotes there.
    """
    if browse:
        given = {"--limit": limit, "--columns": columns, "--order": order, "--json": json_ or None}
        _browse(run, where, port, unused=[name for name, value in given.items() if value is not None])
        return
    if port is not None:
        raise RecipeError(f"--port {port} is of the viewer; add --browse, or leave it out")
    from medrft.store import select_rollouts

    limit = limit or SHOWN_ROWS

    names = [name.strip() for name in columns.split(",")] if columns else [] if json_ else list(SHOWN)
    found = select_rollouts(
        existing_run(run), where=where, columns=names, order=order, limit=limit if json_ else limit + 1
    )
    if json_:
        print_json([{name: _finite(value) for name, value in row.items()} for row in found])
        return
    if not found:
        err.print(f"No rollout of {run} fits.", markup=False, highlight=False, soft_wrap=True)
        return
    out.print(_table(found[:limit], names))
    if len(found) > limit:
        err.print(f"The first {limit}; --limit shows more.", highlight=False)
    say_next(f"medrft doctor {shlex.quote(str(run))}", "what went wrong while it trained, and what to do")


def _browse(run: Path, where: str | None, port: int | None, *, unused: Sequence[str]) -> None:
    if unused:
        raise RecipeError(f"{', '.join(unused)}: of the printed table; with --browse the page has a form for it")
    from medrft.view.server import run_viewer

    run_viewer(existing_run(run), port=PORT if port is None else port, where=where or "")


def _table(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Table:
    """One line per rollout. Long texts are cut to fit the terminal; short values are not."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in names:
        values = [row[name] for row in rows]
        texts = any(isinstance(value, str | list | dict) and len(_cell(value)) > 12 for value in values)
        numbers = any(isinstance(value, float | int) and not isinstance(value, bool) for value in values)
        table.add_column(Text(name), justify="right" if numbers else "left", no_wrap=not texts, overflow="ellipsis")
    for row in rows:
        table.add_row(*(Text(_cell(row[name]), no_wrap=True, overflow="ellipsis") for name in names))
    return table


def _cell(value: Any) -> str:
    """A value in one line, without characters that act on the terminal.

    >>> _cell(["left lung", "left"]), _cell({"bleu1": 0.25, "format": None}), _cell("a\\n\\x1b[31mb")
    ('left lung | left', 'bleu1 0.250, format –', 'a �[31mb')
    """
    if value is None:
        return "–"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, list):
        return " | ".join(map(_cell, value))
    if isinstance(value, dict):
        return ", ".join(f"{_cell(key)} {_cell(inner)}" for key, inner in value.items())
    line = " ".join(str(value)[:LONGEST].split())
    return "".join(sign if sign.isprintable() else "�" for sign in line)


def _finite(value: Any) -> Any:
    """A value with NaN and infinity replaced by `None`, because JSON has neither."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
