"""Is one model better than the other? From the answers of both to the same questions, to the JSON of `medrft compare`.

Answers are paired by question and clustered by image. For each data set, kind and leading metric there is the mean
difference, its 95 % interval, and a p-value from flipping the signs of whole images. The p-values are corrected by
Holm's method for all tests of one call.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, NamedTuple

from medrft.evaluation.compare.changes import changes_of
from medrft.evaluation.compare.matching import by_question
from medrft.evaluation.compare.sides import Key, Pair, Row, Side
from medrft.evaluation.compare.signflip import EXACT, FLIPS, SignFlip, holm, sign_flip
from medrft.evaluation.metrics import LEADING, repeats_accuracy, values_of
from medrft.intervals import Interval, paired_difference
from medrft.types import KINDS, Score

NEED: dict[str, tuple[str, ...]] = {"correct": ("correct",), "average": ("encoder",), "clinical": ("clinical",)}
"""Metric -> entries of the header that it depends on; where these differ between the sides, it is not compared."""

SETTINGS = ("prompt", "prompt_hash", "correct", "encoder", "clinical")
"""Entries of the header, in addition to those of `generation`, that are reported where they differ.

`prompt_hash` is reported only where the prompts' names are the same.
"""

FACTS = ("model", "evaluator", "checkpoint", "prompt", "encoder")
"""Entries of the header that describe a side."""

LISTED = 200
"""How many of the examples left out are listed per reason."""


@dataclass(frozen=True, kw_only=True)
class Draws:
    """How often signs are flipped, and from which seed."""

    seed: int = 0
    flips: int = FLIPS


@dataclass(frozen=True, kw_only=True)
class Test:
    """One side minus the baseline, on one data set, kind and metric."""

    a: str
    b: str
    dataset: str
    kind: str
    metric: str
    mean_a: float
    mean_b: float
    difference: Interval
    flip: SignFlip
    by_image: bool
    """Whether all clusters are images; if not, questions whose image is not known are clusters of their own."""
    unscored: int
    scale: Mapping[str, Any]
    """`range` and `better` of a scorer that the recipes name themselves; empty means 0 to 1, higher is better."""


def compare_sides(sides: Sequence[Side], draws: Draws | None = None) -> dict[str, Any]:
    """All that `medrft compare` reports, as JSON: tests, changed examples, and what was left out and why."""
    baseline, *others = sides
    draws = draws or Draws()
    tests: list[Test] = []
    against = []
    for other in others:
        other, renamed = by_question(baseline, other)
        pairs, left_out = pair_answers(baseline, other)
        skipped = _skipped(baseline, other)
        tests += _tests((baseline.name, other.name), pairs, skipped, _own_scorers(baseline, other), draws)
        against.append(
            {
                "name": other.name,
                "paired": len({p.key for p in pairs}),
                "left_out": left_out,
                "paired_by_question": renamed,
                "settings": _settings(baseline, other),
                "not_compared": {f"{dataset}: {metric}": why for (dataset, metric), why in skipped.items()},
                "changes": changes_of(pairs),
            }
        )
    corrected = holm([test.flip.p for test in tests])
    return {
        "baseline": baseline.name,
        "sides": [_side(side) for side in sides],
        "interval": "95 % interval of the paired difference by t, over whole clusters",
        "p": f"two-sided, signs of whole clusters flipped: all patterns up to {EXACT}, else {draws.flips} random ones",
        "clusters": "the questions about one image; each question alone where its image is not known",
        "seed": draws.seed,
        "correction": f"Holm over all {len(tests)} tests of this call",
        "conditional": _conditional(sides),
        "tests": [_as_json(test, p) for test, p in zip(tests, corrected, strict=True)],
        "against": against,
    }


def pair_answers(a: Side, b: Side) -> tuple[list[Pair], dict[str, Any]]:
    """The examples that both sides answered, run by run, and what was left out: `{reason: {count, examples}}`.

    If reference, question, kind or options differ under the same id, it is not the same example and is left out.
    """
    pairs: list[Pair] = []
    reasons: dict[str, set[str]] = {}
    for number, (one, two) in enumerate(zip(a.runs, b.runs, strict=True)):
        more, left_out = pair_rows(one.rows, two.rows, run=number, names=(a.name, b.name))
        pairs += more
        for reason, ids in left_out.items():
            reasons.setdefault(reason, set()).update(ids)
    return pairs, {
        reason: {"count": len(ids), "examples": sorted(ids)[:LISTED]} for reason, ids in sorted(reasons.items())
    }


Rows = Mapping[Key, tuple[Row, ...]]


def pair_rows(
    one: Rows, two: Rows, *, run: int = 0, names: tuple[str, str] = ("a", "b")
) -> tuple[list[Pair], dict[str, set[str]]]:
    """The examples that both models answered to the same question, and the ids of those left out, by reason."""
    pairs: list[Pair] = []
    reasons: dict[str, set[str]] = {}
    for key in sorted(one.keys() | two.keys()):
        reason = _reason(one, two, key, names)
        if reason is None:
            pairs.append(Pair(key=key, run=run, a=one[key], b=two[key]))
        else:
            reasons.setdefault(reason, set()).add(key[2])
    return pairs, reasons


def _reason(one: Rows, two: Rows, key: Key, names: tuple[str, str]) -> str | None:
    """Why an example cannot be paired; `None` where it can."""
    if key not in two:
        return f"only in {names[0]}"
    if key not in one:
        return f"only in {names[1]}"
    first, second = one[key][0], two[key][0]
    for field, name in (
        ("references", "reference"),
        ("question", "question"),
        ("kind", "kind"),
        ("options", "options"),
    ):
        if (first.get(field) or None) != (second.get(field) or None):
            return f"another {name} under the same id"
    return None


def _tests(
    names: tuple[str, str],
    pairs: Sequence[Pair],
    skipped: Mapping[tuple[str, str], str],
    own: Mapping[str, Mapping[str, Any]],
    draws: Draws,
) -> Iterator[Test]:
    """One test per data set, kind and leading metric; a metric whose values all equal another's is dropped.

    It would say nothing new, but make Holm's correction stricter for all the others.
    """
    for dataset in sorted({p.key[0] for p in pairs}):
        for kind in KINDS:
            chosen = [p for p in pairs if p.key[0] == dataset and p.kind == kind]
            seen: list[list[Scored]] = []
            for metric in (*LEADING, *own):
                scored = scored_pairs(chosen, metric)
                repeats = (scored in seen and metric not in own) or repeats_accuracy(metric, kind)
                if (dataset, metric) in skipped or repeats or not scored:
                    continue
                seen.append(scored)
                yield Test(
                    **_figures(scored, draws),
                    a=names[0],
                    b=names[1],
                    dataset=dataset,
                    kind=kind,
                    metric=metric,
                    unscored=len(chosen) - len(scored),
                    scale={key: own[metric][key] for key in ("range", "better")} if metric in own else {},
                )


class Scored(NamedTuple):
    """A pair with one metric's value on both sides."""

    pair: Pair
    before: float
    after: float


def scored_pairs(pairs: Sequence[Pair], metric: str) -> list[Scored]:
    """The pairs that a metric scores on both sides; each value is the mean over the example's samples."""
    values = [(pair, _mean(pair.a, metric), _mean(pair.b, metric)) for pair in pairs]
    return [Scored(pair, x, y) for pair, x, y in values if x is not None and y is not None]


def mean_difference(scored: Sequence[Scored]) -> Interval:
    """The second side minus the first, with its 95 % interval over images and, where there are several, runs."""
    return paired_difference(
        [one.after for one in scored],
        [one.before for one in scored],
        clusters=[one.pair.cluster for one in scored],
        runs=[one.pair.run for one in scored],
    )


def _figures(scored: Sequence[Scored], draws: Draws) -> dict[str, Any]:
    """Means, difference and test of one metric over the pairs that are scored on both sides."""
    return {
        "mean_a": fmean(one.before for one in scored),
        "mean_b": fmean(one.after for one in scored),
        "difference": mean_difference(scored),
        "flip": sign_flip(
            [one.after - one.before for one in scored],
            clusters=[one.pair.cluster for one in scored],
            seed=draws.seed,
            flips=draws.flips,
        ),
        "by_image": all(one.pair.a[0]["images"] or one.pair.b[0]["images"] for one in scored),
    }


def _mean(rows: Sequence[Row], metric: str) -> Score:
    """An example's value, averaged over its samples; `None` where any is unscored or the metric is absent."""
    values = [values_of(row).get(metric) for row in rows]
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None


def _headers(a: Side, b: Side) -> Iterator[tuple[str, Row, Row]]:
    """The headers of both sides, run by run, for each data set that both have."""
    for one, two in zip(a.runs, b.runs, strict=True):
        for dataset in sorted(one.headers.keys() & two.headers.keys()):
            yield dataset, one.headers[dataset], two.headers[dataset]


def _own_scorers(a: Side, b: Side) -> dict[str, Mapping[str, Any]]:
    """The headers' facts on the scorers that the recipes of both sides name themselves, by metric."""
    pairs = [(one.get("scorers") or {}, two.get("scorers") or {}) for _, one, two in _headers(a, b)]
    return {name: facts for one, two in pairs for name, facts in one.items() if name in two}


def _skipped(a: Side, b: Side) -> dict[tuple[str, str], str]:
    """Metrics that mean something else on the two sides, with the reason."""
    own = {
        (dataset, name): f"the scorer differs: {one['scorers'][name]} and {two['scorers'][name]}"
        for dataset, one, two in _headers(a, b)
        for name in _own_scorers(a, b)
        if name in one.get("scorers", {}) and name in two.get("scorers", {})
        if one["scorers"][name] != two["scorers"][name]
    }
    return own | {
        (dataset, metric): f"{field} differs: {one.get(field)} and {two.get(field)}"
        for dataset, one, two in _headers(a, b)
        for metric, fields in NEED.items()
        for field in fields
        if field in one and field in two and one[field] != two[field]
    }


def _settings(a: Side, b: Side) -> list[dict[str, Any]]:
    """The settings in which the two sides were asked differently; they may explain a difference in the answers."""
    found = [
        {"dataset": dataset, "setting": name, "a": ours[name], "b": theirs[name]}
        for dataset, one, two in _headers(a, b)
        for ours, theirs in [(_asked(one), _asked(two))]
        for name in ours
        if name in theirs and ours[name] != theirs[name]
    ]
    named = {entry["dataset"] for entry in found if entry["setting"] == "prompt"}
    found = [entry for entry in found if entry["setting"] != "prompt_hash" or entry["dataset"] not in named]
    return [entry for i, entry in enumerate(found) if entry not in found[:i]]


def _asked(header: Row) -> dict[str, Any]:
    """A header's settings that affect greedy answers, with those of `generation` as separate entries."""
    generation = {key: value for key, value in (header.get("generation") or {}).items() if key != "passes"}
    return {**{name: header[name] for name in SETTINGS if header.get(name) is not None}, **generation}


def _conditional(sides: Sequence[Side]) -> str:
    """A sentence on what the figures hold for: these trainings alone, or other seeds as well."""
    runs = len(sides[0].runs)
    if runs == 1:
        return "conditional on these trainings: another seed may give another difference"
    return (
        f"{runs} trainings per side, paired in the order given; intervals are over trainings and images, "
        "p-values flip images and are conditional on these trainings"
    )


def _side(side: Side) -> dict[str, Any]:
    """A side's files and counts."""
    first = side.runs[0]
    kinds = Counter(f"{key[0]}, {rows[0]['kind']}" for key, rows in first.rows.items())
    known = [header for header in first.headers.values() if header]
    return {
        "name": side.name,
        **{name: value for name, value in (known[0] if known else {}).items() if name in FACTS},
        "runs": [{"path": str(one.path), "stage": one.stage} for one in side.runs],
        "examples": dict(sorted(kinds.items())),
    }


def _as_json(test: Test, corrected: float) -> dict[str, Any]:
    """A test as a row of the table."""
    return {
        "a": test.a,
        "b": test.b,
        "dataset": test.dataset,
        "kind": test.kind,
        "metric": test.metric,
        "mean_a": test.mean_a,
        "mean_b": test.mean_b,
        **{"difference" if name == "mean" else name: value for name, value in test.difference.as_json().items()},
        "clusters": test.flip.clusters,
        "clustered_by": "image" if test.by_image else "question",
        "p": test.flip.p,
        "p_holm": corrected,
        "exact": test.flip.exact,
        "unscored": test.unscored,
        **test.scale,
    }
