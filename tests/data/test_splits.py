import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from medrft.config import DataConfig
from medrft.data import load_data, splits
from medrft.data.base import Reading
from medrft.data.images import sha256_of
from medrft.data.notes import images_of
from medrft.data.overlap.leaks import find_leaks
from medrft.data.sets import vqa_rad
from medrft.types import SPLITS, Example


def example(number: int, images: tuple[Path, ...], split: str = "train") -> Example:
    return Example(
        id=f"toy/{split}/{number}",
        dataset="toy",
        split=split,
        images=images,
        question=f"Question {number}?",
        references=("yes",),
        kind="closed",
    )


def loaded_of(*examples: Example):
    reading = Reading("toy", splits=("train", "test"))
    for row in examples:
        reading.keep(row)
    return reading.done()


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("images")
    for number in range(12):
        Image.new("L", (4, 4), number * 20).save(folder / f"{number}.png")
    return [folder / f"{number}.png" for number in range(12)]


def balanced(loaded) -> bool:
    report = loaded.report
    left = Counter(row.split for row in report.left_out)
    kept = Counter(loaded.reported(row) for row in loaded.examples)
    return all(report.read[name] == report.kept[name] + left[name] for name in report.read) and +kept == +Counter(
        report.kept
    )


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.lists(st.integers(0, 11), min_size=1, max_size=3), min_size=1, max_size=25),
    fraction=st.floats(0.05, 0.9),
    seed=st.integers(0, 5),
)
def test_no_image_is_in_both(files, rows, fraction, seed):
    loaded = loaded_of(*(example(n, tuple(files[i] for i in row)) for n, row in enumerate(rows)))
    cut = splits.cut_validation(loaded, fraction=fraction, seed=seed)
    assert not images_of(cut.split("train")) & images_of(cut.split("validation"))
    assert cut.split("train")
    assert balanced(cut)
    assert len(cut.examples) == len(loaded.examples)
    assert splits.cut_validation(loaded, fraction=fraction, seed=seed) == cut


def test_fraction_is_of_the_images(files):
    loaded = loaded_of(*(example(n, (files[n % 10],)) for n in range(50)))
    cut = splits.cut_validation(loaded, fraction=0.3, seed=1)
    assert len(images_of(cut.split("validation"))) == 3
    assert cut.report.kept == {"train": 35, "validation": 15, "test": 0}
    assert any("3 of 10 images, 15 rows" in note for note in cut.report.notes)
    drawn = {
        frozenset(images_of(splits.cut_validation(loaded, fraction=0.3, seed=s).split("validation"))) for s in range(5)
    }
    assert len(drawn) > 1  # the seed matters


def test_the_draw_does_not_depend_on_row_order(files):
    rows = [example(n, (files[n],)) for n in range(10)]
    first, second = (splits.cut_validation(loaded_of(*r), fraction=0.2, seed=0) for r in (rows, rows[::-1]))
    assert {e.id for e in first.split("validation")} == {e.id for e in second.split("validation")}


def test_ids_keep_their_official_split(files):
    cut = splits.cut_validation(loaded_of(*(example(n, (files[n],)) for n in range(4))), fraction=0.3, seed=0)
    assert all(row.id.startswith("toy/train/") for row in cut.split("validation"))


@pytest.mark.parametrize("rows", [[(0,)], [(0, 1), (1, 2)], []])
def test_too_few_images_to_cut(files, rows):
    loaded = loaded_of(*(example(n, tuple(files[i] for i in row)) for n, row in enumerate(rows)))
    cut = splits.cut_validation(loaded, fraction=0.5, seed=0)
    assert cut.examples == loaded.examples
    assert any("no validation split" in note for note in cut.report.notes)


def test_exclude_goes_by_content(files, tmp_path):
    copy = shutil.copy(files[0], tmp_path / "another_name.png")
    loaded = loaded_of(
        example(0, (Path(copy),)),
        example(1, (files[1],)),
        example(2, (files[1], files[2])),
        example(0, (files[0],), "test"),
        example(1, (files[2],), "test"),
    )
    assert any("train and test share 2 images, used by 2 rows of train" in note for note in loaded.report.notes)
    clean = splits.exclude_test_images(loaded)
    assert [row.id for row in clean.split("train")] == ["toy/train/1"]
    assert len(clean.split("test")) == 2
    assert [(row.row, row.reason, row.detail) for row in clean.report.left_out] == [
        ("toy/train/0", "image is also in test", "another_name.png"),
        ("toy/train/2", "image is also in test", "2.png"),
    ]
    assert balanced(clean)
    assert not any("share" in note for note in clean.report.notes)  # no longer true
    assert any("2 rows left out" in note for note in clean.report.notes)


def test_official_vqa_rad_without_test_images(shared_data):
    loaded = splits.exclude_test_images(vqa_rad.load_vqa_rad(shared_data / "vqa_rad"))
    assert loaded.report.read == {"train": 1797, "test": 451}
    assert loaded.report.kept == {"train": 734, "test": 451}
    assert len(loaded.report.left_out) == 1063
    test = {sha256_of(path) for e in loaded.split("test") for path in e.images}
    assert not any(sha256_of(path) in test for e in loaded.split("train") for path in e.images)
    assert balanced(splits.cut_validation(loaded, fraction=0.1, seed=0))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> list[Path]:
    """Twelve pictures with detail; then the first again as PNG, as JPEG and cropped, and the second as JPEG."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    made = [Image.fromarray(rng.integers(0, 256, (12, 12), np.uint8)).resize((240, 240), 3) for _ in range(12)]
    paths = []
    for number, image in enumerate(made):
        paths.append(folder / f"{number}.bmp")
        image.save(paths[-1])
    copies = {"same.png": made[0], "a.jpg": made[0], "crop.png": made[0].crop((8, 8, 232, 230)), "b.jpg": made[1]}
    for name, image in copies.items():
        image.save(folder / name, **({"quality": 40} if name.endswith("jpg") else {}))
        paths.append(folder / name)
    return paths


def leaks_of(loaded) -> list[tuple[int, int]]:
    sets = {split: loaded.split(split) for split in SPLITS if loaded.split(split)}
    return [(leak["shared_images"], leak["copies"]) for leak in find_leaks(sets)["pairs"].values()]


@pytest.mark.parametrize("seed", range(4))
def test_by_image_leaves_nothing_shared(pictures, seed):
    rows = [example(n, (path,), SPLITS[n % 3]) for n, path in enumerate(pictures)]
    loaded = loaded_of(*rows)
    assert any(shared or copies for shared, copies in leaks_of(loaded))
    clean = splits.by_image(loaded, test=0.3, validation=0.2, seed=seed)
    assert leaks_of(clean) == [(0, 0)] * 3
    assert {row.id for row in clean.examples} == {row.id for row in rows} and balanced(clean)
    assert clean == splits.by_image(loaded, test=0.3, validation=0.2, seed=seed)
    assert any("not the official split" in note for note in clean.report.notes)
    by_pixels = splits.by_image(loaded, test=0.3, validation=0.2, seed=seed, copies=False)
    assert [shared for shared, _ in leaks_of(by_pixels)] == [0, 0, 0]


def test_exclude_and_cut_know_pixels_and_copies(pictures):
    rows = [example(0, (pictures[0],), "test"), *(example(n, (path,)) for n, path in enumerate(pictures[1:], 1))]
    loaded = loaded_of(*rows)
    by_pixels = splits.exclude_test_images(loaded)
    assert {row.row: row.reason for row in by_pixels.report.left_out} == {"toy/train/12": "image is also in test"}
    clean = splits.exclude_test_images(loaded, copies=True)
    assert {row.row: row.reason for row in clean.report.left_out} == {
        "toy/train/12": "image is also in test",
        "toy/train/13": "image is a copy of one in test",
        "toy/train/14": "image is a copy of one in test",
    }
    assert leaks_of(clean) == [(0, 0)]
    for seed in range(5):
        cut = splits.cut_validation(clean, fraction=0.4, seed=seed, copies=True)
        assert len({row.split for row in cut.examples if row.id in ("toy/train/1", "toy/train/15")}) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vqa_rad", "slake"])
def test_by_image_on_real_data(shared_data, name):
    options = {"lang": "all"} if name == "slake" else {}
    config = DataConfig(name=name, root=str(shared_data / name), by_image=0.2, **options)
    assert leaks_of(load_data(config, seed=0)) == [(0, 0)] * 3
