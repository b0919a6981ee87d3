"""Writes a study's figures as Markdown: its verdict, what is missing, and its tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from medrft.report.study_controls import SHARE, control_words, equal_words, has_shares, share_cell, share_sentence
from medrft.report.wording import (
    MINUS,
    NONE,
    metric_label,
    outcome_label,
    percent_points,
    percent_share,
    plain_number,
    plain_percent,
)
from medrft.studies.plan import FLIPS, FORM_SHARE

Row = Mapping[str, Any]


def study_verdict(facts: Row) -> dict[str, str]:
    """The primary outcome in words: CSS class, sign, claim, and the detail behind the claim."""
    own = facts["primary"]
    found = own["outcome"]
    what = f"{own['a']} {MINUS} {own['against']}, {outcome_label(own)}"
    if found is None:
        there = ", ".join(facts["datasets"])
        lacking = there and own["dataset"] not in facts["datasets"]
        claim = "The result files lack the data set" if lacking else "The primary outcome has no result yet"
        detail = f"{what}; the data sets there are {there}" if lacking else what
        return {"css": "unclear", "sign": "…", "claim": claim, "detail": detail}
    per = ", ".join(percent_points(value) for value in found["per_seed"].values())
    n, planned = len(found["per_seed"]), len(facts["planned_seeds"])
    seeds = f"{n} of {planned} planned seeds" if n < planned else f"{n} seed{'s' if n > 1 else ''}"
    detail = (
        f"{what}: {percent_points(found['mean'])} points{_bounds(found)}; by seed {per}; {found['n']:,} pairs, {seeds}"
    )
    if n < 2:
        return {"css": "unclear", "sign": "?", "claim": "One seed is too few to tell", "detail": detail}
    if not is_clear(found):
        claim = f"No clear difference between {own['a']} and {own['against']}"
        return {"css": "unclear", "sign": "≈", "claim": claim, "detail": f"{detail}{_within(found)}"}
    better = (found["low"] > 0) != (own["metric"] in FLIPS)
    claim = f"{own['a']} is {'better' if better else 'worse'} than {own['against']}"
    claim = f"So far, {claim}" if n < planned else claim
    return {"css": "better" if better else "worse", "sign": "✓" if better else "✗", "claim": claim, "detail": detail}


def _within(found: Row) -> str:
    """What an interval around 0 leaves open, as the end of a sentence."""
    if found["low"] is None:
        return ""
    return (
        f"; anything from {percent_points(found['low'])} to {percent_points(found['high'])} points fits what was seen"
    )


def is_clear(found: Row) -> bool:
    """Whether a difference's interval lies on one side of 0."""
    return found["low"] is not None and (found["low"] > 0 or found["high"] < 0)


def label_of(found: Row | None, metric: str = "truth") -> str:
    """A difference in points (of tokens: in tokens) with its interval, for a table's cell.

    >>> label_of({"mean": 0.012, "low": -0.01, "high": 0.034}), label_of(None)
    ('+1.2 [−1.0, +3.4]', '–')
    >>> label_of({"mean": -2.5, "low": None, "high": None}, "n_tokens")
    '−2.5'
    """
    return NONE if found is None else f"{write_difference(found['mean'], metric)}{_bounds(found, metric)}"


def write_difference(value: float | None, metric: str) -> str:
    """A signed difference of a metric: tokens as a number, everything else in percentage points."""
    return percent_points(value / 100 if value is not None and metric == "n_tokens" else value)


def _bounds(found: Row, metric: str = "truth") -> str:
    return (
        ""
        if found["low"] is None
        else f" [{write_difference(found['low'], metric)}, {write_difference(found['high'], metric)}]"
    )


def study_status(facts: Row) -> list[str]:
    """What the figures rest on and what is missing from them, each as part of a sentence."""
    parts = [f"Seeds {', '.join(map(str, facts['seeds'])) or 'none'}", f"encoder {', '.join(facts['encoder']) or NONE}"]
    if (form := facts["form"]) is not None:
        parts.append(
            f"the base writes the form in {percent_share(form['answered'])} of {form['n']} completions at T = 1"
        )
        if not FORM_SHARE[0] <= form["answered"] <= FORM_SHARE[1]:
            parts[-1] += f", not in {100 * FORM_SHARE[0]:.0f} to {percent_share(FORM_SHARE[1])}"
    if any(row["seeds"] == 1 for table in facts["tables"] for row in table["rows"]):
        parts.append("intervals of arms with one seed are over images alone")
    if facts["missing"]:
        parts.append(f"not run: {_by_arm(facts['missing'], len(facts['planned_seeds']))}")
    if facts["stale"]:
        parts.append(f"left out, made under another content: {', '.join(facts['stale'])}")
    if facts["unplanned"]:
        parts.append(f"left out, of no planned arm or seed: {', '.join(facts['unplanned'])}")
    return parts


MANY = 4
"""So many arms that lack the same seeds are counted, and not named one by one."""


def _by_arm(labels: Sequence[str], planned: int) -> str:
    """The names of arms; those with only some of the planned seeds are followed by these, or counted if they are many.

    >>> _by_arm(["a-seed1", "b-seed1", "a-seed2"], 2)
    'a, b (seed 1)'
    >>> _by_arm([f"{arm}-seed{seed}" for arm in "abcd" for seed in (2, 3)], 3)
    'seeds 2, 3 of 4 arms'
    """
    seeds: dict[str, list[str]] = {}
    for name in labels:
        arm, _, seed = name.rpartition("-seed")
        seeds.setdefault(arm, []).append(seed)
    alike: dict[tuple[str, ...], list[str]] = {}
    for arm, own in seeds.items():
        alike.setdefault(tuple(own), []).append(arm)
    parts = []
    for lacking, arms in alike.items():
        told = ", ".join(lacking)
        if len(lacking) == planned:
            parts += arms
        elif len(arms) >= MANY:
            parts.append(f"seed{'s' if len(lacking) > 1 else ''} {told} of {len(arms)} arms")
        else:
            parts += [f"{arm} (seed {told})" for arm in arms]
    return ", ".join(parts)


# ---- tables ---------------------------------------------------------------------------------------------------------


def study_markdown(facts: Row) -> str:
    """A study as Markdown: its verdict, the table of its primary outcome, and the other tables folded."""
    against = facts["primary"]["against"]
    lead = lead_tables(facts)
    others = [table for table in facts["tables"] if table not in lead]
    lines = study_head(facts)
    lines += [line for table in lead for line in _table_lines(table, against)]
    lines += _pass_lines(facts["pass_at"]) + _start_lines(facts)
    lines += _folded("Other data sets and kinds", [line for table in others for line in _table_lines(table, against)])
    aside = _learning_lines(facts) + _metric_lines(facts) + _difficulty_lines(facts) + _length_lines(facts)
    lines += _folded("Training reward, every metric, lengths, easy and hard questions", aside)
    lines += _folded("Cost and power", _cost_lines(facts["cost"]) + _power_lines(facts))
    return "\n".join(lines).rstrip()


def study_head(facts: Row) -> list[str]:
    """What a study found, without tables: its positive control, its verdict, and what these rest on."""
    said, control, share = study_verdict(facts), control_words(facts), share_sentence(facts)
    return [
        f"**{control['claim']}:** {_cell(control['detail'])}." + (f" {_cell(share)}." if share else ""),
        "",
        f"**{_cell(said['claim'])}.** {_cell(said['detail'])}.",
        "",
        _cell("; ".join(study_status(facts))) + ".",
        "",
    ]


def lead_tables(facts: Row) -> list[Row]:
    """The table of the primary outcome's data set and kind; empty if no result has it."""
    own = facts["primary"]
    return [table for table in facts["tables"] if (table["dataset"], table["kind"]) == (own["dataset"], own["kind"])]


def mean_cell(row: Row) -> str:
    """An arm's mean with its interval, in percent."""
    bounds = "" if row["low"] is None else f" [{plain_percent(row['low'])}, {plain_percent(row['high'])}]"
    return plain_percent(row["mean"]) + bounds


def _folded(title: str, lines: Sequence[str]) -> list[str]:
    """Lines that a page shows only when their title is opened."""
    return ["<details>", f"<summary>{title}</summary>", "", *lines, "</details>", ""] if lines else []


def _cell(text: str) -> str:
    """Text escaped so that it cannot leave its table cell."""
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def markdown_table(says: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table under a line that says what it holds; empty without rows."""
    body = ["| " + " | ".join(map(_cell, row)) + " |" for row in rows]
    head = ["| " + " | ".join(map(_cell, heads)) + " |", "|" + "---|" * len(heads)]
    return [_cell(says), "", *head, *body, ""] if body else []


def controls_of(table: Row) -> list[str]:
    """The controls that any arm of a table has, `sampled` included."""
    return list(dict.fromkeys(control for row in table["rows"] for control in row["controls"]))


def flips_of(table: Row) -> list[str]:
    """The kinds of flipped answers that a table has; only phantoms have any."""
    return [flip for flip in FLIPS if any(row["flips"][flip] for row in table["rows"])]


def _table_lines(table: Row, against: str) -> list[str]:
    controls, flips = controls_of(table), flips_of(table)
    shares = has_shares(table)
    heads = [
        "arm",
        "mean",
        f"minus {against}, points",
        *([SHARE] if shares else []),
        *map(metric_label, controls),
        *(f"{metric_label(f)}s" for f in flips),
    ]
    rows = []
    for row in table["rows"]:
        apart = row["difference"]
        # Its n is told where some of the arm's answers have no partner.
        minus = label_of(apart) + (f", n {apart['n']:,}" if apart and apart["n"] != row["n"] else "")
        cells = [row["arm"], mean_cell(row), minus, *([share_cell(row["share"])] if shares else [])]
        cells += [plain_percent(row["controls"].get(c)) for c in controls]
        rows.append([*cells, *(_flip(row["flips"][flip]) for flip in flips), f"{row['n']:,}", str(row["seeds"])])
    says = f"{outcome_label(table)} in percent"
    greedy = "greedy answers that are flipped" if table["source"] == "sampled" else "flipped answers"
    says += f"; {greedy} in percent, and their difference in points:" if flips else ":"
    return markdown_table(says, [*heads, "n", "seeds"], rows)


def _flip(found: Row | None) -> str:
    if found is None:
        return NONE
    return plain_percent(found["mean"]) + (f" ({label_of(found['difference'])})" if found["difference"] else "")


def _metric_lines(facts: Row) -> list[str]:
    """Every metric on the primary data set: each arm against the primary's baseline, then the secondary pairs."""
    own = facts["primary"]
    where = f"Every metric, {own['dataset']}"
    unit = "in points (tokens in tokens):"
    return [
        *_metrics(f"{where}, open, minus {own['against']}, {unit}", facts["metrics"], own["dataset"], pairs=False),
        *_metrics(f"{where}, {own['kind']}, other pairs, {unit}", facts["comparisons"], own["dataset"], pairs=True),
    ]


def _metrics(says: str, rows: Sequence[Row], dataset: str, *, pairs: bool) -> list[str]:
    here = [row for row in rows if row["dataset"] == dataset]
    names = list(dict.fromkeys(metric for row in here for metric in row["metrics"]))
    body = [
        [
            f"{row['arm']} {MINUS} {row['against']}" if pairs else row["arm"],
            *(label_of(row["metrics"].get(name), name) for name in names),
        ]
        for row in here
    ]
    return markdown_table(says, ["arms" if pairs else "arm", *map(metric_label, names)], body)


def _learning_lines(facts: Row) -> list[str]:
    """A table of what each arm was paid at the beginning and at the end of its training."""
    rows = [[row["arm"], *learning_cells(row)] for row in facts["learning"]]
    says = "Sampled training answers, percent, first to last quarter of the steps; changes in points, over seeds:"
    heads = ["arm", "reward", "change", "oracle accuracy or correct", "change", "parts of the reward, raw"]
    return markdown_table(says, heads, rows)


def learning_cells(row: Row) -> list[str]:
    """Reward, and share of right answers (by the oracle if there is one), from the first to the last quarter."""
    cells = []
    for found in (row["reward"], row.get("truth") or row.get("correct")):
        said = NONE if found is None else f"{plain_percent(found['first'])} to {plain_percent(found['last'])}"
        cells += [said, label_of(found)]
    parts = (
        f"{name} {plain_percent(part['first'])} to {plain_percent(part['last'])}" for name, part in row["parts"].items()
    )
    return [*cells, ", ".join(parts) or NONE]


def _difficulty_lines(facts: Row) -> list[str]:
    """Easy and hard questions of the primary data set."""
    own = facts["primary"]
    rows = [
        [row["arm"], *(label_of(row[key], metric) for key, metric in LEVELS)]
        for row in facts["difficulty"]
        if row["dataset"] == own["dataset"]
    ]
    says = (
        f"Easy and hard questions of {own['dataset']} (those that the arm none answers right and wrong), minus "
        f"{own['against']}, oracle accuracy or correct in points, and tokens:"
    )
    return markdown_table(says, ["arm", "easy", "hard", "tokens, easy", "tokens, hard"], rows)


LEVELS = (("easy", "truth"), ("hard", "truth"), ("easy_tokens", "n_tokens"), ("hard_tokens", "n_tokens"))


def _length_lines(facts: Row) -> list[str]:
    """Lengths of right and of wrong answers on the primary data set."""
    own = facts["primary"]
    rows = [[row["arm"], *length_cells(row)] for row in facts["lengths"] if row["dataset"] == own["dataset"]]
    both = f"minus {own['against']} where both are"
    says = f"Tokens per answer, {own['dataset']}:"
    return markdown_table(says, ["arm", "right answers", f"{both} right", "wrong answers", f"{both} wrong"], rows)


def length_cells(row: Row) -> list[str]:
    """Mean tokens of right answers and their difference, then of wrong ones."""
    cells = []
    for level in ("right", "wrong"):
        cells.append(NONE if row[level] is None else plain_number(row[level]["mean"]))
        cells.append(label_of(row[f"{level}_difference"], "n_tokens"))
    return cells


def _cost_lines(cost: Row) -> list[str]:
    says = f"Budget, {cost['rule'].replace('_', ' ')}: {cost['statement']}"
    if cost["ratio"] is not None:
        says += f" (largest over smallest {cost['ratio']:.2f}, {'kept' if cost['kept'] else 'not kept'})"
    heads = ["arm", "steps", "completions", "sampled tokens", "seconds", "evaluation", "shared stages before"]
    keys = ("steps", "completions", "tokens", "seconds", "evaluation_seconds", "shared_seconds")
    rows = [[row["arm"], *(f"{row[key]:,.0f}" for key in keys)] for row in cost["arms"]]
    held = [f"Controls, beside the oracle: {'; '.join(map(equal_words, cost['equal']))}.", ""] if cost["equal"] else []
    return markdown_table(f"{says}. Median over seeds:", heads, rows) + held


def _pass_lines(passed: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[str]:
    ks = list(dict.fromkeys(k for sets in passed.values() for values in sets.values() for k in values))
    rows = [
        [arm, dataset, *(plain_percent(values.get(k)) for k in ks)]
        for arm, sets in passed.items()
        for dataset, values in sets.items()
    ]
    return markdown_table("pass@k of sampled answers, percent:", ["arm", "data set", *(f"k = {k}" for k in ks)], rows)


def _start_lines(facts: Row) -> list[str]:
    """Each start beside what GRPO made of it, and how well its figures predict which start ends better."""
    heads = ["start", "after GRPO", "data set", "start, greedy", "pass@k of the start", "reached", "gain, points"]
    rows = [
        [
            *(row["start"], row["after"], row["dataset"], plain_percent(row["greedy"]), pass_cell(row["pass_at"])),
            *(plain_percent(row["reached"]), label_of(row["gain"])),
        ]
        for row in facts["starts"]
    ]
    lines = markdown_table("Starts, and GRPO from them, percent:", heads, rows)
    for dataset, found in groupby(facts["predictors"], key=lambda row: row["dataset"]):
        said = ", ".join(f"{row['predictor']} {row['agree']} of {row['of']}" for row in found)
        says = (
            "Pairs of starts, within a seed, that a figure of the start orders as GRPO from them does (half by chance)"
        )
        lines += [f"{says}, {_cell(dataset)}: {said}.", ""]
    return lines


def pass_cell(values: Mapping[str, float]) -> str:
    """pass@k in one cell.

    >>> pass_cell({"1": 0.5, "8": 0.912})
    '1: 50.0 · 8: 91.2'
    """
    return " · ".join(f"{k}: {plain_percent(value)}" for k, value in values.items())


def _power_lines(facts: Row) -> list[str]:
    own = facts["primary"]
    here = [row for row in facts["power"] if row["dataset"] == own["dataset"]]
    effects = list(here[0]["needed"]) if here else []
    rows = [
        [
            row["arm"],
            plain_percent(row["sd"]),
            plain_percent(row["within_sd"]),
            str(row["seeds"]),
            *(str(row["needed"][effect]) for effect in effects),
        ]
        for row in here
    ]
    says = (
        f"Power, {outcome_label(own)}: sd of the per-seed differences to "
        f"{own['against']}, what the images alone bring, and the seeds that an effect would need (80 % power, 5 %):"
    )
    return markdown_table(
        says,
        ["arm", "sd, points", "by images", "from seeds", *(percent_points(float(effect)) for effect in effects)],
        rows,
    )
