"""`eval.scorers`: a user's own scorer from the recipe to predictions, metrics, report and `medrft compare`."""

import json
import sys

import pytest
import yaml

from medrft.cli.main import main
from medrft.evaluation.own_scorers import own_facts
from medrft.recipes import load_recipe
from medrft.rundir import read_json, read_jsonl
from toys import TABLE

OWN = '''
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Letters:
    """Letters of the answer."""

    name: ClassVar[str] = "letters"
    range: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    needs: ClassVar[tuple[str, ...]] = ()
    lower_is_better: ClassVar[bool] = True

    def applies(self, item):
        return item.kind != "choice"

    def __call__(self, items):
        return [float(len(item.answer or "")) for item in items]


def vowels(items):
    return [sum(letter in "aeiou" for letter in item.answer or "x") / len(item.answer or "x") for item in items]


def clinical(items):
    return [0.0 for item in items]


def vowel_free(items):
    return [1.0 - score for score in vowels(items)]
'''


def written(folder, *scorers, **more):
    (folder / "mine.py").write_text(OWN)
    table = {
        **TABLE,
        "stages": TABLE["stages"][:1],
        "eval": {"limit": 6, "batch_size": 8, "max_new_tokens": 8, "controls": ["blank"], "scorers": [*scorers]},
        **more,
    }
    (folder / "toy.yaml").write_text(yaml.safe_dump(table))
    return folder / "toy.yaml"


def medrft(*words):
    """The exit status; 0 for a command that went well."""
    argv, sys.argv = sys.argv, ["medrft", *map(str, words)]
    try:
        with pytest.raises(SystemExit) as ended:
            main()
    finally:
        sys.argv = argv
    return ended.value.code


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    assert medrft("run", written(folder, "mine.py:Letters", "mine.py:vowels"), "--output", folder / "run") in (0, None)
    return folder / "run"


def test_scores_and_metrics_hold_a_users_own_scorers(run):
    header, *rows = read_jsonl(run / "eval" / "sft" / "phantom" / "predictions.jsonl")
    assert header["scorers"]["letters"]["range"] == [0.0, None] and header["scorers"]["letters"]["better"] == "lower"
    assert header["scorers"]["vowels"]["scorer"] == "mine.py:vowels" and str(run.parent) not in str(header["scorers"])
    for row in rows:
        assert ("letters" in row["scores"]) == (row["kind"] != "choice") and "vowels" in row["scores"]
        if "letters" in row["scores"]:
            assert row["scores"]["letters"] == len(row["answer"] or "")
    assert {row["control"] for row in rows} > {"none", "blank"}  # controls and baselines as well
    results = read_json(run / "eval" / "sft" / "phantom" / "metrics.json")["results"]
    own = [row["scores"]["letters"] for row in rows if row["control"] == "none" and row["kind"] == "open"]
    found = results["none"]["open"]["letters"]
    assert found["n"] == len(own) and found["mean"] == pytest.approx(sum(own) / len(own))
    assert "letters" not in results["none"].get("choice", {}) and "letters" not in results["none"].get("all", {})


def test_the_report_and_the_terminal_show_them(run, capsys):
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "mine.py:Letters: 0 and more, lower is better" in page and "lower is better</span>" in page
    assert medrft("report", run, "--json") in (0, None)
    rows = json.loads(capsys.readouterr().out)["results"]
    assert {row["kind"] for row in rows if row["metric"] == "letters"} <= {"open", "closed"}
    assert {row["stage"] for row in rows if row["metric"] == "letters"} == {"base", "sft"}


def test_compare_tests_them_and_says_their_scale(run, capsys, tmp_path):
    page = tmp_path / "compare.html"
    assert medrft("compare", f"{run}:base", f"{run}:sft", "--output", page, "--json") in (0, None)
    found = json.loads(capsys.readouterr().out)
    tests = {test["metric"]: test for test in found["tests"] if test["kind"] == "open"}
    assert (tests["letters"]["range"], tests["letters"]["better"]) == ([0.0, None], "lower")
    assert tests["vowels"]["better"] == "higher" and "better" not in tests["truth"]
    assert "0 and more, lower is better" in page.read_text(encoding="utf-8")
    assert medrft("compare", f"{run}:base", f"{run}:sft") in (0, None)
    assert "open letters (0 and more, lower is better)" in capsys.readouterr().out


def test_two_versions_of_a_scorer_are_not_compared(run, capsys, tmp_path):
    file = tmp_path / "predictions.jsonl"
    header, *rows = read_jsonl(run / "eval" / "sft" / "phantom" / "predictions.jsonl")
    header["scorers"]["letters"]["file"] = "another"
    file.write_text("".join(json.dumps(row) + "\n" for row in (header, *rows)))
    assert medrft("compare", f"{run}:sft", file, "--json") in (0, None)
    found = json.loads(capsys.readouterr().out)
    assert "the scorer differs" in found["against"][0]["not_compared"]["phantom: letters"]
    assert {"letters", "vowels"} & {test["metric"] for test in found["tests"]} == {"vowels"}


@pytest.mark.parametrize(
    ("scorers", "says"),
    [
        (["no_such"], "no_such"),
        (["mine.py:Absent"], "Absent"),
        (["absent.py:Letters"], "no file at"),
        (["recall"], "every evaluation reports already"),
        (["mine.py:clinical"], "every evaluation reports already"),
        (["judge"], "under eval.judge"),
        (["mine.py:vowels", "mine.py:vowels"], "two scorers are called 'vowels'"),
    ],
)
def test_a_wrong_name_is_one_line_before_anything_runs(tmp_path, capsys, scorers, says):
    assert medrft("run", written(tmp_path, *scorers), "--output", tmp_path / "run") == 2
    error = capsys.readouterr().err
    assert says in error and "Traceback" not in error
    assert not (tmp_path / "run").exists()


def test_a_changed_file_is_another_scorer(tmp_path):
    recipe = load_recipe(written(tmp_path, "mine.py:vowels"))
    before = own_facts(recipe)
    assert own_facts(recipe) == before
    (tmp_path / "mine.py").write_text(OWN + "\n")
    assert own_facts(recipe)["vowels"]["file"] != before["vowels"]["file"]


def test_a_metric_that_trained_the_stage_is_marked(tmp_path):
    from medrft.evaluation.rewarded import SAME, rewarded_metrics

    parts = {"parts": [{"scorer": "mine.py:vowels", "weight": 1.0}]}
    stages = [{"name": "grpo", "kind": "grpo", "kinds": ["open"]}]
    recipe = load_recipe(written(tmp_path, "mine.py:vowels", reward={"open": parts}, stages=stages))
    assert rewarded_metrics(recipe, "grpo", own_facts(recipe))["open"] == {"vowels": SAME}
