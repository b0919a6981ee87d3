"""`medrft init`: shows the recipes that medrft brings along, and writes copies of them to edit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from medrft.cli.common import out
from medrft.errors import RecipeError
from medrft.models.bundled import is_bundled
from medrft.recipes import load_recipe, read_yaml
from medrft.shipped import copy_shipped, first_words, shipped_files

HEADS = {
    "": "Recipes: medrft run NAME",
    "studies": "Studies: medrft study NAME",
    "accelerate": "Several GPUs: accelerate launch --config_file FILE -m medrft run RECIPE",
    "templates": "Chat templates that SFT can teach: model.chat_template: FILE",
}
"""Folder of `recipes/` -> what is in it, and how it is used."""


def init(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A name that --list shows.")] = None,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the copy goes.")] = Path("recipes"),
    list_: Annotated[bool, typer.Option("--list", help="Show what there is, and what each needs.")] = False,
) -> None:
    """Write a copy of a shipped recipe, with the files that it uses, to edit.

    Files that are there are not overwritten. A shipped recipe also runs as it is, by its name: medrft run quickstart.
    """
    if list_:
        _show()
        return
    if name is None:
        raise RecipeError("medrft init takes the name of a shipped recipe; medrft init --list shows them")
    for path in copy_shipped(name, folder):
        typer.echo(path)


def _show() -> None:
    for head, title in HEADS.items():
        table = Table(box=None, padding=(0, 2, 0, 0), title=title, title_justify="left")
        for column in ("name", "what it is", "needs"):
            table.add_column(column, no_wrap=column == "name", overflow="fold")
        for name, path in shipped_files().items():
            if name.rpartition("/")[0] == head:
                table.add_row(*map(Text, (name, first_words(path), _needs(head, path))))
        out.print(table)
        out.print()


def _needs(head: str, path: Path) -> str:
    """The data, model or hardware that a shipped file needs beyond medrft[train]; nothing where all is made here."""
    if head == "templates":
        return ""
    if head == "accelerate":
        return "GPUs, deepspeed" if "DEEPSPEED" in path.read_text(encoding="utf-8") else "GPUs"
    recipe = load_recipe(path.parent / read_yaml(path)["recipe"] if head else path)
    data = "" if recipe.data.drawn or recipe.data.root else f"{recipe.data.name} at data.root"
    model = recipe.model.id if "/" in recipe.model.id else f"a model in ./{recipe.model.id}"
    ours = recipe.model.id.startswith("tiny:") or is_bundled(recipe.model.id)
    return ", ".join(filter(None, (data, "" if ours else model))) or "nothing"
