"""The whole road on a very small recipe: files, resume, report, single stages."""

import json
import subprocess
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from medrft.curation.writers import find_policy
from medrft.data.splits import draw_examples
from medrft.errors import DataError, RecipeError, RunExistsError, UnknownNameError
from medrft.pipeline.job import source_of
from medrft.pipeline.run import check_same, chosen_stages, run_recipe
from medrft.recipes import parse_recipe
from medrft.rundir import RunDir, read_json, read_jsonl, write_json
from medrft.training.state import needs_training, write_stage
from toys import TABLE


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    monkey = pytest.MonkeyPatch()
    monkey.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    run = run_recipe(parse_recipe(TABLE), output=tmp_path_factory.mktemp("runs") / "toy")
    yield run
    monkey.undo()


def test_a_run_holds_what_the_contract_says(done):
    expected = ["recipe.yaml", "environment.json", "data.json", "metrics.jsonl", "rollouts", "report.html"]
    assert [name for name in expected if not (done.path / name).exists()] == []
    for stage in ("sft", "grpo"):
        assert (done.final(stage) / "config.json").is_file()
        assert (done.final(stage) / "README.md").is_file()
    for stage in ("base", "sft", "grpo"):
        for dataset in ("phantom", "phantom_ood"):
            folder = done.evaluation(stage, dataset)
            rows = list(read_jsonl(folder / "predictions.jsonl"))
            assert rows[0]["seed"] == 0 and len(rows) > 6
            assert read_json(folder / "metrics.json")


def test_every_metrics_row_names_its_stage(done):
    assert {row["stage"] for row in read_jsonl(done.metrics)} == {"sft", "grpo"}


def test_environment_names_seed_prompts_encoder_and_data(done):
    facts = read_json(done.path / "environment.json")
    assert facts["seed"] == 0 and set(facts["prompts"]) == {"think", "short"}
    assert facts["encoder"]["id"] == "all-MiniLM-L6-v2" and facts["data"]["train"]


def test_the_run_is_refused_then_resumed_without_work(done):
    with pytest.raises(RunExistsError):
        run_recipe(parse_recipe(TABLE), output=done.path)
    trained = [done.metrics, *(path for stage in ("sft", "grpo") for path in done.stage(stage).rglob("*"))]
    before = {path: path.stat().st_mtime_ns for path in trained}
    run_recipe(parse_recipe(TABLE), output=done.path, resume=True)
    assert {path: path.stat().st_mtime_ns for path in trained} == before


def test_another_recipe_does_not_go_on_with_a_run(done):
    changed = {**TABLE, "seed": 1, "prompt": "direct"}
    with pytest.raises(RecipeError, match="seed was 0, now 1; prompt was 'think', now 'direct'"):
        run_recipe(parse_recipe(changed), output=done.path, resume=True)
    sft, grpo = TABLE["stages"]
    with pytest.raises(RecipeError, match=r"stages\.grpo\.trl\.max_steps was 2, now 3"):
        stages = [sft, {**grpo, "trl": {**grpo["trl"], "max_steps": 3}}]
        run_recipe(parse_recipe({**TABLE, "stages": stages}), output=done.path, resume=True)
    more = {**TABLE, "eval": {}, "stages": [*TABLE["stages"], {**sft, "name": "more"}]}  # not begun
    check_same(parse_recipe(more), done.path)


def test_final_models_load_in_plain_transformers(done):
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model = AutoModelForImageTextToText.from_pretrained(done.final("grpo"))
    processor = AutoProcessor.from_pretrained(done.final("grpo"), backend="pil")
    assert processor.chat_template and model.generation_config.eos_token_id is not None


def test_the_reward_is_audited_before_it_trains(done):
    assert read_json(done.path / "audit" / "summary.json")["rewards"]
    assert (done.path / "audit" / "audit.html").is_file()
    assert 'id="reward"' in done.report.read_text(encoding="utf-8")


def test_a_recipe_may_stop_on_a_finding(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tags = {"parts": [{"scorer": "answer_format", "weight": 1.0}]}  # the tags alone pay
    strict = parse_recipe({**TABLE, "reward": tags, "audit": {"stop_on": "error"}, "eval": {"base": "skip"}})
    audited = tmp_path / "run" / "audit" / "audited.json"
    keys = []
    for more in ({}, {}, {"seed": 1}):  # running again passes no finding by, and other questions are audited anew
        changed = strict.model_copy(update=more)
        with pytest.raises(RecipeError, match=r"blind_to_completion|hackable"):
            run_recipe(changed, output=tmp_path / "run")
        keys.append((read_json(audited)["key"], audited.stat().st_mtime_ns))
    assert keys[0] == keys[1] and keys[1][0] != keys[2][0]
    (tmp_path / "run" / "audit" / "summary.json").write_text("{")  # half an audit is none
    with pytest.raises(RecipeError, match=r"blind_to_completion|hackable"):
        run_recipe(changed, output=tmp_path / "run")
    assert not (tmp_path / "run" / "stages" / "grpo").exists()


def test_report_speaks_of_every_stage(done):
    page = done.report.read_text(encoding="utf-8")
    assert all(stage in page for stage in ("base", "sft", "grpo"))
    assert "<script src=" not in page and "http://" not in page.replace("http://www.w3.org", "")


def test_a_stage_without_its_start_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(RecipeError, match="goes on from 'sft', which has no final model"):
        run_recipe(parse_recipe(TABLE), output=tmp_path / "run", only=["grpo"])


@pytest.mark.parametrize(("status", "model", "finished"), [("done", 1, 1), ("done", 0, 0), ("running", 1, 0)])
def test_all_who_ask_for_a_finished_stage_agree(tmp_path, status, model, finished):
    """A stage that was killed before its record said `done` has a final model, and yet is not finished."""
    run, recipe = RunDir.create(tmp_path / "run"), parse_recipe(TABLE)
    run.write_recipe(recipe.model_dump(mode="json"))
    write_stage(run, "sft", status=status)
    if model:
        write_json(run.final("sft") / "config.json", {})
    asks = (lambda: source_of(SimpleNamespace(run=run), "sft"), lambda: find_policy(f"{run.path}:sft", recipe).source)
    for ask in asks:
        with nullcontext() if finished else pytest.raises(DataError, match=r"no final model|no finished stage"):
            assert ask() == str(run.final("sft"))
    assert run.is_finished("sft") == bool(finished) == (not needs_training(run, "sft"))


def test_unknown_stage_names_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'grpo'"):
        chosen_stages(parse_recipe(TABLE), ["gpro"])


def test_draw_is_seeded_ordered_and_capped():
    numbers = list(range(100))
    assert draw_examples(numbers, 5, seed=1) == draw_examples(numbers, 5, seed=1) != draw_examples(numbers, 5, seed=2)
    assert draw_examples(numbers, 5, seed=1) == sorted(draw_examples(numbers, 5, seed=1))
    assert draw_examples(numbers, None, seed=1) == draw_examples(numbers, 200, seed=1) == numbers


def test_the_report_states_the_leakage(done):
    leakage = read_json(done.path / "data.json")["leakage"]
    assert list(leakage["pairs"]) == ["train|validation", "train|test", "validation|test"]
    assert leakage["pairs"]["train|test"]["shared_images"] == 0
    assert "images of test are in train with the same pixels" in leakage["notes"][1]
    for page in (done.report, done.final("grpo") / "README.md"):
        assert leakage["notes"][1] in page.read_text(encoding="utf-8")


def test_data_json_counts_what_was_read(done):
    facts = json.loads((done.path / "data.json").read_text())
    assert facts["splits"]["train"]["examples"] > 0 and facts["left_out"]["rows"] == []


def test_training_may_be_the_first_thing_that_loads_torch():
    """In a process of its own, for the first import of TRL fails beside some builds of torchvision."""
    code = "from medrft.pipeline.run import train_stage\ntrain_stage(None, None)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300)
    assert "'NoneType' object has no attribute 'resume'" in done.stderr, done.stderr  # so the imports are behind it
