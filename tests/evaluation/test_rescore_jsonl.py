from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foreign_files import write_lines
from medrft.errors import DataError, UnknownNameError
from medrft.evaluation.rescore import rescore
from medrft.text import answer_of

PLAIN = {"encoder": "none"}
ROW = {"id": 3, "question": "which side is obscured?", "reference": "right", "prediction": "left"}


def test_columns_by_their_usual_names(tmp_path):
    rows = [
        ROW,
        {
            "qid": "a",
            "question": "is it?",
            "answer": "yes",
            "response": "Yes, it is.",
            "image": "x1.jpg",
            "correct": True,
        },
        {"question": "which?", "answer": "B", "options": {"A": "CT", "B": "MRI"}, "output": "mri", "split": "val"},
    ]
    found = rescore("jsonl", write_lines(tmp_path / "in.jsonl", rows), {**PLAIN, "dataset": "vqa_rad"})
    assert [row["id"] for row in found.rows] == ["vqa_rad/test/3", "vqa_rad/test/a", "vqa_rad/validation/2"]
    assert [row["kind"] for row in found.rows] == ["open", "closed", "choice"]
    assert [row["scores"]["correct"] for row in found.rows] == [0.0, 1.0, 1.0]
    assert found.report["clustered_by"] == "images where known, else questions" and found.rows[1]["theirs"] == 1.0
    assert found.rows[0]["scores"]["clinical"] < 0.05 and found.report["theirs"] == []


def test_a_table_of_answers_is_read_as_one_of_data_is(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text("id;Question ;Answer;Prediction\n1;Größe?;2 cm;2cm\n2;What is seen?;;mass\n", encoding="cp1252")
    with pytest.raises(DataError, match="encoding"):
        rescore("jsonl", path, PLAIN)
    found = rescore("jsonl", path, {**PLAIN, "encoding": "cp1252"})
    (row,) = found.rows
    assert (row["id"], row["question"], row["scores"]["clinical"]) == ("in/test/1", "Größe?", 1.0)
    assert found.report["left_out"]["reasons"] == {"no reference": 1}
    (tmp_path / "in.json").write_text('[{"question": "is it?", "reference": "yes", "prediction": "no"}]')
    assert rescore("jsonl", tmp_path / "in.json", PLAIN).rows[0]["scores"]["correct"] == 0.0


def test_columns_can_be_named(tmp_path):
    path = write_lines(tmp_path / "in.jsonl", [{"q": "is it?", "gold": ["yes", "y"], "said": "yes", "pic": ["a", "b"]}])
    named = {"question": "q", "reference": "gold", "prediction": "said", "images": "pic"}
    (row,) = rescore("jsonl", path, {**PLAIN, **named}).rows
    assert (row["references"], row["images"], row["dataset"]) == (["yes", "y"], ["a", "b"], "in")


def test_intervals_are_clustered_by_image(tmp_path):
    rows = [{**ROW, "id": i, "prediction": "right" if i < 10 else "left", "image": f"x{i // 10}"} for i in range(20)]
    report = rescore("jsonl", write_lines(tmp_path / "in.jsonl", rows), PLAIN).report
    metric = report["results"]["in"]["none"]["open"]["exact_match"]
    assert metric["low"] < 0.01 and metric["high"] > 0.99 and report["clustered_by"] == "images"
    apart = [{key: value for key, value in row.items() if key != "image"} for row in rows]
    report = rescore("jsonl", write_lines(tmp_path / "in.jsonl", apart), PLAIN).report
    assert report["results"]["in"]["none"]["open"]["exact_match"]["low"] > 0.1 and report["clustered_by"] == "questions"


def test_rows_that_cannot_be_read_are_listed(tmp_path):
    path = write_lines(tmp_path / "in.jsonl", [ROW, {}, [1], {**ROW, "reference": []}, {**ROW, "prediction": None}])
    path.write_text(path.read_text() + "not json\n")
    report = rescore("jsonl", path, PLAIN).report
    assert report["read"] == 1
    assert report["left_out"]["reasons"] == {
        "no question": 1,
        "not an object": 1,
        "not JSON in UTF-8": 1,
        "no reference": 1,
        "no prediction": 1,
    }
    assert report["left_out"]["rows"][-1]["row"] == "in.jsonl:6"


ODD = [
    None,
    True,
    0,
    -3,
    2.5,
    "",
    " ",
    "left",
    "<think>",
    "\ud800",
    [],
    [None],
    ["a", 1],
    {},
    {"A": "CT", "B": []},
    "[1",
]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.dictionaries(st.sampled_from([*ROW, "image", "options", "correct"]), st.sampled_from(ODD)), max_size=4)
)
def test_any_row_is_kept_or_listed(tmp_path_factory, rows):
    path = write_lines(tmp_path_factory.mktemp("any") / "in.jsonl", [ROW, *rows])
    found = rescore("jsonl", path, {**PLAIN})
    assert len(found.rows) + len(found.report["left_out"]["rows"]) == 1 + len(rows)
    found.write(path.parent / "out")


@given(
    st.lists(
        st.sampled_from(["<think>", "</think>", "<answer>", "</answer>", r"\boxed{", "}", "yes", " ", "\n"]),
        max_size=12,
    )
)
def test_any_output_is_read_or_not(parts):
    answer = answer_of("".join(parts))
    assert answer is None or (answer == answer.strip() and answer)


@pytest.mark.parametrize(
    ("evaluator", "options", "error", "message"),
    [
        ("medevalkti", {}, UnknownNameError, "did you mean 'medevalkit'"),
        ("jsonl", {"colour": 1}, UnknownNameError, "--set option of jsonl"),
        ("medevalkit", {"reference": "gold"}, UnknownNameError, "--set option of medevalkit"),
        ("jsonl", {"reference": "gold"}, DataError, "no reference"),
    ],
)
def test_mistakes(tmp_path, evaluator, options, error, message):
    path = write_lines(tmp_path / "in.jsonl", [ROW])
    with pytest.raises(error, match=message):
        rescore(evaluator, path, {**PLAIN, **options})
    with pytest.raises(DataError, match="nothing at"):
        rescore("jsonl", tmp_path / "absent.jsonl", PLAIN)


def test_rows_are_tied_to_the_data(tmp_path, vqa_rad_root):
    from medrft.config import DataConfig
    from medrft.data import load_data

    examples = load_data(DataConfig(name="vqa_rad", root=str(vqa_rad_root)), seed=0, cut=False).split("test")
    asked = [
        {"question": e.question.upper(), "reference": e.references[0].upper(), "prediction": "x"} for e in examples
    ]
    path = write_lines(tmp_path / "in.jsonl", [*asked, ROW])
    found = rescore("jsonl", path, {**PLAIN, "dataset": "vqa_rad"}, examples=examples)
    assert [row["id"] for row in found.rows] == [*(e.id for e in examples), "vqa_rad/test/3 (not in the data)"]
    assert [len(row["images"]) for row in found.rows] == [1] * len(examples) + [0]
    assert found.rows[0]["references"] == list(examples[0].references)
    assert found.report["notes"] == [
        f"{len(examples)} of {len(examples) + 1} questions found in the data, by question and reference"
    ]


def test_one_question_about_two_images_takes_both(tmp_path):
    from medrft.evaluation.rescore.foreign import Answered
    from medrft.evaluation.rescore.perform import link_rows
    from medrft.types import Example

    files = [tmp_path / name for name in ("a.png", "b.png")]
    for file in files:
        file.write_bytes(file.name.encode())
    asked = {"dataset": "x", "split": "test", "question": "Where?"}
    examples = [Example(id=f"x/test/{f.stem}", images=(f,), references=("left",), kind="open", **asked) for f in files]
    rows = [
        Answered(id=f"x/test/{i}", references=("Left",), output="left", sample=sample, **asked)
        for i in range(3)
        for sample in (0, 1)
    ]
    made, notes = link_rows(rows, examples)
    assert [row.id for row in made] == [
        "x/test/a",
        "x/test/a",
        "x/test/b",
        "x/test/b",
        *["x/test/2 (not in the data)"] * 2,
    ]
    assert notes[0].startswith("2 of 3 questions found") and "given these in order" in notes[1]


def test_an_id_that_comes_again(tmp_path):
    rows = [ROW, {**ROW, "prediction": "right"}, {**ROW, "question": "another?"}]
    found = rescore("jsonl", write_lines(tmp_path / "in.jsonl", rows), PLAIN)
    assert [(row["id"], row["sample"]) for row in found.rows] == [("in/test/3", 0), ("in/test/3", 1)]
    assert found.report["left_out"]["reasons"] == {"the id of another question": 1}
