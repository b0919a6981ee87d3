from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from medrft.cli.main import app, main

QUICK = ["--groups", "24", "--limit", "40"]


@pytest.fixture
def invoke(tmp_path):
    """Run `medrft audit` with a small material into a fresh folder."""

    def run(*arguments: str):
        return CliRunner().invoke(app, ["audit", *arguments, *QUICK, "--output", str(tmp_path / "out")])

    return run


def test_the_command_writes_three_files_and_a_short_table(invoke, tmp_path):
    done = invoke("--reward", "text", "--reward", "closed")
    assert done.exit_code == 0, done.output
    assert "right above wrong" in done.output and "closed" in done.output
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"summary.json", "findings.jsonl", "audit.html"}


def test_json_is_the_summary(invoke):
    done = invoke("--reward", "text", "--group-size", "5", "--json")
    summary = json.loads(done.stdout)
    assert summary["groups"] == {"count": 24, "size": 5}
    row = summary["rewards"]["text"]
    assert set(row["auroc"]) >= {"total", "parts", "facets"}
    assert {"collapse", "hacks", "findings"} <= set(row)


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["--fail-under", "auroc=0.99"], 1, "asked for at least 0.99"),
        (["--fail-under", "auroc=0.1"], 0, ""),
        (["--fail-on", "hackable", "--threshold", "hack_gain=0.01", "--threshold", "hack_beats=0"], 1, "hackable"),
        (["--fail-on", "slow"], 0, ""),
        (["--fail-on", "note", "--threshold", "weak=1"], 1, "weak (note)"),
    ],
)
def test_exit_status(arguments, status, says, invoke):
    done = invoke("--reward", "text", *arguments)
    assert done.exit_code == status, done.output
    assert says in done.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--fail-on", "hackabel"], "did you mean 'hackable'"),
        (["--fail-under", "aurok=1"], "did you mean 'auroc'"),
        (["--threshold", "flor=1"], "did you mean 'floor'"),
        (["--form", "thinking"], "did you mean 'think'"),
        (["--pairs", "absent.tsv"], "no pairs file at absent.tsv"),
        (["--examples", "phantm"], "did you mean 'phantom'"),
        (["--column", "gold=refrence"], "did you mean 'reference'"),
    ],
)
def test_mistakes_are_told_in_one_line(arguments, says, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("sys.argv", ["medrft", "audit", "--reward", "text", *arguments, "--output", str(tmp_path)])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("output", ["/proc/x", "file/x"])
def test_an_output_that_cannot_be_is_one_line_before_any_work(output, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("sys.argv", ["medrft", "audit", "--reward", "text", "--examples", "absent", "--output", output])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert f"cannot write {output}" in capsys.readouterr().err
