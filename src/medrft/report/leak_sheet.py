"""Makes the sheet of `medrft data leaks --output`: the terminal's table, then pairs of images and of questions."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TypedDict

from medrft.data.images import thumbnail_png
from medrft.data.overlap.leaks import Items, Leak, Leaks, Pictures, leak_note
from medrft.report.html import png_address, render_template

SHOWN = 300
"""Most pairs of images, and of questions, shown for each pair of sets; copies and shared questions come first."""


class Card(TypedDict):
    """One pair of images."""

    label: str
    likeness: float
    distance: float
    names: tuple[str, str]
    images: tuple[str, str]


class Group(TypedDict):
    """The pairs of two sets, or within one."""

    title: str
    lead: str
    """What the two sets share, in a sentence; empty within one set."""
    copies: int
    similar: int
    cards: list[Card]
    asked: int
    """Rows that ask the same, or nearly, of the same picture."""
    questions: list[Items]


def render_leaks(found: Leaks, *, size: int = 288) -> str:
    """One self-contained page; `size` is the longer side of a thumbnail in pixels. Distance is 1 - likeness."""
    within = found.get("within", {})
    pictures = [pair for one in (*found["pairs"].values(), *within.values()) for pair in one["neighbours"]]
    root = common_folder(path for pair in pictures for path in (pair["a"], pair["b"]))
    groups = [
        _group(
            pair.replace("|", " | "), leak["neighbours"], size, root, lead=leak_note(pair, leak), items=leak["items"]
        )
        for pair, leak in found["pairs"].items()
    ]
    groups += [_group(f"within {name}", one["neighbours"], size, root) for name, one in within.items()]
    return render_template(
        "leak_sheet.html.j2",
        groups=groups,
        rows=[(*pair.split("|", 1), leak, _taints(leak)) for pair, leak in found["pairs"].items()],
        sets=found["sets"],
        root=str(root) if pictures and root != Path() else "",
        shown=SHOWN,
    )


def common_folder(paths: Iterable[str]) -> Path:
    """The folder that holds all these files; the empty path if they have none in common.

    >>> str(common_folder(["/data/slake/a/x.png", "/data/slake/b/x.png"])), str(common_folder(["a/x.png", "/b/x.png"]))
    ('/data/slake', '.')
    """
    folders = {str(Path(path).parent) for path in paths}
    try:
        return Path(os.path.commonpath(folders))
    except ValueError:  # none at all, or some of them absolute and some not
        return Path()


def _taints(leak: Leak) -> bool:
    """Whether the second set's figures would flatter a model that was trained on the first."""
    return bool(leak["shared_images"] or leak["copies"])


def _group(
    title: str, neighbours: list[Pictures], size: int, root: Path, *, lead: str = "", items: list[Items] | None = None
) -> Group:
    ranked = sorted(neighbours, key=lambda pair: (pair["label"] != "copy", -pair["likeness"]))
    copies = sum(pair["label"] == "copy" for pair in neighbours)
    asked = sorted(items or [], key=lambda item: item["label"] != "shared")
    return {
        "title": title,
        "lead": lead,
        "copies": copies,
        "similar": len(neighbours) - copies,
        "cards": [_card(pair, size, root) for pair in ranked[:SHOWN]],
        "asked": len(asked),
        "questions": asked[:SHOWN],
    }


def _card(pair: Pictures, size: int, root: Path) -> Card:
    paths = Path(pair["a"]), Path(pair["b"])
    a, b = (png_address(thumbnail_png(path, size)) for path in paths)
    first, second = (str(path.relative_to(root)) for path in paths)
    likeness = pair["likeness"]
    return {
        "label": pair["label"],
        "likeness": likeness,
        "distance": round(1 - likeness, 4),
        "names": (first, second),
        "images": (a, b),
    }
