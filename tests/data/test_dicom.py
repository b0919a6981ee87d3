"""DICOM files: values, windows, colours, frames, orientation, and what is refused."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from written_dicom import write_dicom

from medrft.data.deep import dicom
from medrft.data.deep.dicom import read_dicom
from medrft.data.deep.views import View, make_view
from medrft.data.images import BadImageError

pydicom = pytest.importorskip("pydicom", reason="needs the extra dicom")
AXIAL = [1, 0, 0, 0, 1, 0]
RAMP = np.arange(-1000, 1000, 80, dtype=np.int16).reshape(5, 5)


def packaged(name: str) -> Path:
    """A file that ships inside pydicom; nothing is downloaded."""
    return Path(pydicom.data.get_testdata_file(name, download=False))


def pixels(path: Path, **asked: object) -> np.ndarray:
    return np.asarray(read_dicom(path, make_view(**asked)).image)


def reason(path: Path, **asked: object) -> BadImageError:
    with pytest.raises(BadImageError) as caught:
        read_dicom(path, make_view(**asked))
    return caught.value


@pytest.mark.parametrize(
    "name",
    [
        *("MR_small_RLE", "MR_small_bigendian", "MR_small_expb", "MR_small_implicit", "MR_small_jp2klossless"),
        "MR_small_padded",
    ],
)
def test_one_picture_in_every_transfer_syntax(name):
    assert np.array_equal(pixels(packaged(f"{name}.dcm")), pixels(packaged("MR_small.dcm")))


def test_the_files_window_is_pydicoms():
    path = packaged("MR_small.dcm")
    dataset = pydicom.dcmread(path)
    theirs = pydicom.pixels.apply_windowing(dataset.pixel_array, dataset)
    share = (theirs + 2.0**15) / (2.0**16 - 1)
    assert np.abs(pixels(path) - share * 255).max() <= 0.51
    assert read_dicom(path, View()).record["window"] == {"chosen": "file", "centre": 600, "width": 1600}


def test_presets_are_for_ct(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", RAMP)
    lung = pixels(path, window="lung")
    assert lung[RAMP <= -1350].size == 0 or lung[RAMP <= -1350].max() == 0
    assert (lung[RAMP >= 150] == 255).all()
    assert abs(int(lung[RAMP == -600][0]) - 128) <= 1  # the centre is mid-grey
    assert (pixels(path, window="-600/1500") == lung).all()
    assert reason(packaged("MR_small.dcm"), window="lung").reason == "window does not fit"
    assert "MR" in reason(packaged("MR_small.dcm"), window="bone").detail
    bare = write_dicom(tmp_path / "b.dcm", RAMP, RescaleSlope=None, RescaleIntercept=None)
    assert "does not rescale" in reason(bare, window="brain").detail


def test_rescaling_comes_before_the_window(tmp_path):
    stored = (RAMP + 1024).astype(np.uint16)
    path = write_dicom(tmp_path / "a.dcm", stored, RescaleIntercept=-1024)
    assert (pixels(path, window="bone") == pixels(write_dicom(tmp_path / "b.dcm", RAMP), window="bone")).all()


def test_without_a_window_the_percentiles_are_taken_and_said(tmp_path):
    shown = read_dicom(write_dicom(tmp_path / "a.dcm", RAMP), View())
    assert shown.record["window"]["chosen"] == "automatic"
    low, high = np.percentile(RAMP, [1, 99])
    assert shown.record["window"]["centre"] == pytest.approx((low + high) / 2, abs=0.01)
    eight = np.arange(25, dtype=np.uint8).reshape(5, 5)
    bare = write_dicom(tmp_path / "b.dcm", eight, RescaleSlope=None, RescaleIntercept=None)
    assert (pixels(bare) == eight).all()  # 8 bits without a window stay as they are


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_window_functions_have_their_middle_at_the_centre(tmp_path, function):
    facts = {"WindowCenter": [40, 300], "WindowWidth": [400, 2000], "VOILUTFunction": function}
    shown = pixels(write_dicom(tmp_path / "a.dcm", RAMP, **facts))
    assert abs(int(shown[RAMP == 40][0]) - 128) <= 1
    assert (np.diff(shown.ravel().astype(int)) >= 0).all()


def test_voi_lut(tmp_path):
    lut = pydicom.Dataset()
    lut.LUTDescriptor, lut.LUTData = [4, 0, 8], [255, 170, 85, 0]  # it turns the values about
    lut["LUTDescriptor"].VR = lut["LUTData"].VR = "US"
    stored = np.array([[0, 1], [2, 3]], dtype=np.uint16)
    path = write_dicom(tmp_path / "a.dcm", stored, VOILUTSequence=[lut])
    assert pixels(path).tolist() == [[255, 170], [85, 0]]


def test_monochrome1_is_inverted(tmp_path):
    plain = write_dicom(tmp_path / "a.dcm", RAMP)
    inverted = write_dicom(tmp_path / "b.dcm", RAMP, PhotometricInterpretation="MONOCHROME1")
    assert (pixels(inverted, window="0/2000") == 255 - pixels(plain, window="0/2000")).all()


@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_and_does_not_stretch_the_window(tmp_path, kind):
    stored = RAMP.copy()
    stored[0] = -2000
    facts = {"PixelPaddingValue": -2000, "PhotometricInterpretation": kind}
    shown = read_dicom(write_dicom(tmp_path / "a.dcm", stored, **facts), View())
    assert (np.asarray(shown.image)[0] == 0).all()
    window = shown.record["window"]
    assert window["centre"] - window["width"] / 2 > -700


@pytest.mark.parametrize(
    "name",
    [
        *("SC_rgb_rle", "SC_rgb_rle_16bit", "SC_rgb_rle_32bit", "SC_rgb_gdcm_KY", "SC_ybr_full_422_uncompressed"),
        *("SC_rgb_dcmtk_+eb+cr", "SC_rgb_dcmtk_+eb+cy+n1", "SC_rgb_dcmtk_+eb+cy+np", "SC_rgb_jpeg_dcmtk"),
    ],
)
def test_colours(name):
    """The packaged picture has red, green, blue and black bars, in every colour space and depth."""
    shown = pixels(packaged(f"{name}.dcm")).astype(int)
    red, green, blue = shown[5, 50], shown[25, 50], shown[45, 50]
    assert np.abs(red - (255, 0, 0)).max() <= 40
    assert np.abs(green - (0, 255, 0)).max() <= 130  # darker greens stand in between
    assert blue.argmax() == 2


def test_palette_colour():
    path = packaged("examples_palette.dcm")
    dataset = pydicom.dcmread(path)
    theirs = pydicom.pixels.apply_color_lut(dataset.pixel_array, dataset)
    assert np.abs(pixels(path) - theirs / np.iinfo(theirs.dtype).max * 255).max() <= 0.51
    assert "colour" in reason(path, window="lung").detail


def test_frames(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", np.stack([RAMP, RAMP[::-1], RAMP.T]))
    each = [pixels(path, window="0/2000", frame=number) for number in range(3)]
    assert (each[1] == each[0][::-1]).all()
    assert (pixels(path, window="0/2000") == each[1]).all()  # the middle one
    assert read_dicom(path, View(frame=2)).record["frame"] == 2
    assert reason(path, frame=3).reason == "no such frame or slice"
    assert pixels(packaged("examples_ybr_color.dcm"), frame=29).shape == (240, 320, 3)


def test_enhanced_files_say_it_per_frame(tmp_path):
    def group(cosines: list[float], centre: float) -> "pydicom.Dataset":
        item, lies, window = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
        lies.ImageOrientationPatient = cosines
        window.WindowCenter, window.WindowWidth = centre, 100
        item.PlaneOrientationSequence, item.FrameVOILUTSequence = [lies], [window]
        return item

    groups = [group(AXIAL, 10), group([-1, 0, 0, 0, 1, 0], 20)]
    path = write_dicom(tmp_path / "a.dcm", np.stack([RAMP, RAMP]), PerFrameFunctionalGroupsSequence=groups)
    first, second = (read_dicom(path, make_view(frame=number)) for number in (0, 1))
    assert (first.record["window"]["centre"], second.record["window"]["centre"]) == (10, 20)
    one, other = (pixels(path, frame=number, window="0/2000") for number in (0, 1))
    assert (one == other[:, ::-1]).all()


def unit(axis: int, sign: int) -> np.ndarray:
    return sign * np.eye(3)[axis]


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("seen", [0, 1, 2], ids=["left", "posterior", "head"])
def test_every_way_to_store_a_plane_is_shown_one_way(tmp_path, plane, seen):
    """Pixels hold their own place in the patient along one direction; it must grow the right way on the screen."""
    axes = {"axial": (0, 1), "coronal": (0, 2), "sagittal": (1, 2)}[plane]
    for (row_axis, column_axis), signs in itertools.product([axes, axes[::-1]], itertools.product([1, -1], repeat=2)):
        along, down = unit(row_axis, signs[0]), unit(column_axis, signs[1])
        rows, columns = np.mgrid[:4, :6]
        stored = (100 * (columns * along[seen] + rows * down[seen])).astype(np.int16)
        path = write_dicom(tmp_path / "a.dcm", stored, ImageOrientationPatient=[*along, *down])
        shown = read_dicom(path, View(window=(0, 4000)))
        assert (shown.record["plane"], shown.record["orientation"]) == (plane, "radiological")
        picture = np.asarray(shown.image).astype(int)
        across, upright = np.diff(picture, axis=1), np.diff(picture, axis=0)
        if seen == 0 and plane != "sagittal":
            assert (across > 0).all()  # the patient's left is on the image's right
        if seen == 1 and plane == "axial":
            assert (upright > 0).all()  # the back is below
        if seen == 1 and plane == "sagittal":
            assert (across > 0).all()  # the face looks to the left
        if seen == 2 and plane != "axial":
            assert (upright < 0).all()  # the head is up


def test_a_marker_on_the_patients_right(tmp_path):
    stored = np.zeros((4, 6), dtype=np.int16)
    stored[0, 0] = 1000  # anterior right, as CT is usually stored
    usual = write_dicom(tmp_path / "a.dcm", stored, ImageOrientationPatient=AXIAL)
    prone = write_dicom(tmp_path / "b.dcm", stored[::-1, ::-1], ImageOrientationPatient=[-1, 0, 0, 0, -1, 0])
    tilted = write_dicom(tmp_path / "c.dcm", stored, ImageOrientationPatient=[1, 0, 0, 0, 0.9272, -0.3746])
    for path in (usual, prone, tilted):
        assert np.argwhere(pixels(path, window="500/1000")).tolist() == [[0, 0]]
    kept = read_dicom(prone, make_view(window="500/1000", orientation="stored"))
    assert np.argwhere(np.asarray(kept.image)).tolist() == [[3, 5]]
    assert kept.record["orientation"] == "as stored, as asked"


@pytest.mark.parametrize("cosines", [None, [1, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0]])
def test_orientation_that_is_absent_is_said_or_refused(tmp_path, cosines):
    facts = {} if cosines is None else {"ImageOrientationPatient": cosines}
    path = write_dicom(tmp_path / "a.dcm", RAMP, **facts)
    assert read_dicom(path, View()).record["orientation"].startswith("as stored: ")
    refused = reason(path, orientation="require")
    assert refused.reason == "orientation unknown"
    assert "ImageOrientationPatient" in refused.detail


def test_pixels_become_square(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", RAMP, PixelSpacing=[2, 1])
    assert read_dicom(path, View()).image.size == (5, 10)
    turned = write_dicom(tmp_path / "b.dcm", RAMP, PixelSpacing=[2, 1], ImageOrientationPatient=[0, 1, 0, 1, 0, 0])
    assert read_dicom(turned, View()).image.size == (10, 5)
    absurd = write_dicom(tmp_path / "c.dcm", RAMP, PixelSpacing=[1e9, 1])
    assert reason(absurd).reason == "image too large"


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("MR_small_jpeg_ls_lossless.dcm", "pyjpegls"),
        ("SC_rgb_jpeg_gdcm.dcm", "pylibjpeg-libjpeg"),
        ("JPEG-lossy.dcm", "pylibjpeg-libjpeg"),
    ],
)
def test_what_cannot_be_decoded_names_the_package_that_can(name, package):
    dataset = pydicom.dcmread(packaged(name), stop_before_pixels=True)
    try:
        read_dicom(packaged(name), View())
    except BadImageError as error:
        assert error.reason == "transfer syntax not readable"
        assert package in error.detail
        assert str(dataset.file_meta.TransferSyntaxUID.name)[:8] in error.detail
    else:
        pytest.skip("a plugin that decodes it is installed")


@pytest.mark.parametrize("name", ["MR_truncated.dcm", "test-SR.dcm", "rtplan.dcm", "waveform_ecg.dcm", "badVR.dcm"])
def test_broken_and_imageless_files_have_a_reason(name):
    assert reason(packaged(name)).reason == "unreadable image"


@pytest.mark.parametrize("content", [b"", b"text", b"\0" * 128 + b"DICM", b"\0" * 128 + b"DICM" + b"\xff" * 500])
def test_what_is_no_dicom_file(tmp_path, content):
    (tmp_path / "a.dcm").write_bytes(content)
    assert reason(tmp_path / "a.dcm").reason == "unreadable image"


def test_every_packaged_file_is_shown_or_refused():
    """No file that ships with pydicom raises anything else."""
    shown = 0
    for path in sorted(packaged("MR_small.dcm").parent.glob("*.dcm")):
        try:
            shown += read_dicom(path, View()).image.width > 0
        except BadImageError as error:
            assert error.reason in ("unreadable image", "transfer syntax not readable")
    assert shown >= 45


def test_without_preamble(tmp_path):
    whole = packaged("MR_small_implicit.dcm").read_bytes()
    meta = pydicom.filereader.read_file_meta_info(packaged("MR_small_implicit.dcm"))
    (tmp_path / "a.dcm").write_bytes(whole[144 + meta.FileMetaInformationGroupLength :])
    assert (pixels(tmp_path / "a.dcm") == pixels(packaged("MR_small.dcm"))).all()


def test_bombs_are_not_unpacked(tmp_path, monkeypatch):
    huge = write_dicom(tmp_path / "a.dcm", RAMP, Rows=60_000, Columns=60_000)
    assert reason(huge).reason == "image too large"
    many = write_dicom(tmp_path / "b.dcm", RAMP, Rows=8_000, Columns=8_000, NumberOfFrames=2_000_000)
    assert reason(many).reason == "image too large"
    assert pixels(packaged("image_dfl.dcm")).shape == (512, 512)
    monkeypatch.setattr(dicom, "DEFLATED_LIMIT", 10_000)
    assert reason(packaged("image_dfl.dcm")).reason == "image too large"
