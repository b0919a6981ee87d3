"""What the commands share: common options, consoles, progress bars, and the reading of `--set` and data sources."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from medrft.errors import DataError, unknown_name
from medrft.files import check_writable
from medrft.masking import mask_secrets
from medrft.progress import Advance, Meter
from medrft.recipes import parse_set
from medrft.types import SPLITS

UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that move a cursor, colour a terminal, turn the direction of writing, or cannot be encoded at all."""


def terminal_safe(text: str) -> str:
    """Text without characters that act on the terminal, which a file or a model may have put in it.

    >>> terminal_safe("a\\x1b[31mb\\u202e"), terminal_safe("Läsion\\t是")
    ('a�[31mb�', 'Läsion\\t是')
    """
    return UNSAFE.sub("�", text)


class SafeConsole(Console):
    """A console that prints no characters from the data that would act on the terminal."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of a renderable, made safe. Rich keeps its own codes in styles and controls, not in text."""
        for segment in super().render(renderable, options):
            if segment.control or not UNSAFE.search(segment.text):
                yield segment
            else:
                yield Segment(terminal_safe(segment.text), segment.style)


out = SafeConsole()
err = SafeConsole(stderr=True)

Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a recipe value or loader option; may be repeated."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


Markdown = Annotated[bool, typer.Option("--markdown", help="Print the table for a paper, as Markdown.")]
Latex = Annotated[bool, typer.Option("--latex", help="The same in LaTeX (booktabs).")]
Csv = Annotated[bool, typer.Option("--csv", help="The same as CSV.")]


def parse_overrides(assignments: list[str] | None) -> dict[str, Any]:
    """The values of `--set` by key."""
    return parse_set(assignments or [])


def loader_options(assignments: list[str] | None) -> dict[str, Any]:
    """The values of `--set` for a loader; `data.lang=en` and `lang=en` mean the same."""
    return {key.removeprefix("data."): value for key, value in parse_overrides(assignments).items()}


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
        if path and not Path(rest).exists() and Path(path).exists():
            raise unknown_name(f"split of {name}:{path}", split, SPLITS)
        path, split = rest, ""
    if not name:
        raise DataError(f"a data source is NAME:PATH[:SPLIT], got {text!r}; for example vqa_rad:data/vqa_rad:test")
    return name, path or None, split or None


def print_json(value: Any) -> None:
    """Print one JSON document on standard output, without wrapping, colours or secrets."""
    sys.stdout.write(json_text(mask_secrets(value), indent=2) + "\n")


def json_text(value: Any, *, indent: int | None = None) -> str:
    """Strict JSON that is safe on a terminal and in a file: characters that act on a terminal are escaped, and so are
    lone surrogates, which UTF-8 cannot hold."""
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    return UNSAFE.sub(lambda sign: sign[0] if sign[0] in "\n\r" else f"\\u{ord(sign[0]):04x}", text)


def print_plain(text: str) -> None:
    """Print text on standard output as it is, for a file or another program; secrets are masked by `main`."""
    sys.stdout.write("".join(f"{terminal_safe(line)}\n" for line in text.splitlines()))


def say_next(command: str, why: str = "") -> None:
    """Print the next command to type, on standard error: standard output may go into a file."""
    err.print(Text(f"Next: {command}{f'   # {why}' if why else ''}"), soft_wrap=True)


def resume_command(run: Path) -> str:
    """The command with which a run that has stopped goes on."""
    return shlex.join(["medrft", "run", str(run / "recipe.yaml"), "--resume", "--output", str(run)])


def existing_run(path: Path) -> Path:
    """`path` if it holds a run; raises `DataError` otherwise."""
    if not (path / "recipe.yaml").is_file():
        raise DataError(f"{path} is not a run folder: it has no recipe.yaml; pass the folder that medrft run wrote")
    return path


@contextmanager
def progress_bar(label: str, *, total: int | None = None) -> Iterator[Advance]:
    """Progress on standard error, a bar or lines; yields `update(done, total)`."""
    meter = Meter(label, console=err, total=total)
    try:
        yield meter.update
    finally:
        meter.stop()


def check_page(output: Path) -> None:
    """Raise `DataError` for a page that could not be written, before anything is read."""
    if output.suffix.lower() not in (".html", ".htm"):
        raise DataError(f"the sheet is an HTML page, got --output {output}; name it {output.with_suffix('.html')}")
    if output.is_dir():
        raise DataError(f"{output} is a folder; name the file to write, as in --output {output / 'sheet.html'}")
    check_writable(output)
