"""The user's own lexicon files: checked for their form, then compiled with ours.

    findings:
      neovascularization: {is_a: lesion, names: [new vessels, nvd]}
    definitions:
      raised intraocular pressure: [ocular hypertension, high iop]

The form is that of a pack of ours. A file of the wrong form is told by file, section and entry, as names that stand for
two things are by `compile`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from medrft.config import ClinicalConfig
from medrft.errors import DataError
from medrft.files import hash_file
from medrft.scorers.clinical.compile import CUES, load_lexicon
from medrft.scorers.clinical.lexicon import Lexicon
from medrft.scorers.clinical.tables import FILES, with_packs

TEXT, TEXTS, LIST, TABLE, EITHER = "a text", "a list of texts", "a list", "a table", "a text or a list of texts"
CONCEPT = {"names": TEXTS, "any_of": TEXTS, "related": TEXTS, "generic": TEXT, "means": TEXT, "says": TEXT}
AXIS = {
    **{"values": TABLE, "order": TEXTS, "negation": TABLE, "includes": TABLE, "near": LIST, "contradict_near": TEXT},
    "equals": TABLE,
}
SENSE = {"is": TEXT, "near": TEXTS}
PARENT = {"findings": "is_a", "modality": "is_a", "anatomy": "part_of"}
GRAMMAR = {
    **dict.fromkeys((*CUES, "yes", "no", "carriers", "labels"), TEXTS),
    **dict.fromkeys(("dimensions", "count_words", "fractions", "times"), TABLE),
}
MORPHOLOGY = {
    **dict.fromkeys(("roots", "suffixes", "prefixes", "direction_parts"), TABLE),
    **{"negative_prefixes": TEXTS, "opposed_prefixes": LIST},
}
KEYS = {
    "grammar": GRAMMAR,
    "morphology": MORPHOLOGY,
    "significance": dict.fromkeys(("urgent", "minor"), TEXTS),
}
"""The keys of sections that have a fixed set of them."""
TOLD = 5
"""So many mistakes of a file are told at a time."""


@lru_cache(maxsize=8)
def own_lexicon(paths: tuple[str | Path, ...] = ()) -> Lexicon:
    """Our lexicon with the user's files, compiled once for each set of files.

    Raises `DataError` for a file that is missing, has another form than a pack, or does not fit what is there.
    """
    own = tuple(map(Path, paths))
    for path in own:
        if not path.is_file():
            raise DataError(f"no lexicon at {path}; give a YAML file in the form of a pack (docs/clinical.md)")
        if wrong := check_form(path):
            more = f" (and {len(wrong) - TOLD} more)" if len(wrong) > TOLD else ""
            raise DataError(f"{path}: {'; '.join(wrong[:TOLD])}{more}")
    return load_lexicon(own)


def lexicon_facts(paths: Iterable[str | Path]) -> dict[str, str]:
    """The names of the user's files with their SHA-256; without folders, because these differ between machines."""
    return {path.name: hash_file(path) for path in map(Path, paths)}


def clinical_facts(config: ClinicalConfig) -> dict[str, Any]:
    """What the records of a run say of a recipe's `clinical:`."""
    return {**config.model_dump(mode="json"), "lexicon": lexicon_facts(config.lexicon)}


def check_form(path: Path) -> list[str]:
    """What in a file has not the form of a pack, a line each; raises `DataError` for a file that is no YAML table."""
    empty: dict[str, Any] = dict.fromkeys(FILES, "")
    return list(_wrong(with_packs(empty, [path])))


def _wrong(sections: Mapping[str, Any]) -> Iterator[str]:
    for section in FILES:
        table = sections[section]
        if not isinstance(table, Mapping):
            yield from [] if table in ("", None) else [_told(section, TABLE, table)]
        elif section in PARENT:
            known = {**CONCEPT, PARENT[section]: EITHER}
            yield from (line for key, entry in table.items() for line in _entry(f"{section}.{key}", entry, known))
        elif section == "attributes":
            yield from _attributes(table)
        elif section == "ambiguous":
            yield from (line for key, entry in table.items() for line in _ambiguous(f"ambiguous.{key}", entry))
        elif section in ("definitions", "sites"):
            yield from _all(section, table, TEXTS)
        else:
            yield from _entry(section, table, KEYS[section])


def _attributes(table: Mapping[str, Any]) -> Iterator[str]:
    facets = sorted({axis.facet for axis in load_lexicon().axes.values()})
    known = load_lexicon().axes
    for facet, axes in table.items():
        where = f"attributes.{facet}"
        if facet not in facets:
            yield f"{where}: there is no facet {facet!r}{_near(facet, facets)}"
        elif not isinstance(axes, Mapping):
            yield _told(where, TABLE, axes)
        else:
            for name, axis in axes.items():
                wrong = list(_entry(f"{where}.{name}", axis, AXIS))
                if not wrong:
                    wrong += _all(f"{where}.{name}.values", axis.get("values") or {}, TEXTS)
                    wrong += [] if "values" in axis or name in known else [f"{where}.{name}: it has no values"]
                yield from wrong


def _ambiguous(where: str, entry: Any) -> Iterator[str]:
    if isinstance(entry, Mapping):
        yield from _entry(where, entry, {"word": TEXT, "senses": LIST})
        yield from (f"{where}: it has no {key}" for key in ("word", "senses") if key not in entry)
        entry = entry.get("senses")
    if not isinstance(entry, list) or not entry:
        yield _told(where, "a list of senses", entry)
        return
    for sense in entry:
        yield from _entry(where, sense, SENSE)
        if isinstance(sense, Mapping) and "is" not in sense:
            yield f"{where}: a sense has no is"


def _entry(where: str, entry: Any, known: Mapping[str, str]) -> Iterator[str]:
    """What is wrong with a table of known keys."""
    if not isinstance(entry, Mapping):
        yield _told(where, f"{TABLE} of {', '.join(known)}", entry)
        return
    for key, value in entry.items():
        if key not in known:
            yield f"{where}: unknown key {key!r}{_near(key, known)}"
        elif not _fits(value, known[key]):
            yield _told(f"{where}.{key}", known[key], value)


def _all(where: str, table: Mapping[str, Any], form: str) -> list[str]:
    return [_told(f"{where}.{key}", form, value) for key, value in table.items() if not _fits(value, form)]


def _fits(value: Any, form: str) -> bool:
    if value == "":  # nothing stands after the colon
        return form != TABLE
    if isinstance(value, list):
        return form == LIST or (form in (TEXTS, EITHER) and all(isinstance(inner, str) for inner in value))
    return form == TABLE if isinstance(value, Mapping) else form in (TEXT, EITHER)


def _told(where: str, form: str, value: Any) -> str:
    shown = repr(value)
    return f"{where} must be {form}, got {shown if len(shown) < 60 else shown[:57] + '...'}"


def _near(name: str, known: Iterable[str]) -> str:
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(names)}"
