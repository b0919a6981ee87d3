"""Reads the small result files: from them to values by question, and to differences paired by question and seed.

    {"arm": "ecr", "seed": 1, "key": "5f0c…", "answers": {"phantom": {"ids": "0 1 2", "kinds": "loo", "values":
     {"none": {"truth": "1-0", "cosine": "500 - 320"}}, …}}, "pass_at": {…}, "cost": […], "curves": {…}, …}

Each metric is one packed string (`pack_column`), because these files are committed.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import sqrt
from pathlib import Path
from typing import Any

from medrft.errors import DataError
from medrft.evaluation.metrics import verdict_name
from medrft.intervals import UNIT, cluster_variance, mean_interval, paired_difference
from medrft.rundir import read_json
from medrft.studies.arms import Arm
from medrft.studies.plan import OUTCOMES, Study

Result = Mapping[str, Any]
Arms = Mapping[str, Sequence[Result]]
Column = dict[str, tuple[float, Hashable]]
"""Question -> its value, and the cluster of its images."""

KIND_LETTERS = {"closed": "l", "choice": "h", "open": "o"}


KINDS = {letter: kind for kind, letter in KIND_LETTERS.items()}


NEEDED = frozenset(
    ("arm", "seed", "key", "encoder", "form", "cost", "evaluation_seconds", "curves", "answers", "pass_at")
)


def result_label(result: Result) -> str:
    """`<arm>-seed<k>`."""
    return f"{result['arm']}-seed{result['seed']}"


def read_results(folder: Path) -> list[dict[str, Any]]:
    """All result files of a folder, sorted by file name; raises `DataError` for one that is not a result."""
    return [read_result(path) for path in sorted(folder.glob("*-seed*.json"))]


@dataclass(frozen=True)
class Places:
    """Where the result files of a study lie, and those of its controls."""

    own: Path
    controls: Path

    @classmethod
    def of(cls, study: Study, named: Path | None = None) -> Places:
        """The study's own places, or below the folder that a command names."""
        if named is not None:
            return cls(named, named / "controls")
        own = study.results
        return cls(own, study.controls.results if study.controls else own / "controls")

    def result(self, arm: Arm) -> Path:
        """The result file of an arm; that of a control has its key in its name, for other studies share the folder."""
        return self.controls / f"{arm.folder}.json" if arm.control else self.own / f"{arm.label}.json"

    def read(self, arms: Sequence[Arm]) -> list[dict[str, Any]]:
        """All results of the study's own folder, and those of its controls among `arms`."""
        of_controls = [self.result(arm) for arm in arms if arm.control]
        return read_results(self.own) + [read_result(path) for path in of_controls if path.is_file()]


def read_result(path: Path) -> dict[str, Any]:
    """One result file; raises `DataError` if it is broken, or if it is a copy of another arm's result."""
    try:
        result = read_json(path)
    except DataError as error:
        raise DataError(f"{error}; take it away, and its arm is run again") from error
    lacks = sorted(NEEDED - (result.keys() if isinstance(result, dict) else set()))
    if lacks:
        raise DataError(f"{path} is not an arm's result: it lacks {', '.join(lacks)}; take it away")
    if path.stem not in (result_label(result), f"{result_label(result)}-{result['key'][:8]}"):
        raise DataError(f"{path} holds the result of {result_label(result)}; take it away, as it would count twice")
    found: dict[str, Any] = result
    return found


def metric_column(result: Result, *, dataset: str, kind: str, metric: str, source: str = "none") -> Column:
    """One metric's values by question id; empty if the arm has none."""
    packed = result["answers"].get(dataset)
    text = None if packed is None else packed["values"].get(source, {}).get(metric)
    if packed is None or text is None:
        return {}
    columns = (packed[name] for name in ("prefix", "ids", "images", "clusters", "kinds"))
    return _read_column(*columns, text, metric=metric, kind=kind)


@lru_cache(maxsize=512)  # a study compares each arm with many others, so the same column is asked for repeatedly
def _read_column(
    prefix: str, ids: str, images: str, clusters: str, kinds: str, text: str, *, metric: str, kind: str
) -> Column:
    """The values of one packed column. The result is cached, so callers must not change it."""
    names, hashes = ids.split(" "), images.split(" ")
    places = [hashes[int(number)] for number in clusters.split(" ")]
    rows = zip(names, places, kinds, unpack_column(metric, text, len(names)), strict=True)
    return {
        f"{prefix}{name}": (value, place)
        for name, place, letter, value in rows
        if value is not None and kind in ("all", KINDS[letter])
    }


def paired_over_seeds(
    a: Sequence[Result],
    b: Sequence[Result],
    *,
    only: Mapping[int, set[str]] | None = None,
    **where: Any,
) -> dict[str, Any] | None:
    """Mean of `a` minus `b`, paired by question within each seed that both have, with its interval.

    The interval covers other seeds and other images. `within_sd` is the part of the spread between seeds that another
    draw of images alone would cause: the root of the mean cluster variance over seeds. `where` names dataset, kind,
    metric and source; `only` restricts the questions of each seed. `None` where no question is shared.
    """
    left, right, clusters, runs, within = [], [], [], [], []
    per_seed: dict[str, float] = {}
    others = {result["seed"]: result for result in b}
    for result in a:
        seed = result["seed"]
        if seed not in others:
            continue
        one, two = metric_column(result, **where), metric_column(others[seed], **where)
        keys = [key for key in one if key in two and (only is None or key in only.get(seed, ()))]
        if not keys:
            continue
        left += [one[key][0] for key in keys]
        right += [two[key][0] for key in keys]
        clusters += [one[key][1] for key in keys]
        runs += [seed] * len(keys)
        apart = [one[key][0] - two[key][0] for key in keys]
        per_seed[str(seed)] = sum(apart) / len(apart)
        within.append(cluster_variance(apart, [one[key][1] for key in keys]))
    if not left:
        return None
    found = paired_difference(left, right, clusters=clusters, runs=runs)
    facts = {**found.as_json(), "per_seed": per_seed, "positive": sum(v > 0 for v in per_seed.values())}
    facts["within_sd"] = sqrt(sum(within) / len(within))
    return {key: round_floats(value) for key, value in facts.items()}


def pooled_mean(
    results: Sequence[Result], *, only: Mapping[int, set[str]] | None = None, **where: Any
) -> dict[str, Any] | None:
    """Mean over questions and seeds with its interval over seeds and images; `None` without values.

    `only` restricts the questions of each seed.
    """
    values, clusters, runs = [], [], []
    for result in results:
        found = metric_column(result, **where)
        kept = [value for key, value in found.items() if only is None or key in only.get(result["seed"], ())]
        values += [value for value, _ in kept]
        clusters += [cluster for _, cluster in kept]
        runs += [result["seed"]] * len(kept)
    if not values:
        return None
    bounds = UNIT if all(0 <= value <= 1 for value in values) else None
    interval = mean_interval(values, clusters=clusters, runs=runs, bounds=bounds)
    return {key: round_floats(value) for key, value in {**interval.as_json(), "seeds": len(set(runs))}.items()}


def mean_of(results: Sequence[Result], **where: Any) -> float | None:
    """The mean of `pooled_mean` alone; `None` without values."""
    found = pooled_mean(results, **where)
    return None if found is None else float(found["mean"])


def lead_of(found: Sequence[Result], dataset: str) -> str:
    """The metric that tells right from wrong on a data set: `truth` where the arm has it, else `correct`."""
    return verdict_name(found[0]["answers"].get(dataset, {}).get("values", {}).get("none", {}))


def datasets_of(arms: Arms) -> list[str]:
    """Data sets that any arm was evaluated on."""
    return sorted({name for found in arms.values() for result in found for name in result["answers"]})


def round_floats(value: Any) -> Any:
    """Floats rounded to five decimals, so that files made on different machines agree; no negative zero."""
    if isinstance(value, dict):
        return {key: round_floats(inner) for key, inner in value.items()}
    return round(value, 5) + 0.0 if isinstance(value, float) else value


def pack_column(name: str, column: Sequence[float | None]) -> str:
    """A column as text; `-` is unscored. Values of 0 or 1 are one character each.

    Others are thousandths, or whole numbers for tokens, separated by spaces.

    >>> pack_column("truth", [1.0, None, 0.0]), pack_column("cosine", [0.5, None]), pack_column("n_tokens", [12.0, 7.0])
    ('1-0', '500 -', '12 7')
    """
    if name in OUTCOMES and all(value in (None, 0.0, 1.0) for value in column):
        return "".join("-" if value is None else str(int(value)) for value in column)
    scale = 1 if name == "n_tokens" else 1000
    return " ".join("-" if value is None else str(round(scale * value)) for value in column)


def unpack_column(name: str, text: str, n: int) -> list[float | None]:
    """The column that `pack_column` wrote, of `n` values.

    >>> unpack_column("truth", "1-0", 3), unpack_column("cosine", "500 -", 2)
    ([1.0, None, 0.0], [0.5, None])
    """
    if len(text) == n and " " not in text and name in OUTCOMES:
        return [None if mark == "-" else float(mark) for mark in text]
    scale = 1 if name == "n_tokens" else 1000
    return [None if word == "-" else float(word) / scale for word in text.split()]
