"""`medrft methods RUN`: the paragraphs of a paper's methods section that a run's files can fill."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from medrft.cli.common import Json, existing_run, out, print_json, say_next


def methods(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    json_: Json = False,
) -> None:
    """Write what a paper's methods section says of a run: data, model, training, reward, evaluation, software.

    Made from the run's files alone. To run the same again: medrft repeat RUN.
    """
    from medrft.report.methods import methods_paragraphs

    paragraphs = methods_paragraphs(existing_run(run))
    if json_:
        print_json({"run": str(run), "methods": paragraphs})
        return
    for number, text in enumerate(paragraphs):
        out.print("\n" * bool(number) + text, markup=False, highlight=False, soft_wrap=True)
    say_next(f"medrft repeat {shlex.quote(str(run))}", "the same run again, and whether its figures come out the same")
