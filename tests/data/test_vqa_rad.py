import json

import pytest

from medrft.data.sets import vqa_rad
from medrft.errors import DataError, UnknownNameError


@pytest.fixture
def loaded(vqa_rad_root):
    return vqa_rad.load_vqa_rad(vqa_rad_root)


@pytest.fixture
def by_id(loaded):
    return {example.id: example for example in loaded.examples}


def test_split_follows_phrase_type(loaded):
    assert loaded.report.read == {"train": 8, "test": 2}
    assert loaded.report.kept == {"train": 6, "test": 2}
    assert {example.id for example in loaded.split("test")} == {"vqa_rad/test/1", "vqa_rad/test/8"}


def test_left_out_rows_are_listed(loaded):
    left = {row.row: (row.split, row.reason) for row in loaded.report.left_out}
    assert left == {
        "vqa_rad/train/5": ("train", "empty answer"),  # the string "NULL"
        "vqa_rad/train/6": ("train", "missing image"),
    }


def test_qid_as_text_and_as_number(by_id):
    assert {"vqa_rad/train/0", "vqa_rad/train/2"} <= set(by_id)


def test_integer_answer_is_text_and_noted(loaded, by_id):
    assert by_id["vqa_rad/train/2"].references == ("12",)
    assert by_id["vqa_rad/train/2"].metadata["answer_official"] == 12
    assert any("1 answer was a number" in note and "vqa_rad/train/2" in note for note in loaded.report.notes)


def test_tabs_and_spaces(by_id):
    assert by_id["vqa_rad/train/2"].question == "How many ribs are seen?"
    assert by_id["vqa_rad/train/3"].references == ("Heart, lungs",)  # the tab stands where a comma stood
    assert by_id["vqa_rad/train/3"].metadata["answer_official"] == "Heart \tlungs"
    assert by_id["vqa_rad/test/1"].references == ("no",)
    assert by_id["vqa_rad/test/1"].metadata["answer_type"] == "CLOSED"


def test_closed_is_yes_or_no_whatever_the_answer_type(by_id):
    assert by_id["vqa_rad/train/0"].kind == "closed"
    assert by_id["vqa_rad/test/1"].kind == "closed"
    either_or = by_id["vqa_rad/train/4"]
    assert (either_or.kind, either_or.options, either_or.metadata["answer_type"]) == ("open", (), "CLOSED")
    assert by_id["vqa_rad/train/9"].kind == "open"  # "None" is an answer, neither null nor no
    assert by_id["vqa_rad/train/9"].references == ("None",)


def test_null_is_a_string(by_id):
    assert by_id["vqa_rad/train/0"].metadata["question_rephrase"] is None
    assert by_id["vqa_rad/train/0"].metadata["question_relation"] == "strict agreement"
    assert by_id["vqa_rad/train/9"].metadata["question_relation"] is None


def test_question_types_have_one_spelling(by_id):
    types = {name: example.metadata["question_type"] for name, example in by_id.items()}
    assert types["vqa_rad/train/4"] == "POS, PRES"
    assert types["vqa_rad/train/7"] == "PRES"  # "PRSE"
    assert types["vqa_rad/train/9"] == "OTHER"
    assert by_id["vqa_rad/train/7"].metadata["question_type_official"] == "PRSE"
    assert "question_type_official" not in by_id["vqa_rad/train/0"].metadata
    assert by_id["vqa_rad/test/8"].metadata["organ"] == "abdomen"


def test_shared_images_are_noted(loaded):
    assert any(note.startswith("train and test share 1 image, used by 1 rows of train") for note in loaded.report.notes)


@pytest.mark.parametrize("row", [["a list"], {"qid": 20}, {"qid": 21, "image_name": "x.jpg", "question": "?"}, None])
def test_malformed_rows_do_not_stop_the_load(vqa_rad_root, row):
    path = vqa_rad_root / vqa_rad.OFFICIAL
    path.write_text(json.dumps([*json.loads(path.read_text()), row]))
    loaded = vqa_rad.load_vqa_rad(vqa_rad_root)
    assert sum(loaded.report.kept.values()) == 8
    assert sum(loaded.report.read.values()) == 11
    assert loaded.report.reasons()["missing column" if isinstance(row, dict) else "not a row"] == 1


def test_a_repeated_id_is_listed(vqa_rad_root):
    path = vqa_rad_root / vqa_rad.OFFICIAL
    rows = json.loads(path.read_text())
    path.write_text(json.dumps([*rows, rows[0]]))
    left = vqa_rad.load_vqa_rad(vqa_rad_root).report.left_out
    assert [row.row for row in left if row.reason == "repeated id"] == ["vqa_rad/train/0"]


def test_community_form(vqa_rad_root):
    rows = json.loads((vqa_rad_root / vqa_rad.OFFICIAL).read_text())
    keys = ["qid", "image_name", "image_organ", "answer", "answer_type", "question_type", "question", "phrase_type"]
    short = [{key: row[key] for key in keys} for row in rows]
    (vqa_rad_root / "trainset.json").write_text(json.dumps(short[2:5]))
    (vqa_rad_root / "testset.json").write_text(json.dumps(short[:1]))
    assert len(vqa_rad.load_vqa_rad(vqa_rad_root).examples) == 8  # the official file comes first
    loaded = vqa_rad.load_vqa_rad(vqa_rad_root, form="community")
    assert loaded.report.kept == {"train": 3, "test": 1}
    assert loaded.examples[-1].id == "vqa_rad/test/c0"  # these qids are not the official ones
    (vqa_rad_root / vqa_rad.OFFICIAL).unlink()
    assert vqa_rad.load_vqa_rad(vqa_rad_root).report.kept == {"train": 3, "test": 1}
    (vqa_rad_root / "testset.json").unlink()
    with pytest.raises(DataError, match=r"testset\.json is missing"):
        vqa_rad.load_vqa_rad(vqa_rad_root)


def test_missing_root_and_wrong_layout(vqa_rad_root, tmp_path):
    with pytest.raises(DataError, match=r"data\.root.*VQA_RAD Dataset Public\.json.*osf\.io"):
        vqa_rad.load_vqa_rad(None)
    with pytest.raises(DataError, match=r"nothing is there .* holds vqa_rad/.*osf\.io"):
        vqa_rad.load_vqa_rad(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"looked for .*VQA_RAD Dataset Public\.json.*found synpic1\.jpg"):
        vqa_rad.load_vqa_rad(vqa_rad_root / "VQA_RAD Image Folder")
    with pytest.raises(UnknownNameError, match="did you mean 'official'"):
        vqa_rad.load_vqa_rad(vqa_rad_root, form="offical")
    (vqa_rad_root / "VQA_RAD Image Folder").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="the image folder 'VQA_RAD Image Folder' is missing"):
        vqa_rad.load_vqa_rad(vqa_rad_root)


def test_broken_json_names_the_file(vqa_rad_root):
    (vqa_rad_root / vqa_rad.OFFICIAL).write_text('[{"qid": 1,')
    with pytest.raises(DataError, match=r"VQA_RAD Dataset Public\.json is not JSON"):
        vqa_rad.load_vqa_rad(vqa_rad_root)


def test_official_release(shared_data):
    loaded = vqa_rad.load_vqa_rad(shared_data / "vqa_rad")
    assert loaded.report.read == loaded.report.kept == {"train": 1797, "test": 451}
    assert len({path for example in loaded.examples for path in example.images}) == 314
    kinds = [example.kind for example in loaded.split("test")]
    assert (kinds.count("closed"), kinds.count("open")) == (251, 200)
    assert len({example.metadata["question_type"] for example in loaded.examples}) < 26
    assert any("train and test share 202 images" in note for note in loaded.report.notes)
    assert any("5 answers were numbers" in note for note in loaded.report.notes)
    texts = [text for example in loaded.examples for text in (example.question, *example.references)]
    assert not any("\t" in text or text != text.strip() for text in texts)


def test_community_release(shared_data):
    loaded = vqa_rad.load_vqa_rad(shared_data / "vqa_rad", form="community")
    assert loaded.report.read == loaded.report.kept == {"train": 3064, "test": 451}
