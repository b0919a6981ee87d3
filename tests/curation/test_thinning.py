"""Frequent answers are thinned to one pair per cluster of questions; rare ones are left alone."""

import random
from pathlib import Path

import numpy as np
import pytest

from medrft.config import CurateConfig
from medrft.curation.thinning import answer_of, kmeans_clusters, spread_over, thin_frequent
from medrft.types import Example


def example(number, answer, question="Is there a mass?"):
    return Example(
        id=f"toy/train/{number}",
        dataset="toy",
        split="train",
        images=(Path(f"{number}.png"),),
        question=question,
        references=(answer,),
        kind="open",
    )


def embed(texts):
    """A vector per text that has nothing to do with its neighbours."""
    return [np.random.default_rng(list(text.encode())).normal(size=6) for text in texts]


def rows(answer, count, *, start=0, questions=None):
    return [example(start + n, answer, f"question {n % (questions or count)}") for n in range(count)]


def test_frequent_answers_keep_as_many_pairs_as_clusters_and_rare_ones_all():
    examples = [*rows("yes", 30), *rows("No.", 21, start=100), *rows("lung", 5, start=200)]
    found = thin_frequent(examples, CurateConfig(tau=20, clusters=8), seed=0, embed=embed)
    assert found.frequent == {"yes": (30, 8), "no": (21, 8)}
    assert found.long_tail == 5 and found.rare_answers == 1
    assert [e.id for e in found.kept] == [e.id for e in examples if e in found.kept]  # the order they came in
    assert len(found.kept) == 8 + 8 + 5


@pytest.mark.parametrize(
    ("count", "kept"),
    [(9, 9), (10, 10), (11, 4)],  # f > tau is thinned, f = tau is not
)
def test_edge_of_tau(count, kept):
    assert len(thin_frequent(rows("yes", count), CurateConfig(tau=10, clusters=4), seed=0, embed=embed).kept) == kept


def test_clusters_are_tau_unless_said():
    assert thin_frequent(rows("yes", 40), CurateConfig(tau=10), seed=0, embed=embed).frequent == {"yes": (40, 10)}
    assert thin_frequent(rows("yes", 12), CurateConfig(tau=10, clusters=50), seed=0, embed=embed).frequent == {
        "yes": (12, 12)
    }


def test_long_tail_dropped():
    examples = [*rows("yes", 12), *rows("lung", 5, start=100)]
    found = thin_frequent(examples, CurateConfig(tau=10, clusters=3, long_tail="drop"), seed=0, embed=embed)
    assert len(found.kept) == 3 and {answer_of(e) for e in found.kept} == {"yes"} and found.long_tail == 5


def test_nothing_frequent_embeds_nothing():
    def never(texts):
        raise AssertionError("no answer is frequent")

    assert len(thin_frequent(rows("yes", 5), CurateConfig(tau=10), seed=0, embed=never).kept) == 5


def test_answers_are_counted_as_normalised():
    examples = [example(n, text, f"q {n}") for n, text in enumerate(["Yes", "yes.", "YES", "no"])]
    assert thin_frequent(examples, CurateConfig(tau=2, clusters=2), seed=0, embed=embed).frequent == {"yes": (3, 2)}


def test_same_seed_same_pairs():
    examples = rows("yes", 200, questions=90)
    kept = [
        [e.id for e in thin_frequent(examples, CurateConfig(tau=20), seed=seed, embed=embed).kept] for seed in (0, 0, 1)
    ]
    assert kept[0] == kept[1] != kept[2]


def test_each_pair_is_the_nearest_to_a_centroid():
    points = np.random.default_rng(0).normal(size=(60, 4))
    chosen = spread_over(points, 7, seed=3, draw=random.Random(0))
    distinct = np.unique(points, axis=0)
    labels, centroids = kmeans_clusters(distinct, 7, weights=[1] * 60, seed=3)
    nearest = {
        min(np.flatnonzero(labels == k), key=lambda n: float(((distinct[n] - centroids[k]) ** 2).sum()))
        for k in range(7)
    }
    assert {tuple(points[n]) for n in chosen} == {tuple(distinct[n]) for n in nearest}


def test_clusters_spread_over_the_questions():
    """Three tight groups of very different size give one pair each."""
    rng = np.random.default_rng(0)
    centres = np.array([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
    points = np.concatenate([c + rng.normal(size=(n, 2)) * 0.1 for c, n in zip(centres, (50, 5, 3), strict=True)])
    chosen = spread_over(points, 3, seed=0, draw=random.Random(0))
    assert [sum(low <= n < high for n in chosen) for low, high in ((0, 50), (50, 55), (55, 58))] == [1, 1, 1]


@pytest.mark.parametrize(("questions", "k"), [(1, 5), (3, 5), (5, 5), (3, 7)])
def test_fewer_questions_than_clusters_take_turns(questions, k):
    found = thin_frequent(rows("yes", 40, questions=questions), CurateConfig(tau=10, clusters=k), seed=0, embed=embed)
    asked = [e.question for e in found.kept]
    counts = [asked.count(question) for question in set(asked)]
    assert len(asked) == k and len(counts) == questions and max(counts) - min(counts) <= 1


def test_questions_with_equal_vectors_are_one():
    same = [[1.0, 0.0]] * 12
    assert len(spread_over(np.array(same), 4, seed=0, draw=random.Random(0))) == 4
