"""The calibrations by name, and how one is built: from `adaptive` or `{kind: affine, low: 0.3}` to a `Calibration`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from medrft.errors import RecipeError, unknown_name
from medrft.rewards.adaptive import SLOPES_BELOW, Adaptive, Quantile
from medrft.rewards.calibration import Affine, Calibration, GroupSigmoid, Rank, Sigmoid, Threshold, ZScore

KINDS_OF_CALIBRATION: tuple[type[Calibration], ...] = (
    *(Calibration, Affine, Sigmoid, Threshold, Rank, ZScore, GroupSigmoid),
    *(Quantile, Adaptive),
)
CALIBRATIONS: dict[str, type[Calibration]] = {cls.kind: cls for cls in KINDS_OF_CALIBRATION}


def build_calibration(spec: str | Mapping[str, Any], *, scorer: str) -> Calibration:
    """The calibration of one part, from a name or from a table with `kind` and its settings.

    Raises `UnknownNameError` for an unknown kind or setting, `RecipeError` for a table without `kind` or a value out of
    range. The lower slope of the adaptive calibration depends on the scorer unless it is given.
    """
    table: dict[str, Any] = {"kind": spec} if isinstance(spec, str) else dict(spec)
    kind = table.pop("kind", None)
    if not isinstance(kind, str):
        raise RecipeError(f"calibrate of {scorer} needs a kind, one of {', '.join(CALIBRATIONS)}")
    if kind not in CALIBRATIONS:
        raise unknown_name("calibration", kind, CALIBRATIONS)
    cls = CALIBRATIONS[kind]
    known = [f.name for f in fields(cls) if not f.name.startswith("_")]
    for key in table:
        if key not in known:
            raise unknown_name(f"setting of the {kind} calibration", key, known)
    if cls is Adaptive:
        table.setdefault("a_neg", SLOPES_BELOW.get(scorer, Adaptive.a_neg))
    return cls(**table)
