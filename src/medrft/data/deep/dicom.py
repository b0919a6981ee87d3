"""From a DICOM file to one frame as an 8-bit picture, windowed and turned as a radiologist views it, with a record.

The record holds the few technical facts that `_record` lists. Nothing about patient, study or device leaves the file.
pydicom decodes uncompressed and RLE frames itself, JPEG and JPEG 2000 with Pillow, and other syntaxes if their plugin
is installed.
"""

from __future__ import annotations

import contextlib
import logging
import math
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from PIL import Image

from medrft.data.deep.views import (
    NO_WINDOW,
    Array,
    Shown,
    View,
    Window,
    check_size,
    pick_index,
    refuse_unoriented,
    square_pixels,
    through_window,
)
from medrft.data.images import HUGE, PIXEL_LIMIT, UNREADABLE, BadImageError

Found = TypeVar("Found")
NO_DECODER = "transfer syntax not readable"
CHUNK = 1 << 20
DEFLATED_LIMIT = 4 * PIXEL_LIMIT
"""Bytes that a deflated file may unpack to: pydicom unpacks such a file whole, whatever it is asked for."""
PLUGINS = {
    "JPEG-LS": "pyjpegls",
    "JPEG Lossless": "pylibjpeg and pylibjpeg-libjpeg",
    "JPEG Extended": "pylibjpeg and pylibjpeg-libjpeg",
    "High-Throughput JPEG 2000": "pylibjpeg and pylibjpeg-openjpeg",
    "JPEG 2000": "pylibjpeg and pylibjpeg-openjpeg",
}
"""Packages that decode what Pillow cannot, by the start of the transfer syntax's name."""

FRAME_FACTS = {
    "PixelValueTransformationSequence": ("RescaleIntercept", "RescaleSlope", "RescaleType"),
    "FrameVOILUTSequence": ("WindowCenter", "WindowWidth", "VOILUTFunction"),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelMeasuresSequence": ("PixelSpacing",),
}
"""Enhanced multi-frame files have these elements in sequences, per frame or shared; other files have them on top."""

# Defined terms of PS3.3 C.7.3.1.1.1 (with those of retired objects) and of C.7.6.3.1.2.
_MODALITIES = (
    "ANN AR ASMT AU BDUS BI BMD CD CF CFM CP CR CS CT CTPROTOCOL DD DF DG DM DMS DOC DS DX EC ECG EEG EM EMG EOG "
    "EPS ES FA FID FS GM HC HD IO IOL IVOCT IVUS KER KO LEN LP LS M3D MA MG MR MS NM OAM OCT OP OPM OPR OPT "
    "OPTBSV OPTENF OPV OSS OT PA PLAN POS PR PT PX REG RESP RF RG RTDOSE RTIMAGE RTINTENT RTPLAN RTRAD RTRECORD "
    "RTSEGANN RTSTRUCT RWV SEG SM SMR SR SRF ST STAIN TEXTUREMAP TG US VA VF XA XAPROTOCOL XC "
)
_COLOURS = (
    *("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "ARGB", "CMYK", "HSV", "XYB", "YBR_ICT", "YBR_RCT"),
    *("YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420", "YBR_PARTIAL_422"),
)
CODED = {"Modality": frozenset(_MODALITIES.split()), "PhotometricInterpretation": frozenset(_COLOURS)}
"""The only values of these elements that may be shown: a file may hold anything there, a person's name too."""

# Image axes in the patient's (+x left, +y posterior, +z head), rightwards and downwards; by the axis looked along.
DISPLAY = {
    2: ("axial", (0, 1), (1, 1)),
    1: ("coronal", (0, 1), (2, -1)),
    0: ("sagittal", (1, 1), (2, -1)),
}
_BROKEN = (
    *(OSError, ValueError, EOFError, KeyError, IndexError, TypeError, AttributeError, MemoryError, ArithmeticError),
    *(RuntimeError, struct.error, zlib.error, Image.DecompressionBombWarning),
)


def read_dicom(path: Path, view: View) -> Shown:
    """One frame of a DICOM file as 8 bits; raises `BadImageError` with a reason."""
    from pydicom.errors import InvalidDicomError

    try:
        with _quiet():
            return _shown(_dataset(path), view)
    except BadImageError:
        raise
    except (*_BROKEN, InvalidDicomError) as error:
        raise BadImageError(UNREADABLE, f"not a whole DICOM file ({type(error).__name__})") from error


def frames_of(path: Path) -> int:
    """How many frames a DICOM file says it has; reads no pixels. Raises `BadImageError`."""
    return _header(path, lambda dataset: int(dataset.get("NumberOfFrames") or 1), ("NumberOfFrames",))


def position_of(path: Path) -> tuple[str, float | None, int | None]:
    """A file's series UID, its place along the normal of its slices in mm, and its instance number, to sort a series.

    The place is ImagePositionPatient projected on the normal of ImageOrientationPatient; `None` if either is missing.
    The three are never written anywhere. Raises `BadImageError`.
    """
    wanted = ("SeriesInstanceUID", "ImagePositionPatient", "ImageOrientationPatient", "InstanceNumber")
    return _header(path, _position, wanted)


def _position(dataset: Any) -> tuple[str, float | None, int | None]:
    corner = [float(value) for value in dataset.get("ImagePositionPatient") or ()]
    cosines = [float(value) for value in dataset.get("ImageOrientationPatient") or ()]
    place = None
    if len(corner) == 3 and plane_and_turn(cosines) is not None:
        place = float(np.cross(cosines[:3], cosines[3:]) @ np.array(corner))
    number = dataset.get("InstanceNumber")
    return str(dataset.get("SeriesInstanceUID") or ""), place, int(number) if number is not None else None


def _header(path: Path, ask: Callable[[Any], Found], wanted: tuple[str, ...]) -> Found:
    """What `ask` returns for a header read without its pixels and with only the elements `wanted`."""
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        with _quiet():
            return ask(pydicom.dcmread(path, force=True, stop_before_pixels=True, specific_tags=list(wanted)))
    except (*_BROKEN, InvalidDicomError) as error:
        raise BadImageError(UNREADABLE, f"not a whole DICOM file ({type(error).__name__})") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence pydicom's warnings: they quote values of the file, which would then stand on screens and in logs."""
    logger = logging.getLogger("pydicom")
    was, logger.disabled = logger.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # A JPEG inside the file may be far larger than the Rows and Columns that `check_size` has seen.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    finally:
        logger.disabled = was


def _shown(dataset: Any, view: View) -> Shown:
    frames = int(dataset.get("NumberOfFrames") or 1)
    if "PixelData" not in dataset or dataset.get("Rows") is None:
        raise BadImageError(UNREADABLE, f"a DICOM file without pixels (modality {_word(dataset, 'Modality')})")
    check_size(int(dataset.Rows), int(dataset.Columns), frames)
    frame = pick_index(view.frame, frames, default=frames // 2, what="frame")
    _frame_facts(dataset, frame)
    turn, lies = _orientation(dataset, view)
    pixels, window = _bytes(dataset, _decode(dataset, frame), view)
    spacing = _spacing(dataset)
    if turn is not None:
        pixels, spacing = turn_pixels(pixels, turn), (spacing[1], spacing[0]) if turn[0] else spacing
    record = {**_record(dataset, frame, frames), "window": window, **lies}
    return Shown(square_pixels(pixels, spacing), record)


def _dataset(path: Path) -> Any:
    """The file as pydicom reads it, also if it lacks the preamble or does not name its transfer syntax."""
    import pydicom
    from pydicom import uid

    with path.open("rb") as file:
        bare = file.read(132)[128:] != b"DICM"
    if not bare:
        _check_deflated(path)
    dataset = pydicom.dcmread(path, force=bare)
    if dataset.file_meta.get("TransferSyntaxUID") is None:
        implicit, little = dataset.original_encoding
        explicit = uid.ExplicitVRLittleEndian if little else uid.ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian if implicit else explicit
    return dataset


def _check_deflated(path: Path) -> None:
    """Refuse a deflated file that unpacks to more than we show, before pydicom unpacks it whole."""
    from pydicom.filereader import read_file_meta_info
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    meta = read_file_meta_info(path)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return
    start = 144 + int(meta.FileMetaInformationGroupLength)  # preamble, DICM, the length's own element
    inflate, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    with path.open("rb") as file:
        file.seek(start)
        piece = file.read(CHUNK)
        while piece:
            size += len(inflate.decompress(piece, CHUNK))
            if size > DEFLATED_LIMIT:
                raise BadImageError(HUGE, f"unpacks to more than {DEFLATED_LIMIT:,} bytes")
            piece = inflate.unconsumed_tail or file.read(CHUNK)


def _frame_facts(dataset: Any, frame: int) -> None:
    """Copy the facts of one frame of an enhanced file to the top, where a plain file has them."""
    groups: list[Any] = []
    for name, index in (("PerFrameFunctionalGroupsSequence", frame), ("SharedFunctionalGroupsSequence", 0)):
        items = dataset.get(name) or []
        groups += [items[index]] if index < len(items) else []
    for sequence, keywords in FRAME_FACTS.items():
        found: Any = next((group.get(sequence)[0] for group in groups if group.get(sequence)), {})
        for keyword in keywords:
            if keyword in found and keyword not in dataset:
                setattr(dataset, keyword, found.get(keyword))


def _decode(dataset: Any, frame: int) -> Array:
    """The stored values of one frame, colours as RGB; raises `BadImageError` for a syntax that no decoder reads."""
    from pydicom.pixels import apply_color_lut, get_decoder, pixel_array

    syntax = dataset.file_meta.TransferSyntaxUID
    wanted = next((package for start, package in PLUGINS.items() if syntax.name.startswith(start)), None)
    hint = (
        f"; pip install {wanted.replace(' and ', ' ')} may read it" if wanted else "; convert it to an uncompressed one"
    )
    try:
        if not get_decoder(syntax).is_available:
            raise BadImageError(NO_DECODER, f"{_syntax(syntax)}{hint}")
    except NotImplementedError as error:  # a syntax that no plugin of pydicom's reads
        raise BadImageError(NO_DECODER, f"{_syntax(syntax)}; convert it to an uncompressed one") from error
    try:
        stored = pixel_array(dataset, index=frame)
    except (RuntimeError, ValueError) as error:
        told = str(error).strip().splitlines() or [type(error).__name__]
        if syntax.is_encapsulated and isinstance(error, RuntimeError):
            raise BadImageError(NO_DECODER, f"{_syntax(syntax)}: {told[-1].strip()[:120]}{hint}") from error
        raise BadImageError(UNREADABLE, told[0][:200]) from error
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        stored = apply_color_lut(stored, dataset)
    return cast(Array, stored)


def _bytes(dataset: Any, stored: Array, view: View) -> tuple[Array, dict[str, Any]]:
    """The frame as bytes, and its window. The order is DICOM's: modality LUT, window, and only then MONOCHROME1."""
    from pydicom.pixels import apply_modality_lut

    if stored.ndim == 3:
        if view.window not in ("file", "percentile"):
            raise BadImageError(NO_WINDOW, "the image is in colour")
        # A palette's entries fill their type; other colours have BitsStored bits.
        palette = dataset.PhotometricInterpretation == "PALETTE COLOR"
        top = int(np.iinfo(stored.dtype).max) if palette else 2 ** int(dataset.BitsStored) - 1
        scaled = stored[..., :3].astype(np.float64) * (255 / top)
        return np.rint(np.clip(scaled, 0, 255)).astype(np.uint8), {"chosen": "none: colour"}
    padding = _padding(dataset, stored)
    values = apply_modality_lut(stored, dataset)
    ct = dataset.get("Modality") == "CT"
    # CT files may omit RescaleType, and then it is HU (PS3.3 C.8.2.1).
    hounsfield = ct and "RescaleSlope" in dataset and dataset.get("RescaleType", "HU") in ("HU", "", None)
    why_not = "the file does not rescale to them" if ct else f"the modality is {_word(dataset, 'Modality')}"
    if view.window == "file" and dataset.get("VOILUTSequence"):
        pixels, record = _voi_lut(dataset, values), {"chosen": "file: VOI LUT"}
    else:
        own = _own_window(dataset)
        pixels, record = through_window(view, values, own=own, hounsfield=hounsfield, why_not=why_not, padding=padding)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        pixels = 255 - pixels
    if padding is not None:
        pixels[padding] = 0  # around the image, black in either interpretation
    return pixels, record


def _padding(dataset: Any, stored: Array) -> Array | None:
    """A mask of the stored values that are padding and not measured; `None` if the file names no padding.

    Padding is PixelPaddingValue, or everything from there to PixelPaddingRangeLimit, which may be above or below it.
    """
    value = dataset.get("PixelPaddingValue")
    if not isinstance(value, int):
        return None
    limit = dataset.get("PixelPaddingRangeLimit")
    ends = sorted((value, limit if isinstance(limit, int) else value))
    return cast(Array, (stored >= ends[0]) & (stored <= ends[1]))


def _own_window(dataset: Any) -> Window | None:
    """The file's first window, or `None`. A plain image of up to 8 bits without one gets a window over all values."""
    centre, width = (_first(dataset.get(keyword)) for keyword in ("WindowCenter", "WindowWidth"))
    if centre is not None and width is not None and width > 0:
        function = str(dataset.get("VOILUTFunction") or "LINEAR")
        known = function if function in ("LINEAR", "LINEAR_EXACT", "SIGMOID") else "LINEAR"
        return Window(centre, width, known, chosen="file")
    bits = int(dataset.BitsStored)
    rescaled = "RescaleSlope" in dataset or "ModalityLUTSequence" in dataset
    if bits <= 8 and not rescaled and not dataset.PixelRepresentation:
        top = 2**bits - 1
        return Window(top / 2, top, chosen="none: 8 bits as stored")
    return None


def _voi_lut(dataset: Any, values: Array) -> Array:
    from pydicom.pixels import apply_voi

    bits = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
    scaled = apply_voi(values, dataset, index=0).astype(np.float64) * (255 / (2**bits - 1))
    return cast(Array, np.rint(np.clip(scaled, 0, 255)).astype(np.uint8))


def _first(value: Any) -> float | None:
    """The first number of an element that may hold several."""
    if value is None or isinstance(value, str):
        return None
    values = [value] if isinstance(value, int | float) else list(value)
    number = float(values[0]) if values else math.nan
    return number if math.isfinite(number) else None


def _spacing(dataset: Any) -> tuple[float, float]:
    """The distance between rows, then the one between columns (DICOM's order), or their ratio; (1, 1) if not told."""
    found = dataset.get("PixelSpacing") or dataset.get("ImagerPixelSpacing") or dataset.get("PixelAspectRatio")
    numbers = [float(value) for value in found or ()]
    return (numbers[0], numbers[1]) if len(numbers) == 2 else (1.0, 1.0)


def _orientation(dataset: Any, view: View) -> tuple[tuple[bool, bool, bool] | None, dict[str, Any]]:
    """How to turn the frame (`None`: not at all), and its plane and orientation for the record."""
    cosines = [float(value) for value in dataset.get("ImageOrientationPatient") or ()]
    lies = plane_and_turn(cosines)
    if lies is None:
        why = "the file has no ImageOrientationPatient" if not cosines else "ImageOrientationPatient is malformed"
        refuse_unoriented(view, why)
        return None, {"orientation": f"as stored: {why}"}
    plane, turn = lies
    if view.orientation == "stored":
        return None, {"plane": plane, "orientation": "as stored, as asked"}
    return turn, {"plane": plane, "orientation": "radiological"}


def plane_and_turn(cosines: list[float]) -> tuple[str, tuple[bool, bool, bool]] | None:
    """The plane nearest to ImageOrientationPatient, and whether to transpose, mirror and upend for a radiologist.

    `None` unless the six cosines are two unit vectors at a right angle, each within 0.1.

    >>> plane_and_turn([1, 0, 0, 0, 1, 0]), plane_and_turn([0, 1, 0, 0, 0, 1])
    (('axial', (False, False, False)), ('sagittal', (False, False, True)))
    """
    if len(cosines) != 6 or not all(math.isfinite(value) for value in cosines):
        return None
    along_row, down_column = np.array(cosines[:3]), np.array(cosines[3:])
    lengths = float(np.linalg.norm(along_row)), float(np.linalg.norm(down_column))
    if abs(lengths[0] - 1) > 0.1 or abs(lengths[1] - 1) > 0.1 or abs(float(along_row @ down_column)) > 0.1:
        return None
    plane, right, down = DISPLAY[int(np.argmax(np.abs(np.cross(along_row, down_column))))]
    transpose = bool(abs(along_row[down[0]]) > abs(along_row[right[0]]))
    if transpose:
        along_row, down_column = down_column, along_row
    return plane, (transpose, bool(along_row[right[0]] * right[1] < 0), bool(down_column[down[0]] * down[1] < 0))


def turn_pixels(pixels: Array, turn: tuple[bool, bool, bool]) -> Array:
    """Pixels transposed, mirrored and upended, as `plane_and_turn` says."""
    transpose, mirror, upend = turn
    pixels = pixels.swapaxes(0, 1) if transpose else pixels
    return pixels[:: -1 if upend else 1, :: -1 if mirror else 1]


def _record(dataset: Any, frame: int, frames: int) -> dict[str, Any]:
    """The facts that may leave the file, and no others."""
    burned = {"burned_in_annotation": True} if dataset.get("BurnedInAnnotation") == "YES" else {}
    return {
        "format": "DICOM",
        "modality": _word(dataset, "Modality"),
        "rows": int(dataset.Rows),
        "columns": int(dataset.Columns),
        "photometric_interpretation": _word(dataset, "PhotometricInterpretation"),
        "transfer_syntax": _syntax(dataset.file_meta.TransferSyntaxUID),
        **({"frame": frame, "frames": frames} if frames > 1 else {}),
        **burned,
    }


def _word(dataset: Any, keyword: str) -> str:
    """A header's value if DICOM defines it, else `unknown`: free text, which may name a person, does not pass."""
    value = str(dataset.get(keyword) or "")
    return value if value in CODED[keyword] else "unknown"


def _syntax(uid: Any) -> str:
    """The name of a transfer syntax that pydicom knows, else `unknown`: a file may write anything there."""
    from pydicom.uid import UID_dictionary

    return str(uid.name) if str(uid) in UID_dictionary else "unknown"
