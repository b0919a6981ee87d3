"""What `data convert` leaves out: metadata of images with the same pixels, columns about patients."""

import io
import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from medrft.cli.convert import _words
from medrft.data import read_data
from medrft.data.images import pixels_of
from medrft.data.privacy import is_identifying, stripped_image, without_identifying
from medrft.data.tables.convert import write_format

SECRET = b"DOE^JANE"


def picture():
    noise = np.random.default_rng(1).integers(0, 256, (24, 16, 3), np.uint8)
    return Image.fromarray(noise)


def exif(orientation):
    found = Image.Exif()
    found[0x0112] = orientation
    found[0x010E] = SECRET.decode()
    return found.tobytes()


def xmp(orientation):
    return f'<x:xmpmeta tiff:Orientation="{orientation}">{SECRET.decode()}</x:xmpmeta>'.encode()


def jpeg(orientation, **more):
    buffer = io.BytesIO()
    picture().save(buffer, "JPEG", exif=exif(orientation), comment=SECRET, icc_profile=SECRET * 20, **more)
    return buffer.getvalue() + b"\0after the end" + SECRET


def png(orientation):
    info = PngImagePlugin.PngInfo()
    info.add_text("Patient", SECRET.decode())
    info.add_itxt("XML:com.adobe.xmp", xmp(1).decode())
    buffer = io.BytesIO()
    picture().save(buffer, "PNG", pnginfo=info, exif=exif(orientation), dpi=(72, 72))
    return buffer.getvalue() + SECRET


def other(form):
    def made(orientation):
        buffer = io.BytesIO()
        more = {"exif": exif(orientation)} if form == "WEBP" else {"comment": SECRET} if form == "GIF" else {}
        picture().save(buffer, form, **more)
        return buffer.getvalue()

    return made


MAKERS = {
    "jpg": jpeg,
    "progressive.jpg": lambda o: jpeg(o, progressive=True),
    "restart.jpeg": lambda o: jpeg(o, restart_marker_blocks=1),
    "png": png,
    "webp": other("WEBP"),
    "gif": other("GIF"),
}


@pytest.mark.parametrize("orientation", [1, 3, 6, 7, 8])
@pytest.mark.parametrize("name", MAKERS)
def test_metadata_go_and_pixels_stay(tmp_path, name, orientation):
    before = tmp_path / f"a.{name}"
    before.write_bytes(MAKERS[name](orientation))
    content, suffix = stripped_image(before)
    after = tmp_path / f"b{suffix}"
    after.write_bytes(content)
    assert pixels_of(after) == pixels_of(before)  # as they are shown: upright
    assert SECRET not in content and b"xmpmeta" not in content
    if name.endswith(("jpg", "jpeg", "png")):
        with Image.open(before) as first, Image.open(after) as second:  # and as they are stored
            assert first.tobytes() == second.tobytes() and first.format == second.format
            assert set(second.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density", "exif", "dpi", *PLAIN}
        assert stripped_image(after)[0] == content


PLAIN = {"progressive", "progression"}


def test_an_odd_segment_is_left_out(tmp_path):
    whole = jpeg(1)
    (tmp_path / "a.jpg").write_bytes(whole[:2] + b"\xff\xee\0\x02" + whole[2:])  # Adobe's, but empty
    content, suffix = stripped_image(tmp_path / "a.jpg")
    assert suffix == ".jpg" and SECRET not in content


COLUMNS = {
    **dict.fromkeys(("patient_name", "Patient's Name", "PatientID", "MRN", "dob", "subject_id", "study_date"), True),
    **dict.fromkeys(("SOPInstanceUID", "AccessionNumber", "referring physician", "Hospital", "name", "患者姓名"), True),
    **dict.fromkeys(("email", "Zip Code", "birth-date", "hadm_id", "first name"), True),
    **dict.fromkeys(
        ("image_name", "dataset_name", "subject", "modality", "organ", "answer", "split", "age", "sex"), False
    ),
    **dict.fromkeys(("content_type", "question_type", "image_organ", "location", "score", "base_type"), False),
}


@pytest.mark.parametrize("column", COLUMNS)
def test_columns_about_a_patient(column):
    assert is_identifying(column) is COLUMNS[column]


def test_columns_go_unless_asked_for():
    dropped = Counter()
    row = {"mrn": 1, "ward": 4, "more": [{"patient_name": "Doe", "side": "left"}]}
    assert without_identifying(row, keep=(), dropped=dropped) == {"ward": 4, "more": [{"side": "left"}]}
    assert dropped == {"mrn": 1, "patient_name": 1}
    assert "mrn" in without_identifying(row, keep=("mrn",), dropped=Counter())


def test_a_conversion_carries_neither(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").write_bytes(jpeg(6))
    row = {"image": "a.jpg", "question": "Is it?", "answer": "no", "patient_name": SECRET.decode(), "modality": "CT"}
    (tmp_path / "in" / "t.jsonl").write_text(json.dumps(row))
    rows = read_data("table", tmp_path / "in" / "t.jsonl").examples
    done = write_format(rows, "verl", tmp_path / "out.parquet", words=_words)
    assert done["dropped"] == {"patient_name": 1}
    assert SECRET not in (tmp_path / "out.parquet").read_bytes()
    (back,) = read_data("verl", tmp_path / "out.parquet", cache=tmp_path / "c").examples
    assert back.metadata["modality"] == "CT" and pixels_of(back.images[0]) == pixels_of(rows[0].images[0])
    # An image that lies below the output is referred to only where there is nothing to leave out.
    done = write_format(rows, "vlm_r1", tmp_path / "in" / "rows.jsonl", words=_words)
    assert (
        SECRET not in (tmp_path / "in" / json.loads((tmp_path / "in" / "rows.jsonl").read_text())["image"]).read_bytes()
    )


def test_a_conversation_is_written_once(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "0.png")
    turns = [("human", "<image>Is it?"), ("gpt", "Yes"), ("human", "Where?"), ("gpt", "Left")]
    row = {"image": "0.png", "conversations": [{"from": who, "value": text} for who, text in turns]}
    (tmp_path / "c.jsonl").write_text(json.dumps(row))
    rows = read_data("vlm_r1", tmp_path / "c.jsonl").examples
    done = write_format(rows, "llama_factory", tmp_path / "out.json", words=_words)
    assert done["files"] == {"out.json": 1} and "earlier turns" not in done["lost"]
    back = read_data("llama_factory", tmp_path / "out.json").examples
    assert [e.history for e in back] == [(), (("Is it?", "Yes"),)]
    assert [e.references for e in back] == [("Yes",), ("Left",)]
    assert write_format(rows, "med_r1", tmp_path / "m.json", words=_words)["lost"]["earlier turns"] == 1
