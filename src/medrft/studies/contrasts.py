"""From result files to what else an arm changes: other metrics, easy and hard questions, lengths, its own reward."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Any

from medrft.intervals import mean_interval
from medrft.studies.plan import FLIPS, Pair
from medrft.studies.result_files import (
    Arms,
    Result,
    datasets_of,
    lead_of,
    metric_column,
    paired_over_seeds,
    pooled_mean,
    round_floats,
)

SIDE_METRICS = (
    *("truth", "correct", "exact_match", "bleu1", "rouge1", "bertscore", "cosine", "average"),
    *("answer_format", *FLIPS, "n_tokens"),
)


def side_metrics(arms: Arms, *, against: str) -> list[dict[str, Any]]:
    """Every metric of open answers, each arm minus `against`: does a reward improve more than its own metric?"""
    pairs = [Pair(a=name, against=against) for name in arms if name != against]
    return metric_comparisons(arms, pairs, kind="open")


def metric_comparisons(arms: Arms, pairs: Iterable[Pair], *, kind: str) -> list[dict[str, Any]]:
    """Every metric's paired difference of each pair of arms, by data set; pairs without results are left out."""
    rows = []
    for dataset in datasets_of(arms):
        for pair in pairs:
            found = {
                metric: paired_over_seeds(
                    arms.get(pair.a, ()), arms.get(pair.against, ()), dataset=dataset, kind=kind, metric=metric
                )
                for metric in SIDE_METRICS
            }
            found |= _sampled(arms, pair, dataset, kind)
            known = {metric: value for metric, value in found.items() if value is not None}
            if known:
                rows.append({"dataset": dataset, "arm": pair.a, "against": pair.against, "metrics": known})
    return rows


def _sampled(arms: Arms, pair: Pair, dataset: str, kind: str) -> dict[str, Any]:
    """The difference in right answers among the sampled ones, as the metric `sampled`."""
    if pair.a not in arms:
        return {}
    where: dict[str, Any] = {"dataset": dataset, "kind": kind, "metric": lead_of(arms[pair.a], dataset)}
    return {"sampled": paired_over_seeds(arms[pair.a], arms.get(pair.against, ()), **where, source="sampled")}


# ---- easy and hard questions, right and wrong answers ---------------------------------------------------------------


def by_difficulty(arms: Arms, *, against: str) -> list[dict[str, Any]]:
    """Each arm minus `against` on questions that the arm `none` answered right (easy) and wrong (hard), by seed.

    Neither side of the difference is the arm `none` itself, so regression to the mean affects both in the same way.
    """
    if "none" not in arms or against == "none":
        return []
    rows = []
    for dataset in datasets_of(arms):
        where: dict[str, Any] = {"dataset": dataset, "kind": "all", "metric": lead_of(arms["none"], dataset)}
        levels = {level: _answered([arms["none"]], right, where) for level, right in (("easy", 1.0), ("hard", 0.0))}
        for name in arms:
            if name in ("none", against):
                continue
            row: dict[str, Any] = {"dataset": dataset, "arm": name}
            two = arms[name], arms.get(against, ())
            for level, only in levels.items():
                row[level] = paired_over_seeds(*two, only=only, **where)
                row[f"{level}_tokens"] = paired_over_seeds(*two, only=only, **{**where, "metric": "n_tokens"})
            rows.append(row)
    return rows


def answer_lengths(arms: Arms, *, against: str) -> list[dict[str, Any]]:
    """Tokens of each arm's right and wrong answers, and the difference to `against` where both are right (or wrong).

    The means of two arms are over different questions; only the differences are over the same ones.
    """
    rows = []
    for dataset in datasets_of(arms):
        for name, found in arms.items():
            where: dict[str, Any] = {"dataset": dataset, "kind": "all", "metric": lead_of(found, dataset)}
            tokens = {**where, "metric": "n_tokens"}
            row: dict[str, Any] = {"dataset": dataset, "arm": name}
            for level, right in (("right", 1.0), ("wrong", 0.0)):
                row[level] = pooled_mean(found, only=_answered([found], right, where), **tokens)
                both = _answered([found, arms.get(against, ())], right, where)
                apart = (
                    None if name == against else paired_over_seeds(found, arms.get(against, ()), only=both, **tokens)
                )
                row[f"{level}_difference"] = apart
            if row["right"] or row["wrong"]:
                rows.append(row)
    return rows


def _answered(arms: Sequence[Sequence[Result]], value: float, where: dict[str, Any]) -> dict[int, set[str]]:
    """Seed -> the questions on which all these arms have exactly the score `value`."""
    found: dict[int, set[str]] = {}
    for i, results in enumerate(arms):
        these = {r["seed"]: {k for k, (v, _) in metric_column(r, **where).items() if v == value} for r in results}
        found = these if i == 0 else {seed: found[seed] & these[seed] for seed in found.keys() & these.keys()}
    return found


# ---- training -------------------------------------------------------------------------------------------------------


def reward_learned(arms: Arms) -> list[dict[str, Any]]:
    """Each arm's training reward in the first and last quarter of its steps: did it learn its own reward at all?

    Reported are the reward, the share of right answers and each part's raw score; changes have a t interval over seeds.
    The figures are of sampled answers in training, so the two quarters are over different questions.
    """
    rows = []
    for name, found in arms.items():
        changes = {key: change for key in LEARNED if (change := _change(found, key)) is not None}
        names = dict.fromkeys(key for result in found for key in last_curve(result) if key.startswith("part/"))
        parts = {key.split("/")[1]: change for key in names if (change := _change(found, key)) is not None}
        if "reward" in changes:
            rows.append({"arm": name, **changes, "parts": parts})
    return rows


def _change(found: Sequence[Result], key: str) -> dict[str, Any] | None:
    """A quantity's mean over seeds in the first and last quarter, and its change with an interval over seeds."""
    quarters = [ends for result in found if (ends := _quarters(last_curve(result).get(key, ()))) is not None]
    if not quarters:
        return None
    gains = mean_interval([last - first for first, last in quarters], bounds=None)
    first, last = (fmean(values) for values in zip(*quarters, strict=True))
    facts = {"first": first, "last": last, **gains.as_json(), "seeds": len(quarters)}
    return {name: round_floats(value) for name, value in facts.items()}


LEARNED = ("reward", "truth", "correct")


def last_curve(result: Result) -> dict[str, Sequence[float | None]]:
    """The curves of the last stage that has any; empty without."""
    return list(result["curves"].values())[-1] if result["curves"] else {}


def _quarters(curve: Sequence[float | None]) -> tuple[float, float] | None:
    """Means of the first and last quarter of a curve; `None` if either has no values."""
    size = len(curve) // 4
    ends = [[v for v in part if v is not None] for part in (curve[:size], curve[len(curve) - size :])]
    return (fmean(ends[0]), fmean(ends[1])) if all(ends) else None
