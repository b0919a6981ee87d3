"""The positive control, shares of its gain with Fieller's interval, and what a pilot says of power."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medrft.report.forest import forest_plot
from medrft.studies.collect import study_tables
from medrft.studies.pilot import BETWEEN, pilot_power, seeds_for
from medrft.studies.plan import Pair
from medrft.studies.shares import positive_control, ratio_interval, share_of_oracle, start_of
from study_results import begun, made

WHERE = {"dataset": "phantom", "kind": "all", "metric": "truth"}


def test_fieller_by_hand():
    """x = 2, y = 10, all three variances of the means 1/3, t = 4.302653 with 2 degrees of freedom.

    a = 100 - t^2/3 = 93.829, b = 20 - t^2/3 = 13.829, c = 4 - t^2/3 = -2.171; (b -+ sqrt(b^2 - a c)) / a.
    """
    found = ratio_interval([1, 2, 3], [9, 10, 11])
    assert found.mean == 0.2 and found.n == 3
    assert (found.low, found.high) == (pytest.approx(-0.06442, abs=1e-5), pytest.approx(0.35919, abs=1e-5))


@pytest.mark.parametrize(
    ("top", "bottom", "bounded"),
    [
        ([1.0], [2.0], False),  # one seed
        ([1.0, 2.0], [-1.0, 1.1], False),  # a gain that may be 0
        ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0], False),
        ([1.0, 1.0], [2.0, 2.0], True),  # no spread: the bounds are the ratio
    ],
)
def test_where_there_are_no_bounds(top, bottom, bounded):
    found = ratio_interval(top, bottom)
    assert np.isfinite([found.low, found.high]).all() == bounded
    if bounded:
        assert found.low == found.mean == found.high == 0.5


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(0.5, 1.5)), min_size=2, max_size=9), st.floats(0.1, 10))
@settings(max_examples=200, deadline=None)
def test_the_interval_holds_the_ratio_and_follows_the_scale(pairs, scale):
    top, bottom = zip(*pairs, strict=True)
    found = ratio_interval(top, bottom)
    if np.isfinite(found.low):
        assert found.low <= found.mean + 1e-9 and found.mean - 1e-9 <= found.high
        wider = ratio_interval([scale * one for one in top], bottom)
        assert wider.low == pytest.approx(scale * found.low, abs=1e-6)
        assert wider.high == pytest.approx(scale * found.high, abs=1e-6)


@pytest.mark.parametrize("seeds", [3, 5, 8])
@pytest.mark.parametrize("correlation", [-0.5, 0.0, 0.8])
def test_the_interval_covers_the_true_share(seeds, correlation):
    """10,000 studies of gains of 6 and 10 points with sd 2; the interval holds 0.6 in 95 % of them."""
    rng = np.random.default_rng(2)
    shape = 4.0 * np.array([[1, correlation], [correlation, 1]])
    held = 0
    for _ in range(10_000):
        drawn = rng.multivariate_normal([6, 10], shape, size=seeds)
        found = ratio_interval(drawn[:, 0].tolist(), drawn[:, 1].tolist())
        # Where it has no bounds Fieller's set is the outside of an interval, or all numbers; here such draws are few.
        held += np.isnan(found.low) or found.low <= 0.6 <= found.high
    assert held / 10_000 == pytest.approx(0.95, abs=0.008)


def truths(right, n=40):
    return [1] * right + [0] * (n - right)


def three(own, oracle, start, seeds=(1, 2, 3, 4)):
    """Arms with so many right answers of 40; `own`, `oracle` and `start` are lists by seed."""

    def arm(name, rights, trained):
        return [
            begun(name, seed, truths(right), shared=f"x{seed}", trained=trained)
            for seed, right in zip(seeds, rights, strict=True)
        ]

    return {"none": arm("none", start, False), "oracle": arm("oracle", oracle, True), "text": arm("text", own, True)}


def test_a_share_is_paired_by_seed_and_on_the_questions_of_all_three():
    arms = three(own=[16, 17, 15, 16], oracle=[20, 21, 20, 19], start=[10, 10, 10, 10])
    found = share_of_oracle(arms, "text", WHERE)
    expected = ratio_interval([0.15, 0.175, 0.125, 0.15], [0.25, 0.275, 0.25, 0.225])
    assert found["share"] == pytest.approx(0.6) and found["seeds"] == 4 and found["gain"] == 0.25
    assert (found["low"], found["high"]) == (
        pytest.approx(expected.low, abs=1e-5),
        pytest.approx(expected.high, abs=1e-5),
    )
    assert share_of_oracle(arms, "oracle", WHERE) is None and share_of_oracle(arms, "none", WHERE) is None
    arms["elsewhere"] = [begun("elsewhere", 1, truths(20), shared="y1", trained=True)]
    assert share_of_oracle(arms, "elsewhere", WHERE) is None  # it did not start where the oracle did


@pytest.mark.parametrize(
    "oracle",
    [
        [12, 10, 18, 8],  # a gain that is under four of its standard errors
        [8, 8, 8, 8],  # below its start
    ],
)
def test_a_share_of_next_to_nothing_is_not_told(oracle):
    found = share_of_oracle(three([11, 12, 11, 10], oracle, [10, 10, 10, 10]), "text", WHERE)
    assert found["share"] is None and found["low"] is None and found["seeds"] == 4


def test_one_seed_tells_no_share():
    found = share_of_oracle(three([15], [20], [10], seeds=(1,)), "text", WHERE)
    assert found["share"] is None and found["error"] is None


def test_what_the_positive_control_says():
    good = three([16] * 4, [20, 21, 20, 19], [10] * 4)
    assert start_of(good, "oracle") == "none"
    assert positive_control(good, list(good), WHERE)["state"] == "clear"
    assert positive_control(good, ["none", "text"], WHERE)["state"] == "absent"
    assert positive_control({"text": good["text"]}, list(good), WHERE)["state"] == "missing"
    assert positive_control({**good, "none": []}, list(good), WHERE)["state"] == "missing"
    bad = positive_control(three([16] * 4, [12, 9, 14, 7], [10] * 4), list(good), WHERE)
    assert bad["state"] == "unclear" and bad["gain"]["low"] < 0
    assert positive_control(three([16], [20], [10], seeds=(1,)), list(good), WHERE)["state"] == "one_seed"


def test_shares_are_drawn():
    tables = study_tables(three([16, 17, 15, 16], [20, 21, 20, 19], [10] * 4), against="none")
    own = {"against": "none", "dataset": "phantom", "kind": "all"}
    shown = forest_plot({"study": "toy", "primary": own, "tables": tables})
    assert "share of the oracle&#39;s gain" in shown and ">60 % [" in shown and ">+25.0 points</text>" in shown


def test_power_of_a_pilot():
    rng = np.random.default_rng(0)
    arms = {name: [made(name, seed, rng.integers(0, 2, 40)) for seed in (0,)] for name in ("none", "text")}
    (one,) = pilot_power(arms, [Pair(a="text", against="none"), Pair(a="text", against="absent")], WHERE)
    assert not one["measured"] and one["between_sd"] == BETWEEN and one["pictures"] == 20 and one["questions"] == 40
    assert [cell["pictures"] for cell in one["needed"]] == [20, 40, 80, 200]
    within = one["within_sd"] ** 2
    assert one["needed"][1]["seeds"] == seeds_for(within / 2, BETWEEN**2, target=0.008)
    assert one["between_share"] == pytest.approx(BETWEEN**2 / (BETWEEN**2 + within), abs=1e-4)
    several = {
        name: found * 1 + [made(name, s, rng.integers(0, 2, 40)) for s in (1, 2)] for name, found in arms.items()
    }
    (three_,) = pilot_power(several, [Pair(a="text", against="none")], WHERE)
    assert three_["measured"] and three_["seeds"] == 3


def test_a_pilot_finds_both_parts_of_the_spread():
    """Fifty seeds whose differences have an sd of 3 points between trainings, beside what 2,000 questions bring."""
    rng = np.random.default_rng(1)
    none, text = [], []
    for seed in range(50):
        shift = rng.normal(0.1, 0.03)
        base = rng.random(2000)
        none.append(made("none", seed, (base < 0.4).astype(int)))
        text.append(made("text", seed, (rng.random(2000) < 0.4 + shift).astype(int)))
    (found,) = pilot_power({"none": none, "text": text}, [Pair(a="text", against="none")], WHERE)
    assert found["between_sd"] == pytest.approx(0.03, abs=0.008)
    assert found["within_sd"] == pytest.approx((2 * 0.245 / 2000) ** 0.5, rel=0.1)
