import json
from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from medrft.cli.main import app
from medrft.errors import UserError
from medrft.rewards import parquet_rows, scored_file

ROWS = [
    {"reference": "left lung", "answer": "Left lung.", "id": 7, "n_tokens": 3},
    {"reference": ["left lung", "lung"], "completion": "<think>x</think><answer>lung</answer>", "question": "Where?"},
    {"reference": "no", "answer": "No.", "metadata": {"organ": "lung", "views": [1, 2]}, "group": "a"},
    {"reference": "CT", "options": ["MRI", "CT"], "answer": "B", "group": "a"},
    {"reference": "?", "answer": "lung", "kind": "open"},
    {"reference": "lung", "answer": None, "id": 2.5},
    {"reference": 5, "answer": 5},
]


def call(*words):
    return CliRunner().invoke(app, ["score", *map(str, words)], catch_exceptions=False)


def scored(path):
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    return [json.loads(line) for line in path.read_text().splitlines()]


def without_nulls(value):
    if isinstance(value, dict):
        return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
    return value


@pytest.fixture
def lines(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


@pytest.fixture
def table(tmp_path):
    """The same rows as Parquet, in row groups of two."""
    path = tmp_path / "in.parquet"
    rows = [dict(row, reference=[str(r) for r in _list(row["reference"])]) for row in ROWS]
    rows[-1]["answer"] = "5"
    pq.write_table(
        pa.Table.from_pylist([{key: row.get(key) for key in _keys(rows)} for row in rows]), path, row_group_size=2
    )
    return path


def _list(value):
    return value if isinstance(value, list) else [value]


def _keys(rows):
    return dict.fromkeys(key for row in rows for key in row)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize("shard", [(), ("--shard", "1/1")])
def test_rows_from_parquet_score_as_those_from_json(lines, table, tmp_path, monkeypatch, suffix, shard):
    monkeypatch.setattr(parquet_rows, "READ", 3)
    monkeypatch.setattr(parquet_rows, "ROW_GROUP", 2)
    reference = tmp_path / "reference.jsonl"
    call(lines, "--reward", "text", "--scorer", "recall", "--output", reference)
    name = "1-of-1" if shard else ""
    for source in (lines, table):
        output = tmp_path / f"{source.suffix[1:]}{suffix}"
        call(source, "--reward", "text", "--scorer", "recall", "--output", output, *shard)
        made = scored(output.with_name(f"{output.stem}.{name}{suffix}") if name else output)
        for one, other in zip(made, scored(reference), strict=True):
            ours = ("scores", "reward", "parts", "unscored_reason", "reference_used")
            assert {key: without_nulls(one.get(key)) for key in ours} == {
                key: without_nulls(other.get(key)) for key in ours
            }
            assert one.get("id") == other.get("id") and [str(r) for r in _list(one["reference"])] == [
                str(r) for r in _list(other["reference"])
            ]


def test_columns_that_scoring_does_not_need_are_copied_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_rows, "READ", 4)
    path, output = tmp_path / "in.parquet", tmp_path / "out.parquet"
    schema = pa.schema(
        [
            ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            ("reference", pa.large_string()),
            ("when", pa.timestamp("ns", tz="UTC")),
            ("answer", pa.dictionary(pa.int32(), pa.string())),
            ("loss", pa.float32()),
            ("reward", pa.string()),  # of an earlier scoring: ours takes its place
        ]
    )
    rows = [
        {"image": {"bytes": b"\xff\xd8", "path": str(i)}, "reference": "lung", "when": datetime(2026, 1, 1 + i),
         "answer": "lung" if i % 2 else "left", "loss": float("nan"), "reward": "old"}
        for i in range(9)
    ]  # fmt: skip
    rows[4]["reference"] = None
    table = pa.Table.from_pylist(rows, schema=schema)
    pq.write_table(table, path)
    done = call(path, "--reward", "text", "--output", output, "--json")
    assert json.loads(done.stdout)["left_out"] == 1
    made = pq.read_table(output)
    kept = table.take([0, 1, 2, 3, 5, 6, 7, 8])
    for name in ("image", "reference", "when", "loss"):
        assert made[name].type == schema.field(name).type and str(made[name].to_pylist()) == str(kept[name].to_pylist())
    assert made["answer"].to_pylist() == kept["answer"].to_pylist()
    assert made["reward"].to_pylist()[:2] == [0.0, pytest.approx(2 / 3)] and made.schema.names.count("reward") == 1
    with pytest.raises(UserError, match=r"column 'image' is struct.*JSON lines cannot hold; write Parquet: --output"):
        call(path, "--reward", "text", "--output", tmp_path / "out.jsonl")


@pytest.mark.parametrize(
    ("column", "value", "kind", "reason"),
    [
        ("reference", None, pa.string(), "`reference` is a string"),
        ("reference", ["a", None], pa.list_(pa.string()), "`reference` is a string"),
        ("answer", [["x"]], pa.list_(pa.list_(pa.string())), "`answer` is a string"),
        ("answer", float("nan"), pa.float64(), "Out of range float"),
        ("answer", b"x", pa.binary(), "bytes is not JSON"),
        ("answer", {"text": "x"}, pa.struct([("text", pa.string())]), "`answer` is a string"),
        ("n_tokens", 2.5, pa.float64(), "`n_tokens` is a whole number"),
        ("group", datetime(2026, 1, 1), pa.timestamp("us"), "datetime is not JSON"),
        ("metadata", "x", pa.string(), "`metadata` is an object"),
        ("kind", "opne", pa.string(), "did you mean 'open'"),
    ],
)
def test_bad_rows_are_listed_and_the_rest_is_scored(tmp_path, column, value, kind, reason):
    path, output = tmp_path / "in.parquet", tmp_path / "out.parquet"
    good = {"reference": "a", "answer": "b"}
    columns = {name: pa.array([text, text], pa.string()) for name, text in good.items()}
    fits = column in ("reference", "answer") and not pa.types.is_string(kind)
    blank = None if column != "reference" else ["a"]
    columns[column] = pa.array([value, blank if fits else good.get(column)], kind)
    pq.write_table(pa.table(columns), path)
    done = call(path, "--scorer", "rouge1", "--output", output, "--json")
    assert json.loads(done.stdout)["left_out"] == 1 and len(scored(output)) == 1
    left_out = json.loads((tmp_path / "out.left_out.jsonl").read_text())
    assert left_out["line"] == 1 and reason in left_out["reason"] and f"{path}, row 1" in left_out["reason"]


def test_text_that_is_not_utf8_is_listed(tmp_path):
    path = tmp_path / "in.parquet"
    raw = pa.array([b"a", b"\xff", b"a"], pa.binary())
    bad = pa.StringArray.from_buffers(3, raw.buffers()[1], raw.buffers()[2])
    pq.write_table(pa.table({"reference": pa.array(["a"] * 3), "answer": bad}), path)
    for suffix in ("jsonl", "parquet"):
        output = tmp_path / f"out.{suffix}"
        assert "row 2: not UTF-8" in call(path, "--scorer", "rouge1", "--output", output).stderr
        assert [row["scores"]["rouge1"] for row in scored(output)] == [1, 1]


def test_where_an_answer_is_null_the_completion_counts(tmp_path):
    path = tmp_path / "in.parquet"
    answers = pa.array([None, "no", None])
    completions = pa.array(["<think>x</think><answer>no</answer>", None, None])
    pq.write_table(pa.table({"reference": ["no"] * 3, "answer": answers, "completion": completions}), path)
    call(path, "--scorer", "exact_match", "--output", tmp_path / "out.jsonl")
    assert [row["scores"]["exact_match"] for row in scored(tmp_path / "out.jsonl")] == [1, 1, 0]


@pytest.mark.parametrize("source", ["lines", "table"])
def test_a_killed_score_goes_on_and_ends_with_the_same_bytes(tmp_path, monkeypatch, request, source):
    path = request.getfixturevalue(source)
    monkeypatch.setattr(scored_file, "BATCH", 2)
    command = (path, "--reward", "text", "--explain", "--output")
    call(*command, tmp_path / "whole.parquet")
    appended, calls = scored_file._append, []

    def killed(spool, text):
        calls.append(text)
        if len(calls) == 4:
            raise RuntimeError("killed")
        appended(spool, text)

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
        patch.setattr(scored_file, "_append", killed)
        call(*command, tmp_path / "cut.parquet")
    assert not (tmp_path / "cut.parquet").exists()
    assert "going on after 4 rows" in call(*command, tmp_path / "cut.parquet").stderr
    assert (tmp_path / "cut.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert scored(tmp_path / "cut.parquet")[0]["why"] and not list(tmp_path.glob("*.partial.*"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, "a"], "column 'x' does not fit into one type"),
        ([{"a": 1}, [1]], "column 'x' does not fit into one type"),
        ([2**70, 1], "column 'x' does not fit into one type"),
        ([[{}], [{}]], "column 'x' holds objects without a key"),
    ],
)
def test_json_that_parquet_cannot_hold_is_told_before_any_work(tmp_path, values, message):
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps({"reference": "a", "answer": "a", "x": value}) + "\n" for value in values))
    with pytest.raises(UserError, match=f"{message}.*write JSON lines: --output NAME.jsonl"):
        call(path, "--scorer", "rouge1", "--output", tmp_path / "out.parquet")
    assert list(tmp_path.iterdir()) == [path]


def test_what_parquet_holds_otherwise(tmp_path):
    path = tmp_path / "in.jsonl"
    rows = [{"metadata": {}, "x": {"a": 1}, "y": 1, "z": None}, {"metadata": {}, "x": {"b": "c"}, "y": 2.5}]
    path.write_text("".join(json.dumps({"reference": "a", "answer": "a", **row}) + "\n" for row in rows))
    call(path, "--scorer", "rouge1", "--output", tmp_path / "out.parquet")
    made = scored(tmp_path / "out.parquet")
    assert [row["x"] for row in made] == [{"a": 1, "b": None}, {"a": None, "b": "c"}]
    assert [row["y"] for row in made] == [1.0, 2.5] and made[0]["metadata"] is None and made[0]["reference"] == "a"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not Parquet", "cannot read .*in.parquet as Parquet"),
        (b"", "cannot read .*in.parquet as Parquet"),
        ({"answer": ["a"]}, "has no column `reference`; it has answer"),
        ({"reference": ["a"]}, "holds no row to score; .*row 1: no column for the model's answer"),
        ({"reference": pa.array([], pa.string()), "answer": pa.array([], pa.string())}, "it is empty"),
    ],
)
def test_files_that_cannot_be_scored(tmp_path, content, message):
    path = tmp_path / "in.parquet"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        pq.write_table(pa.table(content), path)
    with pytest.raises(UserError, match=message):
        call(path, "--scorer", "rouge1", "--output", tmp_path / "out.parquet")
