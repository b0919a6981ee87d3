"""Says what a study's positive control shows, and what share of the oracle's gain each arm has, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medrft.report.wording import MINUS, NONE, outcome_label, percent_points, plain_percent, whole_percent
from medrft.studies.controls import ORACLE

Row = Mapping[str, Any]

SHARE = "of the oracle's gain"
UNKNOWN = "not determined"


def control_words(facts: Row) -> dict[str, str]:
    """What the positive control shows, for the top of a table or page: CSS class, claim and detail.

    The claim of a study that can decide nothing, or that lacks the control, comes before its verdict.
    """
    control, own = facts["control"], facts["primary"]
    gain = control["gain"]
    what = f"{ORACLE} {MINUS} {control['start']}, {outcome_label(own)}"
    told = "" if gain is None else f"{what}: {percent_points(gain['mean'])} points{_bounds(gain)}"
    match control["state"]:
        case "absent":
            claim = "No positive control"
            detail = "no arm is paid by the truth, so an undecided outcome may be the set-up's or the reward's"
        case "missing":
            claim, detail = (
                "The positive control has not been run",
                f"the arm {ORACLE}, or the start it is held against",
            )
        case "one_seed":
            claim, detail = "The positive control has one seed, which shows no other training", told
        case "unclear":
            claim = "This study can decide nothing"
            detail = f"the truth itself as reward teaches nothing here that shows: {told}"
        case _:
            claim, detail = "Positive control", told
    return {"css": "better" if control["state"] == "clear" else "unclear", "claim": claim, "detail": detail}


def share_sentence(facts: Row) -> str:
    """What the primary outcome's arm teaches of what the truth would, as a sentence; empty without such a share."""
    own = facts["primary"]
    here = [table for table in facts["tables"] if (table["dataset"], table["kind"]) == (own["dataset"], own["kind"])]
    found = next((row["share"] for table in here for row in table["rows"] if row["arm"] == own["a"]), None)
    if found is None:
        return ""
    if found["share"] is None:
        return f"What {own['a']} teaches of what the truth would is {UNKNOWN}"
    return f"{own['a']} teaches {share_cell(found)} of what the truth would"


def share_cell(found: Row | None) -> str:
    """A share of the oracle's gain with its interval.

    >>> share_cell({"share": 0.6, "low": 0.452, "high": 0.8}), share_cell({"share": None}), share_cell(None)
    ('60 % [45, 80]', 'not determined', '–')
    """
    if found is None:
        return NONE
    if found["share"] is None:
        return UNKNOWN
    low, high = (whole_percent(found[key]).removesuffix(" %") for key in ("low", "high"))
    return f"{whole_percent(found['share'])} [{low}, {high}]"


def has_shares(table: Row) -> bool:
    """Whether any arm of a table has a share, or would have one if it were determined."""
    return any(row["share"] is not None for row in table["rows"])


def _bounds(gain: Row) -> str:
    return "" if gain["low"] is None else f" [{percent_points(gain['low'])}, {percent_points(gain['high'])}]"


def equal_words(row: Row) -> str:
    """What a control spent beside the oracle.

    >>> equal_words({"arm": "sft_on", "rule": "wall_clock", "ratio": 1.1, "kept": True})
    'sft_on 1.10 times its wall clock, kept'
    """
    rule = row["rule"].replace("_", " ")
    return f"{row['arm']} {row['ratio']:.2f} times its {rule}, {'kept' if row['kept'] else 'not kept'}"


def pilot_cells(row: Row) -> list[str]:
    """A row of the pilot's table: the pair, both parts of its spread in points, and the seeds by test pictures."""
    between = plain_percent(row["between_sd"]) + ("" if row["measured"] else " (assumed)")
    needed = [f"{one['seeds']:,}" for one in row["needed"]]
    return [
        f"{row['a']} {MINUS} {row['against']}",
        percent_points(row["difference"]),
        plain_percent(row["within_sd"]),
        between,
        whole_percent(row["between_share"]),
        *needed,
    ]
