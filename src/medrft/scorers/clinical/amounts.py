"""From a number of a clause to what it says: how many, a size, a bound, an earlier size, or how much changed."""

from __future__ import annotations

from collections.abc import Sequence

from medrft.scorers.clinical.draft import Draft
from medrft.scorers.clinical.lexicon import Atom
from medrft.scorers.clinical.quantities import BEFORE
from medrft.scorers.clinical.tagging import Mention

EARLIER = frozenset(("previously", "formerly", "earlier", "before", "prior", "previous", "initially", "originally"))
AMOUNT = "changed by"
"""Stands before the unit of an amount by which something grew or shrank."""
CHANGING = frozenset(("trend", "organ_size", "thickness"))
"""Axes of what grows or shrinks by an amount; a tube that lies above the carina by 2 cm lies 2 cm above it."""
PORTIONS = frozenset(("percent", "degree"))
"""Units of which "by" says how much it is: "narrowed by 70 %" is a 70 % stenosis."""


def _was_before(mentions: Sequence[Mention], position: int) -> bool:
    """Whether a number is of an earlier image: "previously 5.1 cm", "(was 41 mm)", "from 5.1 to 5.6 cm"."""
    word = mentions[position - 1].text if position else ""
    if word == "from":
        return any(mention.text == "to" for mention in mentions[position + 1 :])
    return word in EARLIER or (word == "was" and position == 1)


BELOW = frozenset(("<", "less", "fewer", "smaller", "under"))
ABOVE = frozenset((">", "more", "greater", "larger", "bigger", "over"))
BOUNDS = {
    **{"≤": "at_most", "≥": "at_least"},
    **dict.fromkeys(BELOW, "strictly_under"),
    **dict.fromkeys(ABOVE, "strictly_over"),
}


def stands_for_a_name(mentions: Sequence[Mention], position: int) -> bool:
    """Whether "one" is a pronoun, and not a count: "the left one", "a big cyst here and a little one in the liver"."""
    mention = mentions[position]
    if mention.kind != "count" or mention.measure[1] != (1.0,) or not position:
        return False
    before, after = mentions[position - 1], mentions[position + 1] if position + 1 < len(mentions) else None
    if before.kind != "term" or before.entry is None:
        return False
    return after is None or (after.kind == "prepositions" and after.text != "of" and not before.entry.headed)


def add_number(draft: Draft, mentions: Sequence[Mention], position: int) -> None:
    """Add a number: how many, a size, the size of an earlier image, or by how much something changed."""
    mention = mentions[position]
    unit, numbers = mention.measure
    by = mention.kind == "measure" and position and mentions[position - 1].text == "by"
    if by and unit not in PORTIONS and not CHANGING.isdisjoint(draft.values):
        draft.measures.append((f"{AMOUNT} {unit}", numbers))
    elif _was_before(mentions, position):
        draft.measures.append((f"{BEFORE} {unit}", numbers))
    else:
        draft.measure(mention.kind, mention.measure)
        _bound(draft, mentions, position)


def _bound(draft: Draft, mentions: Sequence[Mention], position: int) -> None:
    """Mark the number in "less than 1 cm" or "> 3 cm" as a bound; "more than one" becomes multiple."""
    back = 2 if position > 1 and mentions[position - 1].text == "than" else 1
    if position < back or (back == 1 and mentions[position - 1].text not in "<>≤≥"):
        return
    word = mentions[position - back].text
    if word in BOUNDS:
        draft.words = [other for other in draft.words if other != word]
        draft.values.get("trend", set()).clear()
        if word in ABOVE and mentions[position].measure == ("", (1.0,)):
            draft.counts.remove(1.0)
            draft.add([Atom("quantity", "number", "multiple")])
            return
        draft.add([Atom("quantity", "bound", BOUNDS[word])])


def number_next(mentions: Sequence[Mention], position: int) -> bool:
    """Whether the next mention is a number."""
    return position + 1 < len(mentions) and mentions[position + 1].kind in ("count", "measure")


def amount_follows(mentions: Sequence[Mention], position: int) -> bool:
    """Whether a number follows the "than" ("more than 2 cm"), or nothing at all."""
    return position + 1 >= len(mentions) or number_next(mentions, position)
