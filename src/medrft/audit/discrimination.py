"""How well a reward tells right from wrong: scored paraphrases and contradictions go in, AUROCs come out.

The AUROC is the chance that a paraphrase earns more than a contradiction: 1 is always, 0.5 is chance, 0 is never.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from medrft.audit.completions import Case, make_case
from medrft.audit.contradictions import make_contradictions
from medrft.audit.paraphrases import make_paraphrases
from medrft.audit.sources import Material
from medrft.audit.subject import Scored, Subject
from medrft.intervals import auroc
from medrft.scorers.clinical.lexicon import Lexicon
from medrft.types import Example, Form, Score

ENOUGH = 8
"""A facet with fewer contradictions has no figure of its own."""
PER_ATTRIBUTE = 40
SURFACE = {"letter": 8, "case_punctuation": 8}
"""Most probes of the paraphrases that change no word. A few show that a reward reads them; many would hide how it
reads real rewording."""
SHOWN = 3
"""How many of the worst pairs are kept of each facet, and how many of the least paid answers."""

Probe = tuple[str, str, Example, str]
"""Kind, attribute, example, candidate."""
Columns = dict[str, list[Score]]


def probe_cases(material: Material, *, form: Form, seed: int) -> list[Case]:
    """Paraphrases and contradictions as cases: the pairs of a file, else made from the references, each text once."""
    rng = random.Random(seed)
    made: list[Probe] = [(pair.kind, pair.attribute, pair.example, pair.candidate) for pair in material.pairs]
    if not material.pairs:
        some_open = any(example.kind == "open" for example in material.examples)
        for example in material.examples:
            made += [("paraphrase", name, example, text) for name, text in make_paraphrases(example)]
            made += [("contradiction", name, example, text) for name, text in make_contradictions(example)]
        seen: dict[Any, Any] = {}
        for kind, name, example, text in made:
            asked = "" if some_open else example.question  # yes and no to many questions are few pairs of strings
            seen.setdefault((kind, name, example.references, text, asked), (kind, name, example, text))
        made = draw_evenly(list(seen.values()), rng, caps=SURFACE if some_open else {})
    return [
        make_case(
            example,
            text,
            form=form,
            rng=rng,
            source=kind,
            attribute=name,
            right=kind == "paraphrase",
            group=example.references[0] if material.pairs else example.id,
        )
        for kind, name, example, text in made
    ]


def draw_evenly(made: Sequence[Probe], rng: random.Random, *, caps: Mapping[str, int]) -> list[Probe]:
    """At most `PER_ATTRIBUTE` probes (or its cap) of each facet and type of paraphrase.

    Otherwise the types that are easy to make, and therefore many, would decide the pooled AUROC.
    """
    by_attribute: dict[tuple[str, str], list[Probe]] = {}
    for probe in made:
        by_attribute.setdefault(probe[:2], []).append(probe)
    kept = []
    for (_, attribute), rows in by_attribute.items():
        most = caps.get(attribute, PER_ATTRIBUTE)
        kept.append(rng.sample(rows, most) if len(rows) > most else rows)
    return [probe for rows in kept for probe in rows]


def measure_discrimination(
    subject: Subject, scored: Scored, cases: Sequence[Case], *, seed: int, made: bool
) -> dict[str, Any]:
    """AUROC of the total and of each part's raw score, pooled and per facet, with intervals.

    `made`: the probes were made from references; then those of one reference are resampled together.
    """
    columns: Columns = {"total": scored.total, "uncalibrated": scored.plain, **scored.raw}
    facets = sorted({case.attribute for case in cases if case.source == "contradiction"})
    found: dict[str, Any] = {
        "total": _area(columns["total"], cases, None, seed=seed, made=made),
        "uncalibrated": _area(columns["uncalibrated"], cases, None, seed=seed, made=made),
        "parts": {name: _area(scored.raw[name], cases, None, seed=seed, made=made) for name in subject.parts},
        "facets": {},
        "small": {},
    }
    for facet in facets:
        count = sum(case.source == "contradiction" and case.attribute == facet for case in cases)
        if count < ENOUGH:
            found["small"][facet] = count
            continue
        found["facets"][facet] = {
            "n": count,
            "total": _area(scored.total, cases, facet, seed=seed, made=made),
            "parts": {name: _area(scored.raw[name], cases, facet, seed=seed, made=made) for name in subject.parts},
        }
    found["paraphrases"] = _paraphrase_means(scored, cases)
    found["least_paid"] = least_paid(scored, cases)
    found["inverted_pairs"] = worst_pairs(scored, cases)
    return found


def _area(
    column: Sequence[Score], cases: Sequence[Case], facet: str | None, *, seed: int, made: bool
) -> dict[str, Any] | None:
    """AUROC and interval of one column, against all contradictions or those of one facet; `None` if a side is empty."""
    high, low = [], []
    for value, probe in zip(column, cases, strict=True):
        if value is None:
            continue
        if probe.source == "paraphrase":
            high.append((value, probe.example.references[0]))
        elif facet is None or probe.attribute == facet:
            low.append((value, probe.example.references[0]))
    if not high or not low:
        return None
    clusters = ([name for _, name in high], [name for _, name in low]) if made else None
    interval = auroc([v for v, _ in high], [v for v, _ in low], clusters=clusters, seed=seed)
    return {**interval.as_json(), "paraphrases": len(high), "contradictions": len(low)}


def _paraphrase_means(scored: Scored, cases: Sequence[Case]) -> dict[str, Any]:
    """Mean total and count of each type of paraphrase."""
    found: dict[str, list[float]] = {}
    for value, probe in zip(scored.total, cases, strict=True):
        if probe.source == "paraphrase" and value is not None:
            found.setdefault(probe.attribute, []).append(value)
    return {name: {"mean": sum(values) / len(values), "n": len(values)} for name, values in sorted(found.items())}


def least_paid(scored: Scored, cases: Sequence[Case]) -> list[dict[str, Any]]:
    """The three paraphrases that earn least."""
    rows = [(v, i) for i, v in enumerate(scored.total) if v is not None and cases[i].source == "paraphrase"]
    return [describe_answer(scored, cases, i) for _, i in sorted(rows)[:SHOWN]]


def worst_pairs(scored: Scored, cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Contradictions that earn more than a paraphrase, with the widest gap first and at most three per facet.

    A contradiction is set beside the least paid paraphrase of its own reference, or of any. Pairs of one reference come
    first.
    """
    rows = [(value, i) for i, value in enumerate(scored.total) if value is not None]
    right = sorted((value, i) for value, i in rows if cases[i].source == "paraphrase")
    if not right:
        return []
    by_reference: dict[str, tuple[float, int]] = {}
    for value, i in right:
        by_reference.setdefault(cases[i].example.references[0], (value, i))
    pairs = []
    for value, i in rows:
        if cases[i].source == "contradiction":
            other, j = by_reference.get(cases[i].example.references[0], right[0])
            same = cases[i].example.references[0] in by_reference
            pairs.append((value - other, same, i, j))
    pairs.sort(key=lambda pair: (not pair[1], -pair[0]))
    shown: list[dict[str, Any]] = []
    counts: dict[str, int] = {}
    for gap, _, i, j in pairs:
        facet = cases[i].attribute
        if gap <= 0 or counts.get(facet, 0) == SHOWN:
            continue
        counts[facet] = counts.get(facet, 0) + 1
        shown.append(
            {
                "facet": facet,
                "gap": gap,
                "wrong": describe_answer(scored, cases, i),
                "right": describe_answer(scored, cases, j),
            }
        )
    return shown


def describe_answer(scored: Scored, cases: Sequence[Case], i: int) -> dict[str, Any]:
    """One answer with its total and every part's number, before and after calibration."""
    return {
        **cases[i].as_json(),
        "total": scored.total[i],
        "parts": {
            name: {"raw": column[i], "calibrated": scored.calibrated[name][i]} for name, column in scored.raw.items()
        },
        "why": explain_probe(cases[i], scored.lexicon),
    }


def explain_probe(probe: Case, lexicon: Lexicon | None = None) -> str:
    """What the clinical scorer reads in the answer, in plain text; empty for whole completions without an answer."""
    if probe.item.answer is None or len(probe.item.answer) > 300:
        return ""
    from medrft.scorers.clinical import explain

    return explain(probe.example.references[0], probe.item.answer, probe.example.question or None, lexicon).text()
