"""Rollouts: written whole, read with SQL, dropped after a checkpoint."""

import pytest

from medrft.errors import DataError
from medrft.store import PARTS, PLAIN, RolloutWriter, read, schema, supersede


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
    found = read(tmp_path)
    assert found == [
        {**row(i), "metadata": {"organ": "lung", "count": "2"}}  # a map of strings
        for i in (0, 1)
    ]


def test_columns_are_those_of_the_contract():
    names = schema(["bleu1"]).names
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
    found = read(tmp_path, "SELECT stage, raw.bleu1 AS bleu1, raw.cosine AS cosine FROM rollouts ORDER BY stage")
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
    dropped = supersede(tmp_path / "rollouts", stage="grpo", step=2)
    # Training rows of step 2 were drawn after the checkpoint of step 2, validation rows of step 2 before it.
    kept = read(
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
    assert supersede(tmp_path / "rollouts", stage="grpo", step=-1) == 1
    assert list((tmp_path / "rollouts").iterdir()) == []


def test_what_a_killed_write_left_goes_and_a_file_cut_short_is_told(tmp_path):
    made = writer(tmp_path)
    made.write([row(0)], group_size=1)
    path = made.flush()
    leftover = path.with_name(f".{path.name}.123")
    leftover.write_bytes(path.read_bytes()[:100])
    assert supersede(tmp_path / "rollouts", stage="grpo", step=5) == 0 and not leftover.exists()
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"grpo-train-000000\.parquet is damaged .* delete it"):
        supersede(tmp_path / "rollouts", stage="grpo", step=5)


def test_a_write_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*args, **options):
        raise OSError(28, "No space left on device")

    made = writer(tmp_path)
    made.write([row(0)], group_size=1)
    monkeypatch.setattr("medrft.store.os.replace", full)
    with pytest.raises(OSError, match="No space left"):
        made.flush()
    assert list((tmp_path / "rollouts").iterdir()) == []


@pytest.mark.parametrize("sql", ["SELECT nothing FROM rollouts", "SELECT FROM"])
def test_a_wrong_query_is_one_line(tmp_path, sql):
    made = writer(tmp_path)
    made.write([row(0)], group_size=1)
    made.flush()
    with pytest.raises(DataError, match="refused"):
        read(tmp_path, sql)


def test_a_run_without_rollouts_says_so(tmp_path):
    with pytest.raises(DataError, match="no rollouts"):
        read(tmp_path)
