"""The `trl:` table: passed through, refused where it contradicts the recipe, numbers and a way out in each message."""

import pytest
import torch

from medrft.config import StageConfig
from medrft.errors import RecipeError, UnknownNameError
from medrft.recipes import parse_recipe
from medrft.training.arguments import changed_arguments, check_stage, total_steps, trl_config

CPU = torch.device("cpu")
NORMALISED = {"combine": "normalize_then_sum", "parts": [{"scorer": "bleu1", "weight": 1.0}]}


def recipe_with(kind="grpo", reward="armed", **trl):
    return parse_recipe(
        {
            "name": "toy",
            "seed": 7,
            "model": {"id": "tiny:llava"},
            "data": {"name": "phantom"},
            "reward": reward,
            "stages": [{"name": "one", "kind": kind, "trl": trl}],
        }
    )


def config_of(recipe, tmp_path, *, rows=80, validation=8):
    return trl_config(recipe.stages[0], recipe, output=tmp_path, device=CPU, rows=rows, validation=validation)


@pytest.mark.parametrize(
    ("trl", "way_out"),
    [
        ({"reward_weights": [1.0]}, "reward.parts"),
        ({"multi_objective_aggregation": "normalize_then_sum"}, "combine"),
        ({"output_dir": "x"}, "--output"),
        ({"seed": 3}, "top of the recipe"),
        ({"remove_unused_columns": True}, "take it out"),
        ({"save_only_model": True}, "checkpoints from which no run can go on; take it out"),
        ({"ignore_data_skip": True}, "examples it has seen"),
        ({"resume_from_checkpoint": "x"}, "--resume"),
        ({"use_cpu": True}, "model.device"),
    ],
)
def test_contradictions_are_refused_with_the_way_out(trl, way_out):
    recipe = recipe_with(**trl)
    with pytest.raises(RecipeError, match=way_out):
        check_stage(recipe.stages[0], recipe)


@pytest.mark.parametrize("report_to", ["tensorboard", ["none", "trackio"], "wandb"])
@pytest.mark.parametrize("installed", [True, False])
def test_a_tracker_passes_through_where_it_is_installed_and_is_named_where_not(report_to, installed, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if installed else None)
    recipe = recipe_with(report_to=report_to)
    if installed:
        check_stage(recipe.stages[0], recipe)
    else:
        with pytest.raises(RecipeError, match=r"report_to names (tensorboard|trackio|wandb), which is not installed"):
            check_stage(recipe.stages[0], recipe)


@pytest.mark.parametrize("reward", [NORMALISED, {"open": NORMALISED, "closed": "armed"}])
def test_scale_rewards_is_refused_where_it_would_do_nothing(reward):
    recipe = recipe_with(reward=reward, scale_rewards="none")
    with pytest.raises(RecipeError, match="scale_rewards has no effect"):
        check_stage(recipe.stages[0], recipe)
    plain = recipe_with(scale_rewards="none")
    check_stage(plain.stages[0], plain)


def test_a_no_without_quotes_is_told():
    recipe = recipe_with("sft", eval_strategy=False)
    with pytest.raises(RecipeError, match=r'eval_strategy takes .*text.*, got False \(bool\); write "no" in quotes'):
        check_stage(recipe.stages[0], recipe)


@pytest.mark.parametrize("kind", ["sft", "grpo"])
def test_validation_can_be_switched_off(kind, tmp_path):
    args = config_of(recipe_with(kind, eval_strategy="no"), tmp_path)
    assert args.eval_strategy == "no" and not args.load_best_model_at_end and args.metric_for_best_model is None


@pytest.mark.parametrize(
    ("kind", "key", "near"), [("grpo", "learning_rat", "learning_rate"), ("sft", "max_lenght", "max_length")]
)
def test_an_unknown_key_gets_the_nearest(kind, key, near):
    recipe = recipe_with(kind, **{key: 1})
    with pytest.raises(UnknownNameError, match=near):
        check_stage(recipe.stages[0], recipe)


@pytest.mark.parametrize(
    ("trl", "numbers"),
    [
        ({"num_generations": 1}, ["1", "2 or more"]),
        ({"num_generations": 8, "per_device_train_batch_size": 12}, ["12", "8", "16"]),
        ({"num_generations": 3, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}, ["8", "3", "9"]),
        ({"num_generations": 4, "generation_batch_size": 10, "per_device_train_batch_size": 2}, ["10", "4", "12"]),
    ],
)
def test_groups_that_do_not_fit_get_both_numbers_and_a_way_out(trl, numbers):
    recipe = recipe_with(**trl)
    with pytest.raises(RecipeError) as error:
        check_stage(recipe.stages[0], recipe)
    assert all(number in str(error.value) for number in numbers)


def test_groups_may_be_spread_over_processes(monkeypatch, tmp_path):
    recipe = recipe_with(num_generations=8, per_device_train_batch_size=2, max_steps=8)
    with pytest.raises(RecipeError, match="1 processes"):
        check_stage(recipe.stages[0], recipe)
    monkeypatch.setenv("WORLD_SIZE", "4")
    check_stage(recipe.stages[0], recipe)
    assert total_steps(StageConfig(name="one", kind="sft"), {}, rows=64) == 6


def test_groups_may_be_spread_over_accumulation_steps():
    recipe = recipe_with(num_generations=8, per_device_train_batch_size=2, gradient_accumulation_steps=4)
    check_stage(recipe.stages[0], recipe)


def test_a_stage_by_the_clock_cannot_decay_its_learning_rate():
    stage = {"name": "more", "kind": "sft", "wall_clock_of": "base", "trl": {"lr_scheduler_type": "cosine"}}
    recipe = parse_recipe({"name": "toy", "model": {"id": "m"}, "data": {"name": "phantom"}, "stages": [stage]})
    with pytest.raises(RecipeError, match="constant_with_warmup"):
        check_stage(recipe.stages[0], recipe)


def test_the_table_passes_through_and_the_recipe_gives_the_seed(tmp_path):
    config = config_of(recipe_with(beta=0.02, temperature=0.7, max_steps=16), tmp_path)
    assert (config.beta, config.temperature, config.max_steps, config.seed) == (0.02, 0.7, 16, 7)
    assert config.eval_steps == config.save_steps == 2
    assert config.metric_for_best_model == "eval_reward" and config.greater_is_better


def test_a_cpu_needs_neither_checkpointing_nor_bf16(tmp_path):
    config = config_of(recipe_with("sft", max_steps=8), tmp_path)
    assert not config.gradient_checkpointing and not config.bf16 and config.max_length is None
    assert config.metric_for_best_model == "eval_loss" and not config.greater_is_better
    assert config_of(recipe_with("sft", gradient_checkpointing=True, max_steps=8), tmp_path).gradient_checkpointing


def test_without_validation_the_last_step_is_kept(tmp_path):
    config = config_of(recipe_with("sft", max_steps=8), tmp_path, validation=0)
    assert not config.load_best_model_at_end and config.save_strategy == "steps"


def test_what_trl_refuses_is_a_mistake_in_the_recipe(tmp_path):
    with pytest.raises(RecipeError, match=r"stages\.one\.trl"):
        config_of(recipe_with(eval_strategy="sometimes"), tmp_path)


def test_an_evaluation_batch_holds_whole_groups(tmp_path):
    trl = {"num_generations": 8, "per_device_train_batch_size": 3, "gradient_accumulation_steps": 8, "max_steps": 8}
    assert config_of(recipe_with(**trl), tmp_path).per_device_eval_batch_size == 2
    assert config_of(recipe_with(**trl, num_generations_eval=8), tmp_path).per_device_eval_batch_size == 8


@pytest.mark.parametrize(
    ("kind", "trl", "steps"),
    [
        ("sft", {"max_steps": 5}, 5),
        ("sft", {"num_train_epochs": 2, "per_device_train_batch_size": 10}, 16),
        ("grpo", {"num_train_epochs": 1, "per_device_train_batch_size": 16, "num_generations": 4}, 20),
    ],
)
def test_total_steps(kind, trl, steps):
    assert total_steps(StageConfig(name="one", kind=kind, trl=trl), trl, rows=80) == steps


def test_the_record_has_what_was_changed_and_no_token(tmp_path):
    found = changed_arguments(config_of(recipe_with(beta=0.02, hub_token="secret", max_steps=16), tmp_path))
    assert found["beta"] == 0.02 and "secret" not in str(found)
