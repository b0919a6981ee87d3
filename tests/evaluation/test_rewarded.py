from __future__ import annotations

import pytest

from medrft.evaluation.rewarded import SAME, rewarded_metrics
from medrft.recipes import parse_recipe

STAGES = [{"name": "sft", "kind": "sft"}, {"name": "grpo", "kind": "grpo"}, {"name": "more", "kind": "sft"}]


def recipe(reward, stages=STAGES, **more):
    table = {"name": "x", "model": {"id": "m"}, "data": {"name": "d"}, "reward": reward, "stages": stages, **more}
    return parse_recipe(table)


def test_a_preset_marks_the_metrics_that_it_holds():
    found = rewarded_metrics(recipe("armed"), "grpo")["open"]
    assert {name for name, mark in found.items() if mark == SAME} >= {
        "bleu1",
        "rouge1",
        "bertscore",
        "cosine",
        "average",
    }
    assert "exact_match" not in found and "correct" not in found and "clinical" not in found


def test_part_of_the_papers_average():
    assert rewarded_metrics(recipe("mrpo"), "grpo")["open"]["average"] == "3 of 4 in the reward"
    assert "average" not in rewarded_metrics(recipe("closed"), "grpo").get("open", {})


def test_a_gate_trains_as_well():
    assert rewarded_metrics(recipe("armed_clinical"), "grpo")["open"]["clinical"] == SAME


def test_rewards_by_kind():
    found = rewarded_metrics(recipe({"closed": "closed", "open": "text"}), "grpo")
    assert found["closed"]["accuracy"] == SAME and found["closed"]["correct"] == SAME
    assert set(found["open"]) == {"bleu1", "rouge1", "answer_format", "average"}
    assert "choice" not in found


@pytest.mark.parametrize(("stage", "marked"), [("base", False), ("sft", False), ("grpo", True), ("more", True)])
def test_what_a_stage_started_from_counts(stage, marked):
    assert bool(rewarded_metrics(recipe("armed"), stage)) is marked


def test_kinds_that_a_stage_was_not_trained_on():
    stages = [{"name": "grpo", "kind": "grpo", "kinds": ["closed"]}]
    assert set(rewarded_metrics(recipe("zhu_cwr", stages), "grpo")) == {"closed"}


def test_the_outcome_as_a_part_is_its_own_metric():
    found = rewarded_metrics(recipe("zhu_cwr", correct={"scorer": "clinical", "at_least": 0.5}), "grpo")
    assert found["open"]["clinical"] == found["open"]["correct"] == found["closed"]["accuracy"] == SAME
