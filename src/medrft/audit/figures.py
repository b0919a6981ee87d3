"""The figures of an audit as one number each: what a reward's row of `summary.json` says in short."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Any

FIGURES: dict[str, tuple[int, str]] = {
    "auroc": (1, "a paraphrase earns more than a contradiction"),
    "group_auroc": (1, "a right answer earns more than a wrong one of its group"),
    "snr": (1, "signal to noise of the advantage"),
    "wrong_way": (-1, "groups whose wrong answers have the higher mean"),
    "collapse": (-1, "groups with right and wrong answers whose spread lies under the floor"),
    "phantom_gradient": (-1, "groups without a right answer that push the policy"),
    "hackability": (-1, "mean gain of all tricks, each within 0 and 1"),
}
"""Name -> whether more is better (1) or worse (-1), and what it is."""


def audit_figures(row: Mapping[str, Any]) -> dict[str, float | None]:
    """All figures of a reward; `None` where the audit could not take one."""
    pooled = (row["auroc"] or {}).get("total")
    collapse = row["collapse"] or {}
    signal = collapse.get("signal", {})
    spread = (collapse.get("total") or {}).get("calibrated")
    gains = [hack["gain"] for hack in (row["hacks"] or {}).values() if hack["gain"] is not None]
    return {
        "auroc": pooled["mean"] if pooled else None,
        "group_auroc": signal.get("auroc"),
        "snr": signal.get("snr"),
        "wrong_way": signal.get("wrong_way"),
        "collapse": spread["under_floor"] if spread else None,
        "phantom_gradient": signal.get("phantom"),
        # Without a gain of being right over being wrong no trick has one: nothing is then left to be tricked out of it.
        "hackability": fmean(min(1.0, max(0.0, gain)) for gain in gains) if gains else None,
    }
