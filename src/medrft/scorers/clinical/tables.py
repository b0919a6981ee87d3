"""From the YAML files of the lexicon, its packs and the user's own to one set of tables.

lexicon/anatomy.yaml      places and what they are part of
lexicon/findings.yaml     findings, what they are a kind of, what they are said to mean
lexicon/definitions.yaml  words for a phrase ("cardiomegaly": enlarged heart)
lexicon/attributes.yaml   axes of values, by facet
lexicon/sites.yaml        the places that a finding implies (cirrhosis: liver)
lexicon/significance.yaml findings that are urgent, and those that seldom matter
lexicon/modality.yaml     modalities and sequences
lexicon/ambiguous.yaml    words with several meanings
lexicon/grammar.yaml      negation, doubt, joins, words without content
lexicon/morphology.yaml   roots, prefixes and suffixes
lexicon/packs/NAME.yaml   the words of one domain: any of the tables above as sections of one file

A user's own file has the form of a pack; `load_lexicon` adds it to ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from medrft.errors import DataError

FOLDER = Path(__file__).with_name("lexicon")
FILES = (
    "anatomy",
    "findings",
    "modality",
    "attributes",
    "grammar",
    "definitions",
    "ambiguous",
    "morphology",
    "sites",
    "significance",
)


def read_files(folder: Path) -> dict[str, Mapping[str, Any]]:
    """The YAML files of a lexicon. A key that stands twice is an error: a plain YAML load keeps only the last one."""
    return {name: _read(folder / f"{name}.yaml") for name in FILES}


def with_packs(files: Mapping[str, Mapping[str, Any]], packs: Iterable[Path]) -> dict[str, Any]:
    """The files with what each pack adds: new concepts and values, and more names for those that are there.

    Where a pack gives another value to something that has one, the first stays, and the disagreement is listed under
    `problems`. Raises `DataError` for a section that no lexicon has.
    """
    joined: dict[str, Any] = {**files, "problems": []}
    for path in packs:
        pack = _read(path)
        wrong = sorted(set(pack) - set(FILES))
        if wrong:
            raise DataError(f"{path.name}: there is no section {wrong[0]!r}; sections: {', '.join(FILES)}")
        for section, table in pack.items():
            joined[section] = _joined(joined[section], table, f"{path.name}: {section}", joined["problems"])
    return joined


def _joined(old: Any, new: Any, where: str, problems: list[str]) -> Any:
    """Two tables as one: tables joined key by key, lists one after the other."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        both = {key: _joined(old[key], new[key], f"{where}.{key}", problems) for key in old.keys() & new.keys()}
        return {**old, **new, **both}
    if isinstance(old, list) and isinstance(new, list):
        return [*old, *new]
    if new in ("", None) or old == new:
        return old
    if old in ("", None):
        return new
    problems.append(f"{where}: {new!r} does not fit what stands there already: {old!r}")
    return old


def _read(path: Path) -> Mapping[str, Any]:
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=LOADER)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{path}: {' '.join(str(error).split())}") from None
    content = _content(node, path.name)
    if not isinstance(content, dict):
        raise DataError(f"{path.name}: the file must be a table of terms")
    return content


LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _content(node: yaml.Node | None, where: str) -> Any:
    """A YAML node with every scalar as text, because YAML would read the words `no` and `1` as false and a number."""
    if isinstance(node, yaml.MappingNode):
        keys = [str(key.value) for key, _ in node.value]
        twice = sorted({key for key in keys if keys.count(key) > 1}) if len(set(keys)) < len(keys) else []
        if twice:
            raise DataError(f"{where}: {', '.join(twice)} stands twice; join the entries")
        return {key: _content(value, where) for key, (_, value) in zip(keys, node.value, strict=True)}
    if isinstance(node, yaml.SequenceNode):
        return [_content(value, where) for value in node.value]
    return node.value if node is not None else None
