"""Turns what `soundness` measured, and what went wrong in calls, into findings about the code of a reward."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from medrft.audit.finding import Finding, Severity, as_percent

PROBLEMS: dict[str, tuple[Severity, str, str]] = {
    "raises": (
        "error",
        "It raises on {n} of the answers tried",
        "A reward must be total: any text a policy can write.",
    ),
    "hangs": ("error", "It hangs", "Bound every loop, regular expression and request by time."),
    "dies": ("error", "It ends its process", "Never exit() inside a reward."),
    "wrong_length": (
        "error",
        "It returns another number of scores than it got rows",
        "Return one score per completion.",
    ),
    "wrong_type": ("error", "It returns something that is no number", "Return floats, or None for unscored."),
    "not_finite": ("error", "It returns NaN or infinity", "Return None for what cannot be scored."),
    "exceptions_as_zero": (
        "warning",
        "It turns every error into a score, so that its own bugs become training signal",
        "Let errors out, or return None: unscored is not wrong.",
    ),
    "signature": ("warning", "TRL could not call it", "Add **kwargs to its parameters."),
    "plain_text": ("note", "Not as TRL calls it with images", "Read completions[i][-1]['content']."),
}


def code_findings(
    found: Mapping[str, Any] | None, problems: Sequence[Mapping[str, Any]], limits: Mapping[str, float]
) -> Iterator[Finding]:
    """Findings from problems in calls first, then from the checks. `found` is `None` if nothing could be scored."""
    for name, (severity, says, change) in PROBLEMS.items():
        seen = [problem for problem in problems if problem["name"] == name]
        if seen:
            first = seen[0]["says"]
            yield Finding(
                name=name,
                severity=severity,
                says=f"{says.format(n=len(seen))}: {first}.",
                change=change,
                measured=float(len(seen)),
                cases=tuple(case for problem in seen[:3] if (case := problem.get("case"))),
            )
    if found is not None:
        yield from _blind(found, limits)
        yield from _unsteady(found)
        yield from _outside(found)
        yield from _nothing(found)
        yield from _speed(found, limits)


def _blind(found: Mapping[str, Any], limits: Mapping[str, float]) -> Iterator[Finding]:
    answers, references = found["same_for_all_answers"], found["same_for_all_references"]
    if answers is not None and answers >= limits["blind"]:
        yield Finding(
            name="blind_to_completion",
            severity="error",
            says=f"For {as_percent(answers)} of the questions every answer earns the same, right or wrong: it does "
            "not read the completion (it may score the reference against itself).",
            change="Check which argument holds the policy's text, and print one row.",
            measured=answers,
            threshold=limits["blind"],
            cases=tuple(found["alike"]),
        )
    if references is not None and references >= limits["blind"]:
        yield Finding(
            name="blind_to_reference",
            severity="error",
            says=f"For {as_percent(references)} of the answers another reference changes nothing: it pays for form or "
            "style, never for being right.",
            change="Compare the answer with the reference; use form and length only beside that.",
            measured=references,
            threshold=limits["blind"],
            cases=tuple(found["unmoved"]),
        )


def _unsteady(found: Mapping[str, Any]) -> Iterator[Finding]:
    checks = {
        "nondeterministic": ("repeat", "The same rows scored twice", "Seed or remove what is random."),
        "depends_on_order": ("order", "The same rows in another order", "Score each row by itself."),
        "depends_on_batch": ("batch", "The same rows in other batches", "Score each row by itself; keep no state."),
    }
    # A reward that changes between two equal calls also changes with order and batch; one finding says it.
    steady = not (found["repeat"]["changed"] or found["repeat"]["lost"])
    for name, (key, says, change) in checks.items():
        row = found[key]
        if (row["changed"] or row["lost"]) and (steady or key == "repeat"):
            yield Finding(
                name=name,
                severity="error",
                says=f"{says} get other scores: {row['changed'] + row['lost']} of {row['n']} differ, by up to "
                f"{row['max']:.3g}.",
                change=change,
                measured=row["max"],
            )
    if found["not_picklable"]:
        yield Finding(
            name="not_picklable",
            severity="note",
            says=f"It cannot be sent to another process ({found['not_picklable'][:160]}).",
            change="Define it at the top of a module, without lambdas or open connections.",
        )


def _outside(found: Mapping[str, Any]) -> Iterator[Finding]:
    for part, (low, high) in found["outside"].items():
        yield Finding(
            name=f"out_of_range:{part}",
            severity="error",
            says=f"{part} leaves the range it declares: its scores run from {low:.3g} to {high:.3g}.",
            change="Bound the score, or declare its range; calibrations and weights rely on it.",
        )


def _nothing(found: Mapping[str, Any]) -> Iterator[Finding]:
    row = found["none"]
    if row["raises"]:
        yield Finding(
            name="fails_on_none",
            severity="note",
            says=f"An absent completion or reference makes it raise: {row['raises'][0]}.",
            change="Return None for a row without a reference; score an absent completion like an empty one.",
        )
    elif row["reference"] is not None:
        yield Finding(
            name="missing_reference_scored",
            severity="note",
            says=f"Without a reference it still returns a score ({row['reference']:.3g}), which trains on nothing.",
            change="Return None where there is nothing to compare with.",
            measured=row["reference"],
        )


def _speed(found: Mapping[str, Any], limits: Mapping[str, float]) -> Iterator[Finding]:
    speed = found["speed"]
    if speed["seconds_each"] > limits["slow"]:
        yield Finding(
            name="slow",
            severity="warning",
            says=f"A completion takes {speed['seconds_each']:.2f} s to score; a step of 512 takes "
            f"{512 * speed['seconds_each'] / 60:.0f} minutes.",
            change="Batch it, cache it, or call the judge only where a cheap scorer is unsure.",
            measured=speed["seconds_each"],
            threshold=limits["slow"],
        )
    exponent = speed["exponent"]
    if exponent is not None and exponent > limits["growth"] and speed["seconds"][-1] > 0.25:
        yield Finding(
            name="superlinear",
            severity="warning",
            says=f"A completion of {speed['sizes'][-1]:,} words takes {speed['seconds'][-1]:.1f} s: time grows like "
            f"length to the power {exponent:.1f}, and a policy that rambles will stall training.",
            change="Cut the text before scoring, and avoid nested quantifiers in regular expressions.",
            measured=exponent,
            threshold=limits["growth"],
        )
