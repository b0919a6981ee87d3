"""Reading the small result files: answers by question, and differences between arms paired by question and seed."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from medrft.errors import DataError
from medrft.intervals import UNIT, mean_interval, paired_difference
from medrft.pipeline.outcome import KIND_LETTERS, unpacked
from medrft.rundir import read_json

Result = Mapping[str, Any]
Column = dict[str, tuple[float, Hashable]]
"""Question -> its value and its image cluster."""

KINDS = {letter: kind for kind, letter in KIND_LETTERS.items()}


def read_results(folder: Path) -> list[dict[str, Any]]:
    """Every result file of a folder, by arm and seed; raises `DataError` for one that is none."""
    found = []
    for path in sorted(folder.glob("*-seed*.json")):
        result = read_json(path)
        if not {"arm", "seed", "key", "answers"} <= result.keys():
            raise DataError(f"{path} is not an arm's result: it lacks arm, seed, key or answers; take it away")
        found.append(result)
    return found


def column(result: Result, *, dataset: str, kind: str, metric: str, source: str = "none") -> Column:
    """One metric's values by question; empty where the arm has none."""
    packed = result["answers"].get(dataset)
    text = None if packed is None else packed["values"].get(source, {}).get(metric)
    if packed is None or text is None:
        return {}
    ids, images = packed["ids"].split(" "), packed["images"].split(" ")
    clusters = [images[int(number)] for number in packed["clusters"].split(" ")]
    values = unpacked(metric, text, len(ids))
    rows = zip(ids, clusters, packed["kinds"], values, strict=True)
    return {
        name: (value, cluster)
        for name, cluster, letter, value in rows
        if value is not None and kind in ("all", KINDS[letter])
    }


def difference(
    a: Sequence[Result],
    b: Sequence[Result],
    *,
    only: Mapping[int, set[str]] | None = None,
    **where: Any,
) -> dict[str, Any] | None:
    """Mean of `a` minus `b`, paired by question within each seed that both have, with its interval.

    The interval covers other seeds and other images. `where` names dataset, kind, metric and source; `only` keeps
    some questions of each seed. `None` where no question is shared.
    """
    left, right, clusters, runs = [], [], [], []
    per_seed: dict[str, float] = {}
    others = {result["seed"]: result for result in b}
    for result in a:
        seed = result["seed"]
        if seed not in others:
            continue
        one, two = column(result, **where), column(others[seed], **where)
        keys = [key for key in one if key in two and (only is None or key in only.get(seed, ()))]
        if not keys:
            continue
        left += [one[key][0] for key in keys]
        right += [two[key][0] for key in keys]
        clusters += [one[key][1] for key in keys]
        runs += [seed] * len(keys)
        per_seed[str(seed)] = sum(one[key][0] - two[key][0] for key in keys) / len(keys)
    if not left:
        return None
    found = paired_difference(left, right, clusters=clusters, runs=runs)
    facts = {**found.as_json(), "per_seed": per_seed, "positive": sum(v > 0 for v in per_seed.values())}
    return {key: _rounded(value) for key, value in facts.items()}


def pooled(results: Sequence[Result], **where: Any) -> dict[str, Any] | None:
    """Mean over questions and seeds with its interval over seeds and images; `None` without values."""
    values, clusters, runs = [], [], []
    for result in results:
        found = column(result, **where)
        values += [value for value, _ in found.values()]
        clusters += [cluster for _, cluster in found.values()]
        runs += [result["seed"]] * len(found)
    if not values:
        return None
    bounds = UNIT if all(0 <= value <= 1 for value in values) else None
    interval = mean_interval(values, clusters=clusters, runs=runs, bounds=bounds)
    return {key: _rounded(value) for key, value in {**interval.as_json(), "seeds": len(set(runs))}.items()}


def _rounded(value: Any) -> Any:
    """Floats at five digits, so that files agree on every machine."""
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return round(value, 5) + 0.0 if isinstance(value, float) else value
