import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medrft.rewards.adaptive import Adaptive
from medrft.rewards.calibrations import CALIBRATIONS, build_calibration

SCORES = st.lists(st.none() | st.floats(0, 1), max_size=40)
WITHOUT_GROUPS = sorted(set(CALIBRATIONS) - {"rank", "zscore", "group_sigmoid"})
MONOTONE = WITHOUT_GROUPS


def fitted(kind, scores):
    calibration = build_calibration(kind, scorer="cosine")
    calibration.update(scores)
    return calibration


@given(SCORES, st.sampled_from(WITHOUT_GROUPS), st.booleans())
def test_range_and_none(scores, kind, learn):
    calibration = fitted(kind, scores) if learn else build_calibration(kind, scorer="cosine")
    low, high = calibration.range
    values = calibration.apply(scores)
    assert [value is None for value in values] == [score is None for score in scores]
    assert all(low - 1e-12 <= value <= high + 1e-12 for value in values if value is not None)


@given(SCORES, st.lists(st.floats(0, 1), min_size=2, max_size=10), st.sampled_from(MONOTONE))
def test_monotone(history, scores, kind):
    values = fitted(kind, history).apply(sorted(scores))
    assert all(a <= b for a, b in itertools.pairwise(values))


@given(st.lists(SCORES, max_size=5), SCORES, st.sampled_from(sorted(CALIBRATIONS)))
def test_state_round_trip_through_json(batches, scores, kind):
    one, two = (build_calibration(kind, scorer="cosine") for _ in range(2))
    for batch in batches:
        one.update(batch)
    two.load_state_dict(json.loads(json.dumps(one.state_dict(), allow_nan=False)))
    groups = [0] * len(scores)
    assert one.apply(scores, groups=groups) == two.apply(scores, groups=groups)
    one.update(scores), two.update(scores)
    assert one.state_dict() == two.state_dict()


@given(st.lists(SCORES, max_size=4), st.randoms(), st.sampled_from(sorted(CALIBRATIONS)))
def test_row_order_changes_nothing(batches, random, kind):
    one, two = (build_calibration(kind, scorer="cosine") for _ in range(2))
    for batch in batches:
        one.update(batch)
        two.update(random.sample(batch, len(batch)))
    assert one.state_dict() == two.state_dict()


@given(st.lists(SCORES, min_size=1, max_size=8))
def test_adaptive_threshold_moves_by_bounded_steps(batches):
    calibration = Adaptive()
    before = None
    for batch in batches:
        calibration.update(batch)
        now = calibration.threshold
        if before is None:
            assert (now is None) == all(score is None for score in batch) or now is not None
        else:
            assert abs(now - before) <= 0.01 + 1e-12
        assert now is None or 0.5 <= now <= 0.98
        before = now


def reference_adapt(state, batch, *, rho, keep, p, step, low, high, eps, a_pos, a_neg):
    """METHOD.md's five steps, written once more and plainly, for batches that never overflow the history."""
    history, threshold = state
    history += [r for r in batch if r > rho * threshold]
    if history:
        target = float(np.percentile(history[-keep:], p))
        threshold = min(high, max(low, threshold + min(step, max(-step, target - threshold))))
    xs = [min(1, max(-1, (r - threshold) / (1 - threshold + eps))) for r in batch]
    return (history, threshold), [0.5 * (1 + math.tanh((a_pos if x >= 0 else a_neg) * x)) for x in xs]


@given(st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=16), max_size=10))
def test_adaptive_is_the_formula(batches):
    settings = {
        "rho": 0.7,
        "keep": 2048,
        "p": 50,
        "step": 0.01,
        "low": 0.5,
        "high": 0.98,
        "eps": 1e-6,
        "a_pos": 5,
        "a_neg": 0.8,
    }
    calibration = build_calibration({"kind": "adaptive", "start": 0.8}, scorer="cosine")
    state = ([], 0.8)
    for batch in batches:
        state, expected = reference_adapt(state, batch, **settings)
        calibration.update(batch)
        assert calibration.threshold == pytest.approx(state[1])
        assert calibration.apply(batch) == pytest.approx(expected)


def test_start_auto_takes_the_first_batch():
    calibration = Adaptive()
    calibration.update([None, None])
    assert calibration.threshold is None
    calibration.update([0.7, 0.9, None, 0.8])
    assert calibration.threshold == 0.8
    assert Adaptive(start=0.8).threshold == 0.8


def test_empty_history_leaves_the_threshold_alone():
    calibration = Adaptive(start=0.9)
    calibration.update([0.1, 0.2])  # all below rho * T
    assert calibration.threshold == 0.9


def test_history_keeps_the_newest_and_no_extreme():
    calibration = Adaptive(start=0.5, history=100)
    calibration.update([i / 1000 + 0.4 for i in range(500)])
    kept = calibration.state_dict()["history"]
    assert len(kept) == 100
    assert 0.55 < np.mean(kept) < 0.75  # neither the lowest nor the highest hundred
    calibration.update([0.95] * 100)
    assert calibration.state_dict()["history"] == [0.95] * 100


def test_frozen_and_fitted():
    calibration = Adaptive()
    scores = [0.6, 0.7, 0.9]
    own = calibration.apply(scores)  # no T yet: the batch's own
    assert calibration.threshold is None
    calibration.fit(scores)
    assert calibration.threshold == 0.7
    assert calibration.apply(scores) == own


def test_saturation():
    calibration = Adaptive()
    calibration.update([0.1, 0.2, 0.3])
    assert "pinned at 0.5" in calibration.saturated()
    calibration = Adaptive(start=0.9)
    calibration.update([0.2] * 20)
    assert "low tail" in calibration.saturated()
    calibration.update([0.85, 0.9, 0.95])
    assert calibration.saturated() is None


def test_slopes_follow_the_scorer():
    assert build_calibration("adaptive", scorer="cosine").a_neg == 0.8
    assert build_calibration("adaptive", scorer="bertscore").a_neg == 3.0
    assert build_calibration({"kind": "adaptive", "a_neg": 2.0}, scorer="cosine").a_neg == 2.0


def test_groups():
    rank, zscore = (build_calibration(kind, scorer="cosine") for kind in ("rank", "zscore"))
    scores, groups = [0.1, 0.9, 0.5, 0.5, None, 0.2], ["a", "b", "a", "a", "b", "c"]
    assert rank.apply(scores, groups=groups) == [0.0, 0.5, 0.75, 0.75, None, 0.5]
    z = zscore.apply(scores, groups=groups)
    assert z[1] == z[5] == 0.0 and z[4] is None
    assert sum(z[i] for i in (0, 2, 3)) == pytest.approx(0, abs=1e-9)
    with pytest.raises(ValueError, match="need groups"):
        rank.apply(scores)


@pytest.mark.parametrize(
    ("scores", "settings", "wanted"),
    [
        ([0.5], {}, [0.5]),  # nothing to compare with
        ([0.9, 0.9, 0.9], {}, [0.5, 0.5, 0.5]),
        ([0.0, 1.0], {}, [0.196, 0.804]),  # std 0.707
        ([0.95, 0.97], {}, [0.450, 0.550]),  # std 0.014 is below the floor, so it stays small
        ([0.95, 0.97], {"floor": 0.001}, [0.196, 0.804]),  # as two far apart
        ([0.0, 1.0], {"slope": 3.0}, [0.014, 0.986]),
        ([1.0] * 7 + [0.9], {}, [0.562] * 7 + [0.148]),  # a paraphrase among exact answers is not worth nothing
    ],
)
def test_a_group_sigmoid_bends_around_the_mean_of_its_group(scores, settings, wanted):
    bent = build_calibration({"kind": "group_sigmoid", **settings}, scorer="cosine")
    assert bent.apply(scores, groups=["a"] * len(scores)) == pytest.approx(wanted, abs=6e-4)


def test_quantile():
    quantile = build_calibration("quantile", scorer="cosine")
    quantile.update([0.1, 0.2, 0.2, 0.4])
    assert quantile.apply([0.0, 0.1, 0.2, 0.3, 0.9]) == [0.0, 0.125, 0.5, 0.75, 1.0]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("adaptiv", "did you mean 'adaptive'"),
        ({"kind": "adaptive", "percentil": 3}, "did you mean 'percentile'"),
        ({"percentile": 50}, "needs a kind"),
        ({"kind": "adaptive", "start": 0.2}, "start is auto or in"),
        ({"kind": "adaptive", "t_min": 0.9, "t_max": 0.6}, "t_min < t_max"),
        ({"kind": "affine", "low": 1}, "low < high"),
        ({"kind": "group_sigmoid", "floor": 0}, "floor > 0"),
    ],
)
def test_mistakes(spec, message):
    with pytest.raises(ValueError, match=message):
        build_calibration(spec, scorer="cosine")
