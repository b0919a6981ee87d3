"""`medrft doctor`: reads a run's `metrics.jsonl` and prints what went wrong in its GRPO stages, and what is slow."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medrft.cli.common import Json, existing_run, out, print_json, say_next
from medrft.errors import unknown_name
from medrft.rundir import RunDir, read_growing

if TYPE_CHECKING:
    from medrft.training.monitor.watch import Diagnosis
    from medrft.training.timing.slowest import Speed


def doctor(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    fail_on: Annotated[
        str | None, typer.Option("--fail-on", metavar="warning", help="Exit with 1 when anything was found.")
    ] = None,
    json_: Json = False,
) -> None:
    """Say what went wrong while a run's GRPO stages trained: each cause, when, how much, and what to do.

    Also says where the time of each stage's steps went, which part is the slowest, and what would help. Reads
    metrics.jsonl alone and judges it as training does; no model is loaded.
    """
    from medrft.training.monitor.watch import diagnose_run
    from medrft.training.timing.slowest import speeds_of_run

    if fail_on not in (None, "warning"):
        raise unknown_name("severity for --fail-on", fail_on, ["warning"])
    rows = list(read_growing(RunDir(existing_run(run)).metrics))
    found, speeds = diagnose_run(rows), speeds_of_run(rows)
    if json_:
        facts = {"stages": [asdict(one) for one in found], "speed": [asdict(one) for one in speeds]}
        print_json({"run": str(run), **facts})
    else:
        _show(run, found)
        _show_speed(speeds)
        name = shlex.quote(str(run))
        worst = any(one.findings for one in found)
        say_next(
            f"medrft rollouts {name}" if worst else f"medrft report {name}",
            "what was written" if worst else "every figure",
        )
    if fail_on and any(one.findings for one in found):
        raise typer.Exit(1)


def _show(run: Path, found: list[Diagnosis]) -> None:
    """Print one line per finding, then stages without findings and causes that could not be judged."""
    if not found:
        _print(f"{run}: no GRPO stage has logged anything, so there is nothing to judge")
    for one in found:
        for finding in one.findings:
            _print(finding.line())
        if not one.findings:
            _print(f"{one.stage}: nothing found in {one.rows} logged steps")
        for cause, why in one.not_judged.items():
            _print(f"{one.stage}: {cause} not judged: {why}")


def _show_speed(speeds: list[Speed]) -> None:
    """Print two lines for each stage whose log has times: where they went, and what would help."""
    for one in speeds:
        _print(one.line())
        _print(one.help_line())


def _print(line: str) -> None:
    out.print(line, markup=False, highlight=False, soft_wrap=True)
