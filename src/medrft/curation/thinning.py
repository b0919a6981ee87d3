"""Thins frequent answers: from train examples to fewer, with the questions of each frequent answer spread out.

For each frequent answer, K-means clusters the embeddings of its questions, and the pair nearest each centroid is kept.
ARMed's data stage does so (arXiv 2508.12957), because rewards make a policy over-produce frequent answers. The paper
does not give tau, the number of clusters, or how answers are counted; those are our choices, and we count normalised
answers. Where an answer has fewer distinct questions than clusters, pairs with the same question differ in their images
alone; they are then drawn by seed, one from each question in turn.
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
"""From texts to their vectors, in the same order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thinned:
    """The examples that thinning kept, with counts."""

    kept: tuple[Example, ...]
    """In their original order."""
    frequent: dict[str, tuple[int, int]]
    """Answer -> number of rows before and after, the most frequent first."""
    long_tail: int
    """Number of rows whose answer is not frequent, whether kept or not."""
    rare_answers: int


def answer_of(example: Example) -> str:
    """The answer under which an example is counted: its first reference, normalised unless that leaves nothing."""
    return normalize(example.references[0]) or example.references[0].strip()


def thin_frequent(examples: Sequence[Example], config: CurateConfig, *, seed: int, embed: Embed) -> Thinned:
    """Keep `config.left` pairs of each answer that more than `config.tau` examples have.

    `config.long_tail` says whether all other answers are kept. `embed` is called once, with the distinct questions of
    the frequent answers.
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
    """Row numbers of at most `k` pairs, spread over the questions; `matrix` is (rows, features).

    With more distinct questions than `k`, it is the row nearest to the centroid of each of `k` clusters. Otherwise each
    question in turn gives one row, until there are `k`. `draw` decides between rows with the same question.
    """
    distinct, which = np.unique(matrix, axis=0, return_inverse=True)
    rows_of: list[list[int]] = [[] for _ in distinct]
    for row, place in enumerate(which.ravel().tolist()):  # NumPy 2.0.0 alone gives `which` a second dimension
        rows_of[place].append(row)
    for rows in rows_of:
        draw.shuffle(rows)
    if len(distinct) <= k:
        return _in_turn(sorted(rows_of, key=min), k)
    # Distinct questions weighted by their rows: the same objective as over all rows, with fewer points.
    labels, centroids = kmeans_clusters(distinct, k, weights=[len(rows) for rows in rows_of], seed=seed)
    nearest = []
    for label, centroid in enumerate(centroids):
        members = np.flatnonzero(labels == label)
        if len(members):
            away = ((distinct[members] - centroid) ** 2).sum(1)
            nearest.append(rows_of[members[int(away.argmin())]][0])
    return sorted(nearest)


def kmeans_clusters(points: Vectors, k: int, *, weights: Sequence[int], seed: int) -> tuple[NDArray[np.int32], Vectors]:
    """Each point's cluster and the (k, features) centroids, by scikit-learn's K-means: seeded, the best of 10 runs."""
    from sklearn.cluster import KMeans

    found = KMeans(n_clusters=k, n_init=10, random_state=seed).fit(points, sample_weight=np.asarray(weights, float))
    return found.labels_, found.cluster_centers_


def _in_turn(rows_of: Sequence[list[int]], k: int) -> list[int]:
    """One row of each question, then a second of each, and so on; at most `k`."""
    chosen: list[int] = []
    for depth in range(max(map(len, rows_of))):
        chosen += [rows[depth] for rows in rows_of if depth < len(rows)]
    return sorted(chosen[:k])
