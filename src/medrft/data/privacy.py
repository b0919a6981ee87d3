"""From images and metadata to copies that can be given away: without text in image files or columns about a person.

Pixels are never touched. Nothing here looks for names that are drawn into a picture, so they stay.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from medrft.data.images import BadImageError, open_image, png_bytes

ORIENTATION = 0x0112
"""EXIF's tag for how an image is to be turned; the only part of EXIF that is kept."""
PNG_MARK = b"\x89PNG\r\n\x1a\n"
PNG_KEPT = frozenset((b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"bKGD"))
"""PNG chunks that make the picture. All others hold text, times, profiles, later frames, or a program's own data."""
ALONE = frozenset((0x01, *range(0xD0, 0xD8)))
"""JPEG markers that no length follows."""
SOI, EOI, SOS, JFIF, ADOBE, COMMENT = 0xD8, 0xD9, 0xDA, 0xE0, 0xEE, 0xFE

_WORDS = (
    "patient patients mrn ssn dob birth birthdate birthday phone telephone mobile fax email address street zip zipcode "
    "postcode postal city county accession insurance nhs passport surname forename firstname lastname fullname "
    "initials physician doctor radiologist clinician referring referrer nurse hospital institution employer occupation "
    "姓名 患者 病历号 身份证 电话 出生 住址 病人"
)
WORDS = frozenset(_WORDS.split())
"""A column whose name holds one of these words may identify a person (HIPAA's Safe Harbor, 45 CFR 164.514(b)(2))."""
PHRASES = re.compile(
    r"^(?:name|pid|uid|person|date)$|\b(?:first|last|full|family|given|middle|maiden|person|subject|user) name\b"
    r"|\b(?:subject|person|medical record|health plan|account|licen[cs]e|device serial|serial|hospital|visit|encounter|"
    r"admission|hadm|stay|case) (?:id|no|nr|number)\b|\b(?:study|series|sop|instance|frame of reference)\b.*\buid\b"
    r"|\b(?:study|series|exam|acquisition|scan|content|admission|discharge|visit|death|report|procedure|instance|"
    r"service|birth)\b.*\b(?:date|time|datetime|day)\b|\b(?:date|day) of\b|姓名|患者|病历|身份证|电话|出生|住址"
)
RUN_TOGETHER = re.compile(
    r"patient|studydate|seriesdate|acquisitiondate|contentdate|birthdate|instanceuid|accessionnumber|physicianname|"
    r"subjectid|firstname|lastname|fullname"
)


def is_identifying(column: str) -> bool:
    """Whether a column's name says that it may hold who the patient is.

    >>> [is_identifying(name) for name in ("patient_name", "MRN", "PatientBirthDate", "StudyInstanceUID", "study date")]
    [True, True, True, True, True]
    >>> [is_identifying(name) for name in ("image_name", "dataset_name", "modality", "subject", "age", "answer")]
    [False, False, False, False, False, False]
    """
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", str(column)[:200])
    words = " ".join(re.split(r"[\W_]+", spaced)).strip().lower()
    return bool(WORDS & set(words.split()) or PHRASES.search(words) or RUN_TOGETHER.search(words.replace(" ", "")))


def without_identifying(metadata: Mapping[str, Any], *, keep: Collection[str], dropped: Counter[str]) -> dict[str, Any]:
    """Metadata without columns that may say who the patient is, at any depth; `dropped` counts those left out."""
    kept: dict[str, Any] = {}
    for name, value in metadata.items():
        if name not in keep and is_identifying(name):
            dropped[name] += 1
        else:
            kept[name] = _inside(value, keep, dropped)
    return kept


def _inside(value: Any, keep: Collection[str], dropped: Counter[str]) -> Any:
    if isinstance(value, Mapping):
        return without_identifying(value, keep=keep, dropped=dropped)
    return [_inside(inner, keep, dropped) for inner in value] if isinstance(value, list | tuple) else value


def stripped_image(path: Path) -> tuple[bytes, str]:
    """The bytes of an image file without its metadata, and the ending for them: the same pixels, turned the same way.

    JPEG segments and PNG chunks are left out one by one, and nothing is encoded again. Any other file, and one whose
    parts cannot be told apart, becomes a PNG of the pixels that `open_image` shows. Raises `BadImageError`.
    """
    content = path.read_bytes()
    turned = _orientation(path)
    try:
        if content.startswith(b"\xff\xd8"):
            return b"".join(_jpeg_parts(content, turned)), ".jpg" if path.suffix.lower() != ".jpeg" else ".jpeg"
        if content.startswith(PNG_MARK):
            return b"".join(_png_parts(content, turned)), ".png"
    except (struct.error, IndexError, ValueError):
        pass
    return png_bytes(open_image(path)), ".png"


def _orientation(path: Path) -> int:
    """How the image is to be turned, from 1 (not at all) to 8. Pillow reads it from EXIF, PNG text and XMP."""
    try:
        with Image.open(path) as image:
            image.load()
            found = image.getexif().get(ORIENTATION, 1)
    except (OSError, SyntaxError, ValueError, EOFError, KeyError, IndexError, TypeError, struct.error) as error:
        raise BadImageError("unreadable image", str(error)[:200], path=path) from error
    return found if isinstance(found, int) and 1 < found <= 8 else 1


def _exif(turned: int) -> bytes:
    """A TIFF header with one field, the orientation."""
    return b"II*\0\x08\0\0\0" + struct.pack("<HHHIHHI", 1, ORIENTATION, 3, 1, turned, 0, 0)


def _jpeg_parts(content: bytes, turned: int) -> Iterator[bytes]:
    """The segments that make the picture, up to its end marker; a file may carry more after it, which is left out."""
    yield content[:2]
    if turned != 1:
        body = b"Exif\0\0" + _exif(turned)
        yield b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body
    place = 2
    while True:
        if content[place] != 0xFF:
            raise ValueError("no marker where one belongs")
        while content[place + 1] == 0xFF:  # markers may be padded
            place += 1
        marker = content[place + 1]
        if marker == EOI:
            yield b"\xff\xd9"
            return
        if marker in ALONE:
            yield content[place : place + 2]
            place += 2
            continue
        (length,) = struct.unpack_from(">H", content, place + 2)
        end = place + 2 + length
        if length < 2 or end > len(content):
            raise ValueError("a segment is cut short")
        yield from _segment(marker, content[place:end])
        if marker == SOS:
            stop = _scan_end(content, end)
            yield content[end:stop]
            end = stop
        place = end


def _segment(marker: int, segment: bytes) -> Iterator[bytes]:
    if marker == JFIF and segment[4:9] == b"JFIF\0" and len(segment) >= 18:
        yield b"\xff\xe0\0\x10" + segment[4:16] + b"\0\0"  # without its thumbnail
    elif (marker == ADOBE and segment[4:9] == b"Adobe") or not (JFIF <= marker <= 0xEF or marker == COMMENT):
        yield segment  # no APPn and no comment, so the picture itself; Adobe's APP14 says how colours are stored


def _scan_end(content: bytes, place: int) -> int:
    """Where the coded pixels of a scan end: at the first marker that is neither a restart nor an escaped FF byte."""
    while True:
        place = content.index(b"\xff", place)
        if content[place + 1] not in (0, *range(0xD0, 0xD8)):
            return place
        place += 2


def _png_parts(content: bytes, turned: int) -> Iterator[bytes]:
    yield PNG_MARK
    place = len(PNG_MARK)
    while True:
        length, kind = struct.unpack_from(">I4s", content, place)
        end = place + 12 + length
        if end > len(content):
            raise ValueError("a chunk is cut short")
        if kind == b"IDAT" and turned != 1:
            yield _chunk(b"eXIf", _exif(turned))
            turned = 1
        if kind in PNG_KEPT:
            yield content[place:end]
        if kind == b"IEND":
            return
        place = end


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
