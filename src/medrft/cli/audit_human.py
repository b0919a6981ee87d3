"""`medrft audit --human`: what of the command concerns people's judgements: files in, tables and failed floors out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from medrft.cli.common import out
from medrft.errors import RecipeError

if TYPE_CHECKING:
    from medrft.audit.human import HumanSet

NEEDED = {"tau": "ratings", "orderings": "orderings", "auroc": "labels"}
"""The kind of set on which each figure for `--fail-under` is measured."""


def read_people(specs: list[str] | None, against: list[str] | None, floors: Mapping[str, float]) -> list[HumanSet]:
    """The sets of `--human`; raises `RecipeError` for options that make no sense without them."""
    from medrft.audit.human import read_human

    if against and not specs:
        raise RecipeError("--against goes with --human: it compares how far two rewards agree with people")
    sets = [read_human(spec) for spec in specs or ()]
    for name in ("tau", "orderings"):
        if name in floors and not any(one.kind == NEEDED[name] for one in sets):
            raise RecipeError(f"--fail-under {name} needs a set of {NEEDED[name]} in --human")
    return sets


def check_floors(floors: Mapping[str, float], sets: Sequence[HumanSet]) -> None:
    """Raise `RecipeError` for a floor of a figure that `--human` alone does not measure."""
    kinds = {one.kind for one in sets}
    for name in floors:
        if NEEDED.get(name) not in kinds:
            more = " or a set of labels in --human" if name == "auroc" else ""
            raise RecipeError(f"--fail-under {name} needs the whole audit (--examples, --pairs, --predictions){more}")


def people_failures(summary: Mapping[str, Any], floors: Mapping[str, float]) -> list[str]:
    """A line for each reward under audit and each set on which its figure lies under the floor asked for."""
    found = []
    for judged in summary.get("people", ()):
        name = judged["figure"]
        for reward in judged["audited"] if name in floors else ():
            figure = judged["rewards"][reward]["figure"]
            value = figure["mean"] if figure else None
            if below_floor(value, floors[name]):
                found.append(f"{reward}: {name} on {judged['name']} {say_below(value, floors[name])}")
    return found


def below_floor(value: float | None, floor: float) -> bool:
    """Whether a figure fails; one that could not be measured does."""
    return value is None or value < floor


def say_below(value: float | None, floor: float) -> str:
    """How a figure fails.

    >>> say_below(0.5, 0.55), say_below(None, 0.55)
    ('is 0.500, asked for at least 0.55', 'could not be measured, asked for at least 0.55')
    """
    shown = "could not be measured" if value is None else f"is {value:.3f}"
    return f"{shown}, asked for at least {floor:g}"


def show_people(summary: Mapping[str, Any]) -> None:
    """A table per set, a row per reward, the raters' own agreement last."""
    from medrft.report.audit_people import people_table

    for judged in summary.get("people", ()):
        title, columns, rows, notes = people_table(judged)
        table = Table(title=title, title_justify="left")
        for i, column in enumerate(columns):
            table.add_column(column, justify="right" if i else "left")
        for row in rows:
            table.add_row(*row)
        out.print(table)
        for note in notes:
            out.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)
