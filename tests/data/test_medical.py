"""Medical files through the table loader: one line in a table is all it takes, and nothing identifying comes along."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from written_dicom import SECRETS, secrets, write_dicom

from medrft.config import DataConfig
from medrft.data import LOADERS, load_data, option_names
from medrft.data.deep.read import read_deep, reader_of
from medrft.data.deep.views import PRESETS, View, make_view
from medrft.data.images import inspect_image
from medrft.data.tables import table
from medrft.errors import DataError, UnknownNameError

RAMP = np.linspace(-1000, 1000, 48, dtype=np.int16).reshape(6, 8)


@pytest.fixture
def folder(tmp_path, image_file):
    image_file(tmp_path / "set" / "plain.png", 90)
    Image.fromarray((RAMP + 1000).astype(np.uint16)).save(tmp_path / "set" / "deep.png")
    Image.fromarray((RAMP + 1000).astype(np.uint16)).save(tmp_path / "set" / "deep.tif")
    Image.fromarray(RAMP.astype(np.float32)).save(tmp_path / "set" / "float.tiff")
    return tmp_path / "set"


@pytest.fixture
def load(folder):
    """`load(images, option=…)` loads a table with a row for each image; a row may be given whole."""

    def read(*rows, **options):
        rows = [row if isinstance(row, dict) else {"image": row} for row in rows]
        lines = [json.dumps({"question": f"Which is {n}?", "answer": "No", **row}) for n, row in enumerate(rows)]
        (folder / "mine.jsonl").write_text("\n".join(lines), encoding="utf-8")
        return table.load_table(folder / "mine.jsonl", cache=folder.parent / "cache", **options)

    return read


def test_the_options_are_the_loaders():
    assert {"window", "frame", "slice", "plane", "orientation"} <= set(option_names(LOADERS["table"]))


def test_a_table_of_everything(folder, load):
    pytest.importorskip("pydicom", reason="needs the extra dicom")
    nibabel = pytest.importorskip("nibabel", reason="needs the extra dicom")
    write_dicom(folder / "scan.dcm", RAMP, ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    write_dicom(folder / "IM0001", RAMP)  # no ending: known by its preamble
    nibabel.Nifti1Image(np.zeros((4, 5, 6), dtype=np.int16) + np.arange(6, dtype=np.int16), np.eye(4)).to_filename(
        folder / "scan.nii.gz"
    )
    loaded = load("plain.png", "scan.dcm", "IM0001", "scan.nii.gz", "deep.png", "deep.tif", "float.tiff", "broken.dcm")
    (left,) = loaded.report.left_out
    assert left.reason == "missing image"
    formats = [example.metadata.get("shown", [{}])[0].get("format") for example in loaded.examples]
    assert formats == [None, "DICOM", "DICOM", "NIfTI", "PNG", "TIFF", "TIFF"]
    assert all(inspect_image(path) is None for example in loaded.examples for path in example.images)
    notes = " ".join(loaded.report.notes)
    assert "no window in the file" in notes
    assert "no orientation" in notes
    json.dumps([dict(example.metadata) for example in loaded.examples], allow_nan=False)


def test_unreadable_files_are_listed_and_the_load_goes_on(folder, load):
    pytest.importorskip("pydicom", reason="needs the extra dicom")
    (folder / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM")
    write_dicom(folder / "mr.dcm", RAMP, Modality="MR")
    loaded = load("broken.dcm", "plain.png", "mr.dcm", window="lung")
    assert [example.images[0].name for example in loaded.examples] == ["plain.png"]
    assert [row.reason for row in loaded.report.left_out] == ["unreadable image", "window does not fit"]


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_nothing_identifying_is_written_or_said(folder, load, caplog, capfd):
    pydicom = pytest.importorskip("pydicom", reason="needs the extra dicom")
    facts = {**secrets(), "BurnedInAnnotation": "YES", "WindowCenterWidthExplanation": "SECRET", "Modality": "CT"}
    path = write_dicom(folder / "scan.dcm", RAMP, WindowCenter=0, WindowWidth=100, **facts)
    assert all(secret.encode() in path.read_bytes() for secret in SECRETS)  # the test tests something
    write_dicom(folder / "free.dcm", RAMP, PhotometricInterpretation="MONOCHROME2", Modality="doe secret", **secrets())
    (folder / "cut.dcm").write_bytes(path.read_bytes()[:-40])
    caplog.clear()
    capfd.readouterr()
    loaded = load("scan.dcm", "free.dcm", "cut.dcm")
    assert len(loaded.examples) == 2
    assert (caplog.text, *capfd.readouterr()) == ("", "", "")
    written = [file.read_bytes() for file in (folder.parent / "cache").rglob("*") if file.is_file()]
    assert len(written) == 4  # two pictures, two records
    told = repr(loaded).encode()
    uid = str(pydicom.dcmread(path).SOPInstanceUID).encode()
    for content in (*written, told):
        assert uid not in content
        assert b"secret" not in content.lower()
        assert not any(secret.encode() in content for secret in SECRETS)
    for example in loaded.examples:
        with Image.open(example.images[0]) as image:
            assert image.info == {}
    assert "look for names" in " ".join(loaded.report.notes)


def test_the_record(folder, load):
    pytest.importorskip("pydicom", reason="needs the extra dicom")
    write_dicom(folder / "scan.dcm", RAMP, ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    (example,) = load("scan.dcm", window="bone").examples
    (record,) = example.metadata["shown"]
    assert len(record.pop("sha256")) == 64
    assert record == {
        "format": "DICOM",
        "modality": "CT",
        "rows": 6,
        "columns": 8,
        "photometric_interpretation": "MONOCHROME2",
        "transfer_syntax": "Explicit VR Little Endian",
        "window": {"chosen": "bone", "centre": 400, "width": 1800},
        "plane": "axial",
        "orientation": "radiological",
    }


def test_a_row_may_say_how_it_is_shown(folder, load):
    pytest.importorskip("pydicom", reason="needs the extra dicom")
    write_dicom(folder / "scan.dcm", np.stack([RAMP, RAMP[::-1]]))
    rows = [
        {"image": "scan.dcm", "win": "lung", "n": 0},
        {"image": "scan.dcm", "win": "", "n": "1"},
        {"image": "scan.dcm", "win": "0/100", "n": 2},
        {"image": "scan.dcm", "win": "lnug"},
        {"image": "scan.dcm", "n": "first"},
    ]
    loaded = load(*rows, columns={"window": "win", "frame": "n"}, window="bone")
    records = [example.metadata["shown"][0] for example in loaded.examples]
    assert [(record["window"]["chosen"], record["frame"]) for record in records] == [("lung", 0), ("bone", 1)]
    reasons = [row.reason for row in loaded.report.left_out]
    assert reasons == ["no such frame or slice", "no such view", "no such view"]
    assert "lung" in loaded.report.left_out[1].detail
    untold = load({"image": "scan.dcm", "frame": "cardiac"})  # another table's word
    assert untold.examples[0].metadata["frame"] == "cardiac"


def test_the_modality_column_lets_a_volume_take_a_preset(folder, load):
    nibabel = pytest.importorskip("nibabel", reason="needs the extra dicom")
    nibabel.Nifti1Image(np.zeros((4, 5, 6), dtype=np.int16), np.eye(4)).to_filename(folder / "scan.nii")
    rows = [{"image": "scan.nii", "modality": "CT"}, {"image": "scan.nii", "modality": "MR"}]
    loaded = load(*rows, window="brain")
    assert [example.metadata["modality"] for example in loaded.examples] == ["CT"]
    assert loaded.report.left_out[0].reason == "window does not fit"


def test_a_second_load_reads_the_cache(folder, load, monkeypatch):
    pytest.importorskip("pydicom", reason="needs the extra dicom")
    write_dicom(folder / "scan.dcm", RAMP)
    first = load("scan.dcm", "scan.dcm").examples
    monkeypatch.setitem(sys.modules, "pydicom", None)
    monkeypatch.setattr("medrft.data.deep.dicom._shown", lambda *_: pytest.fail("decoded again"))
    again = load("scan.dcm").examples[0]
    assert (again.images, again.metadata["shown"]) == (first[0].images, first[0].metadata["shown"])
    assert first[0].images == first[1].images


def test_a_missing_package_is_named(folder, load, monkeypatch):
    (folder / "scan.dcm").write_bytes(b"\0" * 128 + b"DICM")
    for name in [name for name in sys.modules if name.split(".")[0] == "pydicom"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    (left,) = load("plain.png", "scan.dcm").report.left_out
    assert (left.reason, "medrft[dicom]" in left.detail) == ("a package is missing", True)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"window": "lnug"}, "did you mean 'lung'"),
        ({"window": [40]}, "CENTRE/WIDTH"),
        ({"window": "40/0"}, "CENTRE/WIDTH"),
        ({"window": 40}, "CENTRE/WIDTH"),
        ({"plane": "axail"}, "axial"),
        ({"orientation": "required"}, "require"),
        ({"frame": -1}, "from 0"),
        ({"slice": "middle"}, "from 0"),
    ],
)
def test_options_that_are_none(load, options, error):
    with pytest.raises((DataError, UnknownNameError), match=error):
        load("plain.png", **options)


def test_through_a_recipe(folder, load):
    load("deep.png")
    config = DataConfig.model_validate({"name": "table", "root": str(folder / "mine.jsonl"), "window": "1000/2000"})
    (example,) = load_data(config, seed=0, cache=folder.parent / "cache", cut=False).examples
    assert example.metadata["shown"][0]["window"]["centre"] == 1000


@pytest.mark.parametrize("name", ["deep.png", "deep.tif"])
def test_deep_files_keep_their_steps(folder, name):
    shown = read_deep(folder / name, make_view(window="1000/2000"))
    assert np.abs(np.asarray(shown.image) - (RAMP + 1000) / 2000 * 255).max() <= 0.51
    with pytest.raises(DataError, match="does not say what its values are"):
        read_deep(folder / name, make_view(window="lung"))


def test_orientation_asked_of_files_that_cannot_say_it(load):
    loaded = load("plain.png", "deep.png", orientation="require")
    assert [row.reason for row in loaded.report.left_out] == ["orientation unknown"] * 2


def test_a_page_of_an_8_bit_file_brings_no_text(folder, load):
    pages = [Image.new("RGB", (4, 3), colour) for colour in ("red", "blue")]
    tags = {270: "DOE SECRET", 315: "Dr SECRET"}
    pages[0].save(folder / "two.tif", save_all=True, append_images=pages[1:], tiffinfo=tags, icc_profile=b"SECRET")
    first, second = load("two.tif").examples[0], load("two.tif", frame=1).examples[0]
    assert first.images == (folder / "two.tif",)
    with Image.open(second.images[0]) as image:
        assert (image.getpixel((0, 0)), image.info) == ((0, 0, 255), {})
    assert second.metadata["shown"][0]["frame"] == 1
    assert load({"image": "plain.png"}, "plain.png", frame=1).report.left_out[0].reason == "no such frame or slice"


def test_pages_and_white_is_zero(folder):
    pages = [Image.fromarray(np.full((3, 4), shade, dtype=np.uint16)) for shade in (100, 200)]
    pages[0].save(folder / "pages.tif", save_all=True, append_images=pages[1:], tiffinfo={262: 0})
    first, second = (read_deep(folder / "pages.tif", make_view(window="150/100", frame=n)).image for n in (0, 1))
    assert (first.getpixel((0, 0)), second.getpixel((0, 0))) == (255, 0)


def test_scikit_images_own_pictures(tmp_path):
    data = pytest.importorskip("skimage.data", reason="needs scikit-image")
    moon = data.moon()
    Image.fromarray(moon.astype(np.uint16) * 257).save(tmp_path / "moon.png")
    shown = read_deep(tmp_path / "moon.png", View(window=(65535 / 2, 65535)))
    assert (np.asarray(shown.image) == moon).all()
    pages = Path(data.__file__).parent / "multipage.tif"
    assert reader_of(pages) is None  # 8 bits
    two = [np.asarray(read_deep(pages, View(frame=number)).image) for number in (0, 1)]
    assert two[0].shape == (15, 10, 3)
    assert (two[0] != two[1]).any()


def test_presets_are_sensible():
    assert all(width > 0 and -1000 < centre < 1000 for centre, width in PRESETS.values())


def test_no_extra_is_needed_for_plain_images():
    code = "import sys, medrft.data; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"pydicom", "nibabel", "skimage", "scipy"} & set(loaded)
