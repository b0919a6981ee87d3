import json
import re
from itertools import chain

import pytest
from typer.testing import CliRunner

from medrft.cli.main import app
from medrft.errors import UserError
from medrft.rewards import parquet_rows, scored_file
from medrft.rewards.shards import Shard, read_shard, shard_of

ADAPTIVE = "parts: [{scorer: recall, weight: 1, calibrate: {kind: adaptive, t_min: 0.1}}]"
RANK = "parts: [{scorer: recall, weight: 1, calibrate: rank}]"


def call(*words):
    return CliRunner().invoke(app, ["score", *map(str, words)], catch_exceptions=False)


def score_shard(folder, scorer, number):
    call(folder / "in.jsonl", "--scorer", scorer, "--output", folder / "out.jsonl", "--shard", f"{number}/2")


def scored(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def rows_of(n, *, grouped):
    """Rows of every kind, some of them bad."""
    made = []
    for i in range(n):
        row = {"reference": "left lung", "answer": f"lung {i % 7} {'left' * (i % 3)}", "n": i}
        made.append(json.dumps({**row, "group": i % 11} if grouped else row))
    made[5:5] = [
        "",
        '{"reference": NaN, "answer": "x"}',
        "not json",
        '{"gr\\u006fup": 3, "reference": "ä", "answer": "ä"}',
    ]
    return "\n".join(made) + "\n"


@pytest.fixture(params=[False, True], ids=["lines", "groups"])
def rows(request, tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text(rows_of(100, grouped=request.param))
    return path


@pytest.mark.parametrize("shards", [1, 3, 128])  # of 128 some are empty
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_joined_shards_are_what_scoring_at_once_gives(rows, tmp_path, monkeypatch, suffix, shards):
    monkeypatch.setattr(scored_file, "BATCH", 16)
    monkeypatch.setattr(parquet_rows, "ROW_GROUP", 16)
    monkeypatch.setattr(parquet_rows, "READ", 5)
    whole, output = tmp_path / f"whole{suffix}", tmp_path / f"out{suffix}"
    call(rows, "--reward", "text", "--output", whole)
    for number in range(1, shards + 1):
        call(rows, "--reward", "text", "--output", output, "--shard", f"{number}/{shards}")
    done = call(rows, "--join", shards, "--output", output, "--json")
    assert json.loads(done.stdout) == {"rows": 101, "left_out": 2}
    assert output.read_bytes() == whole.read_bytes()
    assert (tmp_path / "out.left_out.jsonl").read_bytes() == (tmp_path / "whole.left_out.jsonl").read_bytes()
    assert not list(tmp_path.glob("*.partial.*")) and not list(tmp_path.glob(".*"))


def test_groups_stay_whole_and_ranks_are_the_same(tmp_path):
    rows, spec, output = tmp_path / "in.jsonl", tmp_path / "reward.yaml", tmp_path / "out.jsonl"
    rows.write_text(rows_of(100, grouped=True))
    spec.write_text(RANK)
    call(rows, "--reward", spec, "--output", tmp_path / "whole.jsonl")
    for number in (1, 2, 3):
        call(rows, "--reward", spec, "--output", output, "--shard", f"{number}/3")
    places = {}
    for number in (1, 2, 3):
        for row in scored(tmp_path / f"out.{number}-of-3.jsonl"):
            places.setdefault(row["group"], set()).add(number)
    assert all(len(place) == 1 for place in places.values()) and set(chain(*places.values())) == {1, 2, 3}
    call(rows, "--join", 3, "--output", output)
    assert output.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_a_shard_that_was_killed_goes_on(rows, tmp_path, monkeypatch):
    monkeypatch.setattr(scored_file, "BATCH", 8)
    output = tmp_path / "out.jsonl"
    command = (rows, "--reward", "text", "--output", output, "--shard")
    call(*command, "2/2")
    call(*command, "1/2")
    before = (tmp_path / "out.1-of-2.jsonl").read_bytes()
    appended, calls = scored_file._append, []

    def killed(spool, text):
        calls.append(text)
        if len(calls) == 4:
            raise RuntimeError("killed")
        appended(spool, text)

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
        patch.setattr(scored_file, "_append", killed)
        call(*command, "1/2")
    with pytest.raises(UserError, match=r"out.1-of-2.jsonl is not there or not whole; run its shard again"):
        call(rows, "--join", 2, "--output", output)
    assert "going on after 16 rows" in call(*command, "1/2").stderr
    assert (tmp_path / "out.1-of-2.jsonl").read_bytes() == before


def test_a_state_that_was_fitted_before_serves_all_shards(rows, tmp_path):
    spec, state, output = tmp_path / "reward.yaml", tmp_path / "state.json", tmp_path / "out.jsonl"
    spec.write_text(ADAPTIVE)
    with pytest.raises(UserError, match=r"calibrations of recall are fitted on all rows.*--fit state.json"):
        call(rows, "--reward", spec, "--output", output, "--shard", "1/2")
    call(rows, "--reward", spec, "--output", tmp_path / "whole.jsonl", "--fit", state)
    for number in (1, 2):
        call(rows, "--reward", spec, "--output", output, "--shard", f"{number}/2", "--state", state)
    call(rows, "--join", 2, "--output", output)
    assert output.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    call(rows, "--reward", spec, "--output", tmp_path / "x.jsonl", "--fit", tmp_path / "other.json")
    other = json.loads(state.read_text())
    other["state"]["all"]["recall"]["threshold"] = 0.9
    (tmp_path / "other.json").write_text(json.dumps(other))
    call(rows, "--reward", spec, "--output", output, "--shard", "2/2", "--state", tmp_path / "other.json")
    with pytest.raises(UserError, match=r"out.2-of-2.jsonl was made with another calibration state than .*1-of-2"):
        call(rows, "--join", 2, "--output", output)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "out.2-of-2.jsonl").unlink(), "out.2-of-2.jsonl is not there or not whole"),
        (lambda folder: (folder / "in.jsonl").write_text('{"reference": "a", "answer": "b"}\n'), "is not the file"),
        (lambda folder: (folder / "out.1-of-2.jsonl").write_text("{}\n"), "out.1-of-2.jsonl has not the rows"),
        (lambda folder: score_shard(folder, "recall", 2), "out.2-of-2.jsonl was made with another scorers"),
    ],
)
def test_a_join_says_what_does_not_fit(rows, tmp_path, change, message):
    for number in (1, 2):
        score_shard(tmp_path, "rouge1", number)
    change(tmp_path)
    with pytest.raises(UserError, match=message):
        call(rows, "--join", 2, "--output", tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize("text", ["0/4", "5/4", "x/y", "1", "1/0", "-1/4", "1/4/2", " 1/4", "1.0/4", ""])
def test_a_shard_that_cannot_be_is_told_before_any_work(rows, tmp_path, text):
    with pytest.raises(UserError, match=re.escape(f"shard K of N with K from 1 to N, got {text!r}")):
        call(rows, "--scorer", "rouge1", "--output", tmp_path / "out.jsonl", "--shard", text)
    assert list(tmp_path.iterdir()) == [rows]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--scorer", "rouge1", "--reference", "a", "--answer", "b", "--shard", "1/2"), "there is one pair alone"),
        (("IN", "--reward", "text", "--fit", "s.json", "--shard", "1/2"), "not with --state or --shard"),
        (("IN", "--join", "2", "--output", "out.jsonl", "--reward", "text"), "--join scores nothing"),
        (("IN", "--join", "2"), "--join scores nothing; it takes the file of rows, --output"),
        (("IN", "--reward", "gdpo.yaml", "--shard", "1/2"), "normalize_then_sum standardises over all rows"),
    ],
)
def test_mistakes(rows, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gdpo.yaml").write_text("combine: normalize_then_sum\nparts: [{scorer: recall, weight: 1}]")
    with pytest.raises(UserError, match=message):
        call(*(rows if word == "IN" else word for word in words))


def test_shards_do_not_depend_on_the_process():
    # Written down, because two machines must agree: they are not those of Python's own hash.
    assert [shard_of(1, group, 1000) for group in ("a", "b", 1, "1", True)] == [350, 632, 914, 522, 914]
    sizes = [sum(shard_of(line, group, 4) == 2 for line in range(1, 4001)) for group in (None, [1], 2.0)]
    assert sizes == [1000] * 3 and read_shard("3/16") == Shard(3, 16)
    assert 900 < sum(shard_of(1, group, 4) == 2 for group in range(4000)) < 1100
