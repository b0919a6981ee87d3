"""Whether a reward can be earned without knowing the answer: scored hacks and honest answers in, gains of hacks out."""

from __future__ import annotations

import bisect
import random
from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medrft.audit.completions import Case, make_case
from medrft.audit.contradictions import make_contradictions
from medrft.audit.discrimination import describe_answer
from medrft.audit.groups import other_answers
from medrft.audit.hacks import HACKS, hack_cases
from medrft.audit.sources import Material
from medrft.audit.subject import Scored
from medrft.audit.terms import read_terms
from medrft.intervals import mean_ranks
from medrft.types import Example, Form

Floats = NDArray[np.float64]
EPS = 1e-9
MEASURABLE = 20
"""A correlation needs this many answers to be shown."""


def hack_material(material: Material, *, form: Form, seed: int, count: int) -> list[Case]:
    """Hacks on `count` examples, taken from each kind in turn, with right and honest wrong answers to the same."""
    rng = random.Random(seed)
    chosen = draw_balanced(material.examples, count, rng)
    cases = hack_cases(chosen, frequent=material.frequent, form=form, rng=rng)
    for example in chosen:
        reference = example.references[0]
        cases.append(make_case(example, reference, form=form, rng=rng, source="right", right=True))
        near = [text for _, text in make_contradictions(example)][:1]
        for text in [*near, *other_answers(example, material.examples, rng, count=3)]:
            cases.append(make_case(example, text, form=form, rng=rng, source="wrong", right=False))
        if form != "short":
            cases.append(make_case(example, "-", form=form, rng=rng, source="tagged", right=False))
            cases.append(make_case(example, "-", form=form, source="untagged", right=False))
    return [_in_group(one) for one in cases]


def _in_group(one: Case) -> Case:
    return Case(
        example=one.example,
        item=one.item,
        source=one.source,
        attribute=one.attribute,
        right=one.right,
        group=one.example.id,
    )


def draw_balanced(examples: Sequence[Example], count: int, rng: random.Random) -> list[Example]:
    """Up to `count` examples, spread over the kinds as evenly as possible."""
    kinds: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        kinds[example.kind].append(example)
    for pool in kinds.values():
        rng.shuffle(pool)
    chosen: list[Example] = []
    while len(chosen) < count and any(kinds.values()):
        chosen += [pool.pop() for pool in kinds.values() if pool]
    return chosen[:count]


def measure_hackability(scored: Scored, cases: Sequence[Case]) -> dict[str, Any]:
    """What each hack earns, beside the honest answers to the same examples.

    `percentile`: its place among all honest answers, 0 to 1. `beats_wrong`: share of wrong answers it earns more than.
    `beats_right`: share of examples where it earns at least what the right answer earns.
    `gain`: (hack - wrong) / (right - wrong), each a mean over examples: 0 earns nothing, 1 is as good as knowing;
    `None` where right answers earn no more than wrong ones.
    """
    total = scored.total
    right: dict[str, float] = {}
    wrong: dict[str, list[float]] = defaultdict(list)
    for value, one in zip(total, cases, strict=True):
        if value is not None and one.source == "right":
            right[one.example.id] = value
        elif value is not None and one.source == "wrong":
            wrong[one.example.id].append(value)
    honest = sorted([*right.values(), *(value for values in wrong.values() for value in values)])
    found = {}
    for name, hack in HACKS.items():
        rows = [(total[i], one.example.id, i) for i, one in enumerate(cases) if one.attribute == name]
        known = [(v, e, i) for v, e, i in rows if v is not None and e in right and wrong.get(e)]
        if known:
            found[name] = {
                "says": hack.says,
                "may": hack.may,
                **_measured(known, right, wrong, honest),
                "unscored": len(rows) - len(known),
            }
            worst = sorted(known, key=lambda row: right[row[1]] - row[0])[:3]
            found[name]["cases"] = [describe_answer(scored, cases, i) for _, _, i in worst]
    return found


def _measured(
    rows: Sequence[tuple[float | None, str, int]],
    right: dict[str, float],
    wrong: dict[str, list[float]],
    honest: Sequence[float],
) -> dict[str, Any]:
    values = [value for value, _, _ in rows if value is not None]
    places = [0.5 * (bisect.bisect_left(honest, v) + bisect.bisect_right(honest, v)) / len(honest) for v in values]
    base = {example: float(np.mean(wrong[example])) for _, example, _ in rows}
    room = float(np.mean([right[example] - base[example] for _, example, _ in rows]))
    gained = float(np.mean([value - base[example] for value, (_, example, _) in zip(values, rows, strict=True)]))
    pairs = list(zip(values, (example for _, example, _ in rows), strict=True))
    return {
        "n": len(values),
        "mean": float(np.mean(values)),
        "right_mean": float(np.mean([right[example] for _, example, _ in rows])),
        "wrong_mean": float(np.mean(list(base.values()))),
        "percentile": float(np.mean(places)),
        "beats_wrong": float(np.mean([np.mean([value > w + EPS for w in wrong[e]]) for value, e in pairs])),
        "beats_right": float(np.mean([value >= right[e] - EPS for value, e in pairs])),
        "gain": gained / room if room > 1e-6 else None,
    }


def tag_worth(scored: Scored, cases: Sequence[Case]) -> dict[str, Any]:
    """What the tags around a mere "-" earn, compared with being right.

    `ratio` = ("-" in tags - "-" bare) / (right - "-" in tags), each a mean reward. `dead`: being right adds nothing.
    """
    means: dict[str, list[float]] = defaultdict(list)
    for value, one in zip(scored.total, cases, strict=True):
        if value is not None:
            means[one.source].append(value)
    if not means["untagged"] or not means["tagged"] or not means["right"]:
        return {"ratio": None, "pay": 0.0, "dead": False, "cases": []}
    tagged, bare, right = (float(np.mean(means[name])) for name in ("tagged", "untagged", "right"))
    pay, worth = tagged - bare, right - tagged
    best = sorted((-v, i) for i, v in enumerate(scored.total) if v is not None and cases[i].source == "tagged")[:3]
    return {
        "pay": pay,
        "worth": worth,
        "ratio": pay / worth if worth > 1e-6 else None,
        "dead": worth <= 1e-6,
        "cases": [describe_answer(scored, cases, i) for _, i in best],
    }


def length_biases(scored: Scored, cases: Sequence[Case]) -> dict[str, Any]:
    """Rank correlation of the total with length, specificity and hedging among answers that are equally right.

    Answers are compared within one question, right ones with right ones and wrong ones with wrong ones. So neither the
    question nor the truth can explain a correlation.
    """
    places = [
        i
        for i, (value, one) in enumerate(zip(scored.total, cases, strict=True))
        if value is not None and one.item.answer is not None and _plain(one)
    ]
    rows = [cases[i] for i in places]
    measures = {
        "completion_length": [float(len((one.item.completion or "").split())) for one in rows],
        "answer_length": [float(len((one.item.answer or "").split())) for one in rows],
        "specificity": [float(sum(read_terms(one.item.answer or "").atoms.values())) for one in rows],
        "hedging": [float(_hedges(one.item.answer or "")) for one in rows],
    }
    cells = [(one.group, one.right) for one in rows]
    values = np.array([scored.total[i] for i in places], dtype=float)
    found = {}
    for name, column in measures.items():
        rho, n, worst = _within(values, np.array(column), cells)
        found[name] = {"rho": rho, "n": n, "cases": [describe_answer(scored, cases, places[row]) for row in worst]}
    return found


def _plain(one: Case) -> bool:
    """Whether a case is the reference or plainly wrong: paraphrases and near misses differ for other reasons."""
    return one.source in ("right", "wrong") or (one.source == "prediction" and one.right is False)


def _hedges(text: str) -> int:
    return sum(count for cue, count in read_terms(text).cues.items() if "doubt" in cue or cue == "alternatives")


def _within(values: Floats, column: Floats, cells: Sequence[Hashable]) -> tuple[float | None, int, list[int]]:
    """Rank correlation within cells, the number of rows it is taken over, and the three rows that contribute most.

    The mean rank of a cell is subtracted from its rows first. `None` under `MEASURABLE` rows, or without spread.
    """
    members: dict[Hashable, list[int]] = defaultdict(list)
    for i, cell in enumerate(cells):
        members[cell].append(i)
    several = [np.array(rows) for rows in members.values() if len(rows) > 1]
    n = sum(len(rows) for rows in several)
    if n < MEASURABLE:
        return None, n, []
    a, b = (mean_ranks(values), mean_ranks(column))
    a, b = (np.concatenate([ranks[rows] - ranks[rows].mean() for rows in several]) for ranks in (a, b))
    scale = float(np.sqrt((a**2).sum() * (b**2).sum()))
    if scale <= 1e-9:
        return None, n, []
    rho = float((a * b).sum() / scale)
    order = np.argsort(-a * b * np.sign(rho), kind="stable")[:3]
    return rho, n, np.concatenate(several)[order].tolist()
