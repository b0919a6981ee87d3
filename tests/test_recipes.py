"""Every shipped recipe parses, names what exists, and says where its values come from."""

import re
import shlex
from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import pytest

from medrft.data import check_options
from medrft.errors import RecipeError
from medrft.models.prompts import get_prompt
from medrft.recipes import load_recipe, parse_set
from medrft.rewards import build_reward
from medrft.training import check_stage
from medrft.types import KINDS

ROOT = Path(__file__).resolve().parents[1]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_loads_and_names_what_exists(path):
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    get_prompt(recipe.prompt)
    check_options(recipe.data.name, recipe.data.options)
    build_reward(recipe.reward, encoder=recipe.encoder)
    for stage in recipe.stages:
        check_stage(stage, recipe, processes=4 if path.stem.endswith("_4gpu") else 1)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_rewards_by_kind_as_documented(path):
    recipe = load_recipe(path)
    if path.stem.startswith("armed"):
        assert recipe.reward == "armed"
        return
    if path.stem in ("quickstart", "composed"):
        assert recipe.reward == "armed_clinical"  # all their questions are open
        return
    if path.stem == "zhu" or not any(stage.kind == "grpo" for stage in recipe.stages):
        return  # accuracy and format, as that paper adds them
    assert recipe.reward["open"] == ("armed_clinical" if path.stem == "my_data" else "armed")
    for kind, scorer in (("closed", "yes_no_match"), ("choice", "choice_match")):
        parts = recipe.reward[kind].parts
        assert {part.scorer: part.weight for part in parts} == {scorer: 0.8, "answer_format": 0.2}
    assert set(recipe.reward) == set(KINDS)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_real_data_is_never_asked_to_think(path):
    recipe = load_recipe(path)
    taught = any(stage.kind == "sft" and not stage.curate for stage in recipe.stages)  # curated rows bring a thought
    if recipe.data.options.get("pretraining") is not None:
        assert recipe.prompt == "plain"  # the base of the phantom studies, which learns captions and bare answers
    elif taught:
        assert recipe.prompt == ("think" if recipe.data.drawn else "direct")


def switches(path):
    """The `--set` lines that a recipe's opening comments offer as arms, as the command line reads them."""
    for line in path.read_text(encoding="utf-8").splitlines():
        words = shlex.split(line.removeprefix("#")) if line.startswith("#   ") and " --set " in line else []
        values = [word for before, word in pairwise(words) if before == "--set" and "=" in word]
        if values:
            yield parse_set(values)


def test_each_switch_of_zhu_is_a_recipe():
    path = ROOT / "recipes" / "zhu.yaml"
    arms = [load_recipe(path, overrides=values) for values in switches(path) if "data.root" not in values]
    assert len(arms) == 5 and len({arm.model_dump_json() for arm in arms}) == 5
    for arm in arms:
        build_reward(arm.reward, encoder=arm.encoder, correct=arm.correct)
        check_stage(arm.stages[0], arm)
    assert arms[-1].stages[0].trl["loss_type"] == "dr_grpo"


@pytest.mark.parametrize(("name", "processes"), [("armed", 1), ("armed_1gpu", 1), ("armed_4gpu", 4), ("zhu", 1)])
def test_batches_of_the_papers_recipes_hold_whole_groups(name, processes):
    recipe = load_recipe(ROOT / "recipes" / f"{name}.yaml")
    for stage in recipe.stages:
        check_stage(stage, recipe, processes=processes)
        if stage.kind == "grpo" and name != "armed":
            rows, group = (int(stage.trl[key]) for key in ("per_device_train_batch_size", "num_generations"))
            assert stage.trl["beta"] == 0.04 and (group % rows == 0 or rows % group == 0)


def test_vllm_keys_in_comments_are_trls():
    from trl import GRPOConfig

    known = {field.name for field in fields(GRPOConfig)}
    named = {
        key for path in RECIPES for key in re.findall(r"#\s+((?:use_)?vllm\w*):", path.read_text(encoding="utf-8"))
    }
    assert len(named) >= 4 and not named - known


@pytest.mark.parametrize("name", ["armed", "armed_tiny", "armed_1gpu", "armed_4gpu"])
def test_armed_has_all_three_stages_and_takes_both_starts(name):
    path = next(path for path in RECIPES if path.stem == name)
    for start in ("armed_i", "base"):
        recipe = load_recipe(path, overrides={"stages.armed_a.start": start})
        first, data, second = (next(s for s in recipe.stages if s.name == n) for n in ("armed_i", "armed_a", "armed_r"))
        assert first.kind == second.kind == "grpo" and first.trl == second.trl  # the same GRPO again
        assert data.kind == "sft" and data.curate == "armed_i" and recipe.start_of(data) == start
        assert recipe.start_of(second) == "armed_a"


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "holds more than 100,000 values"),
        ("a: &a [*a]", "nests too deep, or in itself"),
        ("[" * 5_000, "not valid YAML"),
        ("seed: 1\nseed: 2", "'seed' stands twice"),
        ("seed: " + "1" * 5_000, "not valid YAML"),
        ("seed: 2024-13-45", "not valid YAML"),
        ("seed: [", "not valid YAML"),
    ],
)
def test_hostile_yaml_is_one_line(tmp_path, text, message):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(RecipeError, match=message) as told:
        load_recipe(tmp_path / "r.yaml")
    assert "\n" not in str(told.value) and len(str(told.value)) < 1_000


@pytest.mark.parametrize("value", ["2024-13-45", "1" * 5_000, "[" * 5_000, "{a: 1, a: 2}", "&a [*a]"])
def test_hostile_values_of_set_are_one_line(value):
    with pytest.raises(RecipeError, match="not a YAML value"):
        parse_set([f"a={value}"])


def test_aliases_of_people_are_read():
    assert parse_set(["a={x: &x [1, 2], y: *x}"]) == {"a": {"x": [1, 2], "y": [1, 2]}}
