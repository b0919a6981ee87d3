"""Makes the sheet of `medrft data show`: examples go in, one self-contained HTML page with their images comes out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from string import ascii_uppercase
from typing import Any, TypedDict

from medrft.data.base import Loaded
from medrft.data.images import thumbnail_png
from medrft.data.summary import summarize_data
from medrft.report.html import draw_evenly, png_address, render_template
from medrft.types import KINDS, Example

SHOWN_REASONS = 200
"""Most left-out rows listed on the page; a page of a hundred thousand would not open."""
THUMBNAIL = 288
"""Longer side of a picture on the page, in pixels."""


class Card(TypedDict):
    """One example as the template wants it."""

    id: str
    split: str
    kind: str
    question: str
    references: list[str]
    options: list[dict[str, Any]]
    images: list[str]
    rationale: str | None
    metadata: list[tuple[str, str]]


def draw_sheet(examples: Sequence[Example], *, limit: int, seed: int) -> list[Example]:
    """At most `limit` examples, drawn evenly over splits and kinds, in their original order."""
    return draw_evenly(examples, limit, seed=seed, key=lambda example: (example.split, example.kind))


def render_sheet(
    loaded: Loaded, drawn: Sequence[Example], *, size: int = THUMBNAIL, on_progress: Callable[[int], None] | None = None
) -> str:
    """The page for some examples of a data set; `size` is the longer side of a thumbnail in pixels.

    All text is escaped; the page loads nothing from outside itself.
    """
    cards = []
    for example in drawn:
        cards.append(_card(loaded, example, size=size))
        if on_progress is not None:
            on_progress(len(cards))
    present = [kind for kind in KINDS if any(example.kind == kind for example in loaded.examples)]
    return render_template(
        "data_sheet.html.j2", summary=summarize_data(loaded), cards=cards, present=present, shown_reasons=SHOWN_REASONS
    )


def _card(loaded: Loaded, example: Example, *, size: int) -> Card:
    return {
        "id": example.id,
        "split": loaded.reported(example),
        "kind": example.kind,
        "question": example.question,
        "references": list(example.references),
        "options": [
            {"letter": ascii_uppercase[index % 26], "text": option, "right": option in example.references}
            for index, option in enumerate(example.options)
        ],
        "images": [png_address(thumbnail_png(path, size)) for path in example.images],
        "rationale": example.rationale,
        "metadata": _metadata(example.metadata),
    }


def _metadata(metadata: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The fields that are not empty, as text."""
    shown = {key: value for key, value in metadata.items() if value not in (None, "")}
    return [
        (key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))
        for key, value in shown.items()
    ]
