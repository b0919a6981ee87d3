"""The model card: from the run's files alone, honest about what it is."""

import pytest
import yaml

from medrft.recipes import parse_recipe
from medrft.rundir import RunDir, write_json
from medrft.training.model_card import hub_target, write_model_card
from medrft.training.state import write_stage

METRIC = {"mean": 0.5, "low": 0.4, "high": 0.6, "n": 100, "unscored": 0}


def recipe_of(model="tiny:llava"):
    stages = [{"name": "grpo", "kind": "grpo"}]
    return parse_recipe({"name": "toy", "model": {"id": model}, "data": {"name": "vqa_rad"}, "stages": stages})


@pytest.fixture
def run(tmp_path):
    run = RunDir(tmp_path)
    run.final("grpo").mkdir(parents=True)
    write_json(
        tmp_path / "data.json",
        {
            "dataset": "vqa_rad",
            "splits": {"train": {"examples": 8, "images": 4, "kinds": {"open": 8}, "fingerprint": "ab12"}},
            "left_out": {"reasons": {"empty answer": 2}, "rows": []},
            "notes": ["202 of 203 test images are also in train"],
        },
    )
    write_stage(
        run,
        "grpo",
        kind="grpo",
        status="done",
        start="sft",
        steps=40,
        seconds=61.0,
        prompt="think",
        prompt_hash="ff",
        prompt_text="You read medical images. Think inside <think></think>.",
        system_role=True,
        form="think",
        best={"step": 30, "metric": "eval_reward", "value": 0.7},
        reward={"combine": "weighted_sum"},
        trl={"beta": 0.02},
    )
    return run


def test_a_card_says_what_it_must(run):
    text = write_model_card(run, recipe_of(), "grpo").read_text()
    header = yaml.safe_load(text.split("---")[1])
    assert header["pipeline_tag"] == "image-text-to-text" and header["license"] == "apache-2.0"
    for said in (
        "Not a medical device",
        "202 of 203 test images are also in train",
        "empty answer",
        "all-MiniLM-L6-v2",
        "weighted_sum",
        "step 30, chosen on validation",
        "beta: 0.02",
        "Not evaluated yet",
        "```text\nYou read medical images. Think inside <think></think>.\n```",
        'asked = "You read medical images.',
        '{"role": "system"',
    ):
        assert said in text


def test_results_come_with_intervals_once_there_are_any(run):
    results = {"none": {"closed": {"accuracy": METRIC, "n_tokens": METRIC}}, "blank": {"closed": {"accuracy": METRIC}}}
    write_json(run.evaluation("grpo", "vqa_rad") / "metrics.json", {"results": results})
    text = write_model_card(run, recipe_of(), "grpo").read_text()
    assert "| vqa_rad | closed | accuracy | 0.500 | 0.400 to 0.600 | 100 |" in text
    assert "n_tokens" not in text and "Not evaluated" not in text


def test_a_hub_models_licence_is_its_own(run):
    text = write_model_card(run, recipe_of("Qwen/Qwen2.5-VL-3B-Instruct"), "grpo").read_text()
    header = yaml.safe_load(text.split("---")[1])
    assert header["license"] == "other" and header["base_model"] == "Qwen/Qwen2.5-VL-3B-Instruct"
    assert header["license_name"] == "qwen-research" and "qwen-research (https://" in text
    unknown = write_model_card(run, recipe_of("someone/else"), "grpo").read_text()
    assert yaml.safe_load(unknown.split("---")[1])["license"] == "other" and "see the card of that model" in unknown


def test_nothing_is_pushed_unless_asked():
    assert hub_target(recipe_of().stages[0], default="x") is None
