from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medrft.evaluation.repeated import is_verdict, judge_agreement, majority_position, of_samples, pass_at


def samples(right, answers=None):
    answers = answers or ["lung"] * len(right)
    return [
        {"sample": i, "answer": answer, "scores": {"correct": value}}
        for i, (value, answer) in enumerate(zip(right, answers, strict=True))
    ]


@given(st.lists(st.booleans(), min_size=1, max_size=9), st.integers(1, 9))
def test_pass_at_k_is_the_share_of_draws_of_k_that_hold_a_right_answer(right, k):
    k = min(k, len(right))
    draws = list(combinations(right, k))
    expected = sum(any(draw) for draw in draws) / len(draws)
    assert pass_at(k, n=len(right), right=sum(right)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("answers", "place"),
    [
        (["lung", "heart", "Heart."], 1),
        (["lung", "heart"], 0),  # a tie: the one said first
        (["heart", "lung", "lung", "heart"], 0),
        ([None, "lung", None], 1),  # no answer has no vote
        ([None, "?"], None),
        ([], None),
    ],
)
def test_majority(answers, place):
    assert majority_position(answers) == place


def test_majority_needs_not_be_right():
    found = of_samples(samples([0.0, 0.0, 1.0, 0.0], ["heart", "Heart", "lung", None]))
    assert (found["maj@4"], found["pass@4"], found["pass@1"]) == (0.0, 1.0, 0.25)


def test_samples_are_taken_in_their_order():
    rows = samples([1.0, 0.0, 0.0, 0.0], ["lung", "heart", "heart", "heart"])
    assert of_samples(rows[::-1]) == of_samples(rows)
    assert of_samples(rows)["maj@2"] == 1.0 and of_samples(rows)["maj@4"] == 0.0


@pytest.mark.parametrize(("n", "names"), [(1, ["pass@1"]), (3, ["pass@1", "pass@2", "maj@2"])])
def test_k_is_a_power_of_two(n, names):
    assert list(of_samples(samples([1.0] * n))) == names


def test_nobody_answers():
    assert of_samples(samples([0.0, 0.0], [None, None]))["maj@2"] == 0.0


def test_rows_without_an_outcome_have_none():
    assert of_samples([{"sample": 0, "answer": "x", "scores": {}}]) == {}


@pytest.mark.parametrize(
    ("name", "expected"), [("judge_1", True), ("judge_12", True), ("judge", False), ("judge_reasoning", False)]
)
def test_verdicts_are_known_by_name(name, expected):
    assert is_verdict(name) is expected


def test_a_judge_asked_once_has_no_spread():
    assert judge_agreement([{"judge": 1.0, "judge_1": 1.0}]) == {"repeats": 1, "repeat_sd": None, "flips": None}
    assert judge_agreement([{"judge_1": None, "judge_2": 1.0}])["flips"] is None
