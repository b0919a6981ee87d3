"""From completions to what TRL counts: judged alone, combined in groups, NaN where DESIGN says so."""

import math
import pickle

import numpy as np
import pytest

from medrft.config import CorrectConfig, EncoderConfig
from medrft.errors import RecipeError
from medrft.rewards import build_reward
from medrft.training.monitor import batch_metrics, calibration_metrics
from medrft.training.scoring import Columns, Correct, Judge, Judged, columns_of
from medrft.types import Completion, Example, Outcome

BY_KIND = {
    "closed": {"parts": [{"scorer": "yes_no_match", "weight": 0.8}, {"scorer": "answer_format", "weight": 0.2}]},
    "open": {"parts": [{"scorer": "bleu1", "weight": 0.5}, {"scorer": "answer_format", "weight": 0.5}]},
}


def normalised(table):
    return {kind: {**stack, "combine": "normalize_then_sum"} for kind, stack in table.items()}


def example(kind="closed", references=("yes",), dataset="toy", **more):
    return Example(
        id=f"{dataset}/train/0",
        dataset=dataset,
        split="train",
        images=(),
        question="?",
        references=references,
        kind=kind,
        **more,
    )


def completion(text, *, n_tokens=5, truncated=False):
    return Completion(text=text, n_tokens=n_tokens, truncated=truncated)


def judge_of(reward=None, correct=None):
    right = Correct(correct or CorrectConfig(), encoder=EncoderConfig())
    return Judge(build_reward(reward or BY_KIND), right, form="direct", max_tokens=16)


def judged(pairs, judge=None):
    return (judge or judge_of()).score(*zip(*[(e, completion(text)) for e, text in pairs], strict=True))


def test_a_completion_is_judged_alone_and_travels():
    rows = judged(
        [
            (example(), "<answer>yes</answer>"),
            (example(), "yes"),
            (example("open", ("left lung",)), "<answer>Left lung.</answer>"),
        ]
    )
    assert [(row.answer, row.correct) for row in rows] == [("yes", True), (None, False), ("Left lung.", True)]
    assert [row.truth for row in rows] == [None] * 3  # no judge of its own for other data
    assert pickle.loads(pickle.dumps(rows)) == rows


def test_correct_follows_the_recipe_for_open_questions():
    config = CorrectConfig(scorer="recall", at_least=0.5)
    rows = judged([(example("open", ("left lung",)), "<answer>the left side</answer>")], judge_of(correct=config))
    assert rows[0].correct is True


def test_a_reference_that_cannot_be_scored_is_unscored_not_wrong():
    row = judged([(example("open", ("?",)), "<answer>left</answer>")])[0]
    assert row.correct is None
    outcome = judge_of().combine([row], group_size=1, update=False)[0]
    assert outcome.reward is None and "bleu1" in outcome.unscored_reason


def test_a_weighted_sum_is_one_column_of_weight_one():
    reward = build_reward(BY_KIND)
    columns = columns_of(reward)
    assert columns == Columns(("reward",), (1.0,), False)
    rows = judged([(example(), "<answer>yes</answer>"), (example(), "<answer>no</answer>"), (example(), "")])
    outcomes = judge_of().combine(rows, group_size=3, update=False)
    assert columns.values(rows, outcomes) == [[1.0], [0.2], [0.0]]


def test_an_unscored_row_is_nan_in_every_column():
    pairs = [(example("open", ("?",)), "<answer>left</answer>"), (example("open", ("left",)), "<answer>left</answer>")]
    for table in (BY_KIND, normalised(BY_KIND)):
        judge = judge_of(table)
        rows = judged(pairs, judge)
        outcomes = judge.combine(rows, group_size=1, update=False)
        values = np.array(columns_of(judge.reward).values(rows, outcomes))
        assert np.isnan(values[0]).all() and np.isfinite(values[1]).any()


def test_each_part_of_each_kind_is_a_column_under_normalize_then_sum():
    judge = judge_of(normalised(BY_KIND))
    columns = columns_of(judge.reward)
    assert columns.names == ("closed/yes_no_match", "closed/answer_format", "open/bleu1", "open/answer_format")
    assert columns.weights == (0.8, 0.2, 0.5, 0.5) and columns.normalise_each
    pairs = [
        (example(), "<answer>yes</answer>"),
        (example(), "no"),
        (example("open"), "<answer>yes</answer>"),
        (example("open"), ""),
    ]
    rows = judged(pairs, judge)
    values = columns.values(rows, judge.combine(rows, group_size=2, update=False))
    nan = math.nan
    # A part that does not concern a group's kind is NaN on the whole group.
    np.testing.assert_array_equal(values, [[1, 1, nan, nan], [0, 0, nan, nan], [nan, nan, 1, 1], [nan, nan, 0, 0]])


def test_trl_sums_the_columns_to_the_rewards_own_advantage():
    """The formula of TRL 1.16 for normalize_then_sum, on our columns, gives the outcomes' GDPO advantage."""
    judge = judge_of(normalised(BY_KIND))
    texts = ["<answer>yes</answer>", "<answer>no</answer>", "yes", "<answer>the yes</answer>"]
    rows = judged([(example(kind), text) for kind in ("closed", "open") for text in texts], judge)
    outcomes = judge.combine(rows, group_size=4, update=False)
    columns = columns_of(judge.reward)
    grouped = np.array(columns.values(rows, outcomes)).reshape(2, 4, -1)
    with np.errstate(invalid="ignore"), pytest.warns(RuntimeWarning):
        mean, std = np.nanmean(grouped, axis=1, keepdims=True), np.nanstd(grouped, axis=1, ddof=1, keepdims=True)
    total = np.nansum(((grouped - mean) / (std + 1e-4)).reshape(8, -1) * np.array(columns.weights), axis=1)
    theirs = (total - total.mean()) / (total.std(ddof=1) + 1e-4)
    np.testing.assert_allclose([outcome.reward for outcome in outcomes], theirs, atol=2e-3)


def outcome(reward, **parts):
    applicable = {name: value is not None for name, value in parts.items()}
    return Outcome(reward=reward, raw=parts, calibrated=parts, applicable=applicable)


def row_of(*, answer="yes", correct=True):
    raw = build_reward(BY_KIND).score([])
    return Judged(example=example(), completion=completion(""), answer=answer, raw=raw, correct=correct)


def test_spread_is_measured_within_the_groups():
    rewards = [0.0, 1.0, 0.5, 0.5, 0.5, 0.505]
    metrics = batch_metrics([row_of() for _ in rewards], [outcome(r, match=r) for r in rewards], group_size=2)
    assert metrics["spread"] == pytest.approx((math.sqrt(0.5) + 0 + 0.005 / math.sqrt(2)) / 3)
    assert metrics["zero_spread"] == pytest.approx(1 / 3) and metrics["near_zero_spread"] == pytest.approx(2 / 3)
    assert metrics["part/match/raw_std"] == pytest.approx(metrics["spread"])


def test_unscored_rows_leave_the_baseline_and_are_counted():
    outcomes = [
        outcome(None, match=None),
        outcome(1.0, match=1.0),
        outcome(None, match=None),
        outcome(None, match=None),
    ]
    metrics = batch_metrics([row_of(correct=None) for _ in outcomes], outcomes, group_size=2)
    assert metrics["unscored"] == 0.75 and "spread" not in metrics and "correct" not in metrics
    assert metrics["part/match/raw"] == 1.0


def test_rates():
    rows = [row_of(answer=None, correct=False), row_of(correct=True)]
    metrics = batch_metrics(rows, [outcome(0.0, match=0.0), outcome(1.0, match=1.0)], group_size=2)
    assert metrics["no_answer"] == 0.5 and metrics["correct"] == 0.5 and "truth" not in metrics


def test_a_threshold_is_monitored():
    part = {"scorer": "bleu1", "weight": 1.0, "calibrate": {"kind": "adaptive", "start": 0.6}}
    assert calibration_metrics(build_reward({"parts": [part]})) == {
        "calibration/bleu1/threshold": 0.6,
        "calibration_saturated": 0.0,
    }
    assert calibration_metrics(build_reward(BY_KIND)) == {}


def test_kinds_that_combine_differently_are_refused():
    with pytest.raises(RecipeError):
        build_reward({"closed": BY_KIND["closed"], "open": normalised(BY_KIND)["open"]})
