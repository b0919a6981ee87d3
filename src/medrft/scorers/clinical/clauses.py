"""From the mentions of one clause to its findings: what is negated, doubted, listed, and said of which head.

"no effusion, pneumothorax or consolidation"   three findings, all absent
"the heart is enlarged without edema"          an enlarged heart; no edema
"5.6 cm, previously 5.1"                       a size, and one of an earlier image
"""

from __future__ import annotations

from collections.abc import Sequence

from medrft.scorers.clinical.amounts import EARLIER, add_number, amount_follows, number_next, stands_for_a_name
from medrft.scorers.clinical.draft import Draft
from medrft.scorers.clinical.joining import negate_back, place_chunk
from medrft.scorers.clinical.lexicon import Atom, Lexicon
from medrft.scorers.clinical.reading import LIKELY, POSSIBLE
from medrft.scorers.clinical.tagging import Mention
from medrft.scorers.clinical.words import COLON, COMMA

SPLITTERS = frozenset(("joins", "alternatives", "with_words"))
DIVIDING = SPLITTERS | {"negation_before"}
DIVIDERS = frozenset(("by", "positive", "negative"))
"""The kinds and the words of mentions without which a clause is one stretch."""
LESS = {"magnitude": {"small", "tiny"}, "trend": {"decreased"}, "brightness": {"hypo"}, "number": {"few"}}
MORE = {"magnitude": "large", "trend": "increased", "brightness": "hyper", "number": "multiple"}
ALWAYS_TURN = frozenset(
    (
        *("not", "non", "never", "no longer", "cannot", "can not", "could not", "unable to", "impossible to"),
        *("not possible to", "fails to", "failed to", "not yet"),
    )
)
"""Negations that turn the value after them ("not enlarged"), or negate what was named before ("X is not seen")."""
NOUNLIKE = frozenset(("normality", "organ_size", "calcified", "enhancement"))
"""Axes whose values act as nouns, so that a "no" before one negates it as a whole ("no acute abnormality")."""
NOUN_ENDINGS = ("ia", "ism", "is", "oma", "ion", "ity")
"""Endings of unknown words that name a finding."""
ASIDE = frozenset(("without", "w o", "instead of", "rather than"))
COURSE = frozenset(("trend", "novelty"))
WAYS = {"from": "from", "to": "to", "into": "to"}
WHERE = {"outside": "outside", "in": "in", "within": "in", "inside": "in"}
COMPARING = frozenset(("than", "relative to", "compared to", "compared with", "in comparison"))
LEADING = WAYS.keys() | WHERE.keys()
"""Words before a place that say how it is meant."""
RESULTS = frozenset(("positive", "negative"))
ACTIONS = frozenset(("taken", "performed", "done", "obtained", "administered", "given", "placed", "inserted"))
"""Words after what was done: "no lesion, biopsies taken" denies no biopsy."""
NEGATING = frozenset(("negation_before", "negation_after"))
SILENT = frozenset(("carrier", "prepositions"))
"""Kinds of mentions that change nothing, unless their words are in `NOTED`."""
NOTED = COMPARING | EARLIER | ACTIONS | {"absent"}
"""Words that mean something whatever kind the lexicon gives them."""


class Clause:
    """Turns a clause into findings: cuts it into chunks at its joins, then joins the chunks of one finding again."""

    def __init__(self, made: Lexicon, mentions: Sequence[Mention], *, divided: bool = True) -> None:
        """Without `DIVIDING` and `DIVIDERS` among the mentions, the clause need not be looked through for its joins."""
        self.made = made
        self.mentions = mentions
        self.divided = divided

    def drafts(self) -> list[Draft]:
        """The clause's findings."""
        if not self.divided:
            return [self._chunk(self.mentions)]
        done: list[Draft] = []
        inherited = False
        chunks = self._chunks()
        if len(chunks) == 1:
            return [self._chunk(chunks[0][1])]
        last = max((place for place, (join, _) in enumerate(chunks) if join.kind == "alternatives"), default=-1)
        read = [self._chunk(mentions) for _, mentions in chunks]
        for place in range(len(read) - 2, 0, -1):
            if read[place].only_places and read[place + 1].places and not read[place + 1].names and read[0].names:
                read[place].share_state(read[place + 1])  # "tear of A, B and C intact": B is intact too
        for position, (connector, mentions) in enumerate(chunks):
            chunk = read[position]
            introduced = connector.kind == "with_words" or connector.text == COLON
            if inherited and not introduced and self._continues(chunk, listed=position <= last):
                self._deny(chunk, done)
            if chunk.backwards:
                negate_back(done, chunk, connector)
            inherited = (chunk.negative and chunk.ahead) or (inherited and chunk.negative)
            if position < last:  # "no thickening or mass", "not enlarged or displaced", "no displacement or fracture"
                inherited = inherited or bool(chunk.turned) or _ends_denied(mentions)
            if not done:
                done.append(chunk)
                continue
            place_chunk(self.made, done, chunk, connector)
        return done

    def _deny(self, chunk: Draft, done: Sequence[Draft]) -> None:
        """Let the negation of a list hold for one more of its parts: a finding is absent, a state is turned.

        After a finding, a state that acts as a noun is a finding of its own: "no mass, calcification or distortion".
        """
        said = {"normality": chunk.values["normality"]} if "normality" in chunk.values else chunk.values
        turns = NOUNLIKE.issuperset(said) or bool(done and done[-1].turned)
        if not (chunk.only_values and said and turns):
            chunk.negative = True
            return
        for axis, values in said.items():
            chunk.turned[axis] = min(values)  # of several, the same one in every run
            chunk.values[axis] = {self.made.other_value(axis, value) for value in values}

    def _chunks(self) -> list[tuple[Mention, list[Mention]]]:
        """The stretches between joins, each with the join before it; a "no" after a finding also begins a stretch."""
        chunks: list[tuple[Mention, list[Mention]]] = [(Mention("joins", COMMA), [])]
        found = named = False
        for position, mention in enumerate(self.mentions):
            kind = mention.kind
            if kind in SPLITTERS and (
                self._describes_one(chunks[-1][1], position) or self._both_ends(mention, position)
            ):
                continue
            if kind in SPLITTERS or (mention.text == "by" and named and self._content_after(position)):
                chunks.append((mention if kind in SPLITTERS else Mention("with_words", "by"), []))
                found = named = False
                continue
            if kind == "negation_before" and self._opens(mention, position, found=found, named=named):
                chunks.append((Mention("joins", COMMA), []))
                found = named = False
            elif kind == "word" or (kind == "term" and mention.entry is not None and mention.entry.stating):
                found = True
            named = named or kind in ("term", "word", "negated", "level")
            chunks[-1][1].append(mention)
            if mention.text in RESULTS and named and self._result_after(position):
                chunks.append((Mention("joins", COMMA), []))
                found = named = False
        return [(connector, mentions) for connector, mentions in chunks if mentions]

    def _describes_one(self, before: Sequence[Mention], position: int) -> bool:
        """Whether a join stands between two adjectives of one negated finding ("no acute, displaced rib fractures")."""
        start = next((place for place in range(len(before) - 1, -1, -1) if before[place].kind == "negation_before"), -1)
        after = self.mentions[position + 1 :]
        said = [mention for mention in before[start + 1 :] if mention.kind != "carrier"]
        if start < 0 or before[start].text in ALWAYS_TURN or not said or not all(map(_only_value, said)):
            return False
        follows = [mention for mention in after if mention.kind not in ("carrier", "joins", "alternatives")]
        length = next((place for place, mention in enumerate(follows) if not _only_value(mention)), len(follows))
        head = follows[length] if length < len(follows) else None
        axes = {atom.axis for mention in said if mention.entry for atom in mention.entry.atoms}
        next_axes = {atom.axis for mention in follows[:length] if mention.entry for atom in mention.entry.atoms}
        headed = head is not None and (head.kind == "word" or (head.entry is not None and head.entry.headed))
        return length > 0 and headed and not ({"side"} & axes & next_axes)

    def _both_ends(self, mention: Mention, position: int) -> bool:
        """Whether "and" stands between two positions of one place: "the mid and lower lung"."""
        if mention.text != "and" or not 0 < position < len(self.mentions) - 2:
            return False
        one, other, head = self.mentions[position - 1], self.mentions[position + 1], self.mentions[position + 2]
        axes = [
            {atom.axis for atom in side.entry.atoms} if _only_value(side) and side.entry else set()
            for side in (one, other)
        ]
        placed = any(atom.facet == "position" for atom in other.entry.atoms) if other.entry else False
        return bool(axes[0]) and axes[0] == axes[1] and placed and head.kind == "term"

    def _opens(self, mention: Mention, position: int, *, found: bool, named: bool) -> bool:
        """Whether a negation after a finding opens a stretch of its own ("effusion, without pneumothorax").

        "Without" does so after anything named, so that it says nothing of what stands before it ("the heart is
        enlarged without edema").
        """
        if mention.text in ALWAYS_TURN or not (named if mention.text in ASIDE else found):
            return False
        if _says_absent(self.mentions, position):
            return False
        return self._content_after(position) and not self._predicate_before(position)

    def _predicate_before(self, position: int) -> bool:
        """Whether "shows", "is" or the like stands just before: what came before is then the place without findings."""
        while position and self.mentions[position - 1].kind == "carrier":
            position -= 1
        return position > 0 and self.mentions[position - 1].kind in ("verbs", "presence")

    def _result_after(self, position: int) -> bool:
        """Whether the next thing named has a result of its own: "CD15 positive CD45 negative"."""
        after = self.mentions[position + 1 : position + 4]
        return bool(after) and after[0].kind in ("term", "word") and any(one.text in RESULTS for one in after)

    def _content_after(self, position: int) -> bool:
        for mention in self.mentions[position + 1 :]:
            if mention.kind in SPLITTERS:
                return False
            if mention.kind in ("term", "word", "negated"):
                return True
        return False

    @staticmethod
    def _continues(chunk: Draft, *, listed: bool) -> bool:
        """Whether a negation before the join still holds after it: surely where an "or" ends the list (`listed`)."""
        if chunk.negative or chunk.turned or chunk.affirmed:
            return False
        if listed:
            return not (chunk.verb or chunk.says_normal)
        # After a comma or "and", a statement of its own is no longer denied: a state, a number, an unknown word.
        if chunk.only_values and chunk.values.keys() <= COURSE:
            return False  # "no lesion, as before"
        states = chunk.verb or chunk.says_normal or chunk.counts or chunk.measures or "organ_size" in chunk.values
        placed = "side" in chunk.values or chunk.levels or (chunk.places and chunk.states)  # "and patent vessels"
        return not states and not placed and not (chunk.words and not chunk.names)

    def _chunk(self, mentions: Sequence[Mention], *, compared: bool = False) -> Draft:
        """The draft of what a stretch says; with `compared`, of what follows a "than", read up to the next "than"."""
        draft = Draft()
        cue = ""
        last: int | None = None
        for position, mention in enumerate(mentions):
            kind, text, entry, _ = mention
            noted = text in NOTED
            compares = noted and text in COMPARING and (text == "than" or (draft.heads and draft.values))
            if compares and not amount_follows(mentions, position):
                return draft if compared else self._compared(draft, mentions[position + 1 :])
            if kind not in NEGATING:
                draft.text.append(text)
            if noted and text in EARLIER and number_next(mentions, position):
                continue
            if kind == "term" or kind == "level":
                cue = self._term(draft, mention, cue, mentions, position)
            elif kind in SILENT and not noted:
                continue
            elif kind == "negated":
                cue = self._term(draft, mention, "" if cue else "not", mentions, position)
            elif noted and draft.heads and _says_absent(mentions, position):
                draft.negative = draft.backwards = True
            elif kind in NEGATING:
                if last is None:  # once for all of "no no no …"
                    last = _last_named(mentions)
                cue = _negation(draft, mention, cue, named_after=last > position)
            elif noted and text in ACTIONS and draft.heads and not cue:
                draft.affirmed = True
            elif kind == "count" or kind == "measure":
                if stands_for_a_name(mentions, position):
                    draft.pronoun = True
                else:
                    add_number(draft, mentions, position)
            elif kind == "presence":
                draft.affirmed = draft.affirmed or (draft.heads and cue not in ALWAYS_TURN)
                _presence(draft, cue, position)
                cue = "" if cue in ALWAYS_TURN else cue
            elif kind in ("doubt_before", "doubt_after"):
                draft.certainty = min(draft.certainty, POSSIBLE)
            elif kind in ("likely_before", "likely_after"):
                draft.certainty = min(draft.certainty, LIKELY)
            elif kind == "verbs":
                draft.verb = True
            elif kind == "prior":
                # "Not seen on the prior" is new; "seen on the prior, no longer there" is not.
                draft.prior = (draft.negative or bool(cue)) and mentions[position - 1].text in ("on", "in", "at")
            elif kind == "dimension":
                draft.dimensions.append(text if entry is None else entry.cue)
            elif kind == "word" and _labels_next(mentions, position):
                continue
            elif kind in ("word", "yes", "no"):
                draft.word(text)
                if kind == "word" and cue:
                    draft.negative, cue = True, ""
                    draft.ahead = True
        return self._settled(draft, cue, mentions)

    def _settled(self, draft: Draft, cue: str, mentions: Sequence[Mention]) -> Draft:
        """The draft of a whole stretch, by a negation that still waits, an earlier image, or a doubt about nothing."""
        # "Not crossing over" denies nothing.
        if cue and (draft.has_content or draft.verb or mentions[-1].kind != "carrier"):
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
        if other.tells_of_an_image(self.made):
            return draft  # "better compared to prior", "smaller than on the CT of May"
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
        entry = mention.entry
        assert entry is not None
        atoms = entry.atoms
        if entry.word:
            draft.word(entry.word)
        if cue:
            # "No hyperlipidemia", of whatever lipidemia may be; but a "retromammary" space is no less a space.
            named = entry.headed or entry.word.endswith(NOUN_ENDINGS)
            if not named and self._turns(cue, mentions, position):
                atoms = tuple(self._turn(draft, atom) for atom in atoms)
            elif mention.kind == "negated" and any(atom.axis == "name" for atom in atoms):
                draft.negative = True
            else:
                draft.negative = draft.ahead = True
        draft.add(atoms)
        if position and (way := mentions[position - 1].text) in LEADING:
            for key, words in (("way", WAYS), ("where", WHERE)):
                if way in words:
                    draft.bound.update({(key, atom.value): words[way] for atom in atoms if atom.axis == "place"})
        return ""

    def _turns(self, cue: str, mentions: Sequence[Mention], position: int) -> bool:
        """Whether a negation negates only the value: "not" always does, "no" if nothing follows that it could deny."""
        if cue in ALWAYS_TURN:
            return True
        for mention in mentions[position + 1 :]:
            if mention.text == "of":
                continue  # "no focal areas of consolidation"
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
        if atom.axis not in self.made.axes:
            return atom
        draft.turned[atom.axis] = atom.value
        return Atom(atom.facet, atom.axis, self.made.other_value(atom.axis, atom.value))


def _last_named(mentions: Sequence[Mention]) -> int:
    """Where the last term or unknown word stands; -1 if there is none."""
    return max((place for place, one in enumerate(mentions) if one.kind in ("term", "word")), default=-1)


def _ends_denied(mentions: Sequence[Mention]) -> bool:
    """Whether a stretch ends in a name that denies, which holds for a list too: "no displacement or fracture"."""
    return mentions[-1].kind == "term" and mentions[-1].text.startswith(("no ", "without "))


def _only_value(mention: Mention) -> bool:
    """Whether a mention says something of a finding and names none: an adjective."""
    if mention.kind != "term" or mention.entry is None or mention.entry.headed:
        return False
    return all(atom.axis not in NOUNLIKE for atom in mention.entry.atoms)


def _says_absent(mentions: Sequence[Mention], position: int) -> bool:
    """Whether "absent" speaks of what stands before it, since a place follows: "new vessels absent at the disc"."""
    after = mentions[position + 1] if position + 1 < len(mentions) else None
    return mentions[position].text == "absent" and after is not None and after.kind == "prepositions"


def _labels_next(mentions: Sequence[Mention], position: int) -> bool:
    """Whether the next mention is a number or letter with this word as its label: "stage 2", "clock 10"."""
    after = mentions[position + 1] if position + 1 < len(mentions) else None
    entry = after.entry if after is not None else None
    return entry is not None and any(atom.axis == f"label:{mentions[position].text}" for atom in entry.atoms)


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
