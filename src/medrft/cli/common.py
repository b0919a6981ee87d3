"""What the commands share: options, consoles, progress bars and errors in one line."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from medrft.errors import DataError
from medrft.masking import masked
from medrft.recipes import parse_set
from medrft.types import SPLITS

out = Console()
err = Console(stderr=True)

Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a recipe value or loader option; may be repeated."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


def overrides(assignments: list[str] | None) -> dict[str, Any]:
    """The values of `--set`."""
    return parse_set(assignments or [])


def loader_options(assignments: list[str] | None) -> dict[str, Any]:
    """The values of `--set` for a loader; `data.lang=en` and `lang=en` mean the same."""
    return {key.removeprefix("data."): value for key, value in overrides(assignments).items()}


def data_source(text: str) -> tuple[str, str | None, str | None]:
    """`NAME[:PATH[:SPLIT]]` in its three parts.

    >>> data_source("vqa_rad:/data/vqa_rad:test")
    ('vqa_rad', '/data/vqa_rad', 'test')
    >>> data_source("phantom")
    ('phantom', None, None)
    >>> data_source("mine.py:load:/data/mine:train")
    ('mine.py:load', '/data/mine', 'train')
    """
    name, _, rest = text.partition(":")
    if name.endswith(".py"):
        function, _, rest = rest.partition(":")
        name = f"{name}:{function}"
    path, _, split = rest.rpartition(":")
    if split not in SPLITS:
        path, split = rest, ""
    if not name:
        raise DataError(f"a data source is NAME:PATH[:SPLIT], got {text!r}; for example vqa_rad:data/vqa_rad:test")
    return name, path or None, split or None


def print_json(value: Any) -> None:
    """One JSON document on standard output, not wrapped and not coloured, without secrets."""
    sys.stdout.write(json.dumps(masked(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def existing_run(path: Path) -> Path:
    """`path` if it holds a run; raises `DataError` otherwise."""
    if not (path / "recipe.yaml").is_file():
        raise DataError(f"{path} is not a run folder: it has no recipe.yaml; pass the folder that medrft run wrote")
    return path


@contextmanager
def progress_bar(label: str, *, total: int | None = None) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error; yields `update(done, total)`."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=err) as bar:
        task = bar.add_task(label, total=total)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def check_page(output: Path) -> None:
    """Refuse a page that could not be written, before anything is read."""
    if output.suffix.lower() not in (".html", ".htm"):
        raise DataError(f"the sheet is an HTML page, got --output {output}; name it {output.with_suffix('.html')}")
    if output.is_dir():
        raise DataError(f"{output} is a folder; name the file to write, as in --output {output / 'sheet.html'}")
    parent = next(folder for folder in output.absolute().parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise DataError(f"cannot write {output}: {parent} is {'not writable' if parent.is_dir() else 'a file'}")
