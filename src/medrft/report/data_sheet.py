"""The sheet of `medrft data show`: examples with their images, on one self-contained HTML page."""

from __future__ import annotations

import base64
import json
import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any, TypedDict

from medrft.data.base import Loaded
from medrft.data.images import thumbnail_png
from medrft.data.summary import summarize_data
from medrft.errors import naming_extras
from medrft.types import KINDS, Example

with naming_extras():
    import jinja2

TEMPLATES = Path(__file__).parent / "templates"
SHOWN_REASONS = 200
"""Left-out rows listed on the page; a page of a hundred thousand would not open."""


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
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, example in enumerate(examples):
        groups[(example.split, example.kind)].append(index)
    rng = random.Random(seed)
    for indices in groups.values():
        rng.shuffle(indices)
    drawn: list[int] = []
    while len(drawn) < min(limit, len(examples)):
        drawn += [indices.pop() for indices in groups.values() if indices]
    return [examples[index] for index in sorted(drawn[:limit])]


def render_sheet(
    loaded: Loaded, drawn: Sequence[Example], *, size: int, on_progress: Callable[[int], None] | None = None
) -> str:
    """The page for some examples of a data set; `size` is the longer side of a thumbnail in pixels.

    All text is escaped; the page loads nothing from outside itself.
    """
    cards = []
    for example in drawn:
        cards.append(_card(loaded, example, size=size))
        if on_progress is not None:
            on_progress(len(cards))
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    present = [kind for kind in KINDS if any(example.kind == kind for example in loaded.examples)]
    return environment.get_template("data_sheet.html.j2").render(
        summary=summarize_data(loaded), cards=cards, present=present, shown_reasons=SHOWN_REASONS
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
        "images": [_address(path, size) for path in example.images],
        "rationale": example.rationale,
        "metadata": _metadata(example.metadata),
    }


def _address(path: Path, size: int) -> str:
    return "data:image/png;base64," + base64.b64encode(thumbnail_png(path, size)).decode("ascii")


def _metadata(metadata: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Fields that hold something, as text."""
    shown = {key: value for key, value in metadata.items() if value not in (None, "")}
    return [
        (key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))
        for key, value in shown.items()
    ]
