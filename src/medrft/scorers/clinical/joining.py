"""From the stretches of a clause to its findings: which ones are joined, and which begin a new finding."""

from __future__ import annotations

from medrft.scorers.clinical.draft import Draft
from medrft.scorers.clinical.lexicon import Lexicon
from medrft.scorers.clinical.reading import POSSIBLE
from medrft.scorers.clinical.tagging import Mention
from medrft.scorers.clinical.words import PAUSES


def _same_kind(made: Lexicon, last: Draft, chunk: Draft) -> bool:
    """Whether one modality is a kind of the other ("MR - FLAIR")."""
    return any(a == b or a in made.ancestors[b] or b in made.ancestors[a] for a in last.kinds for b in chunk.kinds)


def negate_back(done: list[Draft], chunk: Draft, connector: Mention) -> None:
    """Let a negation at the end ("A and B are absent") hold for everything listed before it."""
    listed = connector.text not in PAUSES or not chunk.has_content
    if connector.kind == "with_words" or not listed:
        return
    for draft in reversed(done):
        if draft.verb or draft.affirmed:
            break
        draft.negative = True


def place_chunk(made: Lexicon, done: list[Draft], chunk: Draft, connector: Mention) -> None:
    """Join a chunk to the last finding in `done`, or append it as a new one."""
    last = done[-1]
    if not chunk.has_content:
        last.text += chunk.text
        last.certainty = min(last.certainty, chunk.certainty)
        return
    if last.has_content and starts_new(made, last, chunk, connector):
        if chunk.pronoun or (chunk.only_values and not chunk.negative and not chunk.turned):
            chunk.inherit(last)  # "2 nodules on the right and 1 on the left"
        elif _shares_name(last, chunk):
            last.inherit(chunk)  # "a moderate right and a small left effusion"
        hedged = connector.kind == "alternatives" and not (chunk.negative or last.negative)
        if hedged and set(chunk.names) - set(last.names) and last.names:
            for draft in (*done, chunk):  # all of "pneumonia, atelectasis or edema"
                draft.certainty = min(draft.certainty, POSSIBLE)
        if connector.kind == "joins" and chunk.places and not chunk.values and not chunk.names and not last.names:
            chunk.share_state(last)  # "normal heart and mediastinum"
        if last.negative and chunk.negative and chunk.names and chunk.places and last.only_places:
            last.names = list(chunk.names)  # "no pleural or pericardial effusion"
        done.append(chunk)
        return
    picture = connector.text in PAUSES and last.places and not chunk.heads
    last.absorb(chunk, picture=bool(picture), hedged=connector.kind == "alternatives")


def _shares_name(last: Draft, chunk: Draft) -> bool:
    """Whether two sides have values of their own and one name: "a moderate right and a small left effusion"."""
    sides = chunk.values.get("side", set()), last.values.get("side", set())
    if not last.only_values or last.negative or not all(sides) or sides[0] & sides[1]:
        return False
    return bool(chunk.names) and (len(last.values) > 1 or bool(last.counts))


def starts_new(made: Lexicon, last: Draft, chunk: Draft, connector: Mention) -> bool:
    """Whether a chunk is a finding of its own.

    It is, if it names a second finding, a second organ of a list, a second modality, or a place with a statement of its
    own. It is not, if it holds only values ("large, round mass"), or a place after a finding ("mass, left lobe"), or
    shares the predicate of another organ ("liver and spleen are normal").
    """
    if chunk.pronoun and last.names and not chunk.names:
        return True  # "and a little one in the liver"
    if chunk.negative != last.negative and chunk.has_content and last.heads:
        return not (chunk.only_values and not chunk.negative) or bool(chunk.turned)
    if connector.kind == "with_words":
        return bool(chunk.names and (last.names or last.places)) or bool(chunk.states and chunk.places)
    if chunk.names:
        if _shares_name(last, chunk):
            return True
        shares = bool(last.places and not last.names and not last.states and chunk.places and not last.verb)
        return bool(last.names or last.words or last.states or last.kinds) or (
            bool(last.places)
            and not (shares and connector.text == "and")
            and not (not chunk.places and connector.text in PAUSES)
        )
    if chunk.places or chunk.levels:
        if last.names:
            return chunk.states or chunk.verb
        if last.places or last.levels:
            return not (chunk.states and chunk.verb and not last.states and not last.verb)
        return bool(last.words)
    if chunk.kinds:
        return bool(last.kinds) and not _same_kind(made, last, chunk)
    if chunk.only_values and connector.kind != "with_words":
        numbers = bool(chunk.counts and last.counts) or bool(chunk.measures and last.measures)
        sides = chunk.values.get("side", set()), last.values.get("side", set())
        if numbers and all(sides) and not sides[0] & sides[1]:
            return True
        return any(
            last.values.get(axis) and not last.values[axis] & values
            for axis, values in chunk.values.items()
            if axis not in ("side", "vertical", "frontback", "mediolateral", "proximity")
        )
    if chunk.words:
        return not last.only_values
    return False
