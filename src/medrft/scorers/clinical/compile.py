"""From the tables of the lexicon (`tables`) to one compiled `Lexicon`."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from medrft.errors import DataError
from medrft.scorers.clinical.lexicon import Atom, Axis, Entry, Lexicon
from medrft.scorers.clinical.tables import FOLDER, read_files, with_packs
from medrft.scorers.clinical.values import EQUIVALENT
from medrft.scorers.clinical.words import cut_tokens, stem

CUES = (
    *("negation_before", "negation_after", "not_negation", "doubt_before", "doubt_after", "likely_before"),
    *("likely_after", "presence", "prior", "joins", "alternatives", "with_words", "breaks", "verbs", "prepositions"),
)

COMMON = frozenset(
    (
        *("severity", "acuity", "normality", "novelty", "timing", "number", "completeness", "palpation"),
        *("side", "vertical", "frontback", "mediolateral", "radial"),
    )
)
"""Axes of words that are said of anything."""
SHORT = 3
"""Of so few words in any order none may be a common one: "cardiac standstill" is no "unchanged heart"."""


@lru_cache(maxsize=8)
def load_lexicon(own: tuple[Path, ...] = ()) -> Lexicon:
    """Our lexicon with all its packs, and with the user's own files, if there are any. Each set is compiled once.

    Raises `DataError` for a file that is missing or no table, or if a mistake in one shows: a name that already stands
    for something else, a parent that is not defined, a phrase with a word that nobody knows.
    """
    collecting = gc.isenabled()
    gc.disable()  # nearly all that is made here stays, so that to look for garbage takes a fifth of the time in vain
    try:
        made = build_lexicon(with_packs(read_files(FOLDER), [*sorted((FOLDER / "packs").glob("*.yaml")), *own]))
    finally:
        if collecting:
            gc.enable()
    if wrong := [line for line in made.problems if own and line not in load_lexicon().problems]:
        more = f" (and {len(wrong) - 5} more)" if len(wrong) > 5 else ""
        raise DataError(f"{', '.join(str(path) for path in own)}: {'; '.join(wrong[:5])}{more}")
    return made


def build_lexicon(files: Mapping[str, Any]) -> Lexicon:
    """Compile the files. Mistakes in them are listed in `problems` and raise nothing."""
    made = Lexicon(morphology=files["morphology"], problems=list(files.get("problems", ())))
    _add_axes(made, files["attributes"])
    _add_equivalents(made, files["attributes"])
    pending = _add_concepts(made, files["anatomy"], "anatomy", "place", "part_of")
    pending += _add_concepts(made, files["modality"], "modality", "kind", "is_a")
    pending += _add_concepts(made, files["findings"], "finding", "name", "is_a")
    _add_grammar(made, files["grammar"])
    pending += [(phrase, phrase, names or []) for phrase, names in files["definitions"].items()]
    _add_within(made)
    _add_definitions(made, pending)
    _close(made, files)
    _add_sites(made, files)
    _add_significance(made, files)
    _add_rewrites(made)
    _add_ambiguous(made, files["ambiguous"])
    return made


def _add_axes(made: Lexicon, facets: Mapping[str, Any]) -> None:
    for facet, axes in facets.items():
        for name, axis in axes.items():
            values = tuple(axis.get("order") or axis["values"])
            if set(values) != set(axis["values"]):
                made.problems.append(f"{name}: order and values name different values")
            negation = dict(axis.get("negation", {}))
            if len(values) == 2 and not negation:
                negation = {values[0]: values[1], values[1]: values[0]}
            includes = {value: frozenset(parts) for value, parts in axis.get("includes", {}).items()}
            near = frozenset(frozenset(pair) for pair in axis.get("near", ()))
            made.axes[name] = Axis(name, facet, values, "order" in axis, includes, near, negation)
            for value, names in axis["values"].items():
                entry = Entry("term", (Atom(facet, name, value),))
                _add_names(made, value, names, entry, where=f"{facet}.{name}.{value}")


def _add_equivalents(made: Lexicon, facets: Mapping[str, Any]) -> None:
    """List which values of two axes say nearly the same: ours of `values`, and those under `equals` of an axis."""
    tables: dict[tuple[str, str], dict[str, tuple[str, ...]]] = {
        pair: dict(table) for pair, table in EQUIVALENT.items()
    }
    for name, equals in ((name, axis.get("equals", {})) for axes in facets.values() for name, axis in axes.items()):
        for value, others in equals.items():
            for other in others:
                axes_of = [axis.name for axis in made.axes.values() if other in axis.values and axis.name != name]
                if value not in made.axes[name].values or not axes_of:
                    made.problems.append(f"{name}: equals names {value!r} and {other!r}; one of them is no value")
                for axis_name in axes_of:
                    table = tables.setdefault((name, axis_name), {})
                    table[value] = (*table.get(value, ()), other)
    for (one, second), found in tables.items():
        made.equivalents.setdefault(one, {})[second] = found


def _add_names(made: Lexicon, key: str, names: Iterable[str], entry: Entry, *, where: str) -> None:
    own = key.replace("_", " ")
    listed = [own, *(str(name) for name in names)]
    for name in sorted({name for name in listed[1:] if listed.count(name) > 1}):
        made.problems.append(f"{where}: {name!r} stands twice")
    for name in listed:
        made.add(name, entry, where=where)


def _add_concepts(
    made: Lexicon, concepts: Mapping[str, Any], facet: str, axis: str, parent: str
) -> list[tuple[str, str, list[str]]]:
    """Register the concepts of a file. Those that only stand for a phrase are returned, to be expanded later."""
    pending: list[tuple[str, str, list[str]]] = []
    for key, concept in concepts.items():
        names = list(concept.get("names", ()))
        parents = concept.get(parent, concept.get("any_of", ()))
        if concept.get("any_of"):
            made.vague.add(key)
        if concept.get("generic"):
            made.generic.add(key)
        if "means" in concept:
            pending.append((key, concept["means"], [key.replace("_", " "), *names]))
        if "means" not in concept or parents:
            made.ancestors[key] = frozenset([parents] if isinstance(parents, str) else parents)
        if "means" not in concept:
            entry = Entry("term", (Atom(facet, axis, key), *_said(made, key, concept)))
            _add_names(made, key, names, entry, where=f"{facet}.{key}")
        for other in concept.get("related", ()):
            made.related.add(frozenset((key, other)))
    return pending


def _said(made: Lexicon, key: str, concept: Mapping[str, Any]) -> tuple[Atom, ...]:
    """The values that a place implies: the apex of a lung is its upper end."""
    atoms: list[Atom] = []
    for phrase in [concept["says"]] if "says" in concept else []:
        found = made.expand(phrase)
        if found is None:
            made.problems.append(f"{key}: says {phrase!r}, which the lexicon does not know")
        atoms.extend(found or ())
    return tuple(atoms)


def _add_grammar(made: Lexicon, grammar: Mapping[str, Any]) -> None:
    for cue in CUES:
        for name in grammar[cue]:
            made.add(name, Entry("cue", cue=cue), where=cue)
    for name in (*grammar["yes"], *grammar["no"]):
        made.add(name, Entry("cue", cue="yes" if name in grammar["yes"] else "no"), where="yes")
    for dimension, table in grammar["dimensions"].items():
        made.dimensions[dimension] = (table.get("axis", dimension), table["gives"])
        for noun in table["nouns"]:
            made.add(noun, Entry("dimension", cue=dimension), where=dimension)
    for name in grammar["carriers"]:
        made.add(name, Entry("carrier"), where="carriers")
    for kind in ("count_words", "fractions", "times"):
        for name, number in grammar[kind].items():
            made.add(name, Entry("number", cue=kind, word=number), where=kind)
    made.labels = frozenset(word for name in grammar["labels"] for word in cut_tokens(name))


def _add_definitions(made: Lexicon, pending: list[tuple[str, str, list[str]]]) -> None:
    """Expand phrases into atoms. A phrase may use the name of another, so each waits until all its words are known."""
    while pending:
        later = []
        for key, phrase, names in pending:
            atoms = made.expand(phrase)
            if atoms is None:
                later.append((key, phrase, names))
                continue
            kind = "negated" if phrase.startswith("no ") else "term"
            if key in made.ancestors and key != phrase:
                # A fibrosis of the lung is a fibrosis, and in the lung by its nature.
                made.ancestors[key] |= {atom.value for atom in atoms if atom.axis == "name"} - {key}
                places = {atom.value for atom in atoms if atom.axis == "place"}
                made.sites[key] = made.sites.get(key, frozenset()) | places
                atoms = (Atom("finding", "name", key), *(atom for atom in atoms if atom.facet != "finding"))
            for name in names:
                made.add(name, Entry(kind, atoms), where=key)
        if len(later) == len(pending):
            made.problems += [f"{key}: {phrase!r} has a word the lexicon does not know" for key, phrase, _ in later]
            return
        pending = later


def _close(made: Lexicon, files: Mapping[str, Mapping[str, Any]]) -> None:
    """Resolve parents that only stand for a phrase, pass on what they imply, and list all ancestors of each concept."""
    implied: dict[str, tuple[Atom, ...]] = {}
    concepts = {*files["findings"], *files["anatomy"]}
    for key, parents in list(made.ancestors.items()):
        resolved: set[str] = set()
        for parent in parents:
            if parent in made.ancestors:
                resolved.add(parent)
                continue
            entry = made.terms.get(tuple(cut_tokens(parent.replace("_", " "))))
            if entry is None or entry.kind != "term":
                made.problems.append(f"{key}: its parent {parent!r} is not defined")
                continue
            resolved |= {atom.value for atom in entry.atoms if atom.facet == "finding"}
            implied[key] = tuple(atom for atom in entry.atoms if atom.facet != "finding")
        made.ancestors[key] = frozenset(resolved)
    for pair in made.related:
        made.problems += [f"related: {key!r} is not defined" for key in pair if key not in concepts]
    for key in made.ancestors:
        made.ancestors[key] = _all_above(made, key, frozenset())
    _imply(made, implied)


def _all_above(made: Lexicon, key: str, path: frozenset[str]) -> frozenset[str]:
    if key in path:
        made.problems.append(f"{key} is its own ancestor")
        return frozenset()
    above = made.ancestors.get(key, frozenset())
    # A ventricle lies in the brain or in the heart; a lateral ventricle is a ventricle, and lies in neither for that.
    sure = above - made.vague
    return above.union(*(_all_above(made, parent, path | {key}) for parent in sure)) if above else above


def _imply(made: Lexicon, implied: Mapping[str, tuple[Atom, ...]]) -> None:
    """Add to every term of a concept what those parents say that stand for a phrase: an adenocarcinoma is malignant."""
    chains = {
        key: [*(implied[a] for a in made.ancestors[key] if a in implied), implied.get(key, ())]
        for key in made.ancestors
    }
    changed: dict[tuple[str, ...], Entry] = {}
    for key, entry in made.terms.items():
        if entry.kind != "term":
            continue
        more = [x for atom in entry.atoms for chain in chains.get(atom.value, ()) for x in chain]
        if not set(more) <= set(entry.atoms):
            changed[key] = Entry("term", tuple(dict.fromkeys((*entry.atoms, *more))), word=entry.word)
    made.terms.update(changed)


def _add_ambiguous(made: Lexicon, table: Mapping[str, Any]) -> None:
    for key, value in table.items():
        word, senses = (value["word"], value["senses"]) if isinstance(value, dict) else (key, value)
        compiled = []
        for sense in senses:
            atoms = made.expand(sense["is"])
            if atoms is None:
                made.problems.append(f"ambiguous {key}: {sense['is']!r} has a word the lexicon does not know")
                continue
            compiled.append((atoms, frozenset(sense.get("near", ()))))
        tokens = tuple(cut_tokens(word))
        known = made.terms.pop(tokens, None)
        if known is not None and known.atoms != compiled[0][0]:
            made.problems.append(f"ambiguous {key}: {word!r} also stands in another file")
        made.add(word, Entry("ambiguous", compiled[0][0], senses=tuple(compiled)), where=f"ambiguous {key}")


def _add_sites(made: Lexicon, files: Mapping[str, Mapping[str, Any]]) -> None:
    for finding, places in made.sites.items():
        made.sites[finding] = places.union(*(made.ancestors.get(place, frozenset()) for place in places))
    values = {value for axis in made.axes.values() for value in axis.values}
    for place, findings in files["sites"].items():
        for finding in findings:
            if place not in files["anatomy"] or (finding not in files["findings"] and finding not in values):
                made.problems.append(f"sites: {place} or {finding} is not defined")
            made.sites[finding] = (
                made.sites.get(finding, frozenset()) | {place} | made.ancestors.get(place, frozenset())
            )


def _add_significance(made: Lexicon, files: Mapping[str, Mapping[str, Any]]) -> None:
    for rank, phrases in files["significance"].items():
        for phrase in phrases:
            atoms = made.expand(phrase.replace("_", " "))
            heads = [atom.value for atom in atoms or () if atom.axis in ("name", "place")]
            if phrase in made.axes:
                made.significance[phrase] = rank
            elif len(heads) == 1 and heads[0] in files["findings"]:
                made.significance[heads[0]] = rank
            elif atoms and heads:
                made.significant.setdefault(heads[0], []).append((frozenset(atoms), rank))
            else:
                made.problems.append(f"significance: {phrase!r} has a word the lexicon does not know")
    for finding, above in made.ancestors.items():
        ranks = [made.significance[parent] for parent in above if parent in made.significance]
        if ranks and finding not in made.significance:
            made.significance[finding] = "urgent" if "urgent" in ranks else "minor"


def _add_within(made: Lexicon) -> None:
    """Give words such as "intracranial" a value that "extracranial" contradicts. It costs nothing to leave it out."""
    for key, entry in list(made.terms.items()):
        if len(key) == 1 and entry.kind == "term" and key[0].startswith("intra") and len(key[0]) > 9:
            made.terms[key] = Entry("term", (*entry.atoms, intra_value(key[0])))


def intra_value(word: str) -> Atom:
    """The value of an `intra-` or `extra-` word."""
    return Atom("position", f"within:{stem(word[5:])}", word[:5])


def _add_rewrites(made: Lexicon) -> None:
    """Make rules that read a name of several terms ("dilated bronchi") from its pieces, in any order of the words."""
    rules: dict[frozenset[Atom], tuple[Atom, ...]] = {}
    for key, entry in made.terms.items():
        if len(key) < 2 or entry.kind != "term" or all(atom.axis not in ("name", "place") for atom in entry.atoms):
            continue
        pieces = _pieces(made, key)
        if pieces and len(pieces) > 1 and not set(entry.atoms) <= pieces and _meaningful(made, pieces, entry):
            common = {atom for atom in pieces if atom.axis in COMMON or atom.value == "unchanged"}
            if len(pieces) <= SHORT and not common.issubset(entry.atoms):
                continue
            rules.setdefault(pieces, entry.atoms)
    count: dict[Atom, int] = {}
    for pieces in rules:
        for atom in pieces:
            count[atom] = count.get(atom, 0) + 1
    for pieces, atoms in sorted(rules.items(), key=lambda rule: -len(rule[0])):
        rarest = min(pieces, key=lambda atom: (count[atom], atom))
        made.rewrites.setdefault(rarest, []).append((pieces, atoms))
        made.rewritable.setdefault(rarest.value, []).append(frozenset(atom.value for atom in pieces))


def _meaningful(made: Lexicon, pieces: frozenset[Atom], entry: Entry) -> bool:
    """Whether a rule leads from pieces to a named finding or the size of an organ, or from places to a part of one."""
    heads = [atom for atom in pieces if atom.axis in ("name", "place")]
    if not heads:
        return False
    if all(atom.facet == "anatomy" for atom in pieces):
        whole = frozenset().union(*(made.ancestors.get(atom.value, ()) for atom in entry.atoms))
        return len(entry.atoms) == 1 and any(atom.value in whole for atom in pieces)
    if any(atom.axis == "name" or atom.axis == "organ_size" for atom in entry.atoms):
        return True
    # What both say of one place: "obliterated costophrenic angle" is a blunted one, an "upper incisor" in the maxilla.
    return any(atom.axis == "place" and atom in pieces for atom in entry.atoms)


def _pieces(made: Lexicon, key: tuple[str, ...]) -> frozenset[Atom] | None:
    """What the words of a name say one by one; `None` if one of them is no term."""
    atoms: set[Atom] = set()
    position = 0
    while position < len(key):
        entry, end = made.longest(key[: len(key) - (position == 0)], position)
        if entry is None or (entry.kind != "term" and entry.cue not in ("prepositions", "verbs", "joins")):
            return None
        atoms.update(entry.atoms)
        position = end
    return frozenset(atoms)
