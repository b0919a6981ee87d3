"""Checkpoints and records on disk."""

import json

import pytest

from medrft.rundir import RunDir, read_jsonl
from medrft.training.state import KEY, is_done, last_checkpoint, read_stage, rewind, write_stage


def checkpoint(folder, step, *, saved=None, cut=False):
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    text = json.dumps(
        {"global_step": step, "max_steps": 16, "stateful_callbacks": {KEY: {"args": {}, "attributes": saved or {}}}}
    )
    (path / "trainer_state.json").write_text(text[: len(text) // 2] if cut else text)
    return path


def test_the_newest_whole_checkpoint_counts(tmp_path):
    checkpoint(tmp_path, 8, saved={"seconds": 3.0})
    checkpoint(tmp_path, 16, saved={"seconds": 6.0})
    broken = checkpoint(tmp_path, 24, cut=True)
    empty = tmp_path / "checkpoint-32"
    empty.mkdir()
    found = last_checkpoint(tmp_path)
    assert found.step == 16 and found.saved == {"seconds": 6.0} and found.last
    assert not broken.exists() and not empty.exists()  # a killed save


def test_no_checkpoint(tmp_path):
    assert last_checkpoint(tmp_path / "absent") is None


def test_a_rewound_run_has_no_row_after_its_checkpoint(tmp_path):
    run = RunDir(tmp_path)
    for stage, step in [("sft", 9), ("grpo", 1), ("grpo", 2), ("grpo", 3)]:
        run.append_metrics(stage, {"step": step})
        run.append_warning({"stage": stage, "step": step})
    with run.metrics.open("a") as file:
        file.write('{"stage": "grpo", "st')  # killed while writing
    checkpoint(tmp_path / "c", 2)
    rewind(run, "grpo", last_checkpoint(tmp_path / "c"))
    for path in (run.metrics, run.warnings):
        assert [(row["stage"], row["step"]) for row in read_jsonl(path)] == [("sft", 9), ("grpo", 1), ("grpo", 2)]
    rewind(run, "grpo", None)
    assert [row["stage"] for row in read_jsonl(run.metrics)] == ["sft"]


def test_a_stage_record_grows(tmp_path):
    run = RunDir(tmp_path)
    assert read_stage(run, "sft") == {}
    write_stage(run, "sft", status="running", kind="sft")
    write_stage(run, "sft", status="done", steps=4)
    assert read_stage(run, "sft") == {"status": "done", "kind": "sft", "steps": 4}


@pytest.mark.parametrize(
    ("status", "model", "done"), [("done", True, True), ("done", False, False), ("running", True, False)]
)
def test_a_stage_is_done_once_its_model_is_there(tmp_path, status, model, done):
    run = RunDir(tmp_path)
    write_stage(run, "sft", status=status)
    if model:
        run.final("sft").mkdir(parents=True)
        (run.final("sft") / "config.json").write_text("{}")
    assert is_done(run, "sft") is done
