"""How far rewards agree with people: rewards and `HumanSet`s go in; figures with intervals come out.

    [{"name": "radpref.jsonl", "kind": "ratings", "figure": "tau", "n": 100, "studies": 50, "audited": ["clinical"],
      "ceiling": {"mean": 0.76, "low": 0.69, "high": 0.82, "n": 100, "alone": {…}, "same": null},
      "rewards": {"clinical": {"figure": {"mean": 0.46, …}, "unscored": 0, "differences": {"bleu1": {…}}, …}}, …}]

Intervals leave out whole studies (`intervals.jackknife_interval`). An unscored row is counted and left out, never 0.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from medrft.audit.completions import make_case
from medrft.audit.human.rows import HumanSet, Rated, keeps_order, majority, mean_rating
from medrft.audit.human.worst import broken_orders, worst_rows
from medrft.audit.subject import Subject
from medrft.intervals import (
    UNIT,
    Bounds,
    Interval,
    LeftOut,
    area_under_curve,
    average_of,
    jackknife_interval,
    kendall_tau,
    mean_interval,
    paired_difference,
)
from medrft.text import infer_kind
from medrft.types import Example, Form, Item, Score

FIGURES = {"ratings": "tau", "labels": "auroc", "orderings": "orderings"}
"""What is measured on each kind of set; also the names for `--fail-under`."""
BOUNDS: dict[str, Bounds] = {"tau": (-1.0, 1.0), "auroc": UNIT}
DIFFERENCE: Bounds = (-2.0, 2.0)
SAME_SCORE = 0.05
"""Two candidates that people call equal may differ by this much, on the scale of the reward."""
NEAR_ZERO = 0.02
ENOUGH = 8
"""A wrong label with fewer rows has no AUROC of its own."""

Step = Callable[[str], None]
Json = dict[str, Any]


def compare_with_people(
    subjects: Sequence[Subject],
    sets: Sequence[HumanSet],
    *,
    against: Sequence[Subject] = (),
    form: Form = "think",
    seed: int = 0,
    step: Step | None = None,
) -> list[Json]:
    """Measure every subject on every set, and its paired difference from each subject of `against`.

    Answers are put into the `form` of a prompt, as in the rest of the audit. Calibrations are fitted once per set.
    """
    found = []
    for judged in sets:
        items = items_of(judged, form=form, seed=seed)
        scores: dict[str, list[Score]] = {}
        for subject in {one.name: one for one in (*subjects, *against)}.values():
            if step is not None:
                step(f"{subject.name} on {judged.name}")
            scores[subject.name] = _scores(subject, items, judged)
        others = {one.name: scores[one.name] for one in against}
        rewards = {
            subject.name: _measure(subject, scores[subject.name], others, judged, items)
            for subject in {one.name: one for one in (*subjects, *against)}.values()
        }
        found.append(
            {
                "name": judged.name,
                "reader": judged.reader,
                "kind": judged.kind,
                "figure": FIGURES[judged.kind],
                "n": len(judged.orders or judged.rows),
                "studies": len(set(judged.studies)),
                "raters": list(judged.raters) if judged.kind != "orderings" else [],
                "tolerance": SAME_SCORE if judged.kind == "orderings" else None,
                "ceiling": ceiling_of(judged),
                "audited": [subject.name for subject in subjects],
                "rewards": rewards,
                "notes": list(judged.notes),
            }
        )
    return found


def items_of(judged: HumanSet, *, form: Form, seed: int) -> list[Item]:
    """What a reward sees of each row: the candidate as a completion in a prompt's form."""
    rng = random.Random(seed)
    return [make_case(_example(row), row.candidate, form=form, rng=rng, source="people").item for row in judged.rows]


def _example(row: Rated) -> Example:
    return Example(
        id=f"people/test/{row.id}",
        dataset="people",
        split="test",
        images=(),
        question=row.question,
        references=row.references,
        kind=infer_kind(row.references, ()),
    )


def _scores(subject: Subject, items: Sequence[Item], judged: HumanSet) -> list[Score]:
    raws = subject.raw(items)
    subject.fit(raws)
    return subject.finish(raws, judged.studies).total


def ceiling_of(judged: HumanSet) -> Json | None:
    """How far the raters agree among themselves; `None` for one rater, for orders, or where nobody shares rows.

    Ratings: the mean tau of all pairs of raters, and `alone` that of each rater with the mean of the others. Labels:
    the mean AUROC of each rater's right and wrong by the majority of the others, and `same`, how often two raters give
    one label.
    """
    raters = range(len(judged.raters))
    if judged.kind == "orderings" or len(raters) < 2:
        return None
    studies = judged.studies
    if judged.kind == "ratings":
        columns = [[_number(row.votes[i]) for row in judged.rows] for i in raters]
        pairs = [kendall_tau(columns[i], columns[j], clusters=studies) for i in raters for j in range(i)]
        alone = average_of(
            [
                kendall_tau(columns[i], [mean_rating(_without(row.votes, i)) for row in judged.rows], clusters=studies)
                for i in raters
            ]
        )
        top, same = average_of(pairs), None
    else:
        top, alone, same = average_of([_rater_area(judged, i) for i in raters]), None, _same_label(judged)
    if math.isnan(top.value):
        return None
    bounds = BOUNDS[FIGURES[judged.kind]]
    return {
        **jackknife_interval(top, bounds=bounds).as_json(),
        "alone": None if alone is None else jackknife_interval(alone, bounds=bounds).as_json(),
        "same": None if same is None else same.as_json(),
    }


def _rater_area(judged: HumanSet, rater: int) -> LeftOut:
    """AUROC of one rater's right (1) and wrong (0), where the others have a majority."""
    kept = [
        (row.votes[rater] in judged.right, word in judged.right, row.study)
        for row in judged.rows
        if row.votes[rater] is not None and (word := majority(_without(row.votes, rater))) is not None
    ]
    if not kept:
        return LeftOut(math.nan, np.full(0, math.nan), 0)
    # Studies in which this rater took no part still count as clusters, so that raters can be averaged.
    own, others, studies = zip(*kept, strict=True)
    found = area_under_curve([float(one) for one in own], others, clusters=studies)
    places = {study: i for i, study in enumerate(dict.fromkeys(studies))}
    all_studies = dict.fromkeys(judged.studies)
    without = [found.without[places[study]] if study in places else found.value for study in all_studies]
    return LeftOut(found.value, np.array(without), found.n)


def _same_label(judged: HumanSet) -> Interval | None:
    """How often two raters of one row give it the same label."""
    same, studies = [], []
    for row in judged.rows:
        given = [vote for vote in row.votes if vote is not None]
        pairs = [float(given[i] == given[j]) for i in range(len(given)) for j in range(i)]
        same += pairs
        studies += [row.study] * len(pairs)
    return mean_interval(same, clusters=studies) if same else None


def _without(votes: Sequence[Any], rater: int) -> tuple[Any, ...]:
    return tuple(vote for i, vote in enumerate(votes) if i != rater)


def _number(value: Any) -> float:
    return value if isinstance(value, float) else math.nan


def _measure(
    subject: Subject, scores: list[Score], others: dict[str, list[Score]], judged: HumanSet, items: Sequence[Item]
) -> Json:
    """One subject on one set."""
    if judged.kind == "orderings":
        figure, differences = _orders_kept(scores, others, judged)
        worst = broken_orders(subject, scores, judged, items, tolerance=SAME_SCORE)
    else:
        truths = judged.truths()
        figure = _figure(_agreement(scores, scores, truths, judged), BOUNDS[FIGURES[judged.kind]])
        differences = {
            name: _figure(
                _agreement(scores, other, truths, judged).minus(_agreement(other, scores, truths, judged)), DIFFERENCE
            )
            for name, other in others.items()
            if name != subject.name
        }
        worst = worst_rows(subject, scores, truths, judged, items)
    return {
        "encoder": subject.encoder,
        "figure": figure,
        "unscored": sum(score is None for score in scores),
        "differences": differences,
        "near_zero": _near_zero(scores),
        "labels": _by_label(scores, judged) if judged.kind == "labels" else {},
        "paid": _paid(scores, judged) if judged.kind == "labels" else None,
        "worst": worst,
    }


def _agreement(scores: Sequence[Score], paired: Sequence[Score], truths: list[float], judged: HumanSet) -> LeftOut:
    """Tau or AUROC of `scores`, over the rows that people judged and both columns score."""
    columns = zip(scores, paired, truths, judged.studies, strict=True)
    kept = [(a, t, s) for a, b, t, s in columns if a is not None and b is not None and not math.isnan(t)]
    if not kept:
        return LeftOut(math.nan, np.full(0, math.nan), 0)
    values, known, studies = (list(column) for column in zip(*kept, strict=True))
    if judged.kind == "ratings":
        return kendall_tau(values, known, clusters=studies)
    return area_under_curve(values, [truth == 1 for truth in known], clusters=studies)


def _figure(found: LeftOut, bounds: Bounds) -> Json | None:
    """A figure as JSON; `None` where it is not defined, as for a reward that scores all rows alike."""
    return None if math.isnan(found.value) else jackknife_interval(found, bounds=bounds).as_json()


def _orders_kept(
    scores: list[Score], others: dict[str, list[Score]], judged: HumanSet
) -> tuple[Json | None, dict[str, Json | None]]:
    """The share of orders kept, and the paired differences; orders with an unscored row are left out."""
    own = [keeps_order(order, scores, tolerance=SAME_SCORE) for order in judged.orders]
    known = [float(kept) for kept in own if kept is not None]
    figure = {**mean_interval(known).as_json(), "right": int(sum(known))} if known else None
    differences: dict[str, Json | None] = {}
    for name, other in others.items():
        if other is scores:
            continue
        theirs = [keeps_order(order, other, tolerance=SAME_SCORE) for order in judged.orders]
        pairs = zip(own, theirs, strict=True)
        both = [(float(a), float(b)) for a, b in pairs if a is not None and b is not None]
        differences[name] = paired_difference(*zip(*both, strict=True)).as_json() if both else None
    return figure, differences


def _near_zero(scores: Sequence[Score]) -> float | None:
    """The share of scores that are next to nothing: where they are many, a reward has no slope to climb."""
    known = [score for score in scores if score is not None]
    return sum(score < NEAR_ZERO for score in known) / len(known) if known else None


def _paid(scores: Sequence[Score], judged: HumanSet) -> Json:
    """The mean reward of right and of wrong answers, with intervals; `None` for a side without a score."""
    found: Json = {}
    for name, truth in (("right", 1.0), ("wrong", 0.0)):
        columns = zip(scores, judged.truths(), judged.studies, strict=True)
        rows = [(score, study) for score, said, study in columns if score is not None and said == truth]
        values, studies = [value for value, _ in rows], [study for _, study in rows]
        found[name] = mean_interval(values, clusters=studies, bounds=None).as_json() if rows else None
    return found


def _by_label(scores: Sequence[Score], judged: HumanSet) -> Json:
    """For each label by majority: what its rows are paid, and for a wrong one the AUROC of the right ones above it."""
    rows: dict[str, list[tuple[float, str]]] = {}
    for score, row in zip(scores, judged.rows, strict=True):
        word = majority(row.votes)
        if word is not None and score is not None:
            rows.setdefault(word, []).append((score, row.study))
    right = [one for word, found in rows.items() if word in judged.right for one in found]
    table: Json = {}
    for word, found in sorted(rows.items(), key=lambda pair: (pair[0] not in judged.right, pair[0])):
        values, studies = zip(*found, strict=True)
        both = [*right, *found]
        enough = word not in judged.right and len(found) >= ENOUGH and right
        table[word] = {
            "right": word in judged.right,
            "paid": mean_interval(values, clusters=studies, bounds=None).as_json(),
            "auroc": _figure(
                area_under_curve(
                    [v for v, _ in both], [i < len(right) for i in range(len(both))], clusters=[s for _, s in both]
                ),
                UNIT,
            )
            if enough
            else None,
        }
    return table
