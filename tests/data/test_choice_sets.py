"""PMC-VQA, MedXpertQA and OmniMedVQA: real samples where they are, small made releases elsewhere."""

import json
import shutil
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medrft.config import DataConfig
from medrft.data import load_data
from medrft.data.base import Reading
from medrft.data.fields import Fields, find_column, keep_row
from medrft.data.sets import medxpertqa, omnimedvqa, pmc_vqa
from medrft.errors import DataError, UnknownNameError
from pmc_tables import CHOICES, V1, V2, write_csv


def by_id(loaded):
    return {example.id: example for example in loaded.examples}


def reasons(loaded):
    return {row.row: row.reason for row in loaded.report.left_out}


def medx_row(number, **more):
    options = [{"letter": letter, "content": text} for letter, text in zip("ABC", ("B", "C", "A"), strict=True)]
    return {
        "id": f"MM-{number}",
        "question": "Which figure?\nAnswer Choices: (A) B (B) C (C) A",
        "options": options,
        "label": ["A"],
        "images": [{"image_path": "MM-0-a.jpeg"}, {"image_path": "MM-0-b.png"}],
        "body_system": "Skeletal",
        "medical_task": "Diagnosis",
        **more,
    }


HUB_FORM = {"options": {"A": "B", "B": "C", "C": "A", "D": None}, "label": "A", "images": ["MM-0-a.jpeg", "MM-0-b.png"]}


@pytest.mark.parametrize("row", [medx_row(0), medx_row(0, **HUB_FORM)])
@pytest.mark.parametrize("folder", ["MM", "."])
def test_medxpertqa(row, folder, tmp_path, image_file):
    (tmp_path / folder).mkdir(exist_ok=True)
    rows = [row, {**row, "id": "MM-1", "label": "E"}, {**row, "id": "MM-2", "images": []}, {"id": "MM-3"}]
    (tmp_path / folder / "test.jsonl").write_text("\n".join(json.dumps(r) for r in rows))
    (tmp_path / folder / "dev.jsonl").write_text(json.dumps({**row, "id": "MM-4"}))
    for number, name in enumerate(("MM-0-a.jpeg", "MM-0-b.png")):
        image_file(tmp_path / "images" / name, number * 90)
    loaded = medxpertqa.load_medxpertqa(tmp_path)
    example = by_id(loaded)["medxpertqa/test/MM-0"]
    assert example.question == "Which figure?"  # the prompt prints the options
    assert (example.kind, example.options, example.references) == ("choice", ("B", "C", "A"), ("B",))  # not the text A
    assert [path.name for path in example.images] == ["MM-0-a.jpeg", "MM-0-b.png"]
    assert example.metadata["organ"] == "Skeletal"
    assert "medxpertqa/validation/MM-4" in by_id(loaded)
    assert reasons(loaded) == {
        "medxpertqa/test/MM-1": "answer is not among the options",
        "medxpertqa/test/MM-2": "no image named",
        "medxpertqa/test/3": "missing column",
    }


def test_medxpertqa_sample(samples, tmp_path, image_file):
    root = samples / "medxpertqa_mm"
    rows = [json.loads(line) for line in (root / "test.jsonl").read_text(encoding="utf-8").splitlines()]
    names = {image["image_path"] for row in rows for image in row["images"]}
    for number, name in enumerate(sorted(names)):
        image_file(tmp_path / name, number * 6)
    loaded = medxpertqa.load_medxpertqa(root, image_root=tmp_path)
    assert loaded.report.kept == {"validation": 0, "test": 20}
    assert [len(e.images) for e in loaded.examples] == [len(row["images"]) for row in rows]
    assert not any("Answer Choices" in e.question or "(A)" in e.question for e in loaded.examples)
    for example, row in zip(loaded.examples, rows, strict=True):
        (right,) = (option["content"] for option in row["options"] if option["letter"] == row["label"][0])
        assert example.references == (" ".join(right.split()),)
        assert len(example.options) == 5


def test_medxpertqa_layout(tmp_path):
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(DataError, match=r"MM/dev\.jsonl"):
        medxpertqa.load_medxpertqa(tmp_path)


def omni_row(number, **more):
    options = {"option_A": "CT.", "option_B": "MRI."}
    row = {"dataset": "Toy", "question_id": f"Toy_{number}", "question": "Which?", "gt_answer": "MRI."}
    return {**row, "image_path": "Images/Toy/0.png", **options, "modality": "MR", **more}


def test_omnimedvqa(tmp_path, image_file):
    for folder in omnimedvqa.FOLDERS.values():
        (tmp_path / "QA_information" / folder).mkdir(parents=True)
    image_file(tmp_path / "Images" / "Toy" / "0.png", 5)
    rows = [omni_row(0), omni_row(1, gt_answer="PET"), omni_row(2, image_path="Images/no.png"), [], {"question": "?"}]
    (tmp_path / "QA_information" / "Open-access" / "Toy.json").write_text(json.dumps(rows))
    closed = [omni_row(5, dataset="Shut", option_C="yes", gt_answer="yes")]
    (tmp_path / "QA_information" / "Restricted-access" / "Shut.json").write_text(json.dumps(closed))
    loaded = omnimedvqa.load_omnimedvqa(tmp_path)
    (example,) = loaded.examples
    assert (example.id, example.split, example.options) == ("omnimedvqa/test/Toy_0", "test", ("CT.", "MRI."))
    assert (example.references, example.metadata["modality"]) == (("MRI.",), "MR")  # this file says `modality`
    assert reasons(loaded) == {
        "omnimedvqa/test/Toy_1": "answer is not among the options",
        "omnimedvqa/test/Toy_2": "missing image",
        "omnimedvqa/test/Toy-row3": "not a row",
        "omnimedvqa/test/Toy-row4": "missing column",
    }
    assert [e.kind for e in omnimedvqa.load_omnimedvqa(tmp_path, access="restricted").examples] == ["choice"]
    assert len(omnimedvqa.load_omnimedvqa(tmp_path, access="all").examples) == 2
    with pytest.raises(UnknownNameError, match="did you mean 'open'"):
        omnimedvqa.load_omnimedvqa(tmp_path, access="opn")
    with pytest.raises(DataError, match="QA_information/Open-access"):
        omnimedvqa.load_omnimedvqa(tmp_path / "Images")


def test_omnimedvqa_sample(samples, tmp_path, image_file):
    folder = tmp_path / "QA_information" / "Open-access"
    folder.mkdir(parents=True)
    shutil.copy(samples / "omnimedvqa" / "RUS CHN.json", folder)
    for number in range(30):
        image_file(tmp_path / "Images" / "RUS CHN" / f"{number:04}.png", number)
    loaded = omnimedvqa.load_omnimedvqa(tmp_path)
    assert loaded.report.kept == {"test": 30}
    assert {(e.kind, e.references, e.metadata["modality"]) for e in loaded.examples} == {
        ("choice", ("x_ray.",), "X-Ray")
    }


# PMC-VQA


def test_pmc_vqa_v1(tmp_path, image_file):
    image_file(tmp_path / "images" / "PMC1.jpg", 3)
    wrong = [{**V1, "Answer_label": "C"}, {**V1, "Figure_path": "PMC2.jpg"}]  # C is empty
    write_csv(tmp_path / "train.csv", [V1, *wrong])
    write_csv(tmp_path / "test.csv", [V1, V1])
    write_csv(tmp_path / "test_clean.csv", [{**V1, "Answer": "None of these", "Answer_label": "D"}])
    loaded = pmc_vqa.load_pmc_vqa(tmp_path)
    assert by_id(loaded)["pmc_vqa/train/0"].options == ("Diffuse", "Focal", "None of these")
    assert by_id(loaded)["pmc_vqa/train/0"].references == ("Focal",)
    assert by_id(loaded)["pmc_vqa/test/clean-0"].references == ("None of these",)  # D, though it is the third left
    assert reasons(loaded) == {
        "pmc_vqa/train/1": "answer is not among the options",
        "pmc_vqa/train/2": "missing image",
    }
    assert pmc_vqa.load_pmc_vqa(tmp_path, test="full", only="test").report.kept == {"test": 2}


def test_pmc_vqa_v2(tmp_path, image_file):
    image_file(tmp_path / "images_2" / "PMC1_1.jpg", 3)
    write_csv(tmp_path / "train_2.csv", [V2])
    write_csv(tmp_path / "test_2.csv", [{**V2, "Answer": " A "}])
    loaded = pmc_vqa.load_pmc_vqa(tmp_path)
    assert by_id(loaded)["pmc_vqa/train/v2-0"].references == ("None of these",)
    assert by_id(loaded)["pmc_vqa/train/v2-0"].metadata["Caption"] == "a, b"
    assert by_id(loaded)["pmc_vqa/test/v2-0"].references == ("Diffuse",)
    with pytest.raises(DataError, match=r"train\.csv or test_clean\.csv"):
        pmc_vqa.load_pmc_vqa(tmp_path, version="v1")
    with pytest.raises(UnknownNameError, match="version of pmc_vqa"):
        pmc_vqa.load_pmc_vqa(tmp_path, version="v3")


def test_pmc_vqa_hub_form(parquet, tmp_path):
    row = {"image": 9, "caption": "x", "question": "Which?", "answer": "D", "answer label": "D"}
    root = parquet("train-0.parquet", [{**row, **{key.lower(): value for key, value in CHOICES.items()}}])
    (example,) = pmc_vqa.load_pmc_vqa(root, cache=tmp_path / "cache").examples
    assert (example.id, example.kind, example.references) == ("pmc_vqa/train/h0", "choice", ("None of these",))


def test_columns_are_found_whatever_their_spelling():
    assert find_column({"Choice A": 1}, "choice_a") == 1
    assert find_column({"x": 1}, "y") is None


def test_v2_figures_are_not_in_v1(tmp_path, image_file, monkeypatch):
    monkeypatch.setattr(pmc_vqa, "V2", replace(pmc_vqa.V2, rows={"train": 1}))
    write_csv(tmp_path / "train_2.csv", [{**V1, "Figure_path": "PMC1_1.jpg"}])
    image_file(tmp_path / "images" / "PMC1.jpg", 1)
    (count,) = pmc_vqa.load_pmc_vqa(tmp_path).counts
    assert "unpack images_2.zip; v1's images.zip does not hold them" in count.cause


def test_no_image_at_all_says_what_to_unpack(tmp_path, monkeypatch):
    monkeypatch.setattr(pmc_vqa, "V2", replace(pmc_vqa.V2, rows={"train": 1}))
    write_csv(tmp_path / "train_2.csv", [V2])
    with pytest.raises(DataError, match=r"no row is left of 1 read \(missing image: 1\).*unpack images_2\.zip"):
        load_data(DataConfig(name="pmc_vqa", root=str(tmp_path)), seed=0)


@given(text=st.text(max_size=30), answers=st.lists(st.none() | st.text(max_size=4) | st.floats() | st.booleans()))
def test_any_row_is_kept_or_left_out(text, answers):
    reading = Reading("toy")
    options = dict(zip("ABCD", filter(str.strip, text.split(",")), strict=False))
    for number, answer in enumerate(answers):
        for lettered in (True, False):
            fields = Fields(question=text, answers=(answer,), images=(b"x",), options=options, lettered=lettered)
            keep_row(reading, f"toy/test/{number}", "test", fields)
    assert not reading.examples  # the bytes are no image, if nothing else is wrong
    assert len(reading.left_out) == 2 * len(answers)
