"""Fenced blocks of a page with what an HTML comment above them says becomes of them, and a runner for them.

<!-- run -->              bash or python, run in order in the page's own folder; `run: slow` only in the slow set,
                          `run: clone` in a clone of the repository, `run: installed` where there is none
<!-- gives -->            lines that the block before it printed; `…` stands for anything
<!-- file: NAME -->       written into the page's folder under that name
<!-- recipe -->           YAML that is read as a recipe, `<!-- study -->` as a study
<!-- not run: WHY -->     shown only
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

BLOCK = re.compile(
    r"^(?P<indent> *)(?:<!-- (?P<mark>.+?) -->\n+(?P=indent))?```(?P<language>[\w-]*|\{[\w-]+\}[^\n]*)\n"
    r"(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
MARKS = re.compile(r"run(: slow|: clone|: installed)?|gives|file: [\w./-]+|recipe|study|not run: .+")


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    mark: str
    language: str
    text: str


def blocks_of(page: Path) -> list[Block]:
    """The fenced blocks of a page; a block without a comment above it has an empty mark."""
    found = BLOCK.finditer(page.read_text(encoding="utf-8"))
    made = [
        Block(
            one["mark"] or "",
            one["language"],
            re.sub(rf"^{one['indent']}", "", one["text"], flags=re.MULTILINE),
        )
        for one in found
    ]
    return [block for block in made if not block.language.startswith("{")]  # directives are no code


def is_quick(page: Path) -> bool:
    """Whether a page runs something, and all that it runs is quick."""
    marks = {block.mark for block in blocks_of(page)}
    return "run" in marks and not marks & {"run: slow", "run: clone", "run: installed"}


def follow(
    page: Path, folder: Path, *, environment: Mapping[str, str], clone: bool = False
) -> Iterator[tuple[str, float]]:
    """Do what a page says, in `folder`; yields each command that was run and the seconds that it took.

    Raises `AssertionError` where a command fails, or prints something else than the page says.
    """
    said = ""
    for block in blocks_of(page):
        if block.mark.startswith("file: "):
            (folder / block.mark.removeprefix("file: ")).write_text(block.text, encoding="utf-8")
        elif block.mark in ("run", "run: slow", "run: clone" if clone else "run: installed"):
            began = time.monotonic()
            said = _run(block, folder, environment)
            yield block.text, time.monotonic() - began
        elif block.mark == "gives":
            _compare(block.text, said)


def _run(block: Block, folder: Path, environment: Mapping[str, str]) -> str:
    script = (
        ["python", "-c", block.text] if block.language == "python" else ["bash", "-euo", "pipefail", "-c", block.text]
    )
    done = subprocess.run(
        script,
        cwd=folder,
        env={**os.environ, **environment, "COLUMNS": "120"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (
        f"{block.text}\nended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    )
    return done.stdout


def _compare(expected: str, said: str) -> None:
    """Each expected line must be printed, in this order."""
    rest = [line.strip() for line in said.splitlines()]
    for line in filter(None, map(str.strip, expected.splitlines())):
        form = re.compile(".*".join(map(re.escape, line.split("…"))))
        place = next((i for i, one in enumerate(rest) if form.fullmatch(one)), None)
        assert place is not None, f"not printed: {line!r}\n{said[-3000:]}"
        rest = rest[place + 1 :]
