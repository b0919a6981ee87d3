"""PathVQA, VQA-Med and the hub forms: real samples where they are, small made releases elsewhere."""

import os
import pickle
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medrft.data.sets import medxpertqa, path_vqa, slake, vqa_med_2019, vqa_med_2021, vqa_rad
from medrft.errors import DataError


def by_id(loaded):
    return {example.id: example for example in loaded.examples}


def reasons(loaded):
    return {row.row: row.reason for row in loaded.report.left_out}


# PathVQA


@pytest.fixture
def path_root(tmp_path, image_file):
    rows = {
        "train": [
            {"image": "train_0000", "question": "Is a mass present?", "answer": "yes"},
            {"image": "train_0000", "question": "What is seen?", "answer": ""},
            {"image": "train_0009", "question": "What is seen?", "answer": "fat"},
            {"image": "train_0000", "question": "How many?"},
            "not a row",
        ],
        "val": [{"image": "val_0000", "question": "What has buds?", "answer": "candida organism"}],
        "test": [{"image": "test_0000", "question": "How many nuclei?", "answer": 2}],
    }
    for name, content in rows.items():
        folder = tmp_path / "pvqa" / "qas" / name
        folder.mkdir(parents=True)
        (folder / f"{name}_qa.pkl").write_bytes(pickle.dumps(content))
        image_file(tmp_path / "pvqa" / "images" / name / f"{name}_0000.jpg", len(name) * 30)
    return tmp_path


def test_path_vqa_official(path_root):
    for root in (path_root, path_root / "pvqa"):
        loaded = path_vqa.load_path_vqa(root)
        assert loaded.report.kept == {"train": 1, "validation": 1, "test": 1}
        assert by_id(loaded)["path_vqa/train/0"].kind == "closed"
        assert by_id(loaded)["path_vqa/test/0"].references == ("2",)
        assert by_id(loaded)["path_vqa/validation/0"].metadata == {"image": "val_0000"}
        assert reasons(loaded) == {
            "path_vqa/train/1": "empty answer",
            "path_vqa/train/2": "missing image",
            "path_vqa/train/3": "missing column",
            "path_vqa/train/4": "not a row",
        }


class Attack:
    def __reduce__(self):
        return os.system, ("touch pwned",)


class Harmless:
    pass


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    ("content", "named"),
    [
        ([Attack()], r"(posix|nt)\.system"),
        ([{"image": Harmless()}], r"[\w.]*test_releases\.Harmless|copy_?reg\.\w+"),
        ([{"image": eval}], r"\w+\.eval"),
        ([getattr], r"\w+\.getattr"),
    ],
)
def test_a_pickle_that_names_anything_is_refused(path_root, monkeypatch, tmp_path, protocol, content, named):
    monkeypatch.chdir(tmp_path)
    (path_root / "pvqa" / "qas" / "train" / "train_qa.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    with pytest.raises(DataError, match=rf"train_qa\.pkl is refused: it asks for ({named})"):
        path_vqa.load_path_vqa(path_root)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_containers_are_admitted(tmp_path, protocol):
    content = [{"a": (1, 2.5, None, True), "b": {1, 2}, "c": frozenset("x"), "d": [2**70, 1j, "é", b"x"]}]
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([{"a": (1, 2.5), "b": {1}, "c": frozenset("x"), "d": ["é", 1j]}]))
    assert path_vqa.read_pickle(tmp_path / "a.pkl")[0]["b"] == {1}
    if protocol >= 3:  # before, bytes are made by a function of codecs
        (tmp_path / "a.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
        assert path_vqa.read_pickle(tmp_path / "a.pkl") == content


@given(content=st.binary(max_size=60))
def test_broken_pickles_are_data_errors(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "broken.pkl"
    path.write_bytes(content)
    try:
        path_vqa.read_pickle(path)
    except DataError as error:
        assert "broken.pkl" in str(error)


def test_path_vqa_needs_a_list_and_a_layout(path_root, tmp_path):
    (path_root / "pvqa" / "qas" / "val" / "val_qa.pkl").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(DataError, match=r"a list of rows in val_qa\.pkl"):
        path_vqa.load_path_vqa(path_root)
    (tmp_path / "other").mkdir()
    with pytest.raises(DataError, match=r"qas/train/train_qa\.pkl .*github"):
        path_vqa.load_path_vqa(tmp_path / "other")


def test_path_vqa_sample(samples, tmp_path, image_file):
    shutil.copytree(samples / "path_vqa" / "qas", tmp_path / "qas")
    rows = path_vqa.read_pickle(tmp_path / "qas" / "val" / "val_qa.pkl")
    for number, name in enumerate(sorted({row["image"] for row in rows})):
        image_file(tmp_path / "images" / "val" / f"{name}.jpg", number * 20)
    loaded = path_vqa.load_path_vqa(tmp_path)
    assert loaded.report.kept == {"train": 0, "validation": 21, "test": 0}
    assert {example.kind for example in loaded.examples} == {"closed", "open"}


HUB_ROWS = [{"image": 10, "question": "Is it?", "answer": "yes"}, {"image": 20, "question": "What?", "answer": "fat"}]


@pytest.mark.parametrize(
    "load",
    [
        path_vqa.load_path_vqa,
        vqa_rad.load_vqa_rad,
        slake.load_slake,
        vqa_med_2019.load_vqa_med_2019,
        vqa_med_2021.load_vqa_med_2021,
    ],
)
def test_hub_form_in_a_local_folder(load, parquet, tmp_path):
    parquet("train-00000-of-00002.parquet", HUB_ROWS)
    parquet("train-00001-of-00002.parquet", HUB_ROWS[:1])
    loaded = load(parquet("test-00000-of-00001.parquet", HUB_ROWS[1:]), cache=tmp_path / "cache")
    assert (loaded.report.kept["train"], loaded.report.kept["test"]) == (3, 1)
    first = by_id(loaded)[f"{loaded.report.dataset}/train/h0"]  # rows of the hub are not the official rows
    assert first.images[0].parent == tmp_path / "cache" / "images"
    assert {example.kind for example in loaded.split("test")} == {"open"}


def test_hub_id(parquet, tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    root = parquet("train-00000-of-00001.parquet", HUB_ROWS)
    loaded = path_vqa.load_path_vqa(path_vqa.Path(f"hf:{root}"), cache=tmp_path / "cache")
    assert [example.id for example in loaded.examples] == ["path_vqa/train/h0", "path_vqa/train/h1"]
    assert any("pin it with revision=" in note for note in loaded.report.notes)


def test_a_hub_row_that_lacks_something(parquet, tmp_path):
    root = parquet("train.parquet", [{"image": 1, "question": "?", "reply": "x"}])
    assert reasons(path_vqa.load_path_vqa(root, cache=tmp_path)) == {"path_vqa/train/h0": "missing column"}
    with pytest.raises(DataError, match="English, got lang=zh"):
        slake.load_slake(root, lang="zh")


# VQA-Med


TRAIN = "synpic1|which organ?|lung, mediastinum, pleura\nsynpic1|is this a ct?|yes\n\nsynpic9|plane?|axial\nbroken|x\n"
TEST = "synpic3|organ|what organ?|face, sinuses, and neck#skull and contents\nsynpic3|modality|ct?|no\na|b|c\n"


@pytest.fixture
def med_root(tmp_path, image_file):
    root = tmp_path / "med"
    for folder, name, text, images, number in (
        ("ImageClef-2019-VQA-Med-Training", "All_QA_Pairs_train.txt", TRAIN, "Train_images", 1),
        ("ImageClef-2019-VQA-Med-Validation", "All_QA_Pairs_val.txt", "synpic2|plane?|axial\n", "Val_images", 2),
        ("VQAMed2019Test", vqa_med_2019.TEST, TEST, "VQAMed2019_Test_Images", 3),
    ):
        image_file(root / folder / images / f"synpic{number}.jpg", number * 40)
        (root / folder / name).write_text(text)
    by_category = root / "ImageClef-2019-VQA-Med-Training" / "QAPairsByCategory"
    by_category.mkdir()
    (by_category / "C3_Organ_train.txt").write_text("synpic1|which organ?|lung, mediastinum, pleura\n")
    return root


def test_vqa_med_2019(med_root):
    loaded = vqa_med_2019.load_vqa_med_2019(med_root)
    assert loaded.report.read == {"train": 4, "validation": 1, "test": 3}
    found = by_id(loaded)
    organ = found["vqa_med_2019/train/0"]
    assert organ.references == ("lung, mediastinum, pleura",)  # the comma is part of one class
    assert organ.metadata == {"synpic_id": "synpic1", "category": "organ", "question_type": "organ"}
    assert found["vqa_med_2019/train/1"].kind == "closed"
    several = found["vqa_med_2019/test/0"]
    assert several.references == ("face, sinuses, and neck", "skull and contents")
    assert several.metadata["category"] == "organ"
    assert reasons(loaded) == {
        "vqa_med_2019/train/3": "missing image",  # the blank line keeps its number
        "vqa_med_2019/train/4": "not a row",
        "vqa_med_2019/test/2": "not a row",
    }


def test_vqa_med_2019_by_category_alone(med_root):
    (med_root / "ImageClef-2019-VQA-Med-Training" / "All_QA_Pairs_train.txt").unlink()
    assert "vqa_med_2019/train/C3_Organ-0" in by_id(vqa_med_2019.load_vqa_med_2019(med_root))


def test_vqa_med_2019_not_utf8_or_not_there(med_root, tmp_path):
    (med_root / "VQAMed2019Test" / vqa_med_2019.TEST).write_bytes(b"synpic3|organ|?|\xff\n")
    with pytest.raises(DataError, match="not UTF-8 text"):
        vqa_med_2019.load_vqa_med_2019(med_root)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"All_QA_Pairs_train\.txt"):
        vqa_med_2019.load_vqa_med_2019(tmp_path / "empty")


def test_vqa_med_2019_sample(samples, tmp_path, image_file):
    root = samples / "vqa_med_2019"
    lines = [line for path in root.glob("*.txt") for line in path.read_text().splitlines() if line]
    for number, name in enumerate({line.split("|")[0] for line in lines}):
        image_file(tmp_path / f"{name}.jpg", number * 5)
    loaded = vqa_med_2019.load_vqa_med_2019(root, image_root=tmp_path)
    assert loaded.report.kept == {"train": 48, "validation": 0, "test": 14}
    assert sum(len(example.references) > 1 for example in loaded.split("test")) == 6
    assert not any("#" in text for example in loaded.examples for text in example.references)


@pytest.fixture
def med21_root(tmp_path, image_file):
    root = tmp_path / "med21"
    test, new = root / "Task1-VQA-2021-TestSet-w-GroundTruth", root / "new"
    for folder in (test, new):
        folder.mkdir(parents=True)
    (test / vqa_med_2021.QUESTIONS).write_text("synpic1|what is wrong?\nsynpic2|what?\nsynpic3|what?\nno bar\n")
    (test / vqa_med_2021.ANSWERS).write_text("synpic1|clavicle fracture|broken clavicle\nsynpic3|cyst\nsynpic8|mass\n")
    _, name, images = vqa_med_2021.PAIRS[2]
    (new / name).write_text("synpic4|is this normal?|no\n")
    image_file(new / images / "synpic4.jpg", 4)
    for number in (1, 2, 3):
        image_file(test / "VQA-500-Images" / f"synpic{number}.jpg", number * 30)
    return root


def test_vqa_med_2021(med21_root):
    loaded = vqa_med_2021.load_vqa_med_2021(med21_root)
    assert loaded.report.kept == {"train": 0, "validation": 1, "test": 2}
    assert by_id(loaded)["vqa_med_2021/test/synpic1"].references == ("clavicle fracture", "broken clavicle")
    assert by_id(loaded)["vqa_med_2021/validation/synpic4"].kind == "closed"
    assert reasons(loaded) == {"vqa_med_2021/test/synpic2": "empty answer", "vqa_med_2021/test/row3": "not a row"}
    assert any("answers but no question: synpic8" in note for note in loaded.report.notes)
    assert [count.split for count in loaded.counts] == ["validation", "test"]  # train is another release
    (med21_root / "VQAnswering_2020_Train_QA_pairs.txt").write_text("synpic1|what?|a cyst|of the liver\n")
    again = vqa_med_2021.load_vqa_med_2021(
        med21_root, image_root=med21_root / "Task1-VQA-2021-TestSet-w-GroundTruth/VQA-500-Images"
    )
    assert by_id(again)["vqa_med_2021/train/synpic1"].references == ("a cyst|of the liver",)
    assert again.counts[0].expected == 4_500
    (med21_root / "Task1-VQA-2021-TestSet-w-GroundTruth" / vqa_med_2021.ANSWERS).unlink()
    with pytest.raises(DataError, match="ReferenceAnswers"):
        vqa_med_2021.load_vqa_med_2021(med21_root)


PART = st.text(st.characters(exclude_characters="|#\n", exclude_categories=["Cs"]), max_size=12)


@given(image=PART, question=PART, answers=st.lists(PART, min_size=1, max_size=4))
def test_lines_of_vqa_med_come_back(image, question, answers):
    clean = [part.strip() for part in answers]
    assert vqa_med_2019.parse_pair(f"{image}|{question}|{answers[0]}") == (image.strip(), question.strip(), clean[0])
    tested = vqa_med_2019.parse_test(f"{image}|organ|{question}|{'#'.join(answers)}")
    assert tested == (image.strip(), "organ", question.strip(), tuple(clean))
    named, accepted = vqa_med_2021.parse_answers(f"{image}|{'|'.join(answers)}")
    assert (named, accepted) == (image.strip(), tuple(part for part in clean if part))


@given(line=st.text(max_size=40))
def test_no_line_breaks_the_parsers(line):
    bars = line.count("|")
    assert (vqa_med_2019.parse_pair(line) is None) == (bars < 2)
    assert (vqa_med_2019.parse_test(line) is None) == (bars < 3)
    assert isinstance(vqa_med_2021.parse_answers(line)[0], str)
    assert isinstance(medxpertqa.without_choices(line), str)
