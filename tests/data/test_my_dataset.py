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
