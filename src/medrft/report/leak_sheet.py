"""Makes the sheet of `medrft data leaks --output`: pairs of copies and similar images side by side, with distances."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

from medrft.data.images import thumbnail_png
from medrft.data.overlap.leaks import Leak, Leaks, Pictures
from medrft.report.html import png_address, render_template

SHOWN = 300
"""Most pairs of images shown for each pair of sets; copies come first."""


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
    """How many images of the second set are the same, and how many rows ask the same."""
    copies: int
    similar: int
    cards: list[Card]


def render_leaks(found: Leaks, *, size: int = 288) -> str:
    """One self-contained page; `size` is the longer side of a thumbnail in pixels. Distance is 1 - likeness."""
    groups = [
        _group(pair.replace("|", " | "), leak["neighbours"], size, lead=_lead(pair, leak))
        for pair, leak in found["pairs"].items()
    ]
    groups += [_group(f"within {name}", one["neighbours"], size) for name, one in found.get("within", {}).items()]
    return render_template("leak_sheet.html.j2", groups=groups, shown=SHOWN)


def _lead(pair: str, leak: Leak) -> str:
    """The counts of the terminal's table for two sets, as a sentence."""
    first, second = pair.split("|")
    images = f"{leak['shared_images']:,} of {leak['total_images_b']:,} images of {second} are the same in {first}"
    rows = f"{leak['shared_items']:,} of its {leak['total_items_b']:,} rows have the same question and answer there"
    return f"{images}; {rows}, {leak['similar_questions']:,} more nearly the same question"


def _group(title: str, neighbours: list[Pictures], size: int, *, lead: str = "") -> Group:
    ranked = sorted(neighbours, key=lambda pair: (pair["label"] != "copy", -pair["likeness"]))
    copies = sum(pair["label"] == "copy" for pair in neighbours)
    cards = [_card(pair, size) for pair in ranked[:SHOWN]]
    return {"title": title, "lead": lead, "copies": copies, "similar": len(neighbours) - copies, "cards": cards}


def _card(pair: Pictures, size: int) -> Card:
    paths = Path(pair["a"]), Path(pair["b"])
    a, b = (png_address(thumbnail_png(path, size)) for path in paths)
    first, second = (f"{path.parent.name}/{path.name}" for path in paths)
    likeness = pair["likeness"]
    return {
        "label": pair["label"],
        "likeness": likeness,
        "distance": round(1 - likeness, 4),
        "names": (first, second),
        "images": (a, b),
    }
