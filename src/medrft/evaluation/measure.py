"""What `metrics.json` holds, from the header and rows of `predictions.jsonl` alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medrft.evaluation.biases import biases
from medrft.evaluation.consistency import control_table
from medrft.evaluation.metrics import Row, summarise
from medrft.evaluation.strata import strata
from medrft.intervals import LEVEL, METHOD


def measured(header: Mapping[str, Any], rows: Sequence[Row]) -> dict[str, Any]:
    """The header, how intervals are made and what they hold for, `results`, `strata`, `controls`, `biases`."""
    return {
        **header,
        "interval": f"{100 * LEVEL:g} %: {METHOD}",
        "conditional_on": "this training seed",
        "results": summarise(rows),
        "strata": strata(rows),
        "controls": control_table(rows, header.get("left_out", {})),
        "biases": biases(rows),
    }
