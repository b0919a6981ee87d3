from __future__ import annotations

import json

import pytest

from foreign_files import ROWS, metrics_of, perfect, write
from medrft.errors import DataError
from medrft.evaluation.rescore import medevalkit_rules as rules
from medrft.evaluation.rescore import rescore

PLAIN = {"encoder": "none"}


def figures(found):
    return {(entry["dataset"], entry["figure"]): entry for entry in found.report["theirs"]}


def test_a_perfect_model_is_perfect(tmp_path):
    found = figures(rescore("medevalkit", perfect(tmp_path), PLAIN))
    slake, path = found["slake", "total metrics.acc"], found["path_vqa", "total metrics.acc"]
    assert (round(slake["theirs"], 3), slake["ours"], slake["n"]) == (1.667, 1.0, 3)
    assert (round(path["theirs"], 3), path["ours"], path["n"]) == (0.333, 1.0, 3)
    assert slake["reasons"] == [
        "closed questions counted twice, by rule and by judge: (2 closed by rule + 3 of all) / 3 = 1.667"
    ]
    assert path["reasons"] == ["closed verdicts thrown away when the judge runs: 1 open right / 3 = 0.3333"]
    assert found["slake", "close.acc"]["theirs"] == 2.0 and found["slake", "close.acc"]["ours"] == 1.0
    assert not any(entry["differs"] for (_, name), entry in found.items() if name.startswith("open."))


def test_open_accuracy_is_divided_twice(tmp_path):
    rows = [{"question": f"q{i}?", "answer": "liver", "response": "liver", "correct": True} for i in range(4)]
    rows += [{"question": "Is it?", "answer": "yes", "response": "yes", "correct": True}]
    write(tmp_path / "VQA_RAD" / "results.json", rows)
    write(tmp_path / "VQA_RAD" / "metrics.json", metrics_of(5, 5, 4, 4, 1, 1))
    entry = figures(rescore("medevalkit", tmp_path, PLAIN))["vqa_rad", "open.acc"]
    assert (entry["theirs"], entry["ours"]) == (0.25, 1.0)
    assert entry["reasons"] == ["divided by n twice: 4 right / 4 / 4 = 0.25"]


def test_permuted_overlaps_are_found_by_computing_them(tmp_path):
    # precision 1/2, recall 1, F1 2/3: the file has F1, precision, recall
    rows = [{"question": "What?", "answer": "lung", "response": "left lung", "correct": False}]
    rows += [{"question": "Is it?", "answer": "yes", "response": "yes", "correct": True}]
    sums = {"precision": 2 / 3, "recall": 1 / 2, "f1": 1.0}
    write(tmp_path / "results.json", rows)
    write(tmp_path / "metrics.json", metrics_of(2, 1, 1, 0, 1, 1, **sums))
    found = rescore("medevalkit", tmp_path, {**PLAIN, "dataset": "vqa_rad"})
    entry = figures(found)["vqa_rad", "open.recall"]
    assert (entry["theirs"], entry["ours"]) == (0.5, 1.0)
    assert entry["reasons"][0].startswith("precision, recall and F1 permuted: by its own words they are 0.5000, 1.0000")
    write(tmp_path / "metrics.json", metrics_of(2, 1, 1, 0, 1, 1, precision=1 / 2, recall=1.0, f1=2 / 3))
    straight = figures(rescore("medevalkit", tmp_path, {**PLAIN, "dataset": "vqa_rad"}))  # as if it were mended
    assert not straight["vqa_rad", "open.recall"]["differs"] and not straight["vqa_rad", "open.f1"]["differs"]


def test_substring_matches_are_named(tmp_path):
    rows = [
        {"question": "Is it normal?", "answer": "no", "response": "the lung is normal", "correct": True},
        {"question": "Is there one?", "answer": "yes", "response": "yes, there is a nodule", "correct": False},
        {"question": "What?", "answer": "8 cm", "response": "8cm", "correct": False},
    ]
    write(tmp_path / "VQA_RAD" / "results.json", rows)
    write(tmp_path / "VQA_RAD" / "metrics.json", metrics_of(3, 1, 1, 0, 2, 1))
    found = figures(rescore("medevalkit", tmp_path, PLAIN))
    close, total = found["vqa_rad", "close.acc"], found["vqa_rad", "total metrics.acc"]
    assert (close["theirs"], close["ours"], close["differs"]) == (0.5, 0.5, False)  # two errors that cancel
    assert (total["ours"], total["differs"]) == (pytest.approx(2 / 3), True)
    told = " ".join(total["reasons"])
    assert "'no' found inside 'normal'" in told and "'no' found inside 'nodule'" in told
    assert "equal only after normalisation, 1 of 3 rows" in told


def test_a_judge_is_told_from_the_rule(tmp_path):
    rows = [
        {**ROWS[2], "response": "fluid in the pleural space", "correct": True},
        {**ROWS[0], "response": "Yes", "correct": True},
    ]
    write(tmp_path / "SLAKE" / "results.json", rows)
    write(tmp_path / "SLAKE" / "metrics.json", metrics_of(2, 3, 1, 1, 1, 2))
    found = rescore("medevalkit", tmp_path, PLAIN)
    entry = figures(found)["slake", "open.acc"]
    assert (entry["theirs"], entry["ours"]) == (1.0, 0.0) and entry["reasons"][0].startswith("judge, 1 of 1 rows")
    assert found.report["notes"] == ["1 marks are not those of its rules, so a judge gave them"]


def test_what_no_known_rule_gives_is_said(tmp_path):
    perfect(tmp_path)
    write(tmp_path / "SLAKE" / "metrics.json", {"total metrics": {"total": 3, "right": 3, "acc": 0.123}})
    entry = figures(rescore("medevalkit", tmp_path, PLAIN))["slake", "total metrics.acc"]
    assert entry["reasons"] == ["not reproduced from its rows: the mean of their marks is 1.0000"]


@pytest.mark.parametrize(
    ("answer", "response", "open_", "slake", "right"),
    [
        ("yes", "Yes", False, False, True),
        ("no", "There is no fracture.", False, False, True),
        ("no", "abnormal", False, False, True),  # 'no' inside a word
        ("yes", "I do not know, yes", False, False, False),
        ("Yes", "yes, it is", False, True, False),  # SLAKE's `Yes` must be the whole text
        ("Yes", "YES.", False, True, True),
        ("Left", "left", False, True, True),
        ("right lung", "The answer is right lung", True, False, True),
        ("right lung", "<think>x</think><answer>Right lung</answer>", True, False, True),
        ("right lung", r"so \boxed{right lung}", True, False, True),
        ("right lung", "right lung.", True, False, False),
        ("", "", True, False, True),
    ],
)
def test_its_rules(answer, response, open_, slake, right):
    assert rules.by_rule(answer, response, open_=open_, slake=slake) is right


def test_choices_and_kinds(tmp_path):
    rows = [
        {"question": "Which?", "choices": ["A. CT", "B. MRI"], "answer": "B", "response": "B. MRI", "correct": True},
        {"question": "Which?", "choices": ["A. CT", "B. MRI"], "answer": "B", "response": "CT", "correct": True},
        {"question": "Is it?", "answer": "Yes", "response": "<think>no, yes</think>yes", "correct": True},
    ]
    write(tmp_path / "PMC_VQA" / "results.json", rows)
    found = rescore("medevalkit", tmp_path, PLAIN)
    assert [row["kind"] for row in found.rows] == ["choice", "choice", "closed"]
    assert [row["scores"]["correct"] for row in found.rows] == [1.0, 0.0, 1.0]
    assert found.rows[2]["answer"] == "yes" and found.rows[0]["id"] == "pmc_vqa/test/0"


def test_rows_that_cannot_be_read_are_listed(tmp_path):
    rows = [
        {**ROWS[0], "response": "yes"},
        {**ROWS[0], "response": None},
        "text",
        {"answer": "", "question": "q", "response": "x"},
    ]
    write(tmp_path / "SLAKE" / "results.json", rows)
    found = rescore("medevalkit", tmp_path, PLAIN)
    assert len(found.rows) == 1
    assert found.report["left_out"]["reasons"] == {"no question, answer or response": 2, "not an object": 1}
    assert found.report["left_out"]["rows"][0]["row"] == "slake/test/1"


@pytest.mark.parametrize("content", ["{}", "[]", "[1]"])
def test_files_without_an_answer(tmp_path, content):
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(DataError):
        rescore("medevalkit", tmp_path, PLAIN)


def test_what_is_written_can_be_compared(tmp_path):
    from medrft.evaluation.compare.paired import Draws, compare_sides
    from medrft.evaluation.compare.sides import read_sides

    perfect(tmp_path / "a")
    for name in ("one", "two"):
        rescore("medevalkit", tmp_path / "a", PLAIN).write(tmp_path / name)
    found = compare_sides(read_sides([str(tmp_path / "one"), str(tmp_path / "two")]), Draws(flips=50))
    assert {test["dataset"] for test in found["tests"]} == {"slake", "path_vqa"}
    assert found["sides"][0]["evaluator"] == "medevalkit" and found["against"][0]["left_out"] == {}
    metrics = json.loads((tmp_path / "one" / "metrics.json").read_text())
    assert (
        metrics["clustered_by"] == "questions" and metrics["results"]["slake"]["none"]["closed"]["accuracy"]["n"] == 1
    )


def test_metrics_of_any_shape(tmp_path):
    perfect(tmp_path)
    odd = {"total metrics": {"acc": float("nan")}, "open": {"acc": "x", "em": None, "precision": True}, "close": 3}
    write(tmp_path / "SLAKE" / "metrics.json", odd)
    found = rescore("medevalkit", tmp_path, PLAIN)
    assert [entry for entry in found.report["theirs"] if entry["dataset"] == "slake"] == []


def test_a_perfect_model_on_the_whole_of_slake(tmp_path, shared_data):
    """All 2,094 rows of the official test file in both languages, answered by their references."""
    rows = json.loads((shared_data / "slake" / "Slake1.0" / "test.json").read_text(encoding="utf-8"))
    made = [
        {key: row[key] for key in ("question", "answer", "answer_type")}
        | {"lang": row["q_lang"], "response": row["answer"], "correct": True}
        for row in rows
    ]
    closed = sum(row["answer_type"] == "CLOSED" for row in rows)
    n_open, total = len(rows) - closed, len(rows)
    write(tmp_path / "SLAKE" / "results.json", made)
    write(tmp_path / "SLAKE" / "metrics.json", metrics_of(total, closed + total, n_open, n_open, closed, 2 * closed))
    found = figures(rescore("medevalkit", tmp_path, PLAIN))
    entry = found["slake", "total metrics.acc"]
    assert (entry["n"], entry["ours"]) == (2094, 1.0) and entry["theirs"] == pytest.approx(1.399, abs=1e-3)
    assert entry["reasons"][0].startswith("closed questions counted twice")
    assert found["slake", "open.acc"]["reasons"][0].startswith("divided by n twice: 1258 right / 1258 / 1258")
