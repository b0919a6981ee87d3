import json
from collections import Counter
from pathlib import Path

import pytest

from medrft.config import DataConfig
from medrft.data import (
    LOADERS,
    base,
    find_loader,
    images,
    load_data,
    option_names,
    read_data,
    splits,
    table,
)
from medrft.data.base import Reading
from medrft.data.deep import dicom, views
from medrft.data.deep import read as medical
from medrft.data.summary import summarize_data
from medrft.errors import DataError, UnknownNameError
from medrft.types import SPLITS


@pytest.fixture
def sources(vqa_rad_root, slake_root, tmp_path):
    table = tmp_path / "mine.jsonl"
    image = "vqa_rad/VQA_RAD Image Folder/synpic{}.jpg"
    rows = [{"image": image.format(n), "question": f"{n}?", "answer": "" if n == 3 else "yes"} for n in range(1, 6)]
    table.write_text("\n".join(json.dumps(row) for row in rows))
    return [
        DataConfig(name="vqa_rad", root=str(vqa_rad_root)),
        DataConfig(name="vqa_rad", root=str(vqa_rad_root), exclude_test_images=True, validation=0.5),
        DataConfig(name="slake", root=str(slake_root)),
        DataConfig(name="slake", root=str(slake_root), lang="all", exclude_test_images=True),
        DataConfig(name="table", root=str(table)),
        DataConfig(name="phantom", root=str(tmp_path), images=4, validation_images=2, test_images=2, size=32),
    ]


def test_every_row_read_is_kept_or_left_out(sources):
    for config in sources:
        loaded = load_data(config, seed=0)
        left = Counter(row.split for row in loaded.report.left_out)
        for split, read in loaded.report.read.items():
            assert read == loaded.report.kept[split] + left[split], (config, split)
        assert sum(loaded.report.kept.values()) == len(loaded.examples) > 0


def test_examples_keep_the_contract(sources):
    for config in sources:
        examples = load_data(config, seed=0).examples
        assert len({example.id for example in examples}) == len(examples)
        for example in examples:
            dataset, split, rest = example.id.split("/", 2)
            assert dataset == example.dataset
            assert split in SPLITS
            assert rest
            assert example.references
            assert all(text == text.strip() != "" for text in (example.question, *example.references))
            assert example.images
            assert all(path.is_file() for path in example.images)
            assert bool(example.options) == (example.kind == "choice")
            json.dumps(dict(example.metadata), allow_nan=False)


def test_validation_is_the_official_one_or_cut_from_train(sources):
    vqa_rad, _, slake, *_ = sources
    assert {e.id for e in load_data(slake, seed=0).split("validation")} == {"slake/validation/7"}
    cut = load_data(vqa_rad, seed=0)
    assert cut.split("validation")
    assert all(e.id.startswith("vqa_rad/train/") for e in cut.split("validation"))
    assert not load_data(vqa_rad, seed=0, cut=False).split("validation")


def test_summary_adds_up(sources):
    for config in sources:
        summary = summarize_data(load_data(config, seed=0))
        for split in summary["splits"].values():
            assert split["rows"] == split["kept"] + sum(split["left_out"].values())
            assert split["kept"] == sum(split["kinds"].values())
        assert summary["rows"] == summary["kept"] + len(summary["left_out"])
        assert sum(summary["reasons"].values()) == len(summary["left_out"])


def test_wrong_names_and_options(vqa_rad_root):
    with pytest.raises(UnknownNameError, match="unknown data set 'vqarad'; did you mean 'vqa_rad'"):
        read_data("vqarad", vqa_rad_root)
    with pytest.raises(UnknownNameError, match="option of data set vqa_rad 'fom'; did you mean 'form'"):
        load_data(DataConfig(name="vqa_rad", root=str(vqa_rad_root), fom="official"), seed=0)
    with pytest.raises(DataError, match=r"no loader file absent\.py"):
        find_loader("absent.py:load")


def test_options_are_keyword_only_parameters():
    assert option_names(LOADERS["slake"]) == ["lang", "revision"]
    for loader in LOADERS.values():
        assert not {"seed", "cache", "on_progress"} & set(option_names(loader))


def test_no_row_left_is_an_error(vqa_rad_root):
    for image in (vqa_rad_root / "VQA_RAD Image Folder").iterdir():
        image.unlink()
    message = (
        r"no row is left of 10 read \(missing image: 9, empty answer: 1\); the first is vqa_rad/train/0: .*synpic1"
    )
    with pytest.raises(DataError, match=message):
        load_data(DataConfig(name="vqa_rad", root=str(vqa_rad_root)), seed=0)


def test_an_empty_file_is_an_error(tmp_path):
    (tmp_path / "a.jsonl").write_text("\n")
    with pytest.raises(DataError, match="the files hold no rows"):
        load_data(DataConfig(name="table", root=str(tmp_path / "a.jsonl")), seed=0)


def test_progress_counts_images(vqa_rad_root):
    seen = []
    load_data(
        DataConfig(name="vqa_rad", root=str(vqa_rad_root)),
        seed=0,
        on_progress=lambda done, total: seen.append((done, total)),
    )
    assert seen[-1] == (4, 4)


def test_a_loader_of_ones_own(tmp_path, image_file):
    path = tmp_path / "own.py"
    path.write_text(
        "from medrft.data.base import Reading\n"
        "def load(root, *, ward='a'):\n"
        "    reading = Reading('own')\n"
        "    reading.leave(f'own/train/{ward}', 'train', 'empty answer')\n"
        "    return reading.done()\n"
    )
    (left,) = read_data(f"{path}:load", None, options={"ward": "b"}).report.left_out
    assert left.row == "own/train/b"
    with pytest.raises(UnknownNameError, match="did you mean 'ward'"):
        read_data(f"{path}:load", None, options={"wards": 1})
    with pytest.raises(UnknownNameError, match="function of"):
        find_loader(f"{path}:lod")


def test_reading_reports_splits_without_rows():
    assert Reading("toy", splits=("train", "test")).done().report.read == {"train": 0, "test": 0}


def test_docs_name_every_reason_and_role():
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    reasons = [
        base.EMPTY_ANSWER,
        base.EMPTY_QUESTION,
        base.MISSING_COLUMN,
        base.NOT_A_ROW,
        base.NOT_TEXT,
        base.NO_IMAGE,
    ]
    reasons += [base.NO_SPLIT, base.REPEATED_ID, images.MISSING, images.UNREADABLE, images.HUGE, images.DEEP]
    reasons += [splits.IN_TEST, table.NOT_AN_OPTION, f"{images.PIXEL_LIMIT:,}"]
    reasons += [views.NO_WINDOW, views.NO_FRAME, views.NO_ORIENTATION, dicom.NO_DECODER, medical.NO_PACKAGE]
    reasons += [table.NO_VIEW, *views.PRESETS, *views.PLANES, *views.ORIENTATIONS]
    names = [*LOADERS, *table.USUAL, *(name for usual in table.USUAL.values() for name in usual)]
    assert [word for word in [*reasons, *names] if word not in page] == []
