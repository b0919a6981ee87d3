"""lmms-eval, VLMEvalKit and MedVLThinker: files in the layouts that their writers give them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from foreign_files import write, write_lines
from medrft.errors import DataError
from medrft.evaluation.rescore import rescore

PLAIN = {"encoder": "none"}
PROMPT = "\nAnswer the question using a single word or phrase."


def slake_sample(doc_id, question, target, said, *, right, answer_type="open", modality="ct", tokens=3):
    record = {
        "id": str(100 + doc_id),
        "prediction": said,
        "prediction_normalized": said.lower(),
        "target": target,
        "target_normalized": target.lower(),
        "language": "en",
        "answer_type": answer_type,
        "modality": modality,
        "content_type": "organ",
        "is_correct": right,
    }
    metrics = (
        "slake_accuracy",
        "slake_open_accuracy",
        "slake_closed_accuracy",
        "slake_ct_accuracy",
        "slake_xray_accuracy",
    )
    return {
        "doc_id": doc_id,
        "input": question + PROMPT,
        "target": target,
        "filtered_resps": said,
        "token_counts": [{"input_tokens": 300, "output_tokens": tokens, "reasoning_tokens": 0}],
        "doc_hash": "0" * 64,
        **dict.fromkeys(metrics, record),
    }


def lmms(root, samples, results, limit=32):
    folder = root / "Qwen__Qwen2-VL"
    write_lines(folder / "20260801_120000_samples_slake_en.jsonl", samples)
    config = {"slake_en": {"generation_kwargs": {"max_new_tokens": limit}}} if limit else {}
    write(folder / "20260801_120000_results.json", {"results": {"slake_en": results}, "configs": config})
    return root


LONG = "The chest radiograph shows that yes, there is a large pleural effusion on the left side of the"
SAMPLES = [
    slake_sample(0, "Where is the mass?", "Left Lung", "left lung", right=True),
    slake_sample(1, "How large is it?", "8 cm", "8cm", right=False, modality="x-ray"),
    slake_sample(2, "Is there a mass?", "Yes", "Yes, on the left.", right=False, answer_type="closed"),
    slake_sample(3, "Is there an effusion?", "Yes", LONG, right=False, answer_type="closed", tokens=32),
]
RESULTS = {
    "alias": "slake_en",
    "slake_accuracy,none": 0.25,
    "slake_accuracy_stderr,none": "N/A",
    "slake_open_accuracy,none": 0.5,
    "slake_closed_accuracy,none": 0.0,
    "slake_ct_accuracy,none": 1 / 3,
    "slake_xray_accuracy,none": 0.0,
}


def test_lmms_eval(tmp_path):
    found = rescore("lmms-eval", lmms(tmp_path, SAMPLES, RESULTS), PLAIN)
    entries = {entry["figure"]: entry for entry in found.report["theirs"]}
    assert {name.partition(",")[0]: entry["n"] for name, entry in entries.items()} == {
        "slake_accuracy": 4,
        "slake_open_accuracy": 2,
        "slake_closed_accuracy": 2,
        "slake_ct_accuracy": 3,
        "slake_xray_accuracy": 1,
    }
    assert (entries["slake_open_accuracy,none"]["ours"], entries["slake_closed_accuracy,none"]["ours"]) == (1.0, 1.0)
    told = " ".join(entries["slake_accuracy,none"]["reasons"])
    assert (
        "equal only after normalisation, 1 of 4" in told and "yes or no with more words counted wrong, 2 of 4" in told
    )
    assert found.report["notes"] == ["slake_en: token limit 32: 1 answers look cut off"]
    assert [row["truncated"] for row in found.rows] == [False, False, False, True]
    assert found.rows[0]["id"] == "slake/test/100" and found.rows[0]["question"] == "Where is the mass?"


def test_lmms_eval_without_a_known_limit(tmp_path):
    samples = [slake_sample(i, "Where?", "lung", "x" * 40, right=False, tokens=32) for i in range(3)]
    found = rescore("lmms-eval", lmms(tmp_path, samples, {"slake_accuracy,none": 0.9}, limit=None), PLAIN)
    assert "3 answers share the largest count of 32 tokens" in found.report["notes"][0]
    assert found.report["theirs"][0]["reasons"] == ["not reproduced from its rows: the mean of their marks is 0.0000"]
    assert found.rows[0]["truncated"] is None


def test_lmms_eval_choices_and_raw_responses(tmp_path):
    sample = {
        "doc_id": 0,
        "input": "Which modality?\nA. CT\nB. MRI\nAnswer with the option's letter.",
        "target": "B",
        "resps": [["<think>Bright fluid.</think>B"]],
        "filtered_resps": ["B"],
        "acc": 1.0,
    }
    path = write_lines(tmp_path / "20260801_samples_medx.jsonl", [sample, {"doc_id": 1, "target": "A"}, 7])
    found = rescore("lmms-eval", path, PLAIN)
    (row,) = found.rows
    assert (row["kind"], row["options"], row["answer"], row["scores"]["correct"]) == ("choice", ["CT", "MRI"], "B", 1.0)
    assert found.report["left_out"]["reasons"] == {"no target or response": 2}


TSV = """index\tquestion\tanswer\tprediction\tcategory\tsplit
0\tIs there a nodule?\tyes\tYes, one.\tchest\ttest
1\t"Which
organ?"\tliver\tThe liver\tabdomen\ttest
2\tWhere?\tleft\tright\tchest\ttest
3\tWhere?\t\tright\tchest\ttest
"""


def vlm(root, *, judge=True):
    folder = root / "Qwen2-VL" / "T20260801"
    folder.mkdir(parents=True)
    (folder / "Qwen2-VL_PathVQA_TEST.tsv").write_text(TSV)
    (folder / "status.json").write_text("{}")
    if judge:
        marks = "index\thit\tlog\n0\t0\tsays one\n1\t1\tsame\n2\t0\tother side\n"
        (folder / "Qwen2-VL_PathVQA_TEST_judge.tsv").write_text(marks)
        (folder / "Qwen2-VL_PathVQA_TEST_acc.csv").write_text("split,Overall,abdomen,chest\ntest,0.3333,1.0,0.0\n")
    return root


def test_vlmevalkit(tmp_path):
    found = rescore("vlmevalkit", vlm(tmp_path), PLAIN)
    assert [row["id"] for row in found.rows] == [f"PathVQA_TEST/test/{i}" for i in range(3)]
    assert [row["kind"] for row in found.rows] == ["closed", "open", "open"]
    entries = {entry["figure"]: entry for entry in found.report["theirs"]}
    overall = entries["Overall split test"]
    assert (overall["n"], overall["theirs"], overall["ours"]) == (3, 0.3333, pytest.approx(2 / 3))
    assert "judge, 1 of 3 rows" in overall["reasons"][0] and "its log: says one" in overall["reasons"][0]
    assert entries["chest split test"]["n"] == 2 and entries["abdomen split test"]["differs"] is False
    assert found.report["left_out"]["reasons"] == {"no question, answer or prediction": 1}


def test_vlmevalkit_json_and_percent(tmp_path):
    rows = [
        {
            "index": 1,
            "question": "Which?",
            "A": "CT",
            "B": "MRI",
            "C": None,
            "answer": "B",
            "prediction": "(B) MRI",
            "hit": 1,
        }
    ]
    path = write(tmp_path / "m_Med.json", rows)
    write(tmp_path / "m_Med_acc.json", [{"Overall": 100.0}])
    (entry,) = rescore("vlmevalkit", path, PLAIN).report["theirs"]
    assert (entry["theirs"], entry["ours"], entry["differs"]) == (1.0, 1.0, False)


REAL = Path(__file__).parent / "foreign" / "vlmevalkit"
"""Made by VLMEvalKit's own code: benchmarks/foreign_logs.py vlmevalkit."""


@pytest.mark.parametrize(
    ("figure", "theirs", "ours", "reason"),
    [
        ("PathVQA_TEST: Overall split test", 0.75, 0.25, "judge, 2 of 4 rows: 'This is a normal study.' for 'no'"),
        ("PathVQA_TEST: open split test", 0.5, 0.0, "theirs 1, ours 0 (its log: it says so)"),
        ("PathMMU_VAL: Overall", 0.5, 0.5, None),
        ("PathMMU_VAL: modality", 0.5, 0.5, None),  # named after its l2-category
        ("SmallYN: Overall", 0.5, 0.5, None),  # in percent, from _score
        ("SmallYN: chest", 0.5, 0.5, None),
        ("GQA_Small: closed", 0.0, 0.5, "yes or no with more words counted wrong, 1 of 2 rows: 'Yes, it is enlarged.'"),
    ],
)
def test_workbooks_that_vlmevalkit_wrote(figure, theirs, ours, reason):
    pytest.importorskip("openpyxl")
    found = rescore("vlmevalkit", REAL, PLAIN)
    assert len(found.rows) == 12 and not found.report["notes"] and not found.report["left_out"]["reasons"]
    entries = {f"{entry['dataset']}: {entry['figure']}": entry for entry in found.report["theirs"]}
    entry = entries[figure]
    assert (entry["theirs"], entry["ours"]) == (theirs, ours)
    assert reason in entry["reasons"][0] if reason else not entry["reasons"]


def test_of_vlmevalkits_runs_the_last_is_read_and_of_its_links_none_twice(tmp_path):
    model = tmp_path / "Qwen2-VL"
    for run, said in (("T20260801_G1a2b3c4d", "right"), ("T20260802-090000", "left")):
        (model / run).mkdir(parents=True)
        for name in ("PathVQA_TEST", "PathVQA", "PathVQA_gpt-4o", "PathVQA_TEST_results", "PathVQA_TEST_auxmatch"):
            line = f"0\tWhich side?\tleft\t{said}\n"
            (model / run / f"Qwen2-VL_{name}.tsv").write_text(f"index\tquestion\tanswer\tprediction\n{line}")
    for file in (model / "T20260802-090000").iterdir():
        (model / file.name).symlink_to(file)
    found = rescore("vlmevalkit", tmp_path, PLAIN)
    assert [(row["dataset"], row["answer"]) for row in found.rows] == [("PathVQA", "left"), ("PathVQA_TEST", "left")]
    assert [note.partition(":")[0] for note in found.report["notes"]] == [
        "Qwen2-VL_PathVQA.tsv",
        "Qwen2-VL_PathVQA_TEST.tsv",
    ]
    assert "only its last run is read, T20260802-090000" in found.report["notes"][0]


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("Match Log: B. ", "equal only after normalisation"),  # read by its rule, so no judge
        ("Match Log: Failed to predict, thus randomly generate one . ", "a random one was taken"),
        ("Match Log: A. ", "judge, 1 of 1 rows"),
    ],
)
def test_how_vlmevalkit_marked_a_choice(tmp_path, log, reason):
    head = "index\tquestion\tA\tB\tanswer\tprediction"
    (tmp_path / "m_Med_VAL.tsv").write_text(f"{head}\n0\tWhich?\tCT\tMRI\tB\tB\n")
    marked = f"{head}\thit\tlog\n0\tWhich?\tCT\tMRI\tB\tB\t0\t{log}\n"
    (tmp_path / "m_Med_VAL_gpt-4o_result.tsv").write_text(marked)
    (tmp_path / "m_Med_VAL_acc.csv").write_text("split,Overall\nnone,0.0\n")
    (entry,) = rescore("vlmevalkit", tmp_path, PLAIN).report["theirs"]
    assert reason in entry["reasons"][0]


def test_failed_requests_of_vlmevalkit_are_told(tmp_path):
    path = tmp_path / "m_PathVQA_TEST.tsv"
    path.write_text(
        "index\tquestion\tanswer\tprediction\n"
        "0\tWhere?\tleft\tFailed to obtain answer via API.\n"
        "1\tWhere?\tleft\tleft\n"
    )
    (note,) = rescore("vlmevalkit", path, PLAIN).report["notes"]
    assert note.startswith("m_PathVQA_TEST.tsv: 1 predictions are failed requests")


def test_vlmevalkit_workbooks_name_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openpyxl", None)  # as where it is not installed
    path = tmp_path / "m_PathVQA_TEST.xlsx"
    path.write_bytes(b"PK")
    with pytest.raises(DataError, match="PRED_FORMAT=tsv"):
        rescore("vlmevalkit", path, PLAIN)


def shard_row(index, outputs, *, prompts="Which modality?\nA. CT\nB. MRI\nThink first.", right=None):
    marks = [letter == "B" for letter, _ in outputs]
    return {
        "dp_index": index,
        "prompts": prompts,
        "dataset_name": "PMC_VQA",
        "dataset_index": index,
        "answer_label": "B",
        "answer": "MRI",
        "parsed_outputs": [
            {"output_text": text, "pred_letter": letter, "is_correct": mark}
            for (letter, text), mark in zip(outputs, marks, strict=True)
        ],
        "num_rollouts": len(outputs),
        "num_correct": sum(marks) if right is None else right,
    }


def test_medvlthinker(tmp_path):
    rows = [
        shard_row(0, [("B", "<think>…</think><answer>B</answer>"), ("A", "<answer>A</answer>")]),
        shard_row(1, [("B", "<think>It may be B but the signal"), ("B", "<answer>MRI</answer>")], right=1),
        shard_row(2, [("B", "B")], prompts=[{"role": "user", "content": [{"type": "text", "text": "Which?"}]}]),
    ]
    write_lines(tmp_path / "shards" / "dp_0.jsonl", rows[:2])
    write_lines(tmp_path / "shards" / "dp_1.jsonl", [rows[2], {"dp_index": 9}])
    found = rescore("medvlthinker", tmp_path, PLAIN)
    assert [row["scores"]["correct"] for row in found.rows] == [1.0, 0.0, 0.0, 1.0, 1.0]
    assert [row["sample"] for row in found.rows] == [0, 1, 0, 1, 0] and found.header["examples"] == 3
    (entry,) = found.report["theirs"]
    assert (entry["theirs"], entry["ours"]) == (pytest.approx(4 / 5), pytest.approx(3 / 5))
    assert entry["reasons"][0].startswith("no single answer can be read, 1 of 5 rows")
    assert found.report["notes"] == [
        "1 prompts list no options: only letters can be matched",
        "1 rows have a num_correct that is not the sum of their is_correct",
    ]
    assert found.report["left_out"]["reasons"] == {"no prompt, answer or output": 1}


@pytest.mark.parametrize(
    "broken", [None, [], {"configs": 3, "results": [1]}, {"configs": {"slake_en": {"generation_kwargs": 0}}}]
)
def test_results_of_any_shape(tmp_path, broken):
    root = lmms(tmp_path, SAMPLES, RESULTS)
    write(root / "Qwen__Qwen2-VL" / "20260801_120000_results.json", broken)
    assert rescore("lmms-eval", root, PLAIN).report["theirs"] == []


@pytest.mark.parametrize("content", ["[" * 100_000, "{", '"x"', ""])
def test_files_that_are_no_json(tmp_path, content):
    folder = tmp_path / "SLAKE"
    folder.mkdir()
    (folder / "results.json").write_text(content)
    with pytest.raises(DataError):
        rescore("medevalkit", tmp_path, PLAIN)
    (tmp_path / "m_Med.json").write_text(content)
    with pytest.raises(DataError):
        rescore("vlmevalkit", tmp_path / "m_Med.json", PLAIN)
