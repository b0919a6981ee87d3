"""`medrft rollouts`: tables that fit, JSON for programs, mistakes in one line."""

import json
import sys

import pytest
from made_run import make_run
from rich.console import Console

from medrft.cli import rollouts
from medrft.cli.main import main
from medrft.store import RolloutWriter, read_rollouts


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "made", examples=12, steps=24)


@pytest.fixture
def medrft(monkeypatch, capsys):
    """`medrft(*words)` runs the command and gives its status, output and errors."""

    def call(*words, width=100):
        monkeypatch.setattr(sys, "argv", ["medrft", "rollouts", *map(str, words)])
        monkeypatch.setattr(rollouts, "out", Console(width=width))
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, *capsys.readouterr()

    return call


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_table_fits_the_terminal(run, medrft, width):
    status, out, err = medrft(run, "--limit", 3, width=width)
    lines = out.splitlines()
    assert status == 0 and len(lines) == 4 and max(map(len, lines)) <= width
    assert lines[0].split() == list(rollouts.SHOWN) if width > 60 else lines
    assert "--limit shows more" in err


def test_filters_columns_and_order_hold(run, medrft):
    words = ("--where", "kind = 'open' AND NOT correct", "--order", "reward desc", "--limit", 4)
    status, out, _ = medrft(run, *words, "--columns", "step, reward,raw.bleu1", "--json")
    found = json.loads(out)
    rewards = sorted(
        (row["reward"] for row in read_rollouts(run) if row["kind"] == "open" and not row["correct"]), reverse=True
    )
    assert status == 0 and [row["reward"] for row in found] == rewards[:4]
    assert list(found[0]) == ["step", "reward", "raw.bleu1"]


def test_json_has_every_column_and_nothing_else_on_standard_output(run, medrft):
    _, out, err = medrft(run, "--limit", 2, "--json")
    assert json.loads(out) == read_rollouts(run)[:2] and err == ""


def test_nothing_found_is_no_mistake(run, medrft):
    status, out, err = medrft(run, "--where", "reward > 2")
    assert (status, out) == (0, "") and "No rollout" in err
    assert json.loads(medrft(run, "--where", "reward > 2", "--json")[1]) == []


def test_model_output_is_text_and_no_markup(run, medrft, tmp_path):
    row = read_rollouts(run)[0] | {"answer": "[red]left[/red] [/]\x1b[2J\x07 \u202eend", "reward": float("nan")}
    made = RolloutWriter(tmp_path / "rollouts", stage="grpo", split="train", parts=tuple(row["raw"]))
    made.write([row], group_size=1)
    made.flush()
    (tmp_path / "recipe.yaml").write_text("name: x\n")
    _, out, _ = medrft(tmp_path, "--columns", "answer")
    assert out.splitlines()[1].strip() == "[red]left[/red] [/]�[2J� �end"
    assert json.loads(medrft(tmp_path, "--json")[1])[0]["reward"] is None


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--where", "rewrd < 0.1"), 'column "rewrd" not found'),
        (("--where", "rewrd < 0.1"), '"reward"'),
        (("--where", "true; DROP VIEW rollouts"), "refused --where"),
        (("--where", "(SELECT count(*) FROM read_text('recipe.yaml')) > 0"), "Cannot access file"),
        (("--columns", "stpe"), "did you mean 'step'?"),
        (("--order", "rewards"), "did you mean 'reward'?"),
        (("--browse", "--limit", "3", "--json"), "--limit, --json: of the printed table"),
        (("--port", "8000"), "add --browse"),
    ],
)
def test_mistakes_end_in_one_line_and_status_2(run, medrft, words, expected):
    status, out, err = medrft(run, *words)
    assert (status, out) == (2, "")
    assert err.startswith("medrft: ") and expected in err and len(err.splitlines()) == 1


def test_a_run_that_is_not_there_or_has_no_rollouts_or_a_cut_file(medrft, tmp_path):
    assert medrft(tmp_path / "nowhere")[0] == 2
    assert "is not a run folder" in medrft(tmp_path / "nowhere")[2]
    (tmp_path / "recipe.yaml").write_text("name: x\n")
    status, _, err = medrft(tmp_path)
    assert status == 2 and "has no rollouts; only a grpo stage writes them" in err
    (tmp_path / "rollouts").mkdir()
    (tmp_path / "rollouts" / "grpo-train-000000.parquet").write_bytes(b"PAR1 cut")
    status, _, err = medrft(tmp_path)
    assert status == 2 and "grpo-train-000000.parquet" in err and "restore it" in err and len(err.splitlines()) == 1
