"""Rollouts: written whole, read with SQL, dropped after a checkpoint."""

import errno
import os
import resource
from contextlib import contextmanager

import pyarrow.parquet as pq
import pytest

from medrft.errors import DataError, StorageError, UnknownNameError
from medrft.store import PARTS, PLAIN, RolloutWriter, drop_later, read_rollouts, rollout_schema, select_rollouts


def row(number, *, group="g/0", stage="grpo", split="train", step=0, generation_step=0, parts=("bleu1", "format")):
    return {
        "step": step,
        "generation_step": generation_step,
        "stage": stage,
        "split": split,
        "group_id": group,
        "sample": number,
        "example_id": "toy/train/0",
        "dataset": "toy",
        "kind": "open",
        "image_sha256": ["ab"],
        "question": "Where?",
        "references": ["left lung", "left"],
        "completion": "<answer>left</answer>",
        "answer": "left",
        "n_tokens": 4,
        "truncated": False,
        "correct": True,
        "truth": None,
        "reward": 0.5,
        "advantage": 1.0,
        "unscored_reason": None,
        "gate": None,
        "raw": dict.fromkeys(parts, 0.25),
        "calibrated": dict.fromkeys(parts, 0.5),
        "applicable": dict.fromkeys(parts, True),
        "metadata": {"organ": "lung", "count": 2},
    }


def writer(folder, *, stage="grpo", split="train", parts=("bleu1", "format"), **options):
    return RolloutWriter(folder / "rollouts", stage=stage, split=split, parts=parts, **options)


def test_what_was_written_is_read_back(tmp_path):
    made = writer(tmp_path)
    made.write([row(0), row(1)], group_size=2)
    made.flush()
    found = read_rollouts(tmp_path)
    assert found == [
        {**row(i), "metadata": {"organ": "lung", "count": "2"}}  # a map of strings
        for i in (0, 1)
    ]


def test_columns_are_those_of_the_contract():
    names = rollout_schema(["bleu1"]).names
    assert names == [*PLAIN, *PARTS, "metadata"]


def test_a_group_is_written_whole_or_not_at_all(tmp_path):
    with pytest.raises(ValueError, match="2 of 4 samples"):
        writer(tmp_path).write([row(0), row(1)], group_size=4)


def test_rows_reach_the_disk_in_files_of_whole_batches(tmp_path):
    made = writer(tmp_path, rows_per_file=4)
    for number in range(5):
        made.write([row(i, group=f"g/{number}", generation_step=number) for i in (0, 1)], group_size=2)
    made.flush()
    assert made.flush() is None
    assert sorted(path.name for path in (tmp_path / "rollouts").iterdir()) == [
        "grpo-train-000000.parquet",
        "grpo-train-000002.parquet",
        "grpo-train-000004.parquet",
    ]


def test_stages_with_other_parts_share_one_view(tmp_path):
    for stage, parts in (("armed_i", ("bleu1", "format")), ("armed_r", ("cosine",))):
        made = writer(tmp_path, stage=stage, parts=parts)
        made.write([row(0, stage=stage, parts=parts)], group_size=1)
        made.flush()
    found = read_rollouts(
        tmp_path, "SELECT stage, raw.bleu1 AS bleu1, raw.cosine AS cosine FROM rollouts ORDER BY stage"
    )
    assert found == [
        {"stage": "armed_i", "bleu1": 0.25, "cosine": None},
        {"stage": "armed_r", "bleu1": None, "cosine": 0.25},
    ]


def test_a_resumed_stage_drops_what_came_after_its_checkpoint(tmp_path):
    for stage in ("grpo", "grpo_2"):
        for split in ("train", "validation"):
            made = writer(tmp_path, stage=stage, split=split)
            rows = [row(0, stage=stage, split=split, step=step, group=f"{split}/{step}") for step in range(4)]
            made.write(rows, group_size=1)
            made.flush()
    dropped = drop_later(tmp_path / "rollouts", stage="grpo", step=2)
    # Training rows of step 2 were drawn after the checkpoint of step 2, validation rows of step 2 before it.
    kept = read_rollouts(
        tmp_path, "SELECT stage, split, list(step ORDER BY step) AS steps FROM rollouts GROUP BY ALL ORDER BY ALL"
    )
    assert dropped == 3
    assert [(r["stage"], r["split"], r["steps"]) for r in kept] == [
        ("grpo", "train", [0, 1]),
        ("grpo", "validation", [0, 1, 2]),
        ("grpo_2", "train", [0, 1, 2, 3]),
        ("grpo_2", "validation", [0, 1, 2, 3]),
    ]


def test_without_a_checkpoint_everything_of_the_stage_goes(tmp_path):
    made = writer(tmp_path)
    made.write([row(0)], group_size=1)
    made.flush()
    assert drop_later(tmp_path / "rollouts", stage="grpo", step=-1) == 1
    assert list((tmp_path / "rollouts").iterdir()) == []


def test_a_write_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*args, **options):
        raise OSError(28, "No space left on device")

    made = writer(tmp_path)
    made.write([row(0)], group_size=1)
    monkeypatch.setattr("medrft.files.os.replace", full)
    with pytest.raises(OSError, match="No space left"):
        made.flush()
    assert list((tmp_path / "rollouts").iterdir()) == []


@pytest.mark.parametrize("sql", ["SELECT nothing FROM rollouts", "SELECT FROM"])
def test_a_wrong_query_is_one_line(tmp_path, sql):
    made = writer(tmp_path)
    made.write([row(0)], group_size=1)
    made.flush()
    with pytest.raises(DataError, match="refused"):
        read_rollouts(tmp_path, sql)


def test_a_run_without_rollouts_says_so(tmp_path):
    with pytest.raises(DataError, match="no rollouts"):
        read_rollouts(tmp_path)


@pytest.fixture
def run(tmp_path):
    """Ten rollouts in five files, the rewards 0.0 to 0.9."""
    made = writer(tmp_path, rows_per_file=2)
    for number in range(5):
        pair = [row(i, group=f"g/{number}", generation_step=number, step=number) for i in (0, 1)]
        made.write([r | {"reward": (2 * number + i) / 10} for i, r in enumerate(pair)], group_size=2)
    return tmp_path


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ({"limit": 3}, [0, 1, 2]),
        ({"where": "reward < 0.25"}, [0, 1, 2]),
        ({"where": "reward < 0.25 OR sample = 1 -- a comment", "limit": 4}, [0, 1, 2, 3]),
        ({"where": "reward > (SELECT avg(reward) FROM rollouts)"}, [5, 6, 7, 8, 9]),
        ({"where": "raw.bleu1 = 0.25 AND metadata['organ'] = 'lung'", "limit": 1}, [0]),
        ({"where": "list_contains(\"references\", 'left')", "limit": 1}, [0]),
        ({"where": "reward > 1"}, []),
        ({"order": "reward desc", "limit": 2}, [9, 8]),
        ({"order": "sample", "limit": 6}, [0, 2, 4, 6, 8, 1]),  # ties as they were written
        ({"order": "raw.bleu1 ASC", "limit": 2}, [0, 1]),
    ],
)
def test_rollouts_are_selected(run, options, expected):
    assert [round(10 * found["reward"]) for found in select_rollouts(run, **options)] == expected


def test_only_the_columns_asked_for_come_back_in_their_order(run):
    found = select_rollouts(run, columns=["raw.bleu1", "references", "step"], limit=1)
    assert found == [{"raw.bleu1": 0.25, "references": ["left lung", "left"], "step": 0}]
    assert list(found[0]) == ["raw.bleu1", "references", "step"]
    assert select_rollouts(run) == read_rollouts(run)


@pytest.mark.parametrize(
    ("options", "error", "expected"),
    [
        ({"where": "rewrd < 0.1"}, DataError, r"--where 'rewrd < 0.1'.*\"reward\".*columns: step, .*, metadata"),
        ({"where": "references = ['left']"}, DataError, r"near \"references\".*\"references\", completion"),
        ({"where": "reward <"}, DataError, "syntax error"),
        ({"where": ""}, DataError, "refused"),
        ({"where": "reward < 'low'"}, DataError, "Could not convert string 'low'"),
        ({"where": "reward < 1 LIMIT 2"}, DataError, "refused"),
        ({"where": "true; DROP VIEW rollouts"}, DataError, "refused"),
        ({"where": "true) UNION SELECT (true"}, DataError, "refused"),
        ({"where": "true); COPY rollouts TO 'stolen.csv'; SELECT (true"}, DataError, "refused"),
        ({"columns": ["rewards"]}, UnknownNameError, "did you mean 'reward'"),
        ({"columns": ["raw.bleu"]}, UnknownNameError, "did you mean 'raw.bleu1'"),
        ({"order": "stp"}, UnknownNameError, "did you mean 'step'"),
        ({"order": "reward downwards"}, DataError, "for example 'reward desc'"),
        ({"order": "reward, 1"}, DataError, "for example 'reward desc'"),
    ],
)
def test_what_is_no_expression_or_column_is_refused_in_one_line(run, options, error, expected, monkeypatch):
    monkeypatch.chdir(run)
    with pytest.raises(error, match=expected) as refused:
        select_rollouts(run, **options)
    assert "\n" not in str(refused.value)
    assert [path.name for path in run.iterdir()] == ["rollouts"] and len(select_rollouts(run)) == 10


@pytest.mark.parametrize(
    "table",
    [
        "read_text('{secret}')",
        "read_csv('{run}/rollouts/../secret.csv')",
        "'{secret}'",
        "glob('{run}/*')",
        "read_parquet('https://example.org/x.parquet')",
    ],
)
def test_a_query_reaches_no_other_file(run, table):
    secret = run / "secret.csv"
    secret.write_text("a\n1\n")
    table = table.format(secret=secret, run=run)
    with pytest.raises(DataError, match=r"Permission|disabled|does not exist"):
        select_rollouts(run, where=f"(SELECT count(*) FROM {table}) > 0")
    with pytest.raises(DataError, match=r"Permission|disabled|does not exist"):
        read_rollouts(run, f"SELECT * FROM {table}")


@pytest.mark.parametrize(
    "sql",
    [
        "COPY rollouts TO '{file}' (FORMAT parquet, USE_TMP_FILE false)",
        "COPY rollouts TO '{run}/copy.csv'",
        "SET enable_external_access = true",
        "SELECT 1; ATTACH '{run}/new.db'",
        "",
    ],
)
def test_a_query_writes_nothing(run, sql):
    file = run / "rollouts" / "grpo-train-000000.parquet"
    before = file.read_bytes()
    with pytest.raises(DataError, match="one SELECT"):
        read_rollouts(run, sql.format(run=run, file=file))
    assert file.read_bytes() == before and [path.name for path in run.iterdir()] == ["rollouts"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        lambda content: content[:4] + bytes(1000) + content[1004:],  # the end whole, the pages not
    ],
    ids=["empty", "half", "last byte", "pages"],
)
def test_a_damaged_file_is_named(run, damage):
    file = run / "rollouts" / "grpo-train-000002.parquet"
    file.write_bytes(damage(file.read_bytes()))
    for use in (
        lambda: read_rollouts(run),
        lambda: select_rollouts(run),
        lambda: drop_later(run / "rollouts", stage="grpo", step=2),
    ):
        with pytest.raises(DataError, match=r"cannot read .*000002\.parquet: .* restore it, or move it away"):
            use()


@contextmanager
def file_limit(size):
    """No file grows beyond so many bytes: what a full disk does to a write."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def no_space(*args, **options):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path, monkeypatch):
    made = writer(tmp_path)
    made.write([row(0)], group_size=1)
    with monkeypatch.context() as patch:
        patch.setattr(pq, "write_table", no_space)
        with pytest.raises(StorageError, match=r"cannot write .*000000\.parquet: No space left.*free space.*--resume"):
            made.flush()
    assert list((tmp_path / "rollouts").iterdir()) == []  # no half file either
    made.write([row(0, group="g/1")], group_size=1)
    made.flush()
    assert [found["group_id"] for found in read_rollouts(tmp_path)] == ["g/0", "g/1"]


def test_a_disk_that_is_really_full(tmp_path):
    made = writer(tmp_path)
    made.write([row(0)], group_size=1)
    with file_limit(100), pytest.raises(StorageError, match="File too large; free space"):
        made.flush()
    assert list((tmp_path / "rollouts").iterdir()) == []
    assert made.flush().is_file()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "rollouts").write_text("a file")
    made = writer(tmp_path)
    made.write([row(0)], group_size=1)
    with pytest.raises(StorageError, match=r"cannot write .*make its folder writable"):
        made.flush()
