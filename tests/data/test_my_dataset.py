from pathlib import Path

import pytest

from medrft.config import DataConfig
from medrft.data import load_data
from medrft.errors import DataError

LOADER = f"{Path(__file__).parents[2] / 'examples' / 'my_dataset.py'}:load"


def test_the_example_loader_runs(tmp_path, image_file):
    for number in range(3):
        image_file(tmp_path / "images" / f"{number}.png", number * 90)
    (tmp_path / "train.txt").write_text(
        "0.png|Is there a mass?|No\n1.png|Where?| left \nbroken\n1.png|What?|\n9.png|?|a\n"
    )
    (tmp_path / "test.txt").write_text("2.png|Which organ?|liver\n")
    loaded = load_data(DataConfig(name=LOADER, root=str(tmp_path), modality="CT", validation=0.4), seed=0)
    assert loaded.report.kept == {"train": 1, "validation": 1, "test": 1}
    assert loaded.report.reasons() == {"not a row": 1, "empty answer": 1, "missing image": 1}
    assert {example.metadata["modality"] for example in loaded.examples} == {"CT"}


def test_the_example_loader_says_what_is_missing(tmp_path):
    with pytest.raises(DataError, match=r"looks for train\.txt"):
        load_data(DataConfig(name=LOADER, root=str(tmp_path)), seed=0)


BOTH = LOADER.replace("my_dataset.py", "slake_and_vqa_rad.py")


def test_two_data_sets_are_read_as_one(tmp_path, slake_root, vqa_rad_root):
    (tmp_path / "slake").symlink_to(slake_root)
    loaded = load_data(DataConfig(name=BOTH, root=str(tmp_path), exclude_test_images=True), seed=0)
    found = {(e.split, e.dataset) for e in loaded.examples}
    assert found == {(split, name) for split in ("train", "test") for name in ("slake", "vqa_rad")} | {
        ("validation", "slake")
    }
    test = {path for e in loaded.examples if e.split == "test" for path in e.images}
    assert not any(set(e.images) & test for e in loaded.examples if e.split != "test")
    assert loaded.report.reasons()["image is also in test"] > 0


def test_two_data_sets_need_both_folders(tmp_path, vqa_rad_root):
    with pytest.raises(DataError, match="folders slake and vqa_rad"):
        load_data(DataConfig(name=BOTH, root=str(tmp_path)), seed=0)
