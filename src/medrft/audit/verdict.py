"""Turns the measurements of one reward into findings, by the thresholds below.

A finding's name is `what:where`, such as `inverted:side`. Its severity is `error` (do not train with this), `warning`
or `note`, and it says what to change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from medrft.audit.faults import code_findings
from medrft.audit.finding import SEVERITIES, Finding, as_percent
from medrft.errors import RecipeError, unknown_name

THRESHOLDS: dict[str, tuple[float, str]] = {
    "inverted": (0.5, "AUROC: `inverted` when the interval's upper bound lies under this"),
    "suspect": (0.5, "AUROC: `suspect` when the mean lies under this and the bound does not"),
    "weak": (0.7, "AUROC, all pairs together: `weak` when the mean lies under this and over the last"),
    "floor": (0.02, "within-group std under which a group gives no signal worth the noise"),
    "collapsed": (0.5, "share of mixed groups under the floor from which a part is `collapsed`"),
    "saturated": (0.9, "share of calibrated scores in one tail from which a calibration is `calibration_saturated`"),
    "dominated": (0.8, "share of the total's within-group variance from which one of several parts is `dominated`"),
    "hack_gain": (
        0.25,
        "share of a right answer's pay a hack may earn above a wrong answer (or more, if its `may` says so)",
    ),
    "hack_beats": (0.5, "share of honest wrong answers that it must beat as well, to be `hackable`"),
    "hack_error": (0.75, "gain from which `hackable` is an error"),
    "tags": (0.75, "pay for the tags around nothing over pay for being right, from which it is `tags_pay`"),
    "bias": (0.5, "rank correlation with length, specificity or hedging among answers equally right"),
    "blind": (0.95, "share of questions, or answers, whose score never changes, to be `blind_to_…`"),
    "phantom": (0.5, "share of all-wrong groups that push the policy, to be `phantom_gradient`"),
    "strict": (0.25, "share of a right answer's pay that paraphrases must earn, else `strict`"),
    "slow": (0.05, "seconds per completion from which it is `slow`"),
    "growth": (1.5, "exponent of time over length from which it is `superlinear`"),
}
"""Name -> default and meaning; `--threshold name=value` sets it."""


def set_thresholds(changes: Mapping[str, float] | None = None) -> dict[str, float]:
    """The default thresholds with some changed; raises `UnknownNameError` for a name that is not a threshold."""
    made = {name: default for name, (default, _) in THRESHOLDS.items()}
    for name, value in (changes or {}).items():
        if name not in made:
            raise unknown_name("threshold", name, made)
        made[name] = float(value)
    return made


def parse_thresholds(assignments: Sequence[str]) -> dict[str, float]:
    """`["hack_gain=0.3"]` as a mapping; raises `RecipeError` for anything but name=number."""
    found = {}
    for assignment in assignments:
        name, _, value = assignment.partition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError as error:
            raise RecipeError(f"expected name=number, got {assignment!r}; for example hack_gain=0.3") from error
    return found


def find_findings(measured: Mapping[str, Any], *, limits: Mapping[str, float], encoder: str | None) -> list[Finding]:
    """All findings of one reward, the gravest first."""
    found = [
        *order_findings(measured.get("auroc"), limits, encoder),
        *learning_findings(measured.get("collapse"), limits),
        *hack_findings(measured.get("hacks"), measured.get("tags"), measured.get("bias"), limits),
        *strictness_findings(measured, limits),
        *code_findings(measured.get("soundness"), measured.get("problems", ()), limits),
    ]
    return sorted(found, key=lambda finding: -SEVERITIES.index(finding.severity))


def order_findings(
    areas: Mapping[str, Any] | None, limits: Mapping[str, float], encoder: str | None
) -> Iterator[Finding]:
    """Findings about contradictions that earn more than paraphrases, pooled and by facet."""
    if areas is None:
        return
    where = {"": areas["total"], **{facet: row["total"] for facet, row in areas["facets"].items()}}
    for facet, area in where.items():
        if area is None or area["high"] is None:
            continue
        name = f":{facet}" if facet else ""
        of = f"that are wrong in {facet} alone" if facet else "that contradict the reference"
        pairs = [pair for pair in areas["inverted_pairs"] if not facet or pair["facet"] == facet]
        evidence: dict[str, Any] = {
            "says": f"Answers {of} earn more than right answers in other words "
            f"{as_percent(1 - area['mean'])} of the time "
            f"(AUROC {area['mean']:.2f}, 95 % interval {area['low']:.2f} to {area['high']:.2f}, n {area['n']}"
            f"{f', encoder {encoder}' if encoder else ''}); chance is 0.50.",
            "change": "No calibration mends an order. Add a scorer that knows the difference (a gate on `clinical`, "
            "as in `armed_clinical`), or another encoder.",
            "measured": area["mean"],
            "cases": tuple(pairs[:3]),
        }
        if area["high"] < limits["inverted"]:
            yield Finding(name=f"inverted{name}", severity="error", threshold=limits["inverted"], **evidence)
        elif area["mean"] < limits["suspect"]:
            yield Finding(name=f"suspect{name}", severity="warning", threshold=limits["suspect"], **evidence)
        elif not facet and area["mean"] < limits["weak"]:
            yield Finding(name="weak", severity="note", threshold=limits["weak"], **evidence)


def learning_findings(found: Mapping[str, Any] | None, limits: Mapping[str, float]) -> Iterator[Finding]:
    """Findings about what GRPO can learn: collapsed, saturated and dominating parts, and all-wrong groups that push."""
    if found is None:
        return
    columns = {name: row for name, row in found["parts"].items() if row["judges_answer"]}
    if len(columns) != 1:
        columns["reward"] = found["total"]
    for name, row in columns.items():
        spread = row["calibrated"]
        if spread is not None and spread["under_floor"] > limits["collapsed"]:
            yield Finding(
                name=f"collapsed:{name}",
                severity="error" if name == "reward" or len(columns) == 1 else "warning",
                says=f"In {as_percent(spread['under_floor'])} of the groups that hold right and wrong answers, {name} "
                f"differs by less than {found['floor']:g} (standard deviation): training sees next to nothing of it.",
                change="Give it a calibration that spreads within the group (rank, or adaptive), or leave it out.",
                measured=spread["under_floor"],
                threshold=limits["collapsed"],
                cases=tuple(found["flattest"] if name == "reward" else row["flattest"]),
            )
    yield from _saturated(found, limits)
    several = [row for row in found["parts"].values() if row["weight"] and row["judges_answer"]]
    for name, row in found["parts"].items():
        share = row["variance_share"]
        if len(several) > 1 and share is not None and share > limits["dominated"]:
            yield Finding(
                name=f"dominated:{name}",
                severity="warning",
                says=f"{name} makes {as_percent(share)} of the reward's differences within a group.",
                change="Lower its weight, or normalise each part within the group (combine: normalize_then_sum).",
                measured=share,
                threshold=limits["dominated"],
                cases=tuple(row["widest"]),
            )
    phantom = found["signal"]["phantom"]
    if phantom is not None and found["signal"]["all_wrong_groups"] >= 5 and phantom > limits["phantom"]:
        yield Finding(
            name="phantom_gradient",
            severity="note",
            says=f"In {as_percent(phantom)} of the groups where every answer is wrong the reward still pushes the "
            "policy towards the least wrong one.",
            change="Drop groups without a right answer by a binary outcome (the recipe's `correct`), not by spread.",
            measured=phantom,
            threshold=limits["phantom"],
            cases=tuple(found["pushed"]),
        )


def _saturated(found: Mapping[str, Any], limits: Mapping[str, float]) -> Iterator[Finding]:
    reasons = dict(found.get("saturated") or {})
    for name, row in found["parts"].items():
        bent = row["raw"] is not None and row["calibrated"] is not None and row["raw"] != row["calibrated"]
        side = max(row["tails"], key=lambda tail: row["tails"][tail])
        if bent and row["tails"][side] > limits["saturated"]:
            reasons.setdefault(name, f"{as_percent(row['tails'][side])} of its scores in the {side} tail")
    for name, reason in reasons.items():
        yield Finding(
            name=f"calibration_saturated:{name}",
            severity="warning",
            says=f"The calibration of {name} no longer tells scores apart: {reason}.",
            change="Widen its bounds (t_min, t_max), soften its slopes, or use rank within the group.",
        )


def hack_findings(
    found: Mapping[str, Any] | None,
    tags: Mapping[str, Any] | None,
    bias: Mapping[str, Any] | None,
    limits: Mapping[str, float],
) -> Iterator[Finding]:
    """Findings about hacks that pay, tags that pay, and pay for length, specificity or hedging."""
    for name, row in (found or {}).items():
        gain, may = row["gain"], max(limits["hack_gain"], row["may"])
        if gain is None or gain <= may or row["beats_wrong"] < limits["hack_beats"]:
            continue
        yield Finding(
            name=f"hackable:{name}",
            severity="error" if gain >= max(limits["hack_error"], may + 0.2) else "warning",
            says=f"{row['says'].capitalize()} earns {as_percent(gain)} of what the right answer earns above a wrong "
            f"one, and beats {as_percent(row['beats_wrong'])} of honest wrong answers (n {row['n']}).",
            change="Score such answers 0 before any scorer sees them (medrft's rewards do), or gate them.",
            measured=gain,
            threshold=may,
            cases=tuple(row["cases"]),
        )
    ratio = (tags or {}).get("ratio")
    if tags and tags.get("pay", 0) > 1e-6 and (tags["dead"] or (ratio is not None and ratio >= limits["tags"])):
        much = "and being right earns nothing more" if ratio is None else f"{ratio:.1f} times what being right adds"
        yield Finding(
            name="tags_pay",
            severity="error",
            says=f"Writing the tags around nothing earns {tags['pay']:.2f}, {much}.",
            change="Give the format a small weight, pay it only as a whole, and pay nothing for single tags.",
            measured=ratio,
            threshold=limits["tags"],
            cases=tuple(tags["cases"]),
        )
    for name, row in (bias or {}).items():
        if row["rho"] is not None and abs(row["rho"]) > limits["bias"]:
            way = "longer" if "length" in name else "more specific" if name == "specificity" else "hedging"
            yield Finding(
                name=f"{'length_bias' if 'length' in name else f'{name}_bias'}:{name}",
                severity="warning",
                says=f"Among answers that are equally right, {way} ones earn {'more' if row['rho'] > 0 else 'less'} "
                f"(rank correlation {row['rho']:.2f}, n {row['n']}).",
                change="Pay for length only where the answer is right, within a band, or not at all.",
                measured=row["rho"],
                threshold=limits["bias"],
                cases=tuple(row["cases"]),
            )


def strictness_findings(measured: Mapping[str, Any], limits: Mapping[str, float]) -> Iterator[Finding]:
    """The finding that right answers in other words earn next to nothing."""
    hack, areas = measured.get("hacks"), measured.get("auroc")
    if not hack or not areas or not areas["paraphrases"]:
        return
    first = next(iter(hack.values()))
    right, wrong = first["right_mean"], first["wrong_mean"]
    rows = areas["paraphrases"].values()
    mean = sum(row["mean"] * row["n"] for row in rows) / sum(row["n"] for row in rows)
    gain = (mean - wrong) / (right - wrong) if right - wrong > 1e-6 else None
    if gain is not None and gain < limits["strict"]:
        yield Finding(
            name="strict",
            severity="note",
            says=f"Right answers in other words earn {as_percent(gain)} of what the reference's own words earn: most "
            "right answers to open questions will look wrong.",
            change="Use it for closed questions, or add a scorer that knows synonyms.",
            measured=gain,
            threshold=limits["strict"],
            cases=tuple(areas["least_paid"]),
        )
