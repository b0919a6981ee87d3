"""`medrft repeat` trains a run's own recipe again; `medrft methods` says what it was."""

import json

import pytest
from typer.testing import CliRunner

from medrft.cli.main import app
from medrft.errors import DataError, RecipeError
from medrft.pipeline.run import run_recipe
from medrft.recipes import parse_recipe
from medrft.rundir import read_json, write_json
from toys import TABLE


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    monkey = pytest.MonkeyPatch()
    monkey.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    yield run_recipe(parse_recipe(TABLE), output=tmp_path_factory.mktemp("runs") / "toy").path
    monkey.undo()


def ask(*words):
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


def test_a_run_is_repeated_to_the_same_figures(done):
    shown = json.loads(ask("repeat", done, "--json").stdout)
    assert shown["again"] == f"{done}-again"
    assert shown["figures"] > 10 and shown["moved"] == [] and shown["data"] == {}
    assert set(shown["versions"]) <= {"commit"}  # somebody may commit while the tests run


def test_another_version_and_other_figures_are_named(done, tmp_path):
    environment = read_json(done / "environment.json")
    kept = {**environment, "versions": {**environment["versions"], "trl": "0.1"}}
    metrics = done / "eval" / "grpo" / "phantom" / "metrics.json"
    before = read_json(metrics)
    moved = json.loads(json.dumps(before))
    moved["results"]["none"]["closed"]["accuracy"]["mean"] += 0.25
    write_json(done / "environment.json", kept)
    write_json(metrics, moved)
    try:
        shown = ask("repeat", done, "--output", tmp_path / "again")
    finally:
        write_json(done / "environment.json", environment)
        write_json(metrics, before)
    text = shown.stdout
    assert "trl: was 0.1, now " in text
    assert "grpo, phantom, closed, accuracy: was " in text
    assert f"Next: medrft compare {done}" in shown.stderr


def test_a_run_is_not_repeated_into_itself(done):
    with pytest.raises(RecipeError, match="is the run itself"):
        ask("repeat", done, "--output", done)


@pytest.mark.parametrize("command", ["repeat", "methods"])
def test_only_a_run_folder_will_do(command, tmp_path):
    with pytest.raises(DataError, match="not a run folder"):
        ask(command, tmp_path)


def test_methods_prints_paragraphs_and_json(done):
    text = ask("methods", done).stdout
    assert "Stage grpo: GRPO on open questions from sft" in text and "\n\n" in text
    assert json.loads(ask("methods", done, "--json").stdout)["methods"][0] in text
