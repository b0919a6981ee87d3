"""`medrft repeat RUN`: runs a run folder's own recipe again, and says whether the same came out."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medrft.cli.common import Json, existing_run, out, print_json, progress_bar, resume_command, say_next
from medrft.errors import RecipeError, need_packages
from medrft.recipes import recipe_of
from medrft.rundir import RunDir

if TYPE_CHECKING:
    from medrft.report.repeated import Repeated

LISTED = 10
"""Figures that differ which are printed; `--json` has them all."""


def repeat(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run folder.")],
    output: Annotated[
        Path | None, typer.Option(help="Where the repeated run goes; RUN-again by default.", file_okay=False)
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a repetition that was stopped.")] = False,
    json_: Json = False,
) -> None:
    """Run a run folder's recipe again, with its seed, and compare: versions, data, and every figure of the table.

    On a CPU with the same versions the figures are the same; on a GPU the last digits may differ.
    """
    need_packages("trl")
    from medrft.pipeline.run import run_recipe
    from medrft.report.repeated import compare_repeated
    from medrft.training.processes import is_main

    recipe = recipe_of(existing_run(run))
    if left := [stage.name for stage in recipe.stages if not RunDir(run).is_trained(stage.name)]:
        raise RecipeError(f"{run} is not finished: stage {left[0]!r} is left; to go on with it: {resume_command(run)}")
    folder = output or run.parent / f"{run.resolve().name}-again"
    if folder.resolve() == run.resolve():
        raise RecipeError(f"--output is the run itself, {run}; choose another folder for the repetition")
    run_recipe(recipe, output=folder, resume=resume, bar=progress_bar)
    if not is_main():
        return
    found = compare_repeated(run, folder)
    if json_:
        print_json({"run": str(run), "again": str(folder), **asdict(found)})
    else:
        _show(run, folder, found)


def _show(run: Path, folder: Path, found: Repeated) -> None:
    for name, (old, new) in found.versions.items():
        _print(f"{name}: was {old}, now {new}")
    for split, (old, new) in found.data.items():
        _print(f"the rows of {split} are others: fingerprint {old}, now {new}")
    for what, then, now in found.moved[:LISTED]:
        _print(f"{what}: was {then:.4f}, now {now:.4f}")
    if len(found.moved) > LISTED:
        _print(f"and {len(found.moved) - LISTED} more")
    same = found.figures - len(found.moved)
    _print(f"{same} of {found.figures} figures of {run} came out the same in {folder}.")
    if found.moved:
        words = " ".join(shlex.quote(str(path)) for path in (run, folder))
        say_next(f"medrft compare {words}", "whether the difference is more than chance")
    else:
        say_next(f"medrft report {shlex.quote(str(folder))}")


def _print(line: str) -> None:
    out.print(line, markup=False, highlight=False, soft_wrap=True)
