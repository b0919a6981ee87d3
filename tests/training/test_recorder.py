"""Rollouts are written on a thread: in order, none dropped, and no failure swallowed."""

import errno
import os
import threading

import pyarrow.parquet as pq
import pytest
from PIL import Image

from medrft.errors import StorageError
from medrft.rewards import RawScores
from medrft.rundir import RunDir
from medrft.store import RolloutWriter, read_rollouts
from medrft.training import recorder
from medrft.training.grading import Graded
from medrft.training.recorder import WAITING, Recorder
from medrft.types import Completion, Example, Outcome


@pytest.fixture
def run(tmp_path):
    return RunDir.create(tmp_path / "run")


@pytest.fixture
def keeper(run):
    made = Recorder(run, stage="grpo", parts=("bleu1",), thumbnails=True)
    yield made
    made._thread.shutdown()


@pytest.fixture
def add(keeper, tmp_path):
    """`add(step)` records one group of two; each step has an image of its own."""

    def record(step, *, split="train", group_size=2):
        path = tmp_path / f"{split}-{step}.png"
        Image.new("L", (8, 8), step).save(path)
        place = {"id": f"toy/train/{step}", "dataset": "toy", "split": "train", "images": (path,), "kind": "open"}
        example = Example(**place, question="Where?", references=("left",))
        parts = {"bleu1": 0.5}, {"bleu1": True}
        row = Graded(
            example=example,
            completion=Completion(text="left", n_tokens=2, truncated=False),
            answer="left",
            raw=RawScores(kind="open", raw=parts[0], applicable=parts[1], readable=True),
            correct=True,
        )
        outcome = Outcome(reward=0.5, raw=parts[0], calibrated=parts[0], applicable=parts[1])
        keeper.add([row] * 2, [outcome] * 2, [0.0] * 2, split=split, step=step, group_size=group_size)

    return record


def no_space(*args, **options):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def stuck(monkeypatch):
    """An event; nothing is written until it is set."""
    go, write = threading.Event(), RolloutWriter.write

    def wait_and_write(self, rows, *, group_size):
        go.wait(10)
        write(self, rows, group_size=group_size)

    monkeypatch.setattr(RolloutWriter, "write", wait_and_write)
    yield go
    go.set()


def test_all_is_on_disk_in_order_once_flush_returns(keeper, run, add):
    for step in range(10):
        add(step)
    add(9, split="validation")
    keeper.flush()
    rows = read_rollouts(run.path)
    assert [row["step"] for row in rows] == [step for step in (*range(10), 9) for _ in (0, 1)]
    assert [row["group_id"] for row in rows[-3::2]] == ["grpo/train/9/0", "grpo/validation/0/0"]
    assert keeper.generations == {"train": 10, "validation": 1}
    assert {path.stem for path in run.images.iterdir()} == {row["image_sha256"][0] for row in rows}


def test_training_goes_on_while_the_disk_is_slow_and_waits_when_too_much_waits(keeper, run, add, stuck):
    for step in range(WAITING):
        add(step)
    last = threading.Thread(target=add, args=(WAITING,))
    last.start()
    last.join(0.2)
    assert last.is_alive()  # it waits, and nothing is dropped
    stuck.set()
    last.join(10)
    keeper.close()
    assert [row["step"] for row in read_rollouts(run.path)] == [step for step in range(WAITING + 1) for _ in (0, 1)]


@pytest.mark.parametrize("then", ["add", "flush", "close"])
def test_a_full_disk_stops_training_at_its_next_word(keeper, run, add, then, monkeypatch):
    monkeypatch.setattr(keeper.writers["train"], "rows_per_file", 2)
    with monkeypatch.context() as patch:
        patch.setattr(pq, "write_table", no_space)
        add(0)
        recorder.wait(keeper._waiting)
        with pytest.raises(StorageError, match=r"cannot write .*parquet: No space left on device; free space"):
            add(1) if then == "add" else getattr(keeper, then)()
    keeper.close()  # what the disk refused was kept
    assert [row["step"] for row in read_rollouts(run.path)] == [0, 0]


def test_a_thumbnail_that_cannot_be_written_is_told_and_rollouts_are_kept(keeper, run, add):
    run.images.write_text("a file where the folder should be")
    add(0)
    with pytest.raises(StorageError, match=r"cannot write .*images.*make its folder writable"):
        keeper.close()
    assert len(read_rollouts(run.path)) == 2


def test_a_mistake_of_ours_comes_through_as_it_is(keeper, add):
    add(0, group_size=4)
    with pytest.raises(ValueError, match="2 of 4 samples"):
        keeper.flush()


def test_a_process_that_records_nothing_starts_no_thread(keeper):
    before = threading.active_count()
    keeper.close()
    assert threading.active_count() == before
