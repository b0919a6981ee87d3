"""Groups whose completions are all right, or all wrong, are drawn again; what is left of them teaches nothing."""

import pytest

from medrft.recipes import parse_recipe
from medrft.rundir import read_jsonl
from medrft.store import read_rollouts
from medrft.training.grading import Grader
from medrft.training.grpo import run_grpo
from medrft.training.resampling import Resamples

GROUPS = (
    "SELECT group_id, any_value(example_id) AS example, count(DISTINCT example_id) AS n, bool_or(correct) AS some, "
)
GROUPS += (
    "bool_and(correct) AS every, max(abs(advantage)) AS advantage FROM rollouts WHERE split = 'train' GROUP BY ALL"
)


@pytest.fixture
def resampled(trained, run, recipe, monkeypatch):
    """`resampled(rounds, right)`: a stage of 4 steps of 4 groups in which `right(example, completion)` is `correct`."""

    def train(rounds, right, **trl):
        table = recipe().model_dump(mode="json")
        table["stages"][1] |= {"resample_groups": rounds, "validation_limit": 2}
        table["stages"][1]["trl"] |= {"per_device_train_batch_size": 16, "max_steps": 3, **trl}
        true = Grader.grade

        def graded(self, examples, completions, **more):
            rows = true(self, examples, completions, **more)
            return [
                type(row)(
                    **{**{k: getattr(row, k) for k in row.__slots__}, "correct": right(row.example, row.completion)}
                )
                for row in rows
            ]

        monkeypatch.setattr(Grader, "grade", graded)
        monkeypatch.setattr(Grader, "correctness", lambda self, e, c: [right(*pair) for pair in zip(e, c, strict=True)])
        trained(run_grpo, parse_recipe(table), 1, run=run)
        rows = [row for row in read_jsonl(run.metrics) if row["split"] == "train"]
        return read_rollouts(run.path, GROUPS), rows

    return train


def odd(example, completion):
    """Differs within most groups."""
    return sum(map(ord, completion.text)) % 2 == 1


def odd_for_half(example, completion):
    """Half of the examples are always wrong."""
    return odd(example, completion) and sum(map(ord, example.id)) % 2 == 1


def test_groups_without_a_difference_give_way_to_others(resampled):
    groups, rows = resampled(6, odd_for_half)
    assert len(groups) == 12 and all(group["n"] == 1 for group in groups)
    assert all(group["some"] and not group["every"] for group in groups)
    assert sum(row["resampled"] for row in rows) >= 4
    assert all(row["no_difference"] == 0 for row in rows)
    assert all(row["shared_prompts"] == 1 for row in rows)


def test_where_no_round_helps_the_groups_teach_nothing(resampled):
    groups, rows = resampled(2, lambda example, completion: False)
    assert [row["resampled"] for row in rows] == [8, 8, 8]  # two rounds of four
    assert [row["no_difference"] for row in rows] == [1, 1, 1]
    assert all(group["advantage"] == 0 for group in groups)
    assert all(row["grad_norm"] < 1e-2 for row in rows)  # the KL term alone


def test_the_shaped_reward_does_not_decide(resampled):
    """Every group differs in its reward; all are wrong."""
    groups, rows = resampled(1, lambda example, completion: None)
    assert [row["no_difference"] for row in rows] == [1, 1, 1]
    assert all(group["advantage"] == 0 for group in groups)


def test_a_batch_that_differs_is_left_alone(resampled):
    alternating = iter(range(10**6))
    groups, rows = resampled(3, lambda example, completion: next(alternating) % 2 == 0)
    assert [row["resampled"] for row in rows] == [0, 0, 0]
    assert any(group["advantage"] > 0 for group in groups)


def test_off_by_default(trained, run, recipe, monkeypatch):
    monkeypatch.setattr(Resamples, "_until_they_differ", None)
    trained(run_grpo, recipe(), 1, run=run)
    assert not any("resampled" in row for row in read_jsonl(run.metrics))


def test_with_steps_per_generation_and_without_sharing(resampled):
    groups, _ = resampled(6, odd_for_half, steps_per_generation=2, num_iterations=2, per_device_train_batch_size=8)
    assert all(group["some"] and not group["every"] for group in groups)
