"""The audit itself: rewards and material go in; measurements and findings come out, also as files.

    OUT/summary.json     {"rewards": {"armed": {"auroc": {…}, "collapse": …, "hacks": …, "findings": […]}}, …}
    OUT/findings.jsonl   one finding a line

Everything is drawn by seed; no policy model is loaded.
"""

from __future__ import annotations

import copy
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medrft import __version__
from medrft.audit.collapse import measure_collapse
from medrft.audit.completions import Case
from medrft.audit.discrimination import measure_discrimination, probe_cases
from medrft.audit.finding import SEVERITIES, Finding, Severity
from medrft.audit.groups import draw_groups
from medrft.audit.hackability import hack_material, length_biases, measure_hackability, tag_worth
from medrft.audit.soundness import check_soundness
from medrft.audit.sources import Material, most_frequent
from medrft.audit.subject import Own, Scored, Subject, encoder_of
from medrft.audit.verdict import find_findings, set_thresholds
from medrft.data.splits import draw_examples
from medrft.errors import DataError
from medrft.files import make_folder
from medrft.rewards import Reward
from medrft.rundir import write_json, write_jsonl
from medrft.types import Example, Form, Item

KINDS_OF_ANSWER = ("right", "paraphrase", "contradiction", "wrong", "prediction", "hack")
STRIP = 90
"""Scores kept per kind of answer for the page's strips."""

Step = Callable[[str], None]


def no_step(what: str) -> None:
    """Show nothing."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of one audit."""

    form: Form = "think"
    seed: int = 0
    group_size: int = 8
    groups: int = 160
    hack_examples: int = 48
    limits: Mapping[str, float] = field(default_factory=set_thresholds)


@dataclass(frozen=True, kw_only=True)
class Cases:
    """All completions of one audit, the same for every reward."""

    probes: list[Case]
    groups: list[Case]
    hacks: list[Case]
    made: bool
    """Whether the probes were made from references, not read from a file."""


def prepare_cases(material: Material, settings: Settings) -> Cases:
    """Draw probes, groups and hacks; raises `DataError` when there is nothing to try a reward on."""
    if not material.examples:
        raise DataError("nothing to audit on: no example, pair, prediction or rollout was given")
    seed, form = settings.seed, settings.form
    groups = draw_groups(material, form=form, size=settings.group_size, count=settings.groups, seed=seed)
    return Cases(
        probes=probe_cases(material, form=form, seed=seed),
        groups=[one for group in groups for one in group],
        hacks=hack_material(material, form=form, seed=seed, count=settings.hack_examples),
        made=not material.pairs,
    )


def audit_subject(subject: Subject, cases: Cases, settings: Settings) -> dict[str, Any]:
    """All measurements and findings of one reward."""
    found: dict[str, Any] = {"reward": subject.name, "encoder": subject.encoder, "describe": subject.describe()}
    grouped = subject.raw([one.item for one in cases.groups])
    probed_raw = subject.raw([one.item for one in cases.probes])
    found["calibration"] = subject.fit(grouped if cases.made else probed_raw)
    in_groups = subject.finish(grouped, [one.group for one in cases.groups])
    probed = subject.finish(probed_raw, [one.group for one in cases.probes])
    hacked = score_cases(subject, cases.hacks)
    if not any(value is not None for value in in_groups.total):
        found |= {"auroc": None, "collapse": None, "hacks": None, "soundness": None}
    else:
        floor = settings.limits["floor"]
        found["auroc"] = measure_discrimination(subject, probed, cases.probes, seed=settings.seed, made=cases.made)
        found["collapse"] = measure_collapse(subject, in_groups, cases.groups, floor=floor)
        found["hacks"] = measure_hackability(hacked, cases.hacks)
        found["tags"] = tag_worth(hacked, cases.hacks)
        found["bias"] = length_biases(in_groups, cases.groups)
        found["soundness"] = check_soundness(subject, cases.hacks, form=settings.form, seed=settings.seed)
    found["strips"] = score_strips(subject, [(in_groups, cases.groups), (probed, cases.probes)], seed=settings.seed)
    found["unscored"] = {
        name: sum(value is None for value in made.total)
        for name, made in (("groups", in_groups), ("probes", probed), ("hacks", hacked))
    }
    found["problems"] = problems_of(subject)
    findings = find_findings(found, limits=settings.limits, encoder=subject.encoder)
    found["findings"] = [finding.as_json() for finding in findings]
    found["verdict"] = worst_severity(findings)
    return found


def score_cases(subject: Subject, cases: Sequence[Case]) -> Scored:
    """Score cases with the calibration that is already fitted."""
    return subject.finish(subject.raw([one.item for one in cases]), [one.group for one in cases])


def worst_severity(findings: Sequence[Finding]) -> str:
    """The gravest severity found; `sound` without a finding."""
    return max((finding.severity for finding in findings), key=SEVERITIES.index, default="sound")


def problems_of(subject: Subject) -> list[dict[str, Any]]:
    """What went wrong in calls, at most 50 of each kind, with items as findings show them."""
    found = []
    for problem in subject.problems:
        item = problem.get("item")
        shown = None if item is None else _shown(item)
        found.append({"name": problem["name"], "says": problem["says"], "case": shown})
    counts: Counter[str] = Counter()
    kept = []
    for problem in found:
        counts[problem["name"]] += 1
        if counts[problem["name"]] <= 50:
            kept.append(problem)
    return kept


def _shown(item: Item) -> dict[str, Any]:
    """An item as findings and pages show it."""
    return {
        "question": item.question or "",
        "reference": str(item.references[0]),
        "answer": item.answer or "",
        "completion": (item.completion or "")[:600],
    }


def score_strips(subject: Subject, made: Sequence[tuple[Scored, Sequence[Case]]], *, seed: int) -> dict[str, Any]:
    """A sample of (before, after) calibration scores of the total and of each part, by kind of answer, for the page."""
    rng = random.Random(seed)
    values: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for scored, cases in made:
        columns = {"total": (scored.plain, scored.total)}
        columns |= {name: (scored.raw[name], scored.calibrated[name]) for name in subject.parts}
        for name, (before, after) in columns.items():
            for a, b, one in zip(before, after, cases, strict=True):
                if a is not None and b is not None:
                    values.setdefault(name, {}).setdefault(one.source, []).append((round(a, 4), round(b, 4)))
    return {
        name: {
            kind: [list(pair) for pair in sorted(rng.sample(by_kind[kind], min(STRIP, len(by_kind[kind]))))]
            for kind in KINDS_OF_ANSWER
            if by_kind.get(kind)
        }
        for name, by_kind in values.items()
    }


def audit_rewards(
    subjects: Sequence[Subject],
    material: Material,
    settings: Settings,
    *,
    out: Path | None,
    step: Step = no_step,
    people: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Audit several rewards on the same answers; writes `summary.json` and `findings.jsonl` into `out`.

    `people` is what `compare_with_people` found, to be kept in the summary.
    """
    cases = prepare_cases(material, settings)
    rewards: dict[str, Any] = {}
    for subject in subjects:
        name = _fresh_name(subject.name, rewards)
        step(name)
        rewards[name] = audit_subject(subject, cases, settings)
        subject.close()
    summary = {
        "medrft": __version__,
        "seed": settings.seed,
        "form": settings.form,
        "sources": material.names,
        "notes": material.notes,
        "examples": len(material.examples),
        "probes": dict(Counter(one.source for one in cases.probes)),
        "made_probes": cases.made,
        "groups": {"count": len({one.group for one in cases.groups}), "size": settings.group_size},
        "thresholds": dict(settings.limits),
        "rewards": rewards,
        "people": list(people),
    }
    if out is not None:
        write_audit(summary, out)
    return summary


def people_summary(settings: Settings, people: Sequence[Mapping[str, Any]], *, out: Path | None) -> dict[str, Any]:
    """The summary of a comparison with people alone, without any other test; writes the same files as an audit."""
    summary = {
        "medrft": __version__,
        "seed": settings.seed,
        "form": settings.form,
        "sources": [one["name"] for one in people],
        "notes": [],
        "thresholds": dict(settings.limits),
        "rewards": {},
        "people": list(people),
    }
    if out is not None:
        write_audit(summary, out)
    return summary


def write_audit(summary: Mapping[str, Any], out: Path) -> None:
    """Write `summary.json` and `findings.jsonl`."""
    make_folder(out)
    write_json(out / "summary.json", summary)
    rows = [{"reward": name, **row} for name, found in summary["rewards"].items() for row in found["findings"]]
    write_jsonl(out / "findings.jsonl", rows)


def _fresh_name(name: str, taken: Mapping[str, Any]) -> str:
    return name if name not in taken else next(f"{name} ({n})" for n in range(2, 99) if f"{name} ({n})" not in taken)


def audit_run_reward(
    reward: Reward, examples: Sequence[Example], out: Path, *, seed: int, form: Form, name: str = "reward"
) -> dict[str, Any]:
    """The short audit before training: the run's own reward on its own training questions. It takes seconds.

    It works on a copy, so the run's calibration state stays as it is. Writes into `out` and returns the summary.
    """
    own = Own(name=name, reward=copy.deepcopy(reward), encoder=encoder_of(reward))
    drawn = draw_examples(list(examples), 120, seed=seed)
    material = Material(names=["training questions"], examples=drawn, frequent=most_frequent(examples))
    settings = Settings(form=form, seed=seed, groups=48, hack_examples=12)
    return audit_rewards([own], material, settings, out=out)


def at_least(summary: Mapping[str, Any], severity: Severity) -> list[str]:
    """Findings of an audit that are at least this grave, as `reward: name`. A recipe may stop on them."""
    lowest = SEVERITIES.index(severity)
    return [
        f"{reward}: {finding['name']}"
        for reward, row in summary["rewards"].items()
        for finding in row["findings"]
        if SEVERITIES.index(finding["severity"]) >= lowest
    ]
