"""The licence of a base model: a hub id or a folder goes in, what its model card says comes out.

A folder's own card is read (`README.md` with a YAML head, as the hub writes it). Of a few models that are often named
the terms are listed here, as we know them in 2026; the card at the hub decides. docs/terms.md has the same list for
people.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medrft.recipes import parse_yaml


@dataclass(frozen=True)
class Licence:
    """What a model may be used under, in the hub's words."""

    key: str
    """The hub's `license`: `apache-2.0`, or `other` with a name."""
    name: str = ""
    """The hub's `license_name` of an `other`."""
    link: str = ""
    """Where its text is."""

    @property
    def says(self) -> str:
        """What to call it: its name, else its key."""
        return self.name or self.key

    def as_front_matter(self) -> dict[str, str]:
        """The keys that the hub reads at the top of a card."""
        pairs = {"license": self.key, "license_name": self.name, "license_link": self.link}
        return {key: value for key, value in pairs.items() if value}


APACHE = Licence("apache-2.0")
QWEN_RESEARCH = Licence(
    "other", "qwen-research", "https://huggingface.co/Qwen/Qwen2.5-VL-3B-Instruct/blob/main/LICENSE"
)
HEALTH_AI = Licence(
    "other", "health-ai-developer-foundations", "https://developers.google.com/health-ai-developer-foundations/terms"
)
KNOWN: dict[str, Licence] = {
    "Qwen/Qwen2-VL-2B": APACHE,
    "Qwen/Qwen2-VL-2B-Instruct": APACHE,
    "Qwen/Qwen2-VL-7B-Instruct": APACHE,
    "Qwen/Qwen2.5-VL-3B-Instruct": QWEN_RESEARCH,
    "Qwen/Qwen2.5-VL-7B-Instruct": APACHE,
    "Qwen/Qwen3-VL-2B-Instruct": APACHE,
    "Qwen/Qwen3-VL-4B-Instruct": APACHE,
    "Qwen/Qwen3-VL-8B-Instruct": APACHE,
    "google/medgemma-4b-it": HEALTH_AI,
    "google/medgemma-1.5-4b-it": HEALTH_AI,
    "google/gemma-3-4b-it": Licence("gemma", link="https://ai.google.dev/gemma/terms"),
    "llava-hf/llava-1.5-7b-hf": Licence("llama2", link="https://ai.meta.com/llama/license/"),
}
"""Hub ids whose licence we know. Others are `other` unless their folder has a card."""


def licence_of(model: str) -> Licence | None:
    """The licence of a hub id or a model folder; `None` where it is not known."""
    return KNOWN.get(model) or _from_card(Path(model) / "README.md")


def _from_card(path: Path) -> Licence | None:
    """What a model folder's own card says; `None` without a card, or for one without a licence."""
    if not path.is_file():
        return None
    start, _, rest = path.read_text(encoding="utf-8", errors="replace").partition("---\n")
    head, end, _ = rest.partition("\n---")
    if start.strip() or not end:
        return None
    try:
        table: Any = parse_yaml(head)
    except ValueError:
        return None
    key = table.get("license") if isinstance(table, dict) else None
    if not isinstance(key, str):
        return None
    return Licence(key, str(table.get("license_name") or ""), str(table.get("license_link") or ""))
