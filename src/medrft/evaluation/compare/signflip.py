"""From paired differences to p-values, by flipping the signs of whole clusters, and their correction for many tests.

Under the hypothesis that two models answer alike, swapping their names on all questions about one image changes
nothing. So each image's sum of differences is equally likely with the other sign. The p-value is the share of sign
patterns whose sum is at least as far from 0 as the one seen (Fisher 1935; Good 2005, chapter 3). Needs numpy only.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

EXACT = 12
"""With at most this many clusters whose sum is not 0, all sign patterns are enumerated."""
FLIPS = 9_999
"""Number m of random patterns otherwise. If b are at least as extreme, p = (b + 1) / (m + 1) (Phipson, Smyth 2010)."""
SLACK = 1e-9
"""Sums this close, relative to the sum of absolute values, are ties; else rounding could make a pattern less extreme
than itself."""
CELLS = 4_000_000
"""Most cells of a matrix of signs, so that it fits in memory."""


class SignFlip(NamedTuple):
    """A two-sided p-value in (0, 1], and how it was found."""

    p: float
    exact: bool
    """Whether all patterns were enumerated."""
    clusters: int
    """Number of all clusters. Those whose differences sum to 0 are the same under either sign and are not flipped."""


def sign_flip(
    differences: Sequence[float], *, clusters: Sequence[Hashable] | None = None, seed: int, flips: int = FLIPS
) -> SignFlip:
    """Two-sided test that the mean of paired `differences` is 0, flipping whole `clusters` (each value its own).

    Raises `ValueError` for no values, or for values that are not finite.

    >>> sign_flip([1, 1, 1, 1], seed=0)
    SignFlip(p=0.125, exact=True, clusters=4)
    >>> sign_flip([1, 1, 1, 1], clusters="aabb", seed=0).p, sign_flip([0.0, 0.0], seed=0).p
    (0.5, 1.0)
    """
    sums, count = _sums(differences, clusters)
    observed = abs(float(sums.sum()))
    reached = observed - SLACK * float(np.abs(sums).sum())
    if not len(sums):
        return SignFlip(1.0, True, count)
    if len(sums) <= EXACT:
        bits = (np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums))) & 1  # all patterns, (2^n, n)
        totals = np.abs(np.where(bits, -1.0, 1.0) @ sums)
        return SignFlip(float((totals >= reached).mean()), True, count)
    rng = np.random.default_rng(seed)
    chunk = max(1, CELLS // len(sums))  # patterns drawn at a time, so that they fit in memory
    more = 0
    for start in range(0, flips, chunk):
        signs = rng.choice((-1.0, 1.0), size=(min(chunk, flips - start), len(sums)))
        more += int((np.abs(signs @ sums) >= reached).sum())
    return SignFlip((more + 1) / (flips + 1), False, count)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number by Holm's step-down method (Holm 1979), in the order given.

    The smallest is multiplied by how many there are, the next by one less, and so on; none becomes smaller than the
    one before it, nor larger than 1.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    found = [1.0] * len(p_values)
    highest = 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        found[i] = highest
    return found


def _sums(differences: Sequence[float], clusters: Sequence[Hashable] | None) -> tuple[Floats, int]:
    """Sums of differences of the clusters where it is not 0, and the number of all clusters."""
    values = np.asarray(differences, dtype=float)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"a test needs at least one difference, got shape {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError("a test needs finite differences; leave unscored ones out and count them")
    labels = range(len(values)) if clusters is None else clusters
    if len(labels) != len(values):
        raise ValueError(f"{len(values)} differences need {len(values)} clusters, got {len(labels)}")
    seen: dict[Hashable, int] = {}
    code = np.array([seen.setdefault(label, len(seen)) for label in labels], dtype=np.intp)
    sums: Floats = np.bincount(code, weights=values).astype(float)
    size = np.bincount(code, weights=np.abs(values))
    differ: Floats = sums[np.abs(sums) > SLACK * size]
    return differ, len(sums)
