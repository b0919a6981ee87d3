"""medrft study: what it says before and without a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from medrft.cli.main import app
from medrft.errors import RecipeError, StorageError, UnknownNameError
from toys import TABLE

STUDY = {
    "name": "toystudy",
    "question": "Does it?",
    "recipe": "toy.yaml",
    "arms": {"none": {"stages.grpo": None}, "text": {"reward.open": "text"}},
    "seeds": [1, 2],
    "primary": {"a": "text", "against": "none", "dataset": "phantom"},
    "budget": {"rule": "steps", "statement": "two steps", "seconds_per_arm": 36},
    "results": "results",
}


@pytest.fixture
def path(tmp_path):
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(TABLE))
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY, sort_keys=False))
    return tmp_path / "study.yaml"


def call(path, *words):
    told = [str(path), "--output", str(path.parent / "out"), *words]
    return CliRunner().invoke(app, ["study", *told], catch_exceptions=False, env={"COLUMNS": "120"})


def test_dry_run_names_arms_stages_and_hours_and_writes_nothing(path):
    told = call(path, "--dry-run").stdout
    assert "primary outcome text - none, phantom, all, truth (none)" in told
    assert "to do  text-seed2" in told and "Shared stages to train: 2" in told
    assert "Arms to run: 4 of 4, 36 s (stated) each; hours on one core: 0.04, 2 shared stages not counted" in told
    facts = json.loads(call(path, "--dry-run", "--json", "--only", "text", "--seeds", "2").stdout)
    assert [arm["arm"] for arm in facts["arms"]] == ["text-seed2"] and not (path.parent / "out").exists()


@pytest.mark.parametrize("seeds", ["", "1,1", "a", "1.5"])
def test_seeds_that_are_none(path, seeds):
    with pytest.raises(RecipeError, match="different whole numbers"):
        call(path, "--dry-run", "--seeds", seeds)


@pytest.mark.parametrize("where", ["--results", "--output"])
@pytest.mark.parametrize("place", ["/proc/x", "study.yaml/x"])
def test_a_place_that_cannot_be_is_told_before_any_training(path, where, place, monkeypatch):
    monkeypatch.chdir(path.parent)
    with pytest.raises(StorageError, match=f"cannot write {place}"):
        call(path, where, place)
    assert not (path.parent / "out").exists()


def test_an_unknown_arm(path):
    with pytest.raises(UnknownNameError, match="did you mean 'text'"):
        call(path, "--dry-run", "--only", "txt")


def test_collecting_nothing_says_where_it_looked(path):
    found = call(path, "--collect")
    assert "no result yet" in found.stdout and f"No result of this study in {path.parent / 'results'}" in found.stderr
    assert (path.parent / "out" / "study.html").is_file()
    assert json.loads(call(path, "--collect", "--json").stdout)["missing"][0] == "none-seed1"


def test_terminal_and_paper_tables_show_the_primary_outcome_and_a_file_has_all_tables(tmp_path):
    shipped = Path(__file__).resolve().parents[2] / "recipes" / "studies" / "composed_rewards.yaml"
    call = ["study", str(shipped), "--collect", "--output", str(tmp_path)]
    shown = CliRunner().invoke(app, call, catch_exceptions=False, env={"COLUMNS": "80"}).stdout

    def printed(form):
        return CliRunner().invoke(app, [*call, form], catch_exceptions=False).stdout

    markdown = printed("--markdown")
    assert "3,000 pairs, 3 of 5 planned seeds" in shown and "armed_clinical" in shown and "…" not in shown
    assert "<details>" not in shown and "phantom_composed_ood" not in shown
    everything = (tmp_path / "table.md").read_text()
    assert "phantom_composed_ood" in everything and everything.count("<details>") == everything.count("</details>") == 3
    assert markdown.count("\n| ") == 12 and "<details>" not in markdown and "- Seeds 1, 2, 3; encoder" in markdown
    assert "\\begin{tabular}" in printed("--latex") and printed("--csv").startswith("arm,mean,mean low,mean high,")
