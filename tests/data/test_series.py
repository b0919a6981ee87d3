"""Several slices of a volume as images of one example; a folder of slices as one series; what a header may say."""

import json

import numpy as np
import pytest
from PIL import Image
from written_dicom import write_dicom

from medrft.data import read_data
from medrft.errors import DataError, UserError

pytest.importorskip("pydicom", reason="needs the extra dicom")


def table(folder, image, **more):
    row = {"image": image, "question": "Is it?", "answer": "no", **more}
    (folder / "t.jsonl").write_text(json.dumps(row))
    return folder / "t.jsonl"


def read(folder, image, **options):
    return read_data("table", table(folder, image, modality="CT"), cache=folder / "c", options=options)


def shades(example):
    return [int(np.asarray(Image.open(path)).max()) for path in example.images]


@pytest.fixture
def series(tmp_path):
    """Nine slices whose names, numbers and places are in three different orders; brighter towards the head."""
    (tmp_path / "s").mkdir()
    for place in range(9):
        stored = np.zeros((8, 8), np.int16)
        stored[2:6, 2:6] = 10 * (place + 1)
        facts = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "ImagePositionPatient": [0, 0, 5.0 * place]}
        name = f"i{(place * 4) % 9}.dcm"
        write_dicom(tmp_path / "s" / name, stored, **facts, InstanceNumber=9 - place, SeriesInstanceUID="1.2.3")
    return tmp_path


def test_a_folder_is_one_series_in_the_order_of_the_body(series):
    (one,) = read(series, "s", window="50/100").examples
    assert shades(one) == [128]  # the middle one
    assert one.metadata["shown"][0]["slice"] == 4 and one.metadata["shown"][0]["slices"] == 9
    (some,) = read(series, "s", window="50/100", slices=3).examples
    assert shades(some) == [51, 128, 204]
    (first,) = read(series, "s", window="50/100", slice=0).examples
    assert shades(first) == [25]


def test_two_series_in_one_folder_are_listed(series):
    write_dicom(series / "s" / "other.dcm", np.eye(8, dtype=np.int16), SeriesInstanceUID="1.2.4")
    (left,) = read(series, "s").report.left_out
    assert left.reason == "unreadable image" and "2 series" in left.detail


def test_a_folder_of_plain_images_goes_by_name(tmp_path):
    (tmp_path / "s").mkdir()
    for number in range(1, 12):
        Image.new("L", (8, 8), number).save(tmp_path / "s" / f"{number}.png")
    (example,) = read(tmp_path, "s", slices=11).examples
    assert shades(example) == list(range(1, 12))


def test_slices_of_a_volume(tmp_path):
    nibabel = pytest.importorskip("nibabel", reason="needs the extra dicom")
    data = np.zeros((4, 5, 16), np.int16) + 10 * np.arange(16, dtype=np.int16)
    data[0, 0] += 1
    nibabel.Nifti1Image(data, np.eye(4)).to_filename(tmp_path / "v.nii.gz")
    (example,) = read(tmp_path, "v.nii.gz", slices=4, window="75/150").examples
    assert [record["slice"] for record in example.metadata["shown"]] == [1, 5, 9, 13]
    write_dicom(tmp_path / "m.dcm", np.stack([np.eye(8, dtype=np.int16) * n for n in range(1, 5)]))
    (example,) = read(tmp_path, "m.dcm", slices=2).examples
    assert [record["frame"] for record in example.metadata["shown"]] == [0, 2]


@pytest.mark.parametrize(
    "options", [{"slices": 0}, {"slices": 2, "slice": 1}, {"slices": "x"}, {"window": "lung,soft"}]
)
def test_wrong_views(tmp_path, options):
    with pytest.raises((DataError, UserError)):
        read(tmp_path, "x.png", **options)


def test_three_windows_of_one_slice(tmp_path):
    stored = np.linspace(-1000, 1000, 64).reshape(8, 8).astype(np.int16)
    write_dicom(tmp_path / "a.dcm", stored)
    for window in (["lung", "soft", "bone"], "lung,soft,bone", "[lung, soft_tissue, bone]"):
        (example,) = read(tmp_path, "a.dcm", window=window).examples
        assert example.metadata["shown"][0]["window"]["chosen"] == ["lung", "soft_tissue", "bone"]
        picture = np.asarray(Image.open(example.images[0]))
        assert picture.shape == (8, 8, 3) and len({picture[..., i].tobytes() for i in range(3)}) == 3


@pytest.mark.parametrize(
    ("window", "kept"), [("file", False), ("40/400", False), ("percentile", True), ("1200/400", True)]
)
def test_a_window_that_shows_nothing(tmp_path, window, kept):
    stored = np.linspace(1000, 1400, 64).reshape(8, 8).astype(np.int16)
    write_dicom(tmp_path / "a.dcm", stored, WindowCenter=40, WindowWidth=400)
    loaded = read(tmp_path, "a.dcm", window=window)
    assert bool(loaded.examples) is kept
    if not kept:
        assert "values run from 1000 to 1400" in loaded.report.left_out[0].detail


def test_an_image_of_one_colour_is_no_fault_of_its_window(tmp_path):
    write_dicom(tmp_path / "a.dcm", np.full((8, 8), 7, np.int16))
    assert read(tmp_path, "a.dcm", window="40/400").examples


def test_a_forged_modality_is_not_free_text(tmp_path):
    write_dicom(tmp_path / "a.dcm", np.eye(8, dtype=np.int16), Modality="DOE JANE")
    (example,) = read(tmp_path, "a.dcm").examples
    assert example.metadata["shown"][0]["modality"] == "unknown"
