"""From a word that the lexicon lacks to an entry, by its form: inflection, prefix, suffix, roots, or a typing slip."""

from __future__ import annotations

from collections.abc import Iterator

from medrft.scorers.clinical.compile import intra_value
from medrft.scorers.clinical.lexicon import Atom, Entry, Lexicon
from medrft.scorers.clinical.words import one_letter_deletions, stem

MAX_WORDS = 50_000
"""The most unknown words that are remembered; after that the memory is emptied."""
FREE_PREFIXES = frozenset(
    (
        *("hyper", "hypo", "intra", "extra", "macro", "micro", "mono", "uni", "poly", "multi", "oligo", "pauci"),
        *("homo", "hetero", "endo", "exo", "brady", "tachy"),
    )
)
"""Opposed prefixes that tell something even before a word that the lexicon lacks."""
LONGEST = 40
"""Words of more letters are not read by their form."""


def read_word(made: Lexicon, word: str) -> Entry | None:
    """The entry that the form of an unknown word suggests, `None` if it suggests none. Remembered per word."""
    if word in made.words:
        return made.words[word]
    if len(made.words) >= MAX_WORDS:
        made.words.clear()
    made.words[word] = entry = _read(made, word) if 4 < len(word) <= LONGEST and word.isalpha() else None
    return entry


def _read(made: Lexicon, word: str) -> Entry | None:
    return (
        _inflected(made, word)
        or _negated(made, word)
        or _direction(made, word)
        or _built(made, word)
        or _prefixed(made, word)
        or _opposed(made, word)
        or _slip(made, word)
    )


def _known(made: Lexicon, word: str) -> Entry | None:
    """The term that is this one word, or an inflection or a plain derivation of one."""
    entry = made.terms.get((word,))
    if entry is not None and entry.kind == "term":
        return entry
    return _inflected(made, word) or _adjective(made, word) if len(word) > 4 else None


def _inflected(made: Lexicon, word: str) -> Entry | None:
    """The term with the same stem ("ulcerating": ulceration), if only one has it."""
    if not made.stems:
        for key, entry in made.terms.items():
            if len(key) == 1 and entry.kind in ("term", "dimension") and len(key[0]) > 4:
                root = stem(key[0])
                known = made.stems.setdefault(root, entry)
                if known != entry:
                    made.stems[root] = None
    return made.stems.get(stem(word))


def _negated(made: Lexicon, word: str) -> Entry | None:
    """A negative prefix before a known word ("nondisplaced")."""
    for prefix in made.morphology["negative_prefixes"]:
        if word.startswith(prefix) and len(word) - len(prefix) > 3:
            entry = _known(made, word[len(prefix) :])
            if entry is not None and entry.kind == "term" and (prefix in ("non", "un") or _is_value(entry)):
                return Entry("negated", entry.atoms)
    return None


def _is_value(entry: Entry) -> bool:
    return all(atom.axis not in ("name", "place", "kind") for atom in entry.atoms)


def _direction(made: Lexicon, word: str) -> Entry | None:
    """Two directions or places in one word ("posteroinferior", "thoracolumbar")."""
    for part, phrase in made.morphology["direction_parts"].items():
        if not word.startswith(part):
            continue
        first = made.expand(phrase)
        rest = _known(made, word[len(part) :]) if len(word) > len(part) else Entry("term")
        if first and rest is not None and rest.kind == "term":
            return Entry("term", tuple(dict.fromkeys((*first, *rest.atoms))))
    return None


def _built(made: Lexicon, word: str) -> Entry | None:
    """Root and suffix ("splenomegaly": enlarged spleen); several roots share the suffix ("gastroenteritis")."""
    suffixes = made.morphology["suffixes"]
    for length in range(len(word) - 2, 1, -1):
        suffix = word[-length:]
        if suffix in suffixes:
            places = _roots(made, word[:-length])
            if places:
                parts = [made.expand(suffixes[suffix].replace("{}", place)) for place in places]
                if all(parts):
                    return Entry("term", tuple(dict.fromkeys(atom for atoms in parts if atoms for atom in atoms)))
    return None


def _adjective(made: Lexicon, word: str) -> Entry | None:
    entry = _built(made, word)
    return entry if entry and all(atom.facet == "anatomy" for atom in entry.atoms) else None


def _roots(made: Lexicon, text: str) -> list[str]:
    """The places of a chain of roots joined by `o`; empty if a piece is not a root."""
    roots = made.morphology["roots"]
    for candidate in (text, text[:-1] if text.endswith(("o", "i")) else text):
        if candidate in roots:
            return [roots[candidate]]
    for split in range(3, len(text) - 2):
        if text[split] == "o" and text[:split] in roots and (rest := _roots(made, text[split + 1 :])):
            return [roots[text[:split]], *rest]
    return []


def _prefixed(made: Lexicon, word: str) -> Entry | None:
    """A prefix of position before the name of a place ("perisplenic": adjacent, spleen)."""
    for prefix, phrase in made.morphology["prefixes"].items():
        if word.startswith(prefix) and len(word) - len(prefix) > 3:
            entry = _known(made, word[len(prefix) :])
            if entry is not None and any(atom.facet == "anatomy" for atom in entry.atoms):
                first = made.expand(phrase.replace("{}", "")) if phrase != "{}" else ()
                if first is not None:
                    inside = (intra_value(word),) if prefix in ("intra", "extra") else ()
                    return Entry("term", tuple(dict.fromkeys((*first, *entry.atoms, *inside))))
    return None


def _opposed(made: Lexicon, word: str) -> Entry | None:
    """A prefix from a set that excludes others, before any word: a value on an axis that is made for that word."""
    for prefix, value in _prefix_values(made):
        if word.startswith(prefix) and len(word) - len(prefix) > 3:
            rest = word[len(prefix) :]
            known = _known(made, rest)
            if known is None and prefix not in FREE_PREFIXES:
                continue  # "presentation", "subjective" and "predominant" hold no prefix
            atoms = (Atom("category", f"prefix:{stem(rest)}", value), *(known.atoms if known else ()))
            return Entry("term", atoms, word="" if known else rest)
    return None


def _prefix_values(made: Lexicon) -> Iterator[tuple[str, str]]:
    for group in made.morphology["opposed_prefixes"]:
        for prefix in group:
            value = prefix.split("|")[0]
            yield from ((form, value) for form in prefix.split("|"))


def _slip(made: Lexicon, word: str) -> Entry | None:
    """The term that is one slip away (a letter added, lost, changed or swapped), if it is the only one.

    The first letter must be the same. In a word of five letters only a swap counts, because short words are too alike.
    """
    if len(word) < 5:
        return None
    if not made.slips:
        for key, entry in made.terms.items():
            if len(key) == 1 and len(key[0]) > 4 and entry.kind == "term":
                for form in one_letter_deletions(key[0]):
                    made.slips[form] = "" if made.slips.get(form, key[0]) != key[0] else key[0]
    near = {made.slips[form] for form in one_letter_deletions(word) if made.slips.get(form)}
    near = {known for known in near if known[0] == word[0] and (len(word) > 5 or sorted(known) == sorted(word))}
    return made.terms[(near.pop(),)] if len(near) == 1 else None
