from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import special, stats
from sklearn.metrics import roc_auc_score

from medrft.intervals import (
    area_under_curve,
    auroc,
    average_of,
    jackknife_interval,
    kendall_tau,
    mean_interval,
    paired_difference,
    student_quantile,
)

values = st.lists(st.floats(-1, 1), min_size=2, max_size=30)
scores = st.lists(st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1)), min_size=2, max_size=40)


def in_threes(numbers):
    return [i // 3 for i in range(len(numbers))]


@given(scores, st.booleans())
def test_interval_holds_the_mean_and_stays_in_bounds(numbers, clustered):
    mean, low, high, n = mean_interval(numbers, clusters=in_threes(numbers) if clustered else None)
    assert n == len(numbers)
    assert mean == pytest.approx(float(np.mean(numbers)))
    if not math.isnan(low):
        assert 0 <= low <= mean + 1e-12 and mean - 1e-12 <= high <= 1


@given(scores, st.randoms(use_true_random=False))
def test_order_changes_nothing(numbers, random):
    pairs = list(zip(numbers, in_threes(numbers), strict=True))
    turned = random.sample(pairs, len(pairs))
    (a, b), (c, d) = (zip(*rows, strict=True) for rows in (pairs, turned))
    assert mean_interval(a, clusters=b) == pytest.approx(mean_interval(c, clusters=d), abs=1e-6, nan_ok=True)


@given(scores)
def test_wrong_is_the_mirror_of_right(numbers):
    assume(len(set(numbers)) > 1 and np.std(numbers) > 1e-3)
    right, wrong = mean_interval(numbers), mean_interval([1 - value for value in numbers])
    assert (wrong.low, wrong.high) == pytest.approx((1 - right.high, 1 - right.low), abs=1e-6)


@given(scores)
def test_more_of_the_same_images_is_never_wider(numbers):
    once, twice = mean_interval(numbers), mean_interval(numbers * 2)
    assert twice.high - twice.low <= once.high - once.low + 1e-9


@given(st.integers(2, 300), st.integers(0, 300))
def test_one_more_right_answer_raises_both_ends(n, right):
    right = min(right, n - 1)
    fewer, more = (mean_interval([1.0] * k + [0.0] * (n - k)) for k in (right, right + 1))
    assert more.mean > fewer.mean
    if n >= 8:  # with a handful of answers the ends are near 0 and 1 and their order means nothing
        assert more.low >= fewer.low - 1e-9 and more.high >= fewer.high - 1e-9


@pytest.mark.parametrize("df", [1, 1.3, 2, 3.7, 5, 19, 95, 202, 1e4])
def test_student_agrees_with_scipy(df):
    assert student_quantile(df) == pytest.approx(stats.t.ppf(0.975, df), rel=1e-7)


def test_the_jackknife_is_what_it_says():
    rng = np.random.default_rng(0)
    code = np.repeat(np.arange(9), rng.integers(1, 6, size=9))
    numbers = rng.random(len(code))
    left_out = [numbers[code != g].mean() - numbers.mean() for g in range(9)]
    error = math.sqrt(sum(change**2 for change in left_out))
    mean, low, high, _ = mean_interval(numbers.tolist(), clusters=code.tolist(), bounds=None)
    assert (high - mean, mean - low) == pytest.approx((stats.t.ppf(0.975, 8) * error,) * 2)
    inside = mean_interval(numbers.tolist(), clusters=code.tolist())
    reach = stats.t.ppf(0.975, 8) * error / (mean * (1 - mean))
    assert inside.low == pytest.approx(special.expit(special.logit(mean) - reach))


def test_single_values_have_the_classical_interval_nearly():
    # CR3 divides by (n - 1)^2 where the textbook divides by n (n - 1)
    numbers = np.random.default_rng(0).normal(size=400)
    mean, low, _, _ = mean_interval(numbers.tolist(), bounds=None)
    plain = stats.t.interval(0.95, 399, loc=numbers.mean(), scale=stats.sem(numbers))
    assert mean - low == pytest.approx((mean - plain[0]) * math.sqrt(400 / 399))


@pytest.mark.parametrize(("right", "n"), [(0, 7), (7, 7), (0, 203), (96, 96)])
def test_all_right_or_all_wrong_is_clopper_and_pearson(right, n):
    expected = stats.binomtest(right, n).proportion_ci(0.95, method="exact")
    found = mean_interval([1.0] * right + [0.0] * (n - right))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(
    ("numbers", "clusters", "low", "high"),
    [
        ([0.5, 0.5], None, 0.5 - 0.5 * (1 - 0.025**0.5), 0.5 + 0.5 * (1 - 0.025**0.5)),  # no spread to go by
        ([0, 1, 0, 1], "aabb", 0.5 - 0.5 * (1 - 0.025**0.5), 0.5 + 0.5 * (1 - 0.025**0.5)),  # images alike
    ],
)
def test_images_that_do_not_differ(numbers, clusters, low, high):
    found = mean_interval(numbers, clusters=list(clusters) if clusters else None)
    assert (found.low, found.high) == pytest.approx((low, high))


def test_lengths_have_no_bounds():
    assert mean_interval([30, 30, 30], bounds=None)[:3] == (30, 30, 30)
    mean, low, high, _ = mean_interval([2, 90, 4, 3], bounds=None)
    assert low < 0 < mean < high  # t knows nothing of lengths; four of them say little


@pytest.mark.parametrize("icc", [0.0, 0.3])
def test_coverage_is_near_its_level_for_clustered_answers(icc):
    rng = np.random.default_rng(1)
    sizes = rng.integers(1, 16, size=60)
    code = np.repeat(np.arange(60), sizes).tolist()
    covered = 0
    for _ in range(300):
        share = rng.beta(0.8 * (1 / icc - 1), 0.2 * (1 / icc - 1), size=60) if icc else np.full(60, 0.8)
        right = (rng.random(len(code)) < share[code]).astype(float)
        found = mean_interval(right.tolist(), clusters=code)
        covered += found.low <= 0.8 <= found.high
    assert 0.91 <= covered / 300 <= 0.985


def test_one_cluster_has_no_interval():
    interval = mean_interval([1, 0, 1], clusters=["a"] * 3)
    assert math.isnan(interval.low) and math.isnan(interval.high)
    assert interval.as_json() == {"mean": pytest.approx(2 / 3), "low": None, "high": None, "n": 3}


@pytest.mark.parametrize(
    ("numbers", "clusters", "message"),
    [
        ([], None, "at least one value"),
        ([1.0, math.nan], None, "finite"),
        ([1.0, math.inf], None, "finite"),
        ([1.0, 2.0], ["a"], "2 labels"),
        ([1.0, 2.0], None, r"\[0, 1\]"),
    ],
)
def test_bad_values(numbers, clusters, message):
    with pytest.raises(ValueError, match=message):
        mean_interval(numbers, clusters=clusters)


def test_paired_difference_is_narrower_than_unpaired():
    rng = np.random.default_rng(0)
    hard = rng.normal(size=200)
    a, b = (hard + 0.1 + 0.1 * rng.normal(size=200)).tolist(), hard.tolist()
    interval = paired_difference(a, b)
    assert 0 < interval.low < 0.1 < interval.high < 0.15


@given(values)
def test_difference_changes_sign_with_its_sides(numbers):
    other = [0.5] * len(numbers)
    forth, back = (paired_difference(x, y) for x, y in ((numbers, other), (other, numbers)))
    assert forth.mean == pytest.approx(-back.mean)
    assert forth.low == pytest.approx(-back.high, abs=1e-9) and forth.high == pytest.approx(-back.low, abs=1e-9)


def test_a_difference_of_scores_stays_within_one():
    assert paired_difference([1, 1, 0], [0, 0, 0]).high == 1.0
    assert paired_difference([9, 1, 0], [0, 0, 0]).high > 9  # lengths


def test_two_models_that_never_differ_may_still_differ_on_what_was_not_asked():
    found = paired_difference([1, 0, 1] * 20, [1, 0, 1] * 20)
    assert found.mean == 0 and -found.low == pytest.approx(found.high) == pytest.approx(1 - 0.025 ** (1 / 60))


def test_a_difference_agrees_with_scipy_on_single_pairs():
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=50), rng.normal(size=50)
    plain = stats.ttest_rel(a, b).confidence_interval(0.95)
    found = paired_difference(a.tolist(), b.tolist())
    assert found.high - found.low == pytest.approx((plain.high - plain.low) * math.sqrt(50 / 49))


def seeds_and_images(effects, *, noise, images=100):
    rng = np.random.default_rng(0)
    a = np.concatenate([effect + noise * rng.normal(size=images) for effect in effects]).tolist()
    return a, np.repeat(np.arange(len(effects)), images).tolist(), list(range(images)) * len(effects)


def test_pooling_over_runs_counts_the_spread_between_them():
    a, runs, images = seeds_and_images([0.3, -0.1, 0.2, 0.0, 0.1], noise=0.05)
    pooled = paired_difference(a, [0.0] * 500, clusters=images, runs=runs)
    naive = paired_difference(a, [0.0] * 500, clusters=images)
    assert pooled.mean == pytest.approx(naive.mean)
    assert pooled.high - pooled.low > 5 * (naive.high - naive.low)
    assert pooled.low < 0.0 < pooled.high
    # nearly all of the spread lies between runs: a t-test on the runs' means, but for CR3's n / (n - 1)
    means = np.array(a).reshape(5, 100).mean(axis=1)
    plain = stats.ttest_1samp(means, 0).confidence_interval(0.95)
    assert pooled.high - pooled.low == pytest.approx((plain.high - plain.low) * math.sqrt(5 / 4), rel=0.03)


def test_runs_that_agree_cost_nothing():
    once = np.random.default_rng(1).normal(size=100).tolist()
    runs, images = np.repeat(np.arange(3), 100).tolist(), list(range(100)) * 3
    pooled = paired_difference(once * 3, [0.0] * 300, clusters=images, runs=runs)
    single = paired_difference(once, [0.0] * 100)
    assert pooled[:3] == pytest.approx(single[:3], rel=1e-6)


def test_few_runs_make_it_wide():
    def width(runs):
        a, labels, images = seeds_and_images([0.1, -0.1] * (runs // 2) + [0.0] * (runs % 2), noise=0.01)
        found = paired_difference(a, [0.0] * len(a), clusters=images, runs=labels)
        return found.high - found.low

    assert width(2) > 4 * width(5)


def test_one_image_under_several_runs_has_the_runs_interval():
    found = paired_difference([0.1, 0.2, 0.4], [0.0] * 3, clusters=["a"] * 3, runs=[1, 2, 3])
    assert found.low < 0.1 and found.high > 0.4


def test_one_run_is_one_run():
    a, b = [1, 0, 1, 1], [0, 0, 1, 0]
    assert paired_difference(a, b, runs=[7] * 4) == paired_difference(a, b)


def test_pairs_of_unequal_length():
    with pytest.raises(ValueError, match="equal lengths, got 2 and 1"):
        paired_difference([1, 2], [1])


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


def test_a_mean_over_seeds_stays_within_its_bounds():
    values, seeds = [1.0] * 9 + [0.0] + [1.0] * 10, [1] * 10 + [2] * 10
    found = mean_interval(values, clusters=[f"{s}/{i}" for i, s in enumerate(seeds)], runs=seeds)
    assert 0 < found.low < 0.95 < found.high <= 1
    assert found.high - found.low > mean_interval(values).high - mean_interval(values).low
    assert mean_interval(values, runs=[1] * 20) == mean_interval(values)


judgements = st.lists(
    st.tuples(st.integers(0, 4), st.floats(-1, 1).map(lambda x: round(x, 1)), st.integers(0, 5)),
    min_size=3,
    max_size=40,
)


@given(judgements)
def test_tau_is_that_of_scipy_with_and_without_each_cluster(rows):
    a, b, clusters = zip(*rows, strict=True)
    found = kendall_tau(a, b, clusters=clusters)
    assert found.value == pytest.approx(stats.kendalltau(a, b).statistic, nan_ok=True)
    for cluster, tau in zip(dict.fromkeys(clusters), found.without, strict=True):
        kept = [row for row in rows if row[2] != cluster]
        expected = stats.kendalltau(*list(zip(*kept, strict=True))[:2]).statistic if len(kept) > 1 else math.nan
        assert tau == pytest.approx(expected, nan_ok=True)


@given(judgements)
def test_the_area_is_that_of_scikit_learn_with_and_without_each_cluster(rows):
    values, clusters = [row[1] for row in rows], [row[2] for row in rows]
    right = [row[0] > 2 for row in rows]
    assume(len(set(right)) == 2)
    found = area_under_curve(values, right, clusters=clusters)
    assert found.value == pytest.approx(roc_auc_score(right, values))
    for cluster, area in zip(dict.fromkeys(clusters), found.without, strict=True):
        kept = [i for i, row in enumerate(rows) if row[2] != cluster]
        sides = [right[i] for i in kept]
        expected = roc_auc_score(sides, [values[i] for i in kept]) if len(set(sides)) == 2 else math.nan
        assert area == pytest.approx(expected, nan_ok=True)


def test_tau_leaves_out_rows_without_a_value():
    whole = kendall_tau([1, 2, 3, 4], [2, 1, 3, 4])
    assert kendall_tau([1, 2, math.nan, 3, 4], [2, 1, 9, 3, 4]).value == whole.value
    assert kendall_tau([1, 2, math.nan, 3, 4], [2, 1, 9, 3, 4]).n == 4


def test_intervals_of_tau_hold_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(0)

    def drawn(studies):
        quality = rng.normal(size=(studies, 1)) * 0.7 + rng.normal(size=(studies, 2))
        seen = quality + rng.normal(size=(studies, 2))
        return np.clip(np.round(3 + quality), 1, 5).ravel(), np.clip(seen, -0.5, 2).ravel()

    truth = stats.kendalltau(*drawn(20_000)).statistic
    clusters = np.repeat(np.arange(40), 2).tolist()
    made = [jackknife_interval(kendall_tau(*drawn(40), clusters=clusters), bounds=(-1.0, 1.0)) for _ in range(200)]
    assert 0.9 <= np.mean([one.low <= truth <= one.high for one in made]) <= 0.99
    assert all(-1 <= one.low <= one.mean <= one.high <= 1 for one in made)


def test_a_jackknife_of_an_area_is_near_the_bootstrap():
    rng = np.random.default_rng(1)
    right = rng.random(120) < 0.4
    values = rng.normal(size=120) + right
    one = jackknife_interval(area_under_curve(values, right), bounds=(0.0, 1.0))
    other = auroc(values[right], values[~right], seed=0)
    assert one.mean == pytest.approx(other.mean)
    assert (one.low, one.high) == pytest.approx((other.low, other.high), abs=0.03)


def test_where_a_statistic_hangs_on_one_cluster_there_is_no_interval():
    assert math.isnan(jackknife_interval(area_under_curve([1, 0, 0], [True, False, False]), bounds=(0.0, 1.0)).low)
    assert math.isnan(jackknife_interval(kendall_tau([1, 2], [1, 2], clusters="aa"), bounds=(-1.0, 1.0)).low)


def test_statistics_of_the_same_clusters_are_subtracted_and_averaged():
    a, b = kendall_tau([1, 2, 3, 4], [1, 2, 4, 3]), kendall_tau([1, 2, 3, 4], [1, 2, 3, 4])
    assert b.minus(a).value == pytest.approx(1 / 3)
    assert average_of([a, b, kendall_tau([1, 1, 1, 1], [1, 2, 3, 4])]).value == pytest.approx(5 / 6)
    assert math.isnan(average_of([]).value)
