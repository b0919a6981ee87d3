"""Logs that the peers' own code wrote (benchmarks/foreign_logs.py): inspect-ai 0.3.285 and lmms-eval 0.7.3."""

from __future__ import annotations

import io
import json
import shutil
import struct
import zipfile
from pathlib import Path

import pytest

from medrft.errors import DataError
from medrft.evaluation.rescore import rescore

LOGS = Path(__file__).parent / "foreign"
PLAIN = {"encoder": "none"}


def test_inspect_free_answers():
    found = rescore("inspect-ai", LOGS / "inspect_ai" / "small_vqa_rad.eval", PLAIN)
    assert [row["id"] for row in found.rows] == [f"small_vqa_rad/test/q{number}" for number in range(4)]
    assert [row["kind"] for row in found.rows] == ["closed", "closed", "open", "open"]
    assert [row["theirs"] for row in found.rows] == [1.0, 1.0, 1.0, 0.0]
    assert [row["truncated"] for row in found.rows] == [False, False, False, True]
    images = [row["images"] for row in found.rows]
    assert images[0] == images[1] != images[2] == images[3] and all(len(one) == 1 for one in images)
    assert found.rows[0]["metadata"]["image_organ"] == "CHEST" and found.rows[0]["question"].startswith("Is there")
    entries = {entry["figure"]: entry for entry in found.report["theirs"]}
    assert {name: (one["n"], one["theirs"], one["ours"]) for name, one in entries.items()} == {
        "includes accuracy": (4, 0.75, 0.25),
        "includes closed": (2, 1.0, 0.5),
        "includes open": (2, 0.5, 0.0),
    }
    told = " ".join(entries["includes accuracy"]["reasons"])
    assert "substring match, 2 of 4 rows" in told and "it asks only that 'no' stands somewhere in the text" in told
    assert found.report["interval"] == "95 % interval over images"


@pytest.mark.parametrize("name", ["small_choices.eval", "small_choices.json"])
def test_inspect_choices_in_both_formats(name):
    found = rescore("inspect-ai", LOGS / "inspect_ai" / name, PLAIN)
    assert [(row["kind"], row["answer"], row["options"][0]) for row in found.rows] == [
        ("choice", "C", "CT"),
        ("choice", "B", "axial"),
    ]
    (entry,) = found.report["theirs"]
    assert (entry["figure"], entry["theirs"], entry["ours"], entry["differs"]) == ("choice accuracy", 0.5, 0.5, False)
    assert found.report["notes"] == [f"{name}: 2 answers are read from their ANSWER: line"]


def test_inspect_a_folder_of_logs(tmp_path):
    for log in (LOGS / "inspect_ai").glob("*.eval"):
        shutil.copy(log, tmp_path)
    (tmp_path / "other.json").write_text("[1, 2]")
    found = rescore("inspect-ai", tmp_path, PLAIN)
    assert sorted(found.report["results"]) == ["small_choices", "small_vqa_rad"] and len(found.rows) == 6


def log_of(samples, **header):
    """A log as JSON."""
    facts = {"version": 2, "status": "success", "eval": {"task": "pkg/toy"}, "results": {"scores": []}, **header}
    return json.dumps({**facts, "samples": samples})


def sample(**changes):
    output = {"choices": [{"message": {"content": "left"}, "stop_reason": "stop"}]}
    return {"id": 1, "epoch": 1, "input": "Where?", "target": "left", "output": output, "scores": {}, **changes}


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (sample(error={"message": "timed out"}), "the sample failed"),
        (sample(output={}), "no output"),
        (sample(target=""), "no question or target"),
        (sample(input=[{"role": "system", "content": "Be brief."}]), "no question or target"),
        (7, "no output"),
    ],
)
def test_inspect_samples_that_cannot_be_read_are_listed(tmp_path, row, why):
    path = tmp_path / "log.json"
    path.write_text(log_of([sample(), row], status="error"))
    found = rescore("inspect-ai", path, PLAIN)
    assert found.report["left_out"]["reasons"] == {why: 1}
    assert "its status is error; it may lack samples" in found.report["notes"][0]


@pytest.mark.parametrize(
    ("content", "said", "answer"),
    [
        ([{"type": "reasoning", "reasoning": "right?"}, {"type": "text", "text": "left"}], "left", "left"),
        ("It is seen on one side.\nAnswer: left", "It is seen on one side.\nAnswer: left", "left"),
        ("ANSWER: left\nANSWER: right", "ANSWER: left\nANSWER: right", "ANSWER: left\nANSWER: right"),
    ],
)
def test_inspect_answers(tmp_path, content, said, answer):
    path = tmp_path / "log.json"
    path.write_text(log_of([sample(output={"choices": [{"message": {"content": content}}]})]))
    (row,) = rescore("inspect-ai", path, PLAIN).rows
    assert (row["prediction"], row["answer"]) == (said, answer)


def test_inspect_epochs_are_samples(tmp_path):
    path = tmp_path / "log.json"
    path.write_text(log_of([sample(epoch=number) for number in (1, 2, 3)]))
    assert [row["sample"] for row in rescore("inspect-ai", path, PLAIN).rows] == [0, 1, 2]


def damaged(whole: bytes, how: str) -> bytes:
    if how == "cut":
        return whole[: len(whole) // 2]
    if how == "empty":
        return b"PK"
    with zipfile.ZipFile(io.BytesIO(whole)) as log:
        header = log.getinfo("header.json").header_offset
    named, extra = struct.unpack("<HH", whole[header + 26 : header + 30])
    start = header + 30 + named + extra
    return whole[:start] + b"\x00" * 64 + whole[start + 64 :]


@pytest.mark.parametrize("how", ["cut", "empty", "not zstd"])
def test_inspect_damaged_logs_are_one_line(tmp_path, how):
    path = tmp_path / "log.eval"
    path.write_bytes(damaged((LOGS / "inspect_ai" / "small_choices.eval").read_bytes(), how))
    with pytest.raises(DataError, match=r"log\.eval is no log of inspect-ai"):
        rescore("inspect-ai", path, PLAIN)


def test_lmms_eval_as_its_own_tracker_writes():
    found = rescore("lmms-eval", LOGS / "lmms_eval", PLAIN)
    assert [row["id"] for row in found.rows] == [f"slake/test/{n}" for n in (11934, 11935, 11940, 11941)]
    entries = {entry["figure"]: entry for entry in found.report["theirs"]}
    assert len(entries) == 10 and not any("not reproduced" in r for e in entries.values() for r in e["reasons"])
    whole = entries["slake_accuracy,none"]
    assert (whole["n"], whole["theirs"], whole["ours"]) == (4, 0.5, 1.0)
    told = " ".join(whole["reasons"])
    assert (
        "equal only after normalisation, 1 of 4" in told and "yes or no with more words counted wrong, 1 of 4" in told
    )
    assert entries["slake_xray_accuracy,none"]["theirs"] == entries["slake_xray_accuracy,none"]["ours"] == 1.0
