"""Data sets that a recipe evaluates on beside its own, and test images that vanish."""

import csv

import pytest

from medrft.errors import DataError, RecipeError, StrictError, UnknownNameError
from medrft.evaluation.run_files import RunFiles
from medrft.pipeline.job import open_job
from medrft.pipeline.run import check_names
from medrft.pipeline.test_sets import with_images
from medrft.recipes import parse_recipe
from medrft.report.facts import facts_of
from medrft.rundir import read_json
from toys import TABLE


@pytest.fixture
def other(tmp_path, image_file):
    with (tmp_path / "other.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "question", "answer", "split"])
        for number in range(6):
            image_file(tmp_path / f"{number}.png", number * 30)
            writer.writerow([f"{number}.png", f"Where {number}?", "left", "train" if number < 2 else "test"])
    return tmp_path / "other.csv"


def recipe_with(*data, **more):
    return parse_recipe({**TABLE, **more, "eval": {**TABLE["eval"], "data": list(data)}})


def test_other_data_sets_are_evaluated_beside_the_own(other, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    job = open_job(recipe_with({"name": "table", "root": str(other)}), output=tmp_path / "run")
    assert list(job.tests()) == ["phantom", "phantom_ood", "other"]
    assert {example.split for example in job.tests()["other"]} == {"test"}
    assert not any(example.dataset == "other" for example in job.trained())
    facts = read_json(job.run.path / "data.json")
    assert facts["tests"][0]["splits"]["test"]["examples"] == 4
    assert "train|other" in facts["leakage"]["pairs"] and "test|other" not in facts["leakage"]["pairs"]
    assert "test" in facts["splits"] and facts["splits"]["test"]["datasets"].keys() == {"phantom", "phantom_ood"}


def test_mistakes_in_eval_data_come_before_any_work(other, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = {"name": "table", "root": str(other)}
    small = {**TABLE["data"], "images": 2, "validation_images": 1, "test_images": 2}
    with pytest.raises(UnknownNameError, match="did you mean 'dataset'"):
        check_names(recipe_with({**source, "datset": "x"}))
    for data, error in (
        (({**source, "root": "nowhere.csv"},), "nowhere.csv"),
        ((source, source), "other is evaluated already"),
        ((small,), "phantom.* is evaluated already"),
    ):
        with pytest.raises((DataError, RecipeError), match=error):
            open_job(recipe_with(*data), output=tmp_path / "run")
    other.write_text("image,question,answer\n0.png,Where?,left\n")
    with pytest.raises(DataError, match="has no test rows"):
        open_job(recipe_with(source), output=tmp_path / "run")


def test_a_vanished_test_image_is_left_out_and_listed(other, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    recipe = recipe_with({"name": "table", "root": str(other)})
    job = open_job(recipe, output=tmp_path / "run")
    assert with_images(job, "sft") == job.tests()
    (tmp_path / "3.png").unlink()
    (tmp_path / "4.png").write_bytes(b"")
    left = with_images(job, "sft")
    assert [example.id for example in left["other"]] == ["other/test/2", "other/test/5"]
    assert read_json(job.run.path / "data.json")["evaluation_left_out"] == {
        "sft": [
            {"row": "other/test/3", "reason": "missing image"},
            {"row": "other/test/4", "reason": "unreadable image"},
        ]
    }
    assert any("2 test examples were left out" in note for note in facts_of(RunFiles(job.run.path)).notes)
    strict = recipe_with({"name": "table", "root": str(other)}, strict=True)
    with pytest.raises(StrictError, match="other/test/3: missing image"):
        with_images(type(job)(recipe=strict, run=job.run, data=job.data, others=job.others), "sft")
