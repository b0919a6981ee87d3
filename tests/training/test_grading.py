"""From completions to what TRL counts: graded alone, combined in groups, NaN where DESIGN says so."""

import math
import pickle
from dataclasses import replace

import numpy as np
import pytest

from medrft.config import CorrectConfig, EncoderConfig
from medrft.errors import RecipeError
from medrft.rewards import build_reward
from medrft.scorers import build_correct
from medrft.training.grading import Columns, Graded, Grader, columns_of
from medrft.training.monitor.measures import (
    answer_metrics,
    batch_metrics,
    calibration_metrics,
    part_dominance,
    reward_metrics,
)
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


def grader_of(reward=None, correct=None):
    right = build_correct(correct or CorrectConfig(), encoder=EncoderConfig())
    return Grader(build_reward(reward or BY_KIND), right, form="direct", max_tokens=16)


def graded(pairs, grader=None):
    return (grader or grader_of()).grade(*zip(*[(e, completion(text)) for e, text in pairs], strict=True))


def test_a_completion_is_judged_alone_and_travels():
    rows = graded(
        [
            (example(), "<answer>yes</answer>"),
            (example(), "yes"),
            (example("open", ("left lung",)), "<answer>Left lung.</answer>"),
        ]
    )
    assert [(row.answer, row.correct) for row in rows] == [("yes", True), (None, False), ("Left lung.", True)]
    assert [row.truth for row in rows] == [None] * 3  # no oracle for other data
    assert pickle.loads(pickle.dumps(rows)) == rows


def test_correct_follows_the_recipe_for_open_questions():
    config = CorrectConfig(scorer="recall", at_least=0.5)
    rows = graded([(example("open", ("left lung",)), "<answer>the left side</answer>")], grader_of(correct=config))
    assert rows[0].correct is True


def test_a_reference_that_cannot_be_scored_is_unscored_not_wrong():
    row = graded([(example("open", ("?",)), "<answer>left</answer>")])[0]
    assert row.correct is None
    (outcome,) = grader_of().combine([row], group_size=1, update=False)[1]
    assert outcome.reward is None and "bleu1" in outcome.unscored_reason


def test_a_weighted_sum_is_one_column_of_weight_one():
    reward = build_reward(BY_KIND)
    columns = columns_of(reward)
    assert columns == Columns(("reward",), (1.0,), False)
    rows = graded([(example(), "<answer>yes</answer>"), (example(), "<answer>no</answer>"), (example(), "")])
    _, outcomes = grader_of().combine(rows, group_size=3, update=False)
    assert columns.values(rows, outcomes) == [[1.0], [0.2], [0.0]]


def test_an_unscored_row_is_nan_in_every_column():
    pairs = [(example("open", ("?",)), "<answer>left</answer>"), (example("open", ("left",)), "<answer>left</answer>")]
    for table in (BY_KIND, normalised(BY_KIND)):
        grader = grader_of(table)
        rows = graded(pairs, grader)
        _, outcomes = grader.combine(rows, group_size=1, update=False)
        values = np.array(columns_of(grader.reward).values(rows, outcomes))
        assert np.isnan(values[0]).all() and np.isfinite(values[1]).any()


def test_each_part_of_each_kind_is_a_column_under_normalize_then_sum():
    grader = grader_of(normalised(BY_KIND))
    columns = columns_of(grader.reward)
    assert columns.names == ("closed/yes_no_match", "closed/answer_format", "open/bleu1", "open/answer_format")
    assert columns.weights == (0.8, 0.2, 0.5, 0.5) and columns.normalise_each
    pairs = [
        (example(), "<answer>yes</answer>"),
        (example(), "no"),
        (example("open"), "<answer>yes</answer>"),
        (example("open"), ""),
    ]
    rows = graded(pairs, grader)
    values = columns.values(*grader.combine(rows, group_size=2, update=False))
    nan = math.nan
    # A part that does not concern a group's kind is NaN on the whole group.
    np.testing.assert_array_equal(values, [[1, 1, nan, nan], [0, 0, nan, nan], [nan, nan, 1, 1], [nan, nan, 0, 0]])


def test_trl_sums_the_columns_to_the_rewards_own_advantage():
    """The formula of TRL 1.16 for normalize_then_sum, on our columns, gives the outcomes' GDPO advantage."""
    grader = grader_of(normalised(BY_KIND))
    texts = ["<answer>yes</answer>", "<answer>no</answer>", "yes", "<answer>the yes</answer>"]
    rows = graded([(example(kind), text) for kind in ("closed", "open") for text in texts], grader)
    _, outcomes = grader.combine(rows, group_size=4, update=False)
    columns = columns_of(grader.reward)
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
    return Graded(example=example(), completion=completion(""), answer=answer, raw=raw, correct=correct)


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
        "calibration/bleu1/saturated": 0.0,
        "calibration_saturated": 0.0,
    }
    assert calibration_metrics(build_reward(BY_KIND)) == {}


@pytest.mark.parametrize(
    ("rewards", "ties"),
    [
        ([0.5, 0.5, 0.5, 0.5], 1.0),
        ([0.1, 0.2, 0.3, 0.4], 0.0),
        ([1.0, 1.0, 1.0, 0.0], 0.5),  # 3 of 6 pairs
        ([1.0, None, 1.0, 0.0], 1 / 3),  # an unscored answer is in no pair
        ([1.0, None, None, None], None),
    ],
)
def test_ties_are_pairs_within_a_group_that_earn_the_same(rewards, ties):
    outcomes = [outcome(reward, match=reward) for reward in rewards]
    metrics = batch_metrics([row_of() for _ in rewards], outcomes, group_size=4)
    assert metrics.get("ties") == metrics.get("part/match/ties") == (None if ties is None else pytest.approx(ties))


@pytest.mark.parametrize(
    ("rewards", "truth", "expected"),
    [
        ([0.9, 0.1, 0.8, 0.2], [True, False, True, False], 1.0),
        ([0.2, 0.1, 0.9, 0.8], [True, False, True, False], 1.0),  # only what differs within a group counts
        ([0.1, 0.9, 0.2, 0.8], [True, False, True, False], -1.0),
        ([0.5, 0.5, 0.7, 0.7], [True, False, True, False], 0.0),  # it ties where the truth differs
        ([0.9, 0.1, 0.8, 0.2], [True, True, False, False], None),
        ([0.9, 0.1, 0.8, 0.2], [None] * 4, None),
        ([0.9, None, 0.8, 0.2], [True, False, True, False], 1.0),
    ],
)
def test_reward_and_truth_are_correlated_within_groups(rewards, truth, expected):
    rows = [replace(row_of(), truth=value) for value in truth]
    metrics = batch_metrics(rows, [outcome(reward, match=reward) for reward in rewards], group_size=2)
    assert metrics.get("truth_correlation") == (None if expected is None else pytest.approx(expected, abs=0.02))


@pytest.mark.parametrize(
    ("answers", "same"),
    [
        (["yes", "yes", "no", "no"], 0.0),  # alike within a question alone
        (["yes", "Yes.", "yes", "yes"], 1.0),
        (["yes", "no", "yes", "no"], 0.5),
        (["yes", None, "yes", None], 1.0),
        (["yes", "yes", None, None], None),
    ],
)
def test_the_same_answer_to_different_questions_is_counted_by_pairs(answers, same):
    references = [("yes",), ("yes",), ("no",), ("no",)]
    rows = [
        replace(row_of(answer=answer), example=example("closed", reference))
        for answer, reference in zip(answers, references, strict=True)
    ]
    found = answer_metrics(rows, group_size=2)
    assert found == ({} if same is None else {"same_answer": same, "same_reference": 0.0})


def test_questions_of_different_kinds_are_not_compared():
    rows = [replace(row_of(), example=example(kind)) for kind in ("closed", "open")]
    assert answer_metrics(rows, group_size=1) == {}


TWO = {"parts": [{"scorer": "bleu1", "weight": 0.8}, {"scorer": "answer_format", "weight": 0.2}]}


@pytest.mark.parametrize(
    ("bleu", "form", "expected"),
    [
        ([0.5, 0.52, 0.5, 0.52], [0.0, 1.0, 1.0, 0.0], {"bleu1": -0.8, "answer_format": 0.8}),  # a loud small part
        ([0.0, 1.0, 1.0, 0.0], [0.0, 1.0, 1.0, 0.0], {"bleu1": 0.0, "answer_format": 0.0}),  # by their weights
        ([0.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0], {}),  # the other has nothing left to tell
        ([0.0, None, 1.0, 1.0], [1.0, 1.0, 0.0, 1.0], {"bleu1": 0.277, "answer_format": -0.277}),  # three scored
    ],
)
def test_dominance_is_a_share_of_the_variance_beyond_the_weight(bleu, form, expected):
    outcomes = [
        Outcome(
            reward=None if a is None else 0.8 * a + 0.2 * b,
            raw={"bleu1": a, "answer_format": b},
            calibrated={"bleu1": a, "answer_format": b},
            applicable={"bleu1": True, "answer_format": True},
        )
        for a, b in zip(bleu, form, strict=True)
    ]
    found = part_dominance(build_reward(TWO), [row_of() for _ in bleu], outcomes, group_size=4)
    assert found == {f"part/{name}/dominance": pytest.approx(value, abs=0.01) for name, value in expected.items()}


def test_parts_that_were_normalised_dominate_by_their_weights():
    reward = build_reward({**TWO, "combine": "normalize_then_sum"})
    values = [(0.5, 0.0), (0.52, 1.0), (0.5, 0.0), (0.52, 1.0)]
    outcomes = [outcome(0.0, bleu1=a, answer_format=b) for a, b in values]
    found = part_dominance(reward, [row_of() for _ in values], outcomes, group_size=4)
    assert all(abs(value) < 0.01 for value in found.values()) and len(found) == 2


def test_what_a_part_pays_most_and_what_failed():
    part = {"scorer": "judge", "weight": 0.8, "options": {"model": "toy", "base_url": "http://localhost:1/v1"}}
    reward = build_reward({"parts": [part, {"scorer": "answer_format", "weight": 0.2}]})
    outcomes = [outcome(None, judge=None, answer_format=1.0), outcome(0.2, judge=0.0, answer_format=1.0)]
    outcomes[0] = replace(outcomes[0], applicable={"judge": True, "answer_format": True})
    found = reward_metrics(reward, [row_of(), row_of()], outcomes, group_size=2)
    assert found == {
        "part/judge/top": 0.0,
        "part/judge/failed": 0.5,
        "part/answer_format/top": 1.0,
        "format/answer_format": 1.0,
    }


def test_kinds_that_combine_differently_are_refused():
    with pytest.raises(RecipeError):
        build_reward({"closed": BY_KIND["closed"], "open": normalised(BY_KIND)["open"]})
