from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medrft.evaluation.compare import signflip
from medrft.evaluation.compare.signflip import EXACT, FLIPS, holm, sign_flip

NUMBERS = st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 1.0]), min_size=1, max_size=8)


def by_hand(sums: list[float]) -> float:
    """The definition: all patterns of signs, zeros too."""
    seen = abs(sum(sums))
    totals = [abs(sum(s * x for s, x in zip(signs, sums, strict=True))) for signs in product((1, -1), repeat=len(sums))]
    return sum(total >= seen - 1e-9 for total in totals) / len(totals)


@given(NUMBERS)
def test_exact_is_the_definition(values):
    found = sign_flip(values, seed=0)
    assert found.exact and found.clusters == len(values)
    assert found.p == pytest.approx(by_hand(values))


@given(NUMBERS, st.data())
def test_clusters_are_flipped_whole(values, data):
    labels = data.draw(st.lists(st.sampled_from("abc"), min_size=len(values), max_size=len(values)))
    sums = [sum(v for v, other in zip(values, labels, strict=True) if other == label) for label in sorted(set(labels))]
    assert sign_flip(values, clusters=labels, seed=0).p == pytest.approx(by_hand(sums))


@given(NUMBERS)
def test_the_sign_of_all_changes_nothing(values):
    assert sign_flip(values, seed=0).p == sign_flip([-v for v in values], seed=0).p


@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=1, max_size=40))
def test_p_is_a_probability(values):
    assert 0 < sign_flip(values, seed=0, flips=99).p <= 1


def test_monte_carlo_agrees_with_enumeration(monkeypatch):
    rng = np.random.default_rng(3)
    for _ in range(5):
        values = rng.choice([-1.0, 0.5, 1.0], size=EXACT).tolist()
        exact = sign_flip(values, seed=0)
        with monkeypatch.context() as patch:
            patch.setattr(signflip, "EXACT", 0)
            drawn = sign_flip(values, seed=0)
        assert exact.exact and not drawn.exact
        spread = np.sqrt(exact.p * (1 - exact.p) / FLIPS)
        assert abs(drawn.p - exact.p) < 5 * spread + 1e-3


def test_seeded_and_never_zero():
    values = [1.0] * 60
    assert sign_flip(values, seed=1) == sign_flip(values, seed=1)
    assert sign_flip(values, seed=1).p == pytest.approx(1 / (FLIPS + 1))


@pytest.mark.parametrize("clusters", [10, 30])
def test_its_size_is_the_one_promised(clusters):
    # answers alike in distribution, questions about one image alike in outcome: p below 0.05 in at most 5 %
    rng = np.random.default_rng(0)
    sims, flips = 1_500, 199
    shared = rng.choice([-1.0, 0.0, 1.0], p=[0.4, 0.2, 0.4], size=(sims, clusters))
    sizes = rng.integers(1, 12, size=clusters)
    below = 0
    for row in shared:
        values, labels = np.repeat(row, sizes), np.repeat(np.arange(clusters), sizes)
        below += (
            sign_flip(values.tolist(), clusters=labels.tolist(), seed=int(rng.integers(1 << 30)), flips=flips).p <= 0.05
        )
    share = below / sims
    assert share <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / sims)
    assert share > 0.02  # and not far fewer


def test_question_by_question_would_be_too_sure():
    values, labels = [1.0] * 10 + [-1.0] * 2, ["a"] * 10 + ["b"] * 2
    assert sign_flip(values, seed=0).p < 0.05 < sign_flip(values, clusters=labels, seed=0).p


@pytest.mark.parametrize("values", [[], [float("nan")], [float("inf"), 1.0]])
def test_nothing_to_test(values):
    with pytest.raises(ValueError, match="a test needs"):
        sign_flip(values, seed=0)


def test_labels_must_fit():
    with pytest.raises(ValueError, match="2 differences need 2 clusters, got 1"):
        sign_flip([1.0, 2.0], clusters=["a"], seed=0)


@given(st.lists(st.floats(0.0001, 1.0), max_size=12))
def test_holm(values):
    found = holm(values)
    order = sorted(range(len(values)), key=values.__getitem__)
    assert all(values[i] <= found[i] <= 1.0 for i in order)
    assert all(found[i] <= found[j] for i, j in pairwise(order))  # the order stays
    for rank, i in enumerate(order):  # the definition: the largest of the products so far
        assert found[i] == pytest.approx(
            min(1.0, max((len(values) - r) * values[j] for r, j in enumerate(order[: rank + 1])))
        )
