"""Checkpoints and records on disk."""

import json
import shutil
from types import SimpleNamespace

import pytest

from medrft.errors import DataError
from medrft.models.saved import list_model
from medrft.rundir import RunDir, read_jsonl
from medrft.training.state import (
    KEY,
    last_checkpoint,
    needs_training,
    rewind_stage,
    rotate_checkpoints,
    seal_checkpoint,
    write_stage,
)


def checkpoint(folder, step, *, saved=None, whole=True, best=None, processes=1):
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    state = {"global_step": step, "max_steps": 16, "best_model_checkpoint": best and str(folder / f"checkpoint-{best}")}
    state["stateful_callbacks"] = {KEY: {"args": {}, "attributes": saved or {}}}
    (path / "trainer_state.json").write_text(json.dumps(state))
    (path / "optimizer.pt").write_bytes(b"x" * 100)
    if whole:
        seal_checkpoint(path, processes=processes)
    return path


def steps(folder):
    return sorted(int(path.name.removeprefix("checkpoint-")) for path in folder.iterdir())


def test_the_newest_whole_checkpoint_counts(tmp_path, capsys):
    checkpoint(tmp_path, 8, saved={"seconds": 3.0})
    checkpoint(tmp_path, 16, saved={"seconds": 6.0})
    checkpoint(tmp_path, 24, whole=False)
    (tmp_path / "checkpoint-32").mkdir()
    found = last_checkpoint(tmp_path)
    assert found.step == 16 and found.saved == {"seconds": 6.0} and found.last
    assert steps(tmp_path) == [8, 16]  # a killed save is none, and nothing to tell
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["optimizer.pt", "trainer_state.json"])
@pytest.mark.parametrize("size", [0, 50, None])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, capsys, name, size):
    checkpoint(tmp_path, 8)
    file = checkpoint(tmp_path, 16) / name
    file.unlink() if size is None else file.write_bytes(file.read_bytes()[:size])
    assert last_checkpoint(tmp_path).step == 8 and steps(tmp_path) == [8]
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1 and f"checkpoint-16 is damaged: {name}" in told[0] and "from checkpoint-8" in told[0]


@pytest.mark.parametrize("name", ["optimizer.pt", "trainer_state.json", "checkpoint.json"])
def test_a_checkpoint_whose_bytes_changed_gives_way_to_the_one_before(tmp_path, capsys, name):
    checkpoint(tmp_path, 8)
    file = checkpoint(tmp_path, 16) / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(bytes(content))
    assert last_checkpoint(tmp_path).step == 8 and steps(tmp_path) == [8]
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1 and "checkpoint-16 is damaged: " in told[0] and "from checkpoint-8" in told[0]


def test_a_checkpoint_of_an_earlier_version_lists_sizes_alone(tmp_path):
    path = checkpoint(tmp_path, 8)
    listed = json.loads((path / "checkpoint.json").read_text())
    listed["files"] = {name: facts["size"] for name, facts in listed["files"].items()}
    (path / "checkpoint.json").write_text(json.dumps(listed))
    assert last_checkpoint(tmp_path).step == 8


def test_the_only_checkpoint_is_not_given_up_without_a_word(tmp_path):
    (checkpoint(tmp_path, 8) / "optimizer.pt").write_bytes(b"")
    with pytest.raises(DataError, match=r"optimizer.pt has 0 bytes, 100 were written; none before it .* delete"):
        last_checkpoint(tmp_path)
    assert steps(tmp_path) == [8]


def test_the_best_checkpoint_must_be_whole_too(tmp_path, capsys):
    best = checkpoint(tmp_path, 4)
    checkpoint(tmp_path, 8, best=4)
    (best / "optimizer.pt").unlink()
    with pytest.raises(DataError, match=r"checkpoint-4, the best .* is damaged: optimizer.pt is missing; delete it"):
        last_checkpoint(tmp_path)
    shutil.rmtree(best)
    state = SimpleNamespace(best_model_checkpoint="elsewhere", best_metric=1.0, best_global_step=4)
    last_checkpoint(tmp_path).settle(state)
    assert state == SimpleNamespace(best_model_checkpoint=None, best_metric=None, best_global_step=None)
    assert "choosing among the later ones" in capsys.readouterr().err


def test_the_best_checkpoint_is_found_where_the_run_lies_now(tmp_path):
    checkpoint(tmp_path / "before", 4)
    checkpoint(tmp_path / "before", 8, best=4)
    (tmp_path / "before").rename(tmp_path / "after")
    state = SimpleNamespace(best_model_checkpoint=None, best_metric=1.0, best_global_step=4)
    last_checkpoint(tmp_path / "after").settle(state)
    assert state.best_model_checkpoint == str(tmp_path / "after" / "checkpoint-4") and state.best_metric == 1.0


def test_as_many_processes_go_on_as_wrote_the_checkpoint(tmp_path):
    checkpoint(tmp_path, 8, processes=2)
    with pytest.raises(DataError, match="written by 2 processes, and 1 are to go on"):
        last_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("limit", "best", "stay"),
    [
        (None, 2, [2, 4, 9, 10]),
        (3, None, [4, 9, 10]),
        (2, 2, [2, 10]),
        (2, 10, [9, 10]),
        (1, 2, [2, 10]),
        (1, None, [10]),
    ],
)
def test_older_checkpoints_go_but_never_the_newest_nor_the_best(tmp_path, limit, best, stay):
    for step in (2, 4, 9, 10):
        checkpoint(tmp_path, step)
    rotate_checkpoints(tmp_path, limit=limit, best=best and tmp_path / f"checkpoint-{best}")
    assert steps(tmp_path) == stay


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
    rewind_stage(run, "grpo", last_checkpoint(tmp_path / "c"))
    for path in (run.metrics, run.warnings):
        assert [(row["stage"], row["step"]) for row in read_jsonl(path)] == [("sft", 9), ("grpo", 1), ("grpo", 2)]
    rewind_stage(run, "grpo", None)
    assert [row["stage"] for row in read_jsonl(run.metrics)] == ["sft"]


def test_a_stage_record_grows(tmp_path):
    run = RunDir(tmp_path)
    assert run.record("sft") == {}
    write_stage(run, "sft", status="running", kind="sft")
    write_stage(run, "sft", status="done", steps=4)
    assert run.record("sft") == {"status": "done", "kind": "sft", "steps": 4}


@pytest.mark.parametrize(
    ("status", "model", "done"), [("done", True, True), ("done", False, False), ("running", True, False)]
)
def test_a_stage_is_done_once_its_model_is_there(tmp_path, status, model, done):
    run = RunDir(tmp_path)
    write_stage(run, "sft", status=status)
    if model:
        run.final("sft").mkdir(parents=True)
        (run.final("sft") / "config.json").write_text("{}")
    assert needs_training(run, "sft") is not done


@pytest.mark.parametrize("size", [0, 50, 100])
def test_a_stage_whose_model_is_damaged_is_not_done(tmp_path, capsys, size):
    run = RunDir(tmp_path)
    write_stage(run, "sft", status="done")
    run.final("sft").mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (run.final("sft") / name).write_bytes(b"x" * 100)
    list_model(run.final("sft"))
    (run.final("sft") / "README.md").write_text("a card may be written again")
    assert not needs_training(run, "sft")
    (run.final("sft") / "model.safetensors").write_bytes(b"y" * size)
    assert needs_training(run, "sft")
    assert "final is damaged: model.safetensors" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "done"),
    [
        ("chat_template.jinja", "{{ 'another' }}", True),
        ("config.json", '{"edited": true}', True),
        ("config.json", '{"edited": tr', False),
        ("chat_template.jinja", "", False),
    ],
)
def test_a_text_that_was_edited_is_told_and_is_no_damage(tmp_path, capsys, name, content, done):
    run = RunDir(tmp_path)
    write_stage(run, "sft", status="done")
    run.final("sft").mkdir(parents=True)
    (run.final("sft") / "config.json").write_text("{}")
    (run.final("sft") / "chat_template.jinja").write_text("{{ 'as written' }}")
    list_model(run.final("sft"))
    (run.final("sft") / name).write_text(content)
    assert needs_training(run, "sft") is not done
    assert name in capsys.readouterr().err
