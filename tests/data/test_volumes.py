"""NIfTI volumes: every way to store one is shown one way."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from medrft.data.deep.views import View, make_view
from medrft.data.deep.volumes import read_nifti
from medrft.data.images import BadImageError

nibabel = pytest.importorskip("nibabel", reason="needs the extra dicom")
PACKAGED = Path(nibabel.__file__).parent / "tests" / "data"
SHAPE = (4, 5, 6)
STORED = [
    (order, signs) for order in itertools.permutations(range(3)) for signs in itertools.product([1, -1], repeat=3)
]


def write(path: Path, data: np.ndarray, affine: np.ndarray | None) -> Path:
    nibabel.Nifti1Image(data, affine).to_filename(path)
    return path


def in_patient(order: tuple[int, ...], signs: tuple[int, ...], seen: int) -> tuple[np.ndarray, np.ndarray]:
    """A volume of each voxel's place along one of the patient's axes (right, anterior, head), and its affine."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (world, sign) in enumerate(zip(order, signs, strict=True)):
        affine[world, axis] = sign
    places = np.tensordot(affine[:3, :3], np.indices(SHAPE), axes=1)
    return places[seen].astype(np.int16), affine


@pytest.mark.parametrize(
    ("plane", "seen", "axis", "grows"),
    [
        ("axial", 0, 1, False),  # places grow towards the right: the patient's right is on the image's left
        ("axial", 1, 0, False),  # anterior is up
        ("coronal", 0, 1, False),
        ("coronal", 2, 0, False),  # the head is up
        ("sagittal", 1, 1, False),  # the face looks to the left
        ("sagittal", 2, 0, False),
    ],
)
def test_every_way_to_store_a_volume_is_shown_one_way(tmp_path, plane, seen, axis, grows):
    for order, signs in STORED:
        path = write(tmp_path / "a.nii", *in_patient(order, signs, seen))
        shown = read_nifti(path, make_view(window="0/20", plane=plane))
        steps = np.diff(np.asarray(shown.image).astype(int), axis=axis)
        assert (steps > 0 if grows else steps < 0).all(), (order, signs)
        assert shown.record["plane"] == plane


def test_slices_are_counted_along_the_files_own_axis(tmp_path):
    data = np.zeros(SHAPE, dtype=np.int16) + np.arange(6, dtype=np.int16)
    path = write(tmp_path / "a.nii.gz", data, np.diag([-1, 1, 1, 1]))
    shades = [np.asarray(read_nifti(path, make_view(window="2.5/5", slice=number)).image)[0, 0] for number in range(6)]
    assert shades == [0, 51, 102, 153, 204, 255]
    assert read_nifti(path, View()).record["slice"] == 3
    with pytest.raises(BadImageError, match="slice 6 of 6"):
        read_nifti(path, View(slice=6))


def test_voxels_that_are_not_square(tmp_path):
    path = write(tmp_path / "a.nii", np.arange(120, dtype=np.int16).reshape(SHAPE), np.diag([-1, 1, 3, 1]))
    assert read_nifti(path, View()).image.size == (4, 5)
    assert read_nifti(path, View(plane="coronal")).image.size == (4, 18)
    assert read_nifti(path, View(plane="sagittal")).image.size == (5, 18)


def test_without_an_affine(tmp_path):
    data = np.arange(120, dtype=np.int16).reshape(SHAPE)
    path = write(tmp_path / "a.nii", data, None)
    shown = read_nifti(path, View(slice=2, window=(60, 120)))
    assert np.abs(np.asarray(shown.image) - data[:, :, 2].T / 120 * 255).max() <= 0.51
    assert shown.record["orientation"].startswith("as stored: ")
    for view in (View(orientation="require"), View(plane="coronal")):
        with pytest.raises(BadImageError) as caught:
            read_nifti(path, view)
        assert caught.value.reason == "orientation unknown"


def test_windows(tmp_path):
    path = write(tmp_path / "a.nii", np.arange(120, dtype=np.int16).reshape(SHAPE), np.eye(4))
    assert read_nifti(path, View()).record["window"]["chosen"] == "automatic"
    with pytest.raises(BadImageError, match="modality"):
        read_nifti(path, View(window="lung"))
    assert read_nifti(path, View(window="lung", ct=True)).record["window"]["chosen"] == "lung"
    image = nibabel.load(path)
    image.header["cal_min"], image.header["cal_max"] = 10, 30
    image.to_filename(tmp_path / "b.nii")
    window = read_nifti(tmp_path / "b.nii", View()).record["window"]
    assert window == {"chosen": "file", "centre": 20, "width": 20}


def test_what_is_no_number_is_black(tmp_path):
    data = np.arange(120, dtype=np.float32).reshape(SHAPE)
    data[0, 0, 3] = np.nan
    picture = np.asarray(read_nifti(write(tmp_path / "a.nii", data, np.eye(4)), View(orientation="stored")).image)
    assert picture[0, 0] == 0
    assert picture.max() == 255


def test_colour(tmp_path):
    data = np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    data["G"] = 200
    shown = read_nifti(write(tmp_path / "a.nii", data, np.eye(4)), View())
    assert shown.image.getpixel((1, 1)) == (0, 200, 0)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("anatomical.nii", (33, 41)),
        ("example4d.nii.gz", (128, 96)),
        ("example_nifti2.nii.gz", (32, 20)),
        ("functional.nii", (17, 21)),
        ("reoriented_anat_moved.nii", (21, 26)),
        ("standard.nii.gz", (4, 15)),
    ],
)
def test_packaged_files(name, size):
    if not (PACKAGED / name).is_file():
        pytest.skip(f"this nibabel does not ship {name}")
    shown = read_nifti(PACKAGED / name, View())
    assert shown.image.size == size
    assert shown.record["orientation"] == "radiological"


def test_it_agrees_with_nibabels_own_reorientation():
    if not (PACKAGED / "example4d.nii.gz").is_file():
        pytest.skip("this nibabel does not ship example4d.nii.gz")
    image = nibabel.as_closest_canonical(nibabel.load(PACKAGED / "example4d.nii.gz"))
    values = np.asarray(image.dataobj)[:, :, 12, 1]  # right, anterior
    expected = np.clip(values[::-1, ::-1].T / 1000, 0, 1) * 255
    # Stored right to left: nibabel turned the first axis about, and slices kept their order.
    shown = read_nifti(PACKAGED / "example4d.nii.gz", make_view(window="500/1000", slice=12, frame=1))
    assert np.abs(np.asarray(shown.image) - expected).max() <= 0.51


def test_broken_and_huge_files(tmp_path):
    whole = write(tmp_path / "a.nii", np.zeros(SHAPE, dtype=np.int16), np.eye(4)).read_bytes()
    cases = {"cut.nii": whole[:380], "text.nii": b"text", "empty.nii": b"", "text.nii.gz": b"text"}
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BadImageError) as caught:
            read_nifti(tmp_path / name, View())
        assert caught.value.reason == "unreadable image", name
    header = nibabel.Nifti1Header()
    header.set_data_shape((30_000, 30_000, 2))
    header.set_data_dtype(np.int16)
    (tmp_path / "huge.nii").write_bytes(header.binaryblock + b"\0" * 4)
    with pytest.raises(BadImageError) as caught:
        read_nifti(tmp_path / "huge.nii", View())
    assert caught.value.reason == "image too large", caught.value.detail
