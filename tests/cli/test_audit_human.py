"""`medrft audit --human` as users run it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from human_files import RADJUDGE, write_csv, write_radpref
from medrft.cli.main import app, main

HEADER = ["reference", "candidate", "rating", "rater", "study"]
REFERENCES = ["small left pleural effusion", "no pneumothorax", "fracture of the right hip", "enlarged heart"]


@pytest.fixture
def said(tmp_path):
    """Two raters on eight answers of four studies: the reference itself is good, another study's is bad."""
    rows = [
        [text, answer, rating + (i % 2 if rating < 5 else 0), rater, f"s{i}"]
        for i, text in enumerate(REFERENCES)
        for answer, rating in ((text, 5), (REFERENCES[i - 1], 1))
        for rater in ("a", "b")
    ]
    return write_csv(tmp_path / "said.csv", HEADER, rows)


@pytest.fixture
def invoke(tmp_path):
    def run(*arguments: str):
        return CliRunner().invoke(app, ["audit", *arguments, "--output", str(tmp_path / "out")])

    return run


def test_people_alone_are_quick_and_shown_with_their_ceiling(invoke, said, tmp_path):
    done = invoke("--reward", "rouge1", "--against", "exact_match", "--human", str(said))
    assert done.exit_code == 0, done.output
    assert "said.csv: 8 rows of 4 studies, ratings by 2 raters" in done.output
    assert "minus" in done.output and "people among" in done.output
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"summary.json", "findings.jsonl", "audit.html"}
    page = (tmp_path / "out" / "audit.html").read_text()
    assert "Does it agree with people?" in page and "tell right from wrong?" not in page


def test_the_example_of_the_docs_is_read(invoke):
    file = Path(__file__).parents[2] / "examples" / "ratings.csv"
    done = invoke("--reward", "bleu1", "--human", str(file), "--json")
    (judged,) = json.loads(done.stdout)["people"]
    assert judged["rewards"]["bleu1"]["figure"]["mean"] == pytest.approx(-0.24, abs=0.005)
    assert judged["ceiling"]["mean"] == pytest.approx(0.71, abs=0.005)


def test_json_holds_figure_difference_and_worst_rows(invoke, said):
    done = invoke("--reward", "clinical", "--against", "bleu1", "--human", str(said), "--json")
    summary = json.loads(done.stdout)
    (judged,) = summary["people"]
    row = judged["rewards"]["clinical"]
    assert summary["rewards"] == {} and judged["ceiling"]["mean"] == 1
    assert row["figure"]["mean"] > 0.5 and set(row["differences"]) == {"bleu1"}
    assert all("clinical" in one["why"] for one in row["worst"])


def test_labels_and_orders_and_the_whole_audit_in_one_command(invoke, tmp_path):
    labels = write_csv(
        tmp_path / "labels.csv",
        ["reference", "candidate", "label"],
        [[text, answer, word] for text in REFERENCES for answer, word in ((text, "right"), ("x", "wrong"))],
    )
    (tmp_path / "cases.py").write_text(RADJUDGE)
    people = ["--human", str(labels), "--human", f"radjudge:{tmp_path / 'cases.py'}"]
    done = invoke("--reward", "text", *people, "--examples", "phrases", "--groups", "24", "--limit", "40")
    assert done.exit_code == 0, done.output
    assert "labels.csv" in done.output and "2 orders that people gave" in done.output
    assert "right above wrong in a group" in done.output
    page = (tmp_path / "out" / "audit.html").read_text()
    assert "Does it agree with people?" in page and "tell right from wrong?" in page and 'href="#people"' in page


@pytest.mark.parametrize(
    ("floor", "status", "says"),
    [
        ("tau=0.55", 0, ""),
        ("tau=1.01", 1, "failed: rouge1: tau on said.csv is 0."),
    ],
)
def test_a_floor_for_tau(floor, status, says, invoke, said):
    done = invoke("--reward", "rouge1", "--human", str(said), "--fail-under", floor)
    assert done.exit_code == status, done.output
    assert says in done.output


def test_a_floor_is_not_asked_of_what_is_compared_with(invoke, said):
    done = invoke("--reward", "rouge1", "--against", "answer_format", "--human", str(said), "--fail-under", "tau=0.5")
    assert done.exit_code == 0, done.output


def test_a_reward_that_pays_all_alike_fails_a_floor(invoke, said):
    done = invoke("--reward", "answer_format", "--human", str(said), "--fail-under", "tau=0.5")
    assert done.exit_code == 1
    assert "answer_format: tau on said.csv could not be measured" in done.output


def test_a_released_folder_is_read(invoke, tmp_path):
    done = invoke("--reward", "rouge1", "--human", f"radpref:{write_radpref(tmp_path / 'RadPref')}")
    assert done.exit_code == 0, done.output
    assert "ratings by 2 raters" in done.output and "8 rows only" in done.output


def test_a_function_of_another_trainer_is_compared_too(invoke, said, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "def score(data_source, solution_str, ground_truth, extra_info=None):\n"
        "    return float(ground_truth in solution_str)\n"
    )
    done = invoke("--reward", f"{file}:score", "--human", str(said), "--json")
    assert done.exit_code == 0, done.output
    row = json.loads(done.stdout)["people"][0]["rewards"]["score"]
    assert row["figure"]["mean"] > 0.8 and all(one["why"] == "" for one in row["worst"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--human", "radperf:x"], "did you mean 'radpref'"),
        (["--human", "absent.csv"], "no file at absent.csv"),
        (["--against", "bleu1"], "--against goes with --human"),
        (["--human", "SAID", "--against", "bleu2"], "did you mean 'bleu1'"),
        (["--human", "SAID", "--fail-under", "orderings=1"], "--fail-under orderings needs a set of orderings"),
        (["--fail-under", "tau=0.5"], "--fail-under tau needs a set of ratings in --human"),
        (["--human", "SAID", "--fail-under", "snr=1"], "--fail-under snr needs the whole audit"),
        (["--human", "SAID", "--fail-under", "auroc=1"], "or a set of labels in --human"),
        (["--human", "SAID", "--fail-under", "taw=1"], "did you mean 'tau'"),
    ],
)
def test_mistakes_are_told_in_one_line_before_any_work(arguments, says, said, monkeypatch, capsys, tmp_path):
    given = [str(said) if one == "SAID" else one for one in arguments]
    monkeypatch.setattr("sys.argv", ["medrft", "audit", "--reward", "text", *given, "--output", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out" / "summary.json").exists()
