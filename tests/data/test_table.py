import base64
import csv
import json
import math

import pyarrow
import pyarrow.parquet
import pytest

from medrft.data.tables import choices, table
from medrft.data.tables.rows import table_files
from medrft.errors import DataError, UnknownNameError

GOOD = {"image": "img/1.png", "question": "Is there a fracture?", "answer": "No"}


@pytest.fixture
def folder(tmp_path, image_file):
    for number in range(1, 5):
        image_file(tmp_path / "set" / "img" / f"{number}.png", number * 40)
    return tmp_path / "set"


@pytest.fixture
def jsonl(folder):
    """`jsonl(*rows)` writes a table; a text row is written as it is."""

    def write(*rows, name="mine.jsonl"):
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        (folder / name).write_text("\n".join(lines), encoding="utf-8")
        return folder / name

    return write


def only(loaded):
    (example,) = loaded.examples
    return example


def test_a_row(jsonl):
    loaded = table.load_table(
        jsonl({**GOOD, "modality": "X-ray", "ward": 4, "reasoning": "No gap.", "score": math.nan})
    )
    example = only(loaded)
    assert example.id == "mine/train/0"
    assert (example.dataset, example.split, example.kind) == ("mine", "train", "closed")
    assert example.images[0].name == "1.png"
    assert example.references == ("No",)
    assert example.rationale == "No gap."
    assert example.metadata == {"answer": "No", "modality": "X-ray", "ward": 4, "score": None}


def test_columns_are_mapped(jsonl):
    path = jsonl({"pic": "1.png", "q": "Where?", "a": "Left", "set": "val", "n": 7, "scan": "CT"})
    columns = {"image": "pic", "question": "q", "answer": "a", "split": "set", "id": "n", "modality": "scan"}
    example = only(table.load_table(path, columns=columns, image_root=path.parent / "img", dataset="ward"))
    assert (example.id, example.kind, example.metadata["modality"]) == ("ward/validation/7", "open", "CT")


@pytest.mark.parametrize(
    ("change", "reason", "detail"),
    [
        ({"answer": ""}, "empty answer", ""),
        ({"answer": None}, "empty answer", ""),
        ({"answer": ["", None]}, "empty answer", ""),
        ({"answer": math.nan}, "empty answer", ""),
        ({"answer": True}, "answer is not text", "True"),
        ({"answer": {"text": "No"}}, "answer is not text", "text"),
        ({"question": "  "}, "empty question", ""),
        ({"image": ""}, "no image named", ""),
        ({"image": []}, "no image named", ""),
        ({"image": 5}, "no image named", "int"),
        ({"image": "http://host/1.png"}, "no image named", "download it first"),
        ({"image": "data:image/png;base64,%%"}, "no image named", "base64"),
        ({"image": "[img/1.png"}, "no image named", "JSON"),
        ({"image": "img/9.png"}, "missing image", "9.png"),
        ({"image": ["img/1.png", "img/9.png"]}, "missing image", "9.png"),
        ({"split": "fold1"}, "unknown split", "fold1"),
        ({"options": ["CT", "MRI"]}, "answer is not among the options", "CT | MRI"),
    ],
)
def test_rows_left_out(jsonl, change, reason, detail):
    loaded = table.load_table(jsonl(GOOD, {**GOOD, **change}))
    (left,) = loaded.report.left_out
    assert left.reason == reason
    assert detail in left.detail
    assert len(loaded.examples) == 1
    assert sum(loaded.report.read.values()) == 2


def test_missing_column_names_what_was_looked_for_and_found(jsonl):
    (left,) = table.load_table(jsonl(GOOD, {"image": "img/1.png", "question": "?", "reply": "No"})).report.left_out
    assert left.reason == "missing column"
    assert "answers" in left.detail
    assert "columns.answer=NAME" in left.detail
    assert "image, question, reply" in left.detail


@pytest.mark.parametrize("line", ['{"image": ', "[1, 2]", "text", "null"])
def test_malformed_lines_are_listed(jsonl, line):
    loaded = table.load_table(jsonl(GOOD, line, "", GOOD))
    assert loaded.report.reasons() == {"not a row": 1}
    assert [example.id for example in loaded.examples] == ["mine/train/0", "mine/train/2"]


def test_numbers_are_text_and_noted(jsonl):
    loaded = table.load_table(jsonl({**GOOD, "answer": 3}, {**GOOD, "answer": 2.0}, {**GOOD, "answer": 0.25}))
    assert [example.references for example in loaded.examples] == [("3",), ("2",), ("0.25",)]
    assert any("3 answers were numbers" in note for note in loaded.report.notes)


def test_several_references(jsonl):
    path = jsonl({**GOOD, "answer": ["Cardiomegaly", "enlarged heart", "Cardiomegaly"]}, {**GOOD, "answer": "a#b"})
    loaded = table.load_table(path, separator="#")
    assert [example.references for example in loaded.examples] == [("Cardiomegaly", "enlarged heart"), ("a", "b")]


@pytest.mark.parametrize(
    ("options", "answer", "right"),
    [
        (["CT", "MRI"], "mri", "MRI"),
        (["CT", "MRI"], "B", "MRI"),
        ({"A": "CT", "B": "MRI"}, "(a)", "CT"),
        ('{"A": "CT", "B": "MRI"}', "A", "CT"),
        ([{"letter": "A", "content": "CT"}, {"letter": "B", "content": "MRI"}], ["A"], "CT"),
        (["A: CT", "B: MRI"], "A: CT", "CT"),
        (["CT", "MRI"], "B. MRI", "MRI"),
        (["b", "a"], "a", "a"),  # an option's text comes before a letter
        (["Type A", "Type B"], "Type B.", "Type B"),
    ],
)
def test_choices(jsonl, options, answer, right):
    example = only(table.load_table(jsonl({**GOOD, "options": options, "answer": answer})))
    assert (example.kind, example.references) == ("choice", (right,))
    assert right in example.options


def test_choices_in_columns_of_their_own(folder):
    with (folder / "pmc.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["Figure_path", "Question", "Choice A", "Choice B", "Choice C", "Answer"])
        writer.writerow(["img/1.png", "Which?", " A: CT ", " B: MRI ", "", "B"])
    columns = {"image": "Figure_path", "options": ["Choice A", "Choice B", "Choice C"]}
    example = only(table.load_table(folder / "pmc.csv", columns=columns))
    assert (example.options, example.references) == (("CT", "MRI"), ("MRI",))


def test_choice_options_that_are_not_options():
    assert choices.options_of("[not json") == ()
    assert choices.options_of(3) == ()
    assert choices.options_of(None) == ()
    assert choices.resolve_answer("Z", ["CT"]) is None


def test_several_images(jsonl):
    path = jsonl({**GOOD, "image": ["img/1.png", "img/2.png"]}, {**GOOD, "image": '["img/3.png"]'})
    assert [len(example.images) for example in table.load_table(path).examples] == [2, 1]


def test_csv(folder):
    (folder / "a.csv").write_text(
        '\ufeffimage,question,answer\nimg/1.png,"Is it, or not?",Yes\nimg/2.png,Short\nimg/2.png,Long,No,x\n',
        encoding="utf-8",
    )
    loaded = table.load_table(folder / "a.csv")
    assert only(loaded).question == "Is it, or not?"
    assert loaded.report.reasons() == {"missing column": 1, "not a row": 1}


def test_tsv_and_json(folder):
    (folder / "a.tsv").write_text("image\tquestion\tanswer\nimg/1.png\tWhere?\tLeft, right\n")
    (folder / "b.json").write_text(json.dumps([GOOD, 4]))
    assert only(table.load_table(folder / "a.tsv")).references == ("Left, right",)
    assert table.load_table(folder / "b.json").report.reasons() == {"not a row": 1}


def parquet(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def test_parquet_with_images_inside(folder, tmp_path):
    content = (folder / "img" / "1.png").read_bytes()
    rows = [
        {"image": {"bytes": content, "path": "x.png"}, "question": "Where?", "answer": "left"},
        {"image": {"bytes": b"broken", "path": "y.png"}, "question": "Where?", "answer": "left"},
    ]
    path = parquet(tmp_path / "t.parquet", rows)
    loaded = table.load_table(path, cache=tmp_path / "cache")
    example = only(loaded)
    assert example.images[0].parent == tmp_path / "cache" / "images"
    assert "image" not in example.metadata
    assert example.metadata["source"] == ["x.png"]
    assert [row.reason for row in loaded.report.left_out] == ["unreadable image"]
    assert table.load_table(path, cache=tmp_path / "cache").examples == loaded.examples


def test_image_as_a_data_address(jsonl, folder, tmp_path):
    address = "data:image/png;base64," + base64.b64encode((folder / "img" / "1.png").read_bytes()).decode()
    example = only(table.load_table(jsonl({**GOOD, "image": address}), cache=tmp_path / "cache"))
    assert example.images[0].is_file()


def test_a_folder_of_splits(folder, tmp_path):
    row = {"image": "img/1.png", "question": "Where?", "answer": "left"}
    for name in ("train-00000-of-00002", "train-00001-of-00002", "valid-00000-of-00001", "test"):
        parquet(folder / "data" / f"{name}.parquet", [row, row])
    loaded = table.load_table(folder, image_root=folder)
    assert loaded.report.kept == {"train": 4, "validation": 2, "test": 2}
    assert [e.id for e in loaded.split("train")] == [f"set/train/{n}" for n in range(4)]  # numbers run over the shards


def test_a_folder_with_one_table(jsonl):
    assert only(table.load_table(jsonl(GOOD).parent, split="test")).id == "set/test/0"


def test_repeated_ids_are_listed(jsonl):
    loaded = table.load_table(jsonl({**GOOD, "id": 1}, {**GOOD, "id": 1}))
    assert [(row.row, row.reason) for row in loaded.report.left_out] == [("mine/train/1", "repeated id")]


def test_wrong_arguments(folder, jsonl):
    path = jsonl(GOOD)
    with pytest.raises(UnknownNameError, match="did you mean 'answer'"):
        table.load_table(path, columns={"anwser": "a"})
    with pytest.raises(UnknownNameError, match="did you mean 'train'"):
        table.load_table(path, split="training")
    with pytest.raises(DataError, match=r"data\.root"):
        table.load_table(None)
    with pytest.raises(DataError, match=r"nothing is there .*hf:owner/name"):
        table.load_table(folder / "no.csv")
    with pytest.raises(DataError, match=r"its ending is '\.png'"):
        table.load_table(folder / "img" / "1.png")
    with pytest.raises(DataError, match=r"holds no table.*1\.png"):
        table_files(folder / "img")
    jsonl(GOOD, name="other.csv")
    with pytest.raises(DataError, match="says its split"):
        table.load_table(folder)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"question": "\xff"}', "not UTF-8"),
        ("a.json", b"{", "not JSON"),
        ("a.json", b"{}", "list of rows"),
        ("a.parquet", b"no", "not a Parquet file"),
    ],
)
def test_files_that_are_no_table(folder, name, content, message):
    (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        table.load_table(folder / name)


def test_hub(folder, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub")
    features = datasets.Features(
        image=datasets.Image(), question=datasets.Value("string"), answer=datasets.ClassLabel(names=["no", "yes"])
    )
    content = (folder / "img" / "1.png").read_bytes()  # the hub keeps encoded bytes in its Parquet files
    rows = {"image": [{"bytes": content, "path": "1.png"}] * 2, "question": ["Is it?", "Is it not?"], "answer": [0, 1]}
    built = datasets.Dataset.from_dict(rows, features=features)
    built.to_parquet(tmp_path / "owner-name" / "data" / "test-00000-of-00001.parquet")
    loaded = table.load_table(table.Path(f"hf:{tmp_path / 'owner-name'}"), cache=tmp_path / "cache")
    assert [(e.id, e.references, e.kind) for e in loaded.examples] == [
        ("owner-name/test/0", ("no",), "closed"),
        ("owner-name/test/1", ("yes",), "closed"),
    ]
    assert loaded.examples[0].images[0].parent == tmp_path / "cache" / "images"
    assert any("pin it with revision=" in note for note in loaded.report.notes)
    with pytest.raises(DataError, match=r"cannot load .*nowhere"):
        table.load_table(table.Path(f"hf:{tmp_path / 'nowhere'}"))
