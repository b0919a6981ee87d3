"""Thinning frequent answers: K-means over the question embeddings within each, and the pair nearest each centroid.

As ARMed's data stage does it (arXiv 2508.12957), because rewards make a policy over-produce what is frequent. Not
published, so ours: tau and the cluster counts; that an answer is counted as it stands after normalisation; and what
happens where an answer has fewer distinct questions than clusters: pairs with one question then differ by their images
alone, and are drawn by seed, one question after the other.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medrft.config import CurateConfig
from medrft.text import normalize
from medrft.types import Example

Vectors = NDArray[np.float64]
Embed = Callable[[Sequence[str]], Sequence[Sequence[float]]]
"""Texts to their vectors, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thinned:
    """What thinning left, with its counts."""

    kept: tuple[Example, ...]
    """In the order they came."""
    frequent: dict[str, tuple[int, int]]
    """Answer -> rows before and after, the most frequent first."""
    long_tail: int
    """Rows whose answer is not frequent, kept or not."""
    rare_answers: int


def answer_of(example: Example) -> str:
    """The answer an example counts for: its first reference, normalised (as it is, where nothing is left of it)."""
    return normalize(example.references[0]) or example.references[0].strip()


def thin_frequent(examples: Sequence[Example], config: CurateConfig, *, seed: int, embed: Embed) -> Thinned:
    """Keep `config.left` pairs of each answer that more than `config.tau` examples have; the long tail as it says.

    `embed` is called once, with the distinct questions of the frequent answers.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for number, example in enumerate(examples):
        groups[answer_of(example)].append(number)
    frequent = {answer: rows for answer, rows in groups.items() if len(rows) > config.tau}
    questions = list(dict.fromkeys(examples[n].question for rows in frequent.values() for n in rows))
    vectors = dict(zip(questions, np.asarray(embed(questions), float), strict=True)) if questions else {}
    kept: set[int] = set()
    counts: dict[str, tuple[int, int]] = {}
    for answer, rows in sorted(frequent.items(), key=lambda item: (-len(item[1]), item[0])):
        matrix = np.stack([vectors[examples[n].question] for n in rows])
        chosen = spread_over(matrix, config.left, seed=seed, draw=random.Random(f"{seed} {answer}"))
        kept |= {rows[position] for position in chosen}
        counts[answer] = (len(rows), len(chosen))
    rare = [n for answer, rows in groups.items() if answer not in frequent for n in rows]
    if config.long_tail == "keep":
        kept |= set(rare)
    return Thinned(
        kept=tuple(examples[n] for n in sorted(kept)),
        frequent=counts,
        long_tail=len(rare),
        rare_answers=len(groups) - len(frequent),
    )


def spread_over(matrix: Vectors, k: int, *, seed: int, draw: random.Random) -> list[int]:
    """Row numbers of min(k, rows) pairs, spread over the questions; `matrix` is (rows, features).

    With more distinct questions than `k`: the row nearest the centroid of each of `k` clusters. Otherwise each
    question in turn gives one row, until there are `k`. `draw` decides between rows of one question.
    """
    distinct, which = np.unique(matrix, axis=0, return_inverse=True)
    rows_of: list[list[int]] = [[] for _ in distinct]
    for row, place in enumerate(which.ravel().tolist()):
        rows_of[place].append(row)
    for rows in rows_of:
        draw.shuffle(rows)
    if len(distinct) <= k:
        return _in_turn(sorted(rows_of, key=min), k)
    labels, centroids = kmeans_clusters(distinct, k, weights=[len(rows) for rows in rows_of], seed=seed)
    nearest = []
    for label, centroid in enumerate(centroids):
        members = np.flatnonzero(labels == label)
        if len(members):
            away = ((distinct[members] - centroid) ** 2).sum(1)
            nearest.append(rows_of[members[int(away.argmin())]][0])
    return sorted(nearest)


def kmeans_clusters(points: Vectors, k: int, *, weights: Sequence[int], seed: int) -> tuple[NDArray[np.int32], Vectors]:
    """K-means by scikit-learn, seeded, the best of 10 starts: each point's cluster, and the (k, features) centroids."""
    from sklearn.cluster import KMeans

    found = KMeans(n_clusters=k, n_init=10, random_state=seed).fit(points, sample_weight=np.asarray(weights, float))
    return found.labels_, found.cluster_centers_


def _in_turn(rows_of: Sequence[list[int]], k: int) -> list[int]:
    """One row of each question after another, `k` at most."""
    chosen: list[int] = []
    for depth in range(max(map(len, rows_of))):
        chosen += [rows[depth] for rows in rows_of if depth < len(rows)]
    return sorted(chosen[:k])
