"""The compiled lexicon: from words to terms, from concepts to related ones, and the axes of values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from medrft.scorers.clinical.words import cut_tokens

SHARED = frozenset(("verbs", "presence", "likely_before", "yes", "no", "negation_before", "negation_after", "carriers"))
"""Lists of cues that may share a word; the word then belongs to the list that comes first."""


STATING = frozenset(("category", "change", "density"))
"""Facets whose values make a statement about a place ("the heart is normal")."""
HEADED = frozenset(("name", "place", "kind", "level"))
"""The axes that tell what a text is about; values on all others say something of it."""


class Atom(NamedTuple):
    """One thing a term says: a finding, a place, a modality, or a value on an axis of a facet."""

    facet: str
    axis: str
    """`name` for findings, `place` and `level` for anatomy, `kind` for modalities; else the axis of the value."""
    value: str


@dataclass(frozen=True, slots=True)
class Entry:
    """What a term of the lexicon stands for."""

    kind: str
    """`term`, `cue`, `carrier`, `dimension`, `number`, `ambiguous` or `negated`."""
    atoms: tuple[Atom, ...] = ()
    cue: str = ""
    senses: tuple[tuple[tuple[Atom, ...], frozenset[str]], ...] = ()
    word: str = ""
    """The unknown rest of a word after a known prefix; it is compared as a word."""
    headed: bool = field(init=False, compare=False, default=False)
    """Whether it names a finding, a place or a modality, and not only values."""

    stating: bool = field(init=False, compare=False, default=False)
    """Whether it makes a statement by itself: a finding, a modality, or the state of a place."""

    def __post_init__(self) -> None:
        states = any(atom.axis in ("name", "kind") or atom.facet in STATING for atom in self.atoms)
        object.__setattr__(self, "stating", states)
        object.__setattr__(self, "headed", any(atom.axis in HEADED for atom in self.atoms))


@dataclass(frozen=True, slots=True)
class Axis:
    """Values that exclude each other."""

    name: str
    facet: str
    values: tuple[str, ...]
    ordered: bool
    includes: Mapping[str, frozenset[str]]
    near: frozenset[frozenset[str]]
    negation: Mapping[str, str]


@dataclass(slots=True, eq=False)
class Lexicon:
    """The compiled lexicon, from `compile.load_lexicon()`. Two are equal only if they are the same object."""

    terms: dict[tuple[str, ...], Entry] = field(default_factory=dict)
    longer: dict[str, dict[str, tuple[int, ...]]] = field(default_factory=dict)
    """First word -> second word -> how many words the terms have that begin with the two, longest first."""
    axes: dict[str, Axis] = field(default_factory=dict)
    equivalents: dict[str, dict[str, Mapping[str, tuple[str, ...]]]] = field(default_factory=dict)
    """Axis -> another axis -> which values of the first say nearly what which values of the second say."""
    ancestors: dict[str, frozenset[str]] = field(default_factory=dict)
    """Concept -> all concepts that it is a kind or a part of."""
    vague: set[str] = field(default_factory=set)
    """Places that may lie in any one of their parents, such as "lobe"."""
    related: set[frozenset[str]] = field(default_factory=set)
    sites: dict[str, frozenset[str]] = field(default_factory=dict)
    """Finding -> the places that it implies."""
    generic: set[str] = field(default_factory=set)
    significance: dict[str, str] = field(default_factory=dict)
    """Finding -> `urgent` or `minor`; what is on neither list is between the two."""
    significant: dict[str, list[tuple[frozenset[Atom], str]]] = field(default_factory=dict)
    """The same for what several terms say together (gas + pleura), by one of the concepts."""
    dimensions: dict[str, tuple[str, Mapping[str, str]]] = field(default_factory=dict)
    labels: frozenset[str] = frozenset()
    """Words after which a number or letter is a name and no count ("grade 3", "type B")."""
    morphology: Mapping[str, Any] = field(default_factory=dict)
    rewrites: dict[Atom, list[tuple[frozenset[Atom], tuple[Atom, ...]]]] = field(default_factory=dict)
    """Rules (pieces, meaning) for atoms that together mean something else, in any order; by their rarest atom."""
    rewritable: dict[str, list[frozenset[str]]] = field(default_factory=dict)
    """The same rules by the values alone, rarest -> all: where none of these sets is said, no rule applies."""
    problems: list[str] = field(default_factory=list)
    """Mistakes in the files: names that stand twice, or are used and not defined."""
    alone: dict[str, Any] = field(default_factory=dict)
    """The mentions of words that are a term by themselves; filled by `tagging`."""
    words: dict[str, Entry | None] = field(default_factory=dict)
    """What the form of each unknown word says, for the words seen so far; filled by `morphology`."""
    stems: dict[str, Entry | None] = field(default_factory=dict)
    slips: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, entry: Entry, *, where: str) -> None:
        """Register a name for an entry; a name that already stands for something else is a problem."""
        key = tuple(cut_tokens(name))
        if not key:
            self.problems.append(f"{where}: {name!r} has no word")
            return
        known = self.terms.get(key)
        if known is not None:
            if known != entry and not {known.cue or known.kind, where} <= SHARED | {"carrier"}:
                self.problems.append(f"{where}: {name!r} already stands for {describe_entry(known)}")
            return
        self.terms[key] = entry
        if len(key) > 1:
            below = self.longer.setdefault(key[0], {})
            below[key[1]] = tuple(sorted({len(key), *below.get(key[1], ())}, reverse=True))

    def longest(self, tokens: Sequence[str], start: int) -> tuple[Entry | None, int]:
        """The entry of the longest term that begins at `start`, and where it ends."""
        first, rest = tokens[start], len(tokens) - start
        below = self.longer.get(first) if rest > 1 else None
        if below is not None:
            for length in below.get(tokens[start + 1], ()):
                if length <= rest:
                    found = self.terms.get(tuple(tokens[start : start + length]))
                    if found is not None:
                        return found, start + length
        found = self.terms.get((first,))
        return found, start if found is None else start + 1

    def other_value(self, axis: str, value: str) -> str:
        """What a negated value says: "not enlarged" is `normal_size`; "not VALUE" where the axis names no opposite."""
        return self.axes[axis].negation.get(value, f"not {value}") if axis in self.axes else f"not {value}"

    def sure_ancestors(self, concept: str) -> frozenset[str]:
        """The ancestors that a concept implies; none for a place that may lie in any one of its parents."""
        return frozenset() if concept in self.vague else self.ancestors.get(concept, frozenset())

    def expand(self, phrase: str) -> tuple[Atom, ...] | None:
        """What a phrase of known words says; `None` when a word is not known."""
        tokens, position = cut_tokens(phrase), 0
        atoms: list[Atom] = []
        while position < len(tokens):
            entry, end = self.longest(tokens, position)
            if position and tokens[position - 1] == "level":
                atoms.append(Atom("anatomy", "level", tokens[position]))
                end = position + 1
            elif entry is None:
                return None
            elif entry.kind == "term":
                atoms.extend(entry.atoms)
            position = end
        return tuple(dict.fromkeys(atoms)) or None


def describe_entry(entry: Entry) -> str:
    """A few words on an entry, for messages."""
    if entry.kind == "term":
        return " + ".join(atom.value for atom in entry.atoms)
    return entry.cue or entry.kind
