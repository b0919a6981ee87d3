"""Makes `sheet.html` from the files of `medrft curate`: counts per rule, and thoughts beside their images."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypedDict

from medrft.curation.rules import RULES
from medrft.data.images import BadImageError, thumbnail_png
from medrft.report.html import draw_evenly, png_address, render_template
from medrft.rundir import read_json, read_jsonl, write_atomic

SHOWN, SIDE = 40, 256
"""Most kept pairs and most dropped pairs on the sheet; longer side of their images in pixels."""
MAX_TEXT = 4_000


class Card(TypedDict):
    """One pair as the template wants it."""

    id: str
    kind: str
    question: str
    answers: list[str]
    options: list[str]
    images: list[str]
    state: str
    """`kept`, or the rule that dropped the last try."""
    tries: list[dict[str, str]]
    """`{rule, text}` of each try; for a kept pair only the thought that was kept."""


def write_sheet(folder: Path, *, images: bool, seed: int) -> Path:
    """Write `sheet.html` from the files of a finished curation, and return it; all text is escaped.

    Without `images` the sheet holds none. Pairs are drawn by seed, the dropped ones evenly over the rules.
    """
    manifest = read_json(folder / "manifest.json")
    kept = [_kept(row) for row in read_jsonl(folder / "curated.jsonl")]
    dropped = [_dropped(row) for row in read_jsonl(folder / "dropped.jsonl")]
    cards = [
        card for some in (kept, dropped) for card in draw_evenly(some, SHOWN, seed=seed, key=lambda card: card["state"])
    ]
    for card in cards:
        card["images"] = [_address(folder / place) for place in card["images"]] if images else []
    counts = {"kept": len(kept), "dropped": len(dropped)}
    page = render_template(
        "curation.html.j2", manifest=manifest, cards=cards, rules=RULES, counts=counts, images=images
    )
    write_atomic(folder / "sheet.html", page)
    return folder / "sheet.html"


def _kept(row: dict[str, Any]) -> Card:
    return _card(row, "kept", [{"rule": f"kept, try {row['try']}", "text": row["rationale"]}])


def _dropped(row: dict[str, Any]) -> Card:
    tries = [{"rule": RULES[one["rule"]], "text": one["text"]} for one in row["tries"]]
    return _card(row, row["tries"][-1]["rule"], tries)


def _card(row: dict[str, Any], state: str, tries: list[dict[str, str]]) -> Card:
    answer = row["answer"]
    return {
        "id": row["id"],
        "kind": row["kind"],
        "question": row["question"],
        "answers": answer if isinstance(answer, list) else [answer],
        "options": row.get("options", []),
        "images": row["images"],
        "state": state,
        "tries": [{**one, "text": _cut(one["text"])} for one in tries],
    }


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]} … ({len(text):,} characters)"


def _address(path: Path) -> str:
    """A thumbnail as an address; empty if the file can no longer be opened."""
    try:
        return png_address(thumbnail_png(path, SIDE))
    except BadImageError:
        return ""
