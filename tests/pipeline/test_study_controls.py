"""Controls that studies share: what their file may say, whose result is whose, and all of them on tiny real runs."""

import json

import pytest
import yaml

from medrft.config import CorrectConfig, RejectionConfig
from medrft.errors import DataError, RecipeError
from medrft.pipeline.job import open_job
from medrft.pipeline.run import run_recipe, taught_rows
from medrft.pipeline.run_study import Grid
from medrft.recipes import parse_recipe
from medrft.report.forest import forest_plot
from medrft.report.study import collect_results
from medrft.rundir import read_json, read_jsonl
from medrft.store import read_rollouts
from medrft.studies.arms import arms_of
from medrft.studies.plan import load_study
from medrft.studies.result_files import Places
from toys import TABLE

TAUGHT = {
    **TABLE,
    # One sentence as every thought, and steps enough to learn it: a model that writes the form can be right in it.
    "data": {**TABLE["data"], "thoughts": "formal"},
    "stages": [
        {
            "name": "sft",
            "kind": "sft",
            "trl": {"max_steps": 90, "per_device_train_batch_size": 8, "learning_rate": 3e-3},
        },
        {**TABLE["stages"][1], "trl": {**TABLE["stages"][1]["trl"], "max_completion_length": 32}},
    ],
    "eval": {"limit": 6, "batch_size": 16, "max_new_tokens": 32, "controls": []},
}
TRUTH = {"parts": [{"scorer": "oracle", "weight": 0.8}, {"scorer": "answer_format", "weight": 0.2}]}
LONGER = {"max_steps": 4, "per_device_train_batch_size": 4}
SFT = {"stages.grpo.kind": "sft", "stages.grpo.trl": LONGER}
CONTROLS = {
    "name": "toycontrols",
    "arms": {
        "start": {"stages.grpo": None},
        "oracle": {"reward": TRUTH},
        "random": {"reward": {"parts": [{"scorer": "coin", "weight": 1.0}]}},
        "sft_answers": {**SFT, "stages.grpo.asked_first": 16, "stages.grpo.teach": "answers"},
        "rejection": {
            **SFT,
            "stages.grpo.asked_first": 16,
            "stages.grpo.rejection": {"samples": 4, "keep": {"scorer": "oracle"}},
            "stages.grpo.name": "rejection",
        },
    },
    "equal": {"sft_answers": ["examples"], "rejection": ["examples"]},
    "tolerance": 9,
    "results": "controls",
}
STUDY = {
    "name": "toystudy",
    "question": "Does it?",
    "recipe": "toy.yaml",
    "controls": "toycontrols.yaml",
    "arms": {"text": {"reward.open": "text"}},
    "seeds": [1],
    "primary": {"a": "text", "against": "start", "dataset": "phantom"},
    "budget": {"rule": "steps", "statement": "two steps"},
    "results": "results",
}


def written(folder, controls=CONTROLS, **changes):
    """A toy study with its recipe and its controls in a folder; its path."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in (("toy", TAUGHT), ("toycontrols", controls), ("study", {**STUDY, **changes})):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(table, sort_keys=False))
    return folder / "study.yaml"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"arm": {}}, "unknown key 'arm'"),
        ({"arms": {}}, "arms"),
        ({"arms": {"A b": {}}}, "names files"),
        ({"equal": {"sft": ["examples"]}}, "equal names 'sft'"),
        ({"equal": {"oracle": ["examples"]}}, "arms of this file other than oracle"),
        ({"equal": {"sft_answers": ["hours"]}}, "equal.sft_answers"),
        ({"arms": {"random": {}}, "equal": {"random": ["steps"]}}, "compares with the arm oracle"),
        ({"arms": {"text": {}}, "equal": {}}, "'text' stands in toycontrols.yaml too"),
        ({"arms": {"start": {}, "oracle": {"rewrad": "text"}}, "equal": {}}, "arm 'oracle'.*did you mean 'reward'"),
    ],
)
def test_mistakes_in_a_file_of_controls(tmp_path, changes, says):
    with pytest.raises(RecipeError, match=says):
        load_study(written(tmp_path, {**CONTROLS, **changes}))


def test_a_file_of_controls_that_is_not_there(tmp_path):
    path = written(tmp_path)
    (tmp_path / "toycontrols.yaml").unlink()
    with pytest.raises(RecipeError, match=r"no controls at .*toycontrols\.yaml"):
        load_study(path)


def test_studies_that_start_alike_have_the_same_controls(tmp_path):
    one = load_study(written(tmp_path))
    two = written(tmp_path / "b", arms={"mine": {"reward.open": "armed"}}, primary={**STUDY["primary"], "a": "mine"})
    other = written(tmp_path / "c", set={"stages.sft.trl.max_steps": 3})

    def found(study):
        return {arm.name: arm for arm in arms_of(study, list(study.arms), [1]) if arm.control}

    first, second, third = found(one), found(load_study(two)), found(load_study(other))
    assert list(first) == list(CONTROLS["arms"]) and all(first[name].key == second[name].key for name in first)
    assert not {arm.key for arm in first.values()} & {arm.key for arm in third.values()}
    places = Places.of(one)
    assert places.result(first["oracle"]) == tmp_path / "controls" / f"oracle-seed1-{first['oracle'].key[:8]}.json"
    assert Places.of(one, tmp_path / "x").result(first["oracle"]).parent == tmp_path / "x" / "controls"


def test_what_an_arm_sets_as_a_whole_the_study_does_not_change_in_part(tmp_path):
    study = load_study(written(tmp_path, set={"reward.open": "armed_static", "stages.grpo.trl.max_steps": 9}))
    assert study.recipe("oracle", 1).reward.parts[0].scorer == "oracle"
    assert study.recipe("oracle", 1).stages[1].trl["max_steps"] == 9
    assert study.recipe("sft_answers", 1).stages[1].trl == LONGER
    assert study.recipe("sft_answers", 1).stages[1].kinds == ("open",)  # as the stage in whose place it stands


@pytest.mark.parametrize("name", ["composed_rewards", "armed_ablation", "zhu_length", "zhu_alignment", "sft_vs_rl"])
def test_shipped_controls_ask_what_grpo_asks(name):
    from medrft.shipped import FOLDER

    study = load_study(FOLDER / "studies" / f"{name}.yaml")
    trl = study.recipe("oracle", 1).stages[1].trl
    asked = trl["max_steps"] * trl["per_device_train_batch_size"] // trl["num_generations"]
    for arm in ("sft_answers", "rejection"):
        assert study.recipe(arm, 1).stages[1].asked_first == asked


@pytest.mark.parametrize(
    ("stage", "says"),
    [
        ({"kind": "grpo", "asked_first": 4}, "asked_first is for sft stages"),
        ({"kind": "grpo", "teach": "answers"}, "teach is for sft stages"),
        ({"kind": "sft", "teach": "answers", "rejection": {}}, "choose one"),
        ({"kind": "sft", "curate": "sft", "rejection": {}}, "choose one"),
        ({"kind": "sft", "rejection": {"samples": 0}}, "samples"),
    ],
)
def test_stages_that_cannot_be(stage, says):
    table = {**TABLE, "stages": [TABLE["stages"][0], {"name": "more", **stage}]}
    with pytest.raises(RecipeError, match=says):
        parse_recipe(table)


def test_a_reward_of_the_oracle_needs_drawn_data(tmp_path, image_file):
    image_file(tmp_path / "a.png", 20)
    rows = [{"image": "a.png", "question": "Where?", "answer": "left", "split": split} for split in ("train", "test")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"name": "table", "root": str(tmp_path / "rows.jsonl")}
    recipe = parse_recipe({**TABLE, "prompt": "direct", "data": data, "reward": TRUTH})
    with pytest.raises(DataError, match="oracle, which knows drawn data alone, but 1 of 1 train rows of table"):
        open_job(recipe, output=tmp_path / "run")


@pytest.mark.slow
def test_the_same_questions_that_grpo_asks(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    grpo = {**TABLE["stages"][1], "trl": {**TABLE["stages"][1]["trl"], "max_steps": 3}}
    more = {"name": "more", "kind": "sft", "kinds": ["open"], "asked_first": 6, "teach": "answers", "trl": LONGER}
    recipe = parse_recipe({**TABLE, "seed": 5, "reward": TRUTH, "stages": [grpo, more], "eval": {"base": "skip"}})
    run = run_recipe(recipe, output=tmp_path / "run", only=["grpo", "more"])
    asked = {
        row["example_id"] for row in read_rollouts(run.path, "SELECT example_id FROM rollouts WHERE split = 'train'")
    }
    job = open_job(recipe, output=run.path, resume=True)
    assert len(asked) == 6 < len(job.drawn(recipe.stages[1]))
    assert {example.id for example in taught_rows(job, recipe.stages[1])} == asked
    record = read_json(run.path / "stages" / "more" / "stage.json")
    assert record["form"] == "direct" and record["seen"] == 6 and record["examples"]["train"] == 6


def test_rejection_goes_on_where_it_was_interrupted(tmp_path, monkeypatch):
    from medrft.curation.rejection import sample_right, sampling_recipe
    from medrft.curation.writers import Weights, make_writer
    from medrft.pipeline.job import source_of

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    recipe = parse_recipe({**TABLE, "seed": 3})
    config = RejectionConfig(samples=2, keep=CorrectConfig(scorer="coin"))
    job = open_job(recipe, output=tmp_path / "run")
    recipe = sampling_recipe(recipe, config)
    rows = job.split("train")[:12]

    def writer():
        return make_writer(Weights(recipe.model, source_of(job, "base")), recipe, rows)

    told = "none of 24 completions of 12 rows is whole, in its form and right"
    with pytest.raises(DataError, match=told):  # a model that knows nothing never writes the form
        sample_right(rows, recipe, config, writer=writer(), output=tmp_path / "whole")
    whole = read_json(tmp_path / "whole" / "manifest.json")
    assert whole["status"] == "done" and whole["completions"] == 24 and whole["kept"] == 0 and whole["tokens"] > 0
    assert 0 < whole["right"] < 24 and whole["seconds"] > 0

    lines = (tmp_path / "whole" / "tries.jsonl").read_text().splitlines(keepends=True)
    cut = tmp_path / "cut"
    cut.mkdir()
    begun = {key: value for key, value in whole.items() if key not in ("completions", "kept", "right", "rows_with")}
    (cut / "manifest.json").write_text(json.dumps({**begun, "status": "running"}))
    (cut / "tries.jsonl").write_text("".join(lines[:9]) + lines[9][:20])  # killed while it wrote a line
    with pytest.raises(DataError, match=told):
        sample_right(rows, recipe, config, writer=writer(), output=cut)
    assert (cut / "tries.jsonl").read_text() == "".join(lines)


def test_controls_from_end_to_end_and_once_for_two_studies(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    study = load_study(written(tmp_path))
    arms = arms_of(study, list(study.arms), [1])
    grid = Grid(output=tmp_path / "runs" / "s", places=Places.of(study), tell=lambda line: None)
    assert len(grid.run(arms)) == 6 and len(grid.trained) == 1  # SFT once
    by_name = {arm.name: arm for arm in arms}

    cost = {name: read_json(grid.places.result(arm))["cost"][-1] for name, arm in by_name.items()}
    kept = read_json(grid.folder(by_name["rejection"]) / "stages" / "rejection" / "stage.json")["rejection"]
    assert 0 < kept["kept"] <= kept["right"] < kept["completions"] == 64 and kept["of"] == 16
    assert cost["rejection"]["seen"] == 16 == cost["sft_answers"]["seen"] and cost["rejection"]["completions"] == 64
    assert cost["rejection"]["seconds"] > kept["seconds"] > 0 and cost["rejection"]["tokens"] == kept["tokens"]
    rows = list(read_jsonl(grid.folder(by_name["rejection"]) / kept["folder"] / "kept.jsonl"))
    assert all(row["thought"] and row["answer"] for row in rows) and len(rows) == kept["kept"]

    facts = collect_results(study, grid.places)
    assert facts["missing"] == [] and facts["control"]["state"] == "one_seed" and facts["control"]["start"] == "start"
    assert {row["arm"]: row["kept"] for row in facts["cost"]["equal"]} == {"sft_answers": True, "rejection": True}
    (table,) = [table for table in facts["tables"] if (table["dataset"], table["kind"]) == ("phantom", "all")]
    assert {row["arm"] for row in table["rows"] if row["share"]} == set(by_name) - {"start", "oracle"}
    picture = forest_plot(facts)
    assert (
        all(f">{arm}</text>" in picture for arm in by_name) and "minus start, points" in picture
    )  # one seed: no shares

    other = load_study(written(tmp_path / "other", arms={"armed": {}}, primary={**STUDY["primary"], "a": "armed"}))
    places = Places(tmp_path / "other" / "results", study.controls.results)  # the same file of controls
    again = Grid(output=tmp_path / "runs" / "t", places=places, tell=lambda line: None)
    done = again.run(arms_of(other, list(other.arms), [1]))
    assert [path.name for path in done] == ["armed-seed1.json"] and again.trained == []
    assert collect_results(other, places)["missing"] == []
