"""From one command to the next: each names one that works, and tables come out as a paper prints them."""

import csv
import json
import re
from pathlib import Path

import pyarrow.json
import pyarrow.parquet
import pytest
from made_run import make_run
from typer.testing import CliRunner

from medrft.cli import main as commands
from medrft.cli.main import app

ASKED = [
    ("chest.png", "Is there an effusion?", "yes"),
    ("chest.png", "Is the heart enlarged?", "no"),
    ("head.png", "Which lobe?", "left upper lobe"),
    ("head.png", "Is there a mass?", "no"),
]


def medrft(*words):
    done = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=True)
    assert done.exit_code == 0, done.exception or done.output
    return done


def answers(path, said, **names):
    """A file of answers as somebody has it: the reference is called `answer`."""
    columns = {"question": "question", "answer": "answer", "prediction": "prediction", "image": "image", **names}
    rows = [
        {columns["image"]: image, columns["question"]: q, columns["answer"]: right, columns["prediction"]: text}
        for (image, q, right), text in zip(ASKED, said, strict=True)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_every_command_names_the_next_one():
    # `serve` runs until it is stopped, and says where it serves.
    folder = Path(commands.__file__).parent
    silent = {"__init__", "main", "common", "sources", "words", "audit_human", "plan", "scored_output", "serve"}
    modules = {path.stem for path in folder.glob("*.py")} - silent
    assert {name for name in modules if "say_next(" not in (folder / f"{name}.py").read_text()} == set()


def test_two_files_are_rescored_and_then_compared(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answers(tmp_path / "before.jsonl", ["yes", "yes", "right lung", "no"])
    answers(
        tmp_path / "after.jsonl", ["Yes.", "no", "left upper lobe", "no"], question="Question", prediction="response"
    )
    for name in ("before", "after"):
        done = medrft("rescore", "jsonl", f"{name}.jsonl", "--set", "encoder=none", "--output", name)
        assert done.stderr.splitlines()[-1].startswith(f"Next: medrft compare {name} ")
    done = medrft("compare", "before", "after")
    assert "names differ: 4 answers of after were paired by question, reference and image" in done.stdout
    assert done.stderr.splitlines()[-1].startswith("Next: medrft compare before after --output compare.html")
    found = json.loads(medrft("compare", "before", "after", "--json").stdout)
    assert found["against"][0]["paired"] == 4 and found["against"][0]["left_out"] == {}
    (closed,) = [test for test in found["tests"] if test["kind"] == "closed"]
    assert (closed["mean_a"], closed["mean_b"]) == (pytest.approx(2 / 3), 1.0)


def test_score_and_rescore_read_the_same_rows_alike(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answers(tmp_path / "rows.jsonl", ["<think>Air.</think><answer>yes</answer>", "yes", "left lobe", "no"])
    scored = [json.loads(line) for line in medrft("score", "rows.jsonl", "--scorer", "bleu1").stdout.splitlines()]
    rescored = json.loads(medrft("rescore", "jsonl", "rows.jsonl", "--set", "encoder=none", "--json").stdout)
    table = pyarrow.json.read_json(tmp_path / "rows.jsonl").rename_columns(
        ["image", "Question", "Answer", "Prediction"]
    )
    pyarrow.parquet.write_table(table, tmp_path / "rows.parquet")
    medrft("score", "rows.parquet", "--scorer", "bleu1", "--output", "scored.parquet")
    again = pyarrow.parquet.read_table(tmp_path / "scored.parquet").to_pylist()
    assert [row["scores"] for row in again] == [row["scores"] for row in scored]
    (opened,) = [row["scores"]["bleu1"] for row in scored if row["question"] == "Which lobe?"]
    assert opened == pytest.approx(rescored["results"]["rows"]["none"]["open"]["bleu1"]["mean"])
    assert rescored["results"]["rows"]["none"]["closed"]["accuracy"]["mean"] == pytest.approx(2 / 3)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "made")


def check_latex(text):
    """What LaTeX would refuse: unbalanced groups and environments, rows of unequal width, signs that are commands."""
    assert text.count("\\begin{tabular}") == text.count("\\end{tabular}") == text.count("\\begin{table}") == 1
    bare = re.sub(r"\\[{}]", "", text)
    assert bare.count("{") == bare.count("}")
    body = text[text.index("\\toprule") : text.index("\\bottomrule")]
    rows = [line for line in body.splitlines() if line.endswith("\\\\")]
    columns = re.search(r"\\begin\{tabular\}\{([lr]+)\}", text)[1]
    assert rows and {len(re.sub(r"\\&", "", row).split("&")) for row in rows} == {len(columns)}
    plain = re.sub(r"\\[%&_#${}]|\\\\", "", body)  # without signs that are escaped, ends of lines and formulas
    assert not re.search(r"[#~^<>−–…_%$]", re.sub(r"\$[^$]*\$", "", plain)), body
    assert all(sign.isascii() or sign.isalpha() for sign in body)


def test_a_runs_table_in_three_forms(run):
    markdown = medrft("report", run, "--markdown").stdout
    assert markdown.count("\n|") > 8 and "most frequent answer" in markdown and "Similarity metrics use" in markdown
    check_latex(medrft("report", run, "--latex").stdout)
    lines = [line for line in medrft("report", run, "--csv").stdout.splitlines() if not line.startswith("#")]
    heads, *rows = csv.reader(lines)
    assert {"data set", "kind", "model", "n"} <= set(heads) and any(head.endswith(" low") for head in heads)
    assert {len(row) for row in rows} == {len(heads)}
    medrft("report", run)


def test_bold_is_only_what_is_clear(run):
    table = medrft("compare", f"{run}:base", f"{run}:grpo", "--markdown").stdout
    found = json.loads(medrft("compare", f"{run}:base", f"{run}:grpo", "--json").stdout)
    clear = sum(test["p_holm"] < 0.05 for test in found["tests"])
    assert table.count("**") == 2 * clear and clear > 0
    check_latex(medrft("compare", f"{run}:base", f"{run}:grpo", "--latex").stdout)
    with_itself = medrft("compare", f"{run}:grpo", f"{run}:grpo", "--markdown").stdout
    assert "**" not in with_itself


def test_names_cannot_leave_their_cell():
    from medrft.report.paper_tables import PaperTable, Value, write_table

    hostile = '=1+1|<script>&\\input{x}$_^~%#"'
    table = PaperTable(
        caption=hostile, heads=("a_b", "v"), rows=((hostile, Value(mean=0.5, low=0.4, high=0.6)),), notes=(hostile,)
    )
    check_latex(write_table(table, "latex"))
    assert "<script" not in write_table(table, "markdown")
    assert write_table(table, "csv").splitlines()[1].startswith("\"'=1+1|")
