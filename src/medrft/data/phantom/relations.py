"""What answers a question about sides: from the facts and what was asked to the finding or the number that is meant.

    facts {"asked": {"attribute": "opposite", "to": 0}, "findings": [nodule right, effusion left]}  ->  the effusion

The oracle grades answers to these questions by it (`truth`). It knows no wording.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

OF_SIDE = ("side_finding", "side_count")
COMPOSED = ("opposite", "opposite_larger", "larger_place", "opposite_place", "total")
RELATIONS = frozenset((*OF_SIDE, *COMPOSED))
OPPOSITE = {"right": "left", "left": "right"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What an answer has to name: a finding by some of its attributes, nothing, or a number of findings of a type."""

    finding: Mapping[str, Any] | None = None
    number: int | None = None
    type: str | None = None
    """Of what is counted."""
    needed: frozenset[str] = frozenset({"type"})


def find_wanted(facts: Mapping[str, Any]) -> Wanted:
    """What is meant by `facts["asked"]`, whose attribute is one of `RELATIONS`."""
    asked = facts["asked"]
    attribute = asked["attribute"]
    if attribute in ("side_count", "total"):
        sides = (asked["on"],) if attribute == "side_count" else tuple(OPPOSITE)
        found = [_on_side(facts, side) for side in sides]
        counts = [int(one["count"]) for one in found if one is not None and one["type"] == asked["value"]]
        return Wanted(number=sum(counts), type=asked["value"])
    if attribute == "side_finding":
        return Wanted(finding=_on_side(facts, asked["on"]))
    named = facts["findings"][asked["to"]]
    target = named if attribute == "larger_place" else _on_side(facts, OPPOSITE[named["side"]])
    return Wanted(finding=target, needed=frozenset({"side", "place"} if attribute.endswith("place") else {"type"}))


def _on_side(facts: Mapping[str, Any], side: str) -> Mapping[str, Any] | None:
    return next((finding for finding in facts["findings"] if finding["side"] in (side, "both")), None)
