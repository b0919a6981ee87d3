import pytest
import yaml

from medrft.config import Recipe
from medrft.errors import RecipeError
from medrft.recipes import load_recipe, parse_recipe, parse_set

MINIMAL = {"name": "toy", "model": {"id": "tiny:llava"}, "data": {"name": "phantom"}}


def recipe(**changes):
    return parse_recipe({**MINIMAL, **changes})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"sead": 1}, "unknown key 'sead'; did you mean 'seed'?"),
        ({"model": {"id": "x", "revisoin": "a"}}, "unknown key 'model.revisoin'; did you mean 'revision'?"),
        ({"stages": [{"name": "sft", "kind": "sft", "lmit": 3}]}, "did you mean 'limit'?"),
        ({"stages": [{"name": "sft", "kind": "ppo"}]}, "stages.0.kind: input should be 'sft' or 'grpo', got 'ppo'"),
        ({"stages": [{"name": "Sft", "kind": "sft"}]}, "stages.0.name"),
        ({"stages": [{"name": "a", "kind": "sft"}] * 2}, "'a' is used twice"),
        ({"stages": [{"name": "a", "kind": "sft", "start": "b"}]}, "start is 'b'"),
        ({"stages": [{"name": "a", "kind": "sft", "wall_clock_of": "a"}]}, "wall_clock_of is 'a'"),
        ({"reward": {"opn": "armed"}}, "reward.opn: input should be 'closed', 'choice' or 'open'"),
        ({"reward": {"parts": [{"scorer": "bleu1", "weigth": 1}]}}, "'reward.parts.0.weigth'; did you mean 'weight'?"),
        ({"reward": {"open": {"parts": []}}}, "reward.open.parts"),
        ({"eval": {"limit": 0}}, "eval.limit: input should be greater than 0, got 0"),
        ({"eval": {"controls": "blanc"}}, "eval.controls.0: input should be 'blank', 'shuffled'"),
        ({"eval": {"resamples": 1000}}, "unknown key 'eval.resamples'; it was removed"),
    ],
)
def test_wrong_recipes_name_key_and_way_out(changes, expected):
    with pytest.raises(RecipeError) as error:
        recipe(**changes)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("controls", "names"), [("flip", ("flip",)), (["blur", "flip"], ("blur", "flip")), ([], ())])
def test_one_control_needs_no_list(controls, names):
    assert recipe(eval={"controls": controls}).eval.controls == names


def test_recipe_is_frozen():
    with pytest.raises(Exception, match="frozen"):
        recipe().seed = 3


def test_loader_options_travel_in_data():
    assert recipe(data={"name": "slake", "lang": "zh"}).data.options == {"lang": "zh"}


@pytest.mark.parametrize(
    ("stage", "start"), [({}, "sft"), ({"start": "base"}, "base"), ({"start": "sft"}, "sft")]
)  # by default the stage before
def test_start_of_a_stage(stage, start):
    made = recipe(stages=[{"name": "sft", "kind": "sft"}, {"name": "grpo", "kind": "grpo", **stage}])
    assert made.start_of(made.stages[1]) == start
    assert made.start_of(made.stages[0]) == "base"


def test_resolved_recipe_reads_back_the_same(tmp_path):
    made = recipe(reward={"closed": {"parts": [{"scorer": "yes_no_match", "weight": 1}]}, "open": "armed"})
    assert Recipe.model_validate(made.model_dump(mode="json")) == made


@pytest.mark.parametrize(
    ("assignments", "expected"),
    [
        (["seed=3"], {"seed": 3}),
        (["a.b=1e-3"], {"a.b": 0.001}),  # YAML 1.1 would say a string
        (["a=true", "b=null", "c="], {"a": True, "b": None, "c": None}),
        (["a=[1, 2]"], {"a": [1, 2]}),
        (["root=/data/x=y"], {"root": "/data/x=y"}),
        (["name=nan-study"], {"name": "nan-study"}),
    ],
)
def test_parse_set(assignments, expected):
    assert parse_set(assignments) == expected


@pytest.mark.parametrize("assignment", ["seed", "=3", "a=[1"])
def test_parse_set_refuses(assignment):
    with pytest.raises(RecipeError, match="--set"):
        parse_set([assignment])


def test_overrides_reach_into_lists_by_name_and_number(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(
        "name: toy\nmodel: {id: tiny:llava}\ndata: {name: phantom}\n"
        "stages: [{name: sft, kind: sft, trl: {max_steps: 9}}]\n"
    )
    assert load_recipe(path, overrides={"stages.sft.trl.max_steps": 2}).stages[0].trl == {"max_steps": 2}
    assert load_recipe(path, overrides={"stages.0.limit": 5}).stages[0].limit == 5
    with pytest.raises(RecipeError, match=r"'grpo' is no position or name in a list of 1"):
        load_recipe(path, overrides={"stages.grpo.limit": 5})
    with pytest.raises(RecipeError, match="has no key 'x'"):
        load_recipe(path, overrides={"name.x": 5})


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", ""])
def test_files_that_are_no_recipe(tmp_path, text):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError):
        load_recipe(path)


def test_missing_recipe_names_the_nearest(tmp_path):
    (tmp_path / "quickstart.yaml").write_text("")
    with pytest.raises(RecipeError, match=r"did you mean .*quickstart\.yaml"):
        load_recipe(tmp_path / "quikstart.yaml")


def test_a_file_beside_the_recipe_is_found_from_anywhere(tmp_path):
    (tmp_path / "mine.py").write_text("")
    parts = "[{scorer: 'mine.py:Brevity', weight: 1.0}, {scorer: 'gone.py:Brevity', weight: 1.0}]"
    (tmp_path / "r.yaml").write_text(
        f"name: r\nmodel: {{id: tiny:llava}}\ndata: {{name: phantom}}\nreward: {{parts: {parts}}}\n"
    )
    recipe = load_recipe(tmp_path / "r.yaml")
    assert [part.scorer for part in recipe.reward.parts] == [f"{tmp_path.resolve()}/mine.py:Brevity", "gone.py:Brevity"]


def test_run_folders_hold_keys_that_are_gone_unset(tmp_path):
    """A run keeps its whole recipe: one made before a key was taken out still reports and resumes."""
    path = tmp_path / "recipe.yaml"
    whole = {**MINIMAL, "output": None, "encoder": {"id": "all-MiniLM-L6-v2", "idf": False, "rescale": False}}
    path.write_text(yaml.safe_dump(whole))
    assert load_recipe(path).encoder.id == "all-MiniLM-L6-v2"
    path.write_text(yaml.safe_dump({**whole, "output": "runs/there"}))
    with pytest.raises(RecipeError, match="output"):
        load_recipe(path)
