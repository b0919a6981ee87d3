from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from medrft.intervals import auroc, bootstrap_mean, paired_difference

values = st.lists(st.floats(-1, 1), min_size=2, max_size=30)


@given(values, st.integers(0, 3))
def test_interval_lies_within_the_values_and_around_a_symmetric_mean(numbers, seed):
    mean, low, high, n = bootstrap_mean(numbers, seed=seed, resamples=50)
    assert n == len(numbers)
    assert mean == pytest.approx(float(np.mean(numbers)))
    assert min(numbers) - 1e-9 <= low <= high <= max(numbers) + 1e-9


@given(values)
def test_same_seed_same_interval(numbers):
    assert bootstrap_mean(numbers, seed=1, resamples=50) == bootstrap_mean(numbers, seed=1, resamples=50)


@given(values, st.integers(0, 3))
def test_order_of_whole_clusters_does_not_change_the_mean(numbers, seed):
    clusters = [i % 3 for i in range(len(numbers))]
    turned = bootstrap_mean(numbers[::-1], clusters=clusters[::-1], seed=seed, resamples=50)
    assert turned.mean == pytest.approx(bootstrap_mean(numbers, clusters=clusters, seed=seed, resamples=50).mean)


def test_coverage_is_near_its_level_for_clustered_data():
    # the effect of the image dominates: an interval over questions would cover far too seldom
    rng = np.random.default_rng(0)
    covered_clustered = covered_flat = 0
    for trial in range(200):
        image = np.repeat(rng.normal(size=40), 5)
        numbers = image + 0.3 * rng.normal(size=200)
        clusters = np.repeat(np.arange(40), 5).tolist()
        clustered = bootstrap_mean(numbers.tolist(), clusters=clusters, seed=trial, resamples=300)
        flat = bootstrap_mean(numbers.tolist(), seed=trial, resamples=300)
        covered_clustered += clustered.low <= 0 <= clustered.high
        covered_flat += flat.low <= 0 <= flat.high
    assert 0.89 <= covered_clustered / 200 <= 0.99
    assert covered_flat / 200 < 0.75


def test_known_standard_error():
    numbers = np.random.default_rng(0).normal(size=2000).tolist()
    interval = bootstrap_mean(numbers, seed=0, resamples=2000)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * np.std(numbers) / math.sqrt(2000), rel=0.08)


def test_clusters_of_unequal_size_use_a_ratio_of_sums():
    interval = bootstrap_mean([1, 1, 1, 0], clusters=["a", "a", "a", "b"], seed=0)
    assert interval.mean == 0.75
    assert (interval.low, interval.high) == (0, 1)


def test_one_cluster_has_no_interval():
    interval = bootstrap_mean([1, 0, 1], clusters=["a"] * 3, seed=0)
    assert math.isnan(interval.low) and math.isnan(interval.high)
    assert interval.as_json() == {"mean": pytest.approx(2 / 3), "low": None, "high": None, "n": 3}


def test_many_clusters_are_resampled_in_chunks(monkeypatch):
    monkeypatch.setattr("medrft.intervals.CELLS", 64)
    interval = bootstrap_mean([0, 1] * 20, seed=0, resamples=400)
    assert 0.3 < interval.low < 0.5 < interval.high < 0.7


@pytest.mark.parametrize(
    ("numbers", "clusters", "message"),
    [
        ([], None, "at least one value"),
        ([1.0, math.nan], None, "finite"),
        ([1.0, math.inf], None, "finite"),
        ([1.0, 2.0], ["a"], "2 labels"),
    ],
)
def test_bad_values(numbers, clusters, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_mean(numbers, clusters=clusters, seed=0)


def test_paired_difference_is_narrower_than_unpaired():
    rng = np.random.default_rng(0)
    hard = rng.normal(size=200)
    a, b = (hard + 0.1 + 0.1 * rng.normal(size=200)).tolist(), hard.tolist()
    interval = paired_difference(a, b, seed=0)
    assert 0 < interval.low < 0.1 < interval.high < 0.15


@given(values)
def test_difference_changes_sign_with_its_sides(numbers):
    other = [0.5] * len(numbers)
    forth, back = (paired_difference(x, y, seed=0, resamples=50) for x, y in ((numbers, other), (other, numbers)))
    assert forth.mean == pytest.approx(-back.mean)
    assert forth.low == pytest.approx(-back.high, abs=1e-9) and forth.high == pytest.approx(-back.low, abs=1e-9)


def test_pooling_over_runs_counts_the_spread_between_them():
    rng = np.random.default_rng(0)
    effects = [0.3, -0.1, 0.2, 0.0, 0.1]
    a = np.concatenate([effect + 0.05 * rng.normal(size=100) for effect in effects]).tolist()
    runs = np.repeat(np.arange(5), 100).tolist()
    images = list(range(100)) * 5
    pooled = paired_difference(a, [0.0] * 500, clusters=images, runs=runs, seed=0)
    naive = paired_difference(a, [0.0] * 500, clusters=images, seed=0)
    assert pooled.mean == pytest.approx(naive.mean)
    assert pooled.high - pooled.low > 5 * (naive.high - naive.low)
    assert pooled.low < 0.0 < pooled.high


def test_one_run_is_resampled_by_image_alone():
    a, b = [1, 0, 1, 1], [0, 0, 1, 0]
    assert paired_difference(a, b, runs=[7] * 4, seed=3) == paired_difference(a, b, seed=3)


def test_pairs_of_unequal_length():
    with pytest.raises(ValueError, match="equal lengths, got 2 and 1"):
        paired_difference([1, 2], [1], seed=0)


@given(
    st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=30),
    st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=30),
)
def test_auroc_agrees_with_scikit_learn(positives, negatives):
    labels = [1] * len(positives) + [0] * len(negatives)
    expected = roc_auc_score(labels, positives + negatives)
    found = auroc(positives, negatives, seed=0, resamples=20)
    assert found.mean == pytest.approx(expected)
    assert found.n == len(labels)


@pytest.mark.parametrize(
    ("positives", "negatives", "expected"), [([2, 3], [0, 1], 1.0), ([0], [1], 0.0), ([1, 1], [1, 1, 1], 0.5)]
)
def test_auroc_of_plain_cases(positives, negatives, expected):
    assert auroc(positives, negatives, seed=0).mean == expected


def test_auroc_interval_covers_and_is_wider_with_clusters():
    rng = np.random.default_rng(0)
    shift = np.repeat(rng.normal(size=20), 10)
    positives, negatives = (shift + 1).tolist(), shift.tolist()
    labels = np.repeat(np.arange(20), 10).tolist()
    flat = auroc(positives, negatives, seed=0)
    clustered = auroc(positives, negatives, clusters=(labels, labels), seed=0)
    assert flat.low < flat.mean < flat.high
    assert clustered.mean == flat.mean
    assert clustered.high - clustered.low > flat.high - flat.low
