"""From a text to its findings (`Reading`), by a small grammar of negation, doubt, lists and attachment."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Literal

from medrft.scorers.clinical.compile import shipped_lexicon
from medrft.scorers.clinical.draft import Draft
from medrft.scorers.clinical.joining import negate_back, place_chunk
from medrft.scorers.clinical.lexicon import Atom, Entry, Lexicon
from medrft.scorers.clinical.reading import LIKELY, POSSIBLE, Finding, Reading
from medrft.scorers.clinical.tagging import Mention, tag_mentions
from medrft.scorers.clinical.words import COMMA, MAX_CHARACTERS, SLASH, STOP, cut_tokens

MAX_FINDINGS = 48
"""The most findings that are read from one text; the rest of a very long answer is ignored."""
SPLITTERS = frozenset(("joins", "alternatives", "with_words"))
LESS = {"magnitude": {"small", "tiny"}, "trend": {"decreased"}, "brightness": {"hypo"}, "number": {"few"}}
MORE = {"magnitude": "large", "trend": "increased", "brightness": "hyper", "number": "multiple"}
MARKS = frozenset((COMMA, STOP, SLASH))
ALWAYS_TURN = frozenset(
    (
        *("not", "non", "never", "no longer", "cannot", "can not", "could not", "unable to", "impossible to"),
        *("not possible to", "fails to", "failed to"),
    )
)
"""Negations that turn the value after them ("not enlarged"), or negate what was named before ("X is not seen")."""
NOUNLIKE = frozenset(("normality", "organ_size", "calcified", "enhancement"))
"""Axes whose values act as nouns, so that a "no" before one negates it as a whole ("no acute abnormality")."""
WORDLESS = frozenset(("carrier", "prepositions", "verbs", "presence", "joins", "breaks", "alternatives"))


@lru_cache(maxsize=32_768)
def read_findings(text: str, context: frozenset[str] = frozenset()) -> Reading:
    """The reading of a text. `context` holds concepts that decide what ambiguous words mean. Cached, with a bound."""
    return read_fresh(text, context)


def read_fresh(text: str, context: Collection[str] = ()) -> Reading:
    """The reading of a text, computed anew."""
    made = shipped_lexicon()
    tokens = cut_tokens(text)
    mentions = tag_mentions(made, tokens)
    kinds = {mention.kind for mention in mentions}
    ambiguous = "ambiguous" in kinds
    if ambiguous:
        mentions = _settle(made, mentions, context)
    answer, mentions = _answer(mentions)
    findings: list[Finding] = []
    for clause in _clauses(mentions):
        for draft in _Clause(made, clause).drafts():
            finding = draft.finding(made)
            if not finding.empty or finding.negative:
                findings.append(finding)
        if len(findings) >= MAX_FINDINGS:
            break
    if len(findings) > 1:
        findings = [finding for finding in findings if not finding.empty] or findings[:1]
    return Reading(
        text=text,
        tokens=tuple([token for token in tokens if token not in MARKS]),
        findings=tuple(findings[:MAX_FINDINGS]),
        answer=answer,
        states="verbs" in kinds or "presence" in kinds,
        ambiguous=ambiguous,
        shortened=len(text) > MAX_CHARACTERS,
    )


def content_words(text: str) -> tuple[str, ...]:
    """The words of a text without verbs, prepositions, joins and other words that carry no content."""
    return tuple(
        word
        for mention in tag_mentions(shipped_lexicon(), cut_tokens(text))
        if mention.kind not in WORDLESS
        for word in mention.text.split()
    )


def _settle(made: Lexicon, mentions: Sequence[Mention], context: Collection[str]) -> list[Mention]:
    """Give each ambiguous word the sense whose neighbours the text or the context names, else its first sense."""
    named = set(context)
    for mention in mentions:
        if mention.entry is not None and mention.kind in ("term", "level"):
            named.update(atom.value for atom in mention.entry.atoms)
    named |= {above for concept in named for above in made.ancestors.get(concept, ())}
    settled = []
    for mention in mentions:
        if mention.kind == "ambiguous" and mention.entry is not None:
            senses = mention.entry.senses
            atoms = next((atoms for atoms, near in senses if near & named), senses[0][0])
            mention = Mention("term", mention.text, Entry("term", atoms))
        settled.append(mention)
    return settled


def _answer(mentions: list[Mention]) -> tuple[Literal["yes", "no"] | None, list[Mention]]:
    """The yes or no that leads a text and stands apart from what follows (else `None`), and the other mentions."""
    start = 0
    while start < len(mentions) and mentions[start].kind in ("carrier", "verbs", "joins"):
        start += 1
    if start == len(mentions):
        return None, mentions
    first = mentions[start]
    said: Literal["yes", "no"] | None = (
        "yes" if first.kind == "yes" else "no" if "no" in (first.kind, first.text) else None
    )
    apart = start + 1 == len(mentions) or mentions[start + 1].kind in ("breaks", "alternatives")
    apart = apart or mentions[start + 1].text == COMMA or mentions[start + 1].kind == "verbs" or first.kind == "yes"
    return (said, mentions[start + 1 :]) if said and apart else (None, mentions)


def _clauses(mentions: Sequence[Mention]) -> list[list[Mention]]:
    clauses: list[list[Mention]] = [[]]
    for mention in mentions:
        if mention.kind == "breaks":
            clauses.append([])
        else:
            clauses[-1].append(mention)
    return [clause for clause in clauses if clause]


class _Clause:
    """Turns a clause into findings: cuts it into chunks at its joins, then joins the chunks of one finding again."""

    def __init__(self, made: Lexicon, mentions: Sequence[Mention]) -> None:
        self.made = made
        self.mentions = mentions

    def drafts(self) -> list[Draft]:
        """The clause's findings."""
        done: list[Draft] = []
        inherited = False
        for connector, mentions in self._chunks():
            chunk = self._chunk(mentions)
            if inherited and connector.kind != "with_words" and self._continues(chunk, connector):
                chunk.negative = True
            if chunk.backwards:
                negate_back(done, chunk, connector)
            inherited = (chunk.negative and chunk.ahead) or (inherited and chunk.negative)
            if not done:
                done.append(chunk)
                continue
            place_chunk(done, chunk, connector)
        return done

    def _chunks(self) -> list[tuple[Mention, list[Mention]]]:
        """The stretches between joins, each with the join before it; a "no" after a finding also begins a stretch."""
        chunks: list[tuple[Mention, list[Mention]]] = [(Mention("joins", COMMA), [])]
        found = False
        for position, mention in enumerate(self.mentions):
            kind = mention.kind
            if kind in SPLITTERS:
                chunks.append((mention, []))
                found = False
                continue
            if kind == "negation_before" and found and self._opens(mention, position):
                chunks.append((Mention("joins", COMMA), []))
                found = False
            elif kind == "word" or (kind == "term" and mention.entry is not None and mention.entry.stating):
                found = True
            chunks[-1][1].append(mention)
        return [(connector, mentions) for connector, mentions in chunks if mentions]

    def _opens(self, mention: Mention, position: int) -> bool:
        """Whether a negation after a finding opens a stretch of its own ("effusion, without pneumothorax")."""
        if mention.text in ALWAYS_TURN:
            return False
        return self._content_after(position) and not self._predicate_before(position)

    def _predicate_before(self, position: int) -> bool:
        """Whether "shows", "is" or the like stands just before: what came before is then the place without findings."""
        while position and self.mentions[position - 1].kind == "carrier":
            position -= 1
        return position > 0 and self.mentions[position - 1].kind in ("verbs", "presence")

    def _content_after(self, position: int) -> bool:
        for mention in self.mentions[position + 1 :]:
            if mention.kind in SPLITTERS:
                return False
            if mention.kind in ("term", "word", "negated"):
                return True
        return False

    @staticmethod
    def _continues(chunk: Draft, connector: Mention) -> bool:
        """Whether a negation before the join still holds after it."""
        if chunk.negative or chunk.turned:
            return False
        return connector.kind == "alternatives" or connector.text == "or" or not (chunk.verb or chunk.says_normal)

    def _chunk(self, mentions: Sequence[Mention], *, compared: bool = False) -> Draft:
        """The draft of what a stretch says; with `compared`, of what follows a "than", read up to the next "than"."""
        draft = Draft()
        cue = ""
        last = max((place for place, mention in enumerate(mentions) if mention.kind in ("term", "word")), default=-1)
        for position, mention in enumerate(mentions):
            kind = mention.kind
            if mention.text == "than" and not _amount_follows(mentions, position):
                return draft if compared else self._compared(draft, mentions[position + 1 :])
            if kind not in ("negation_before", "negation_after"):
                draft.text.append(mention.text)
            if kind in ("term", "level"):
                cue = self._term(draft, mention, cue, mentions, position)
            elif kind == "negated":
                draft.text[-1] = mention.text
                cue = self._term(draft, mention, "not", mentions, position)
            elif kind in ("negation_before", "negation_after"):
                cue = _negation(draft, mention, cue, named_after=last > position)
            elif kind == "presence":
                _presence(draft, cue, position)
                cue = "" if cue in ALWAYS_TURN else cue
            elif kind in ("doubt_before", "doubt_after"):
                draft.certainty = min(draft.certainty, POSSIBLE)
            elif kind in ("likely_before", "likely_after"):
                draft.certainty = min(draft.certainty, LIKELY)
            elif kind == "verbs":
                draft.verb = True
            elif kind == "prior":
                draft.prior = position > 0 and mentions[position - 1].text in ("on", "in", "at")
            elif kind == "dimension":
                draft.dimensions.append(mention.text if mention.entry is None else mention.entry.cue)
            elif kind == "count" and mention.measure[1] == (1.0,) and _stands_for(mentions, position):
                continue
            elif kind in ("count", "measure"):
                draft.measure(kind, mention.measure)
                _bound(draft, mentions, position)
            elif kind in ("word", "yes", "no"):
                draft.word(mention.text)
                if kind == "word" and cue:
                    draft.negative, cue = True, ""
                    draft.ahead = True
        if cue:
            draft.negative = draft.backwards = True
        if draft.prior and draft.negative:
            draft.negative = draft.backwards = draft.ahead = False
            draft.add([Atom("change", "novelty", "new")])
        elif draft.certainty < 1 and not draft.has_content and len(mentions) == len(self.mentions):
            draft.word("uncertain")
        return draft

    def _compared(self, draft: Draft, mentions: Sequence[Mention]) -> Draft:
        """Read "A is smaller than B" as "B is larger"; in "A is larger than B" only A is described."""
        other = self._chunk(mentions, compared=True)
        lesser = [(axis, MORE[axis]) for axis, values in draft.values.items() if values & LESS.get(axis, set())]
        if not lesser or not draft.heads or not (other.heads or other.values):
            return draft
        if not other.heads:
            other.names, other.places, other.kinds = draft.names, draft.places, draft.kinds
        for axis, value in lesser:
            other.values[axis] = {value}
        other.text = [*draft.text, "than", *other.text]
        return other

    def _term(self, draft: Draft, mention: Mention, cue: str, mentions: Sequence[Mention], position: int) -> str:
        """Add a term; a negation just before it turns a value ("not enlarged") or negates the finding."""
        assert mention.entry is not None
        atoms = mention.entry.atoms
        if mention.entry.word:
            draft.word(mention.entry.word)
        if cue and not mention.entry.headed and self._turns(cue, mentions, position):
            atoms = tuple(self._turn(draft, atom) for atom in atoms)
        elif cue and (mention.kind == "negated") and any(atom.axis == "name" for atom in atoms):
            draft.negative = True
        elif cue:
            draft.negative = draft.ahead = True
        draft.add(atoms)
        return ""

    def _turns(self, cue: str, mentions: Sequence[Mention], position: int) -> bool:
        """Whether a negation negates only the value: "not" always does, "no" if nothing follows that it could deny."""
        if cue in ALWAYS_TURN:
            return True
        for mention in mentions[position + 1 :]:
            if mention.kind in ("prepositions", "verbs", "presence", "dimension"):
                return True
            if mention.kind == "word":
                return False
            if mention.kind == "term" and mention.entry is not None:
                nounlike = any(atom.axis in NOUNLIKE for atom in mention.entry.atoms)
                if mention.entry.headed or nounlike:
                    return False
        return True

    def _turn(self, draft: Draft, atom: Atom) -> Atom:
        axis = self.made.axes.get(atom.axis)
        if axis is None:
            return atom
        draft.turned[atom.axis] = atom.value
        return Atom(atom.facet, atom.axis, axis.negation.get(atom.value, f"not {atom.value}"))


BELOW = frozenset(("<", "less", "fewer", "smaller", "under"))
ABOVE = frozenset((">", "more", "greater", "larger", "bigger", "over"))
BOUNDS = {
    **{"≤": "at_most", "≥": "at_least"},
    **dict.fromkeys(BELOW, "strictly_under"),
    **dict.fromkeys(ABOVE, "strictly_over"),
}


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


def _amount_follows(mentions: Sequence[Mention], position: int) -> bool:
    """Whether a number follows the "than" ("more than 2 cm"), or nothing at all."""
    return position + 1 >= len(mentions) or mentions[position + 1].kind in ("count", "measure")


def _stands_for(mentions: Sequence[Mention], position: int) -> bool:
    """Whether "one" is a pronoun for what the question named ("the left one"), and not a count."""
    return position == len(mentions) - 1 and position > 0 and mentions[position - 1].kind == "term"


def _negation(draft: Draft, mention: Mention, cue: str, *, named_after: bool) -> str:
    """The negation that now waits for a term or word, "" if none does; two in a row cancel out ("not absent")."""
    if cue in ALWAYS_TURN:
        return ""
    if mention.kind == "negation_before":
        return mention.text
    if draft.has_content or not named_after:
        draft.negative = draft.backwards = True
        return ""
    return mention.text


def _presence(draft: Draft, cue: str, position: int) -> None:
    """Read "seen" or "there is": after "not" it negates what was named; at the beginning it opens a new statement."""
    if cue in ALWAYS_TURN:
        draft.negative = draft.backwards = True
    elif position == 0 and not draft.has_content:
        draft.verb = True
