"""A finding: one named fault of a reward, with its evidence and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["note", "warning", "error"]
SEVERITIES: tuple[Severity, ...] = ("note", "warning", "error")
"""From the mildest to the gravest: worth knowing, worth mending, do not train with this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One named fault with its evidence."""

    name: str
    severity: Severity
    says: str
    """One sentence for someone who has never seen an audit."""
    change: str
    """What to do about it."""
    measured: float | None = None
    threshold: float | None = None
    cases: tuple[Mapping[str, Any], ...] = ()
    """The worst three cases, as evidence."""

    def as_json(self) -> dict[str, Any]:
        """The finding as a row of `findings.jsonl`."""
        return {**asdict(self), "cases": list(self.cases)}


def as_percent(share: float) -> str:
    """A share as people read it.

    >>> as_percent(0.615)
    '62 %'
    """
    return f"{100 * share:.0f} %"


NAMES = (
    *("inverted", "suspect", "weak", "collapsed", "calibration_saturated", "dominated", "phantom_gradient"),
    *("hackable", "tags_pay", "length_bias", "specificity_bias", "hedging_bias", "strict", "blind_to_completion"),
    *("blind_to_reference", "nondeterministic", "depends_on_order", "depends_on_batch", "out_of_range"),
    *("not_picklable", "raises", "hangs", "dies", "wrong_length", "wrong_type", "not_finite", "exceptions_as_zero"),
    *("signature", "plain_text", "fails_on_none", "missing_reference_scored", "slow", "superlinear"),
)
"""The names of all findings an audit can make. Some are followed by `:` and a facet, part or hack."""
