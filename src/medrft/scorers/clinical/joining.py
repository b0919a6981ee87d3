"""Which stretches of a clause make one finding, and which begin a new one."""

from __future__ import annotations

from medrft.scorers.clinical.compile import shipped_lexicon
from medrft.scorers.clinical.draft import Draft
from medrft.scorers.clinical.tagging import Mention
from medrft.scorers.clinical.words import COMMA


def _same_kind(last: Draft, chunk: Draft) -> bool:
    """Whether one modality is a kind of the other ("MR - FLAIR")."""
    made = shipped_lexicon()
    return any(a == b or a in made.ancestors[b] or b in made.ancestors[a] for a in last.kinds for b in chunk.kinds)


def negate_back(done: list[Draft], chunk: Draft, connector: Mention) -> None:
    """A negation that comes last ("A and B are absent") holds for what was listed before it."""
    listed = connector.text != COMMA or not chunk.has_content
    if connector.kind == "with_words" or not listed:
        return
    for draft in reversed(done):
        if draft.verb:
            break
        draft.negative = True


def place_chunk(done: list[Draft], chunk: Draft, connector: Mention) -> None:
    """Join a chunk to the last finding, or begin a new one."""
    last = done[-1]
    if not chunk.has_content:
        last.text += chunk.text
        last.certainty = min(last.certainty, chunk.certainty)
        return
    if last.has_content and starts_new(last, chunk, connector):
        done.append(chunk)
        return
    picture = connector.text == COMMA and last.places and not chunk.heads
    last.absorb(chunk, picture=bool(picture), hedged=connector.kind == "alternatives")


def starts_new(last: Draft, chunk: Draft, connector: Mention) -> bool:
    """Whether a chunk is a finding of its own.

    A second finding, a second organ of a list, a second modality, or a place with a statement of its own is. Values
    alone ("large, round mass"), a place after a finding ("mass, left lobe") and organs that share a predicate
    ("liver and spleen are normal") are not.
    """
    if chunk.negative != last.negative and chunk.has_content and last.heads:
        return not (chunk.only_values and not chunk.negative)
    if connector.kind == "with_words":
        return bool(chunk.names and (last.names or last.places)) or bool(chunk.states and chunk.places)
    if chunk.names:
        shares = bool(last.places and not last.names and not last.states and chunk.places and not last.verb)
        return bool(last.names or last.words or last.states or last.kinds) or (
            bool(last.places)
            and not (shares and connector.text == "and")
            and not (not chunk.places and connector.text == COMMA)
        )
    if chunk.places or chunk.levels:
        if last.names:
            return chunk.states or chunk.verb
        if last.places or last.levels:
            return not (chunk.states and chunk.verb and not last.states and not last.verb)
        return bool(last.words)
    if chunk.kinds:
        return bool(last.kinds) and not _same_kind(last, chunk)
    if chunk.only_values and connector.kind != "with_words":
        return any(
            last.values.get(axis) and not last.values[axis] & values
            for axis, values in chunk.values.items()
            if axis not in ("side", "vertical", "frontback", "mediolateral", "proximity")
        )
    if chunk.words:
        return not last.only_values
    return False
