"""From a DICOM, NIfTI, or 16-bit PNG or TIFF file to the 8-bit PNG that everything downstream reads, and its record.

The PNG lies in the cache, named by the hash of the source's bytes and of the view asked for; the record lies beside it
as JSON. Neither holds a tag that could identify a person. Names that are drawn into the pixels stay there.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from medrft.data.deep.dicom import frames_of, read_dicom
from medrft.data.deep.series import series_files
from medrft.data.deep.views import Shown, View, check_size, pick_index, refuse_unoriented, spread_slices, through_window
from medrft.data.deep.volumes import read_nifti, slices_of
from medrft.data.images import (
    DEEP,
    EIGHT_BIT,
    FORMATS,
    UNREADABLE,
    BadImageError,
    first_line,
    header_reason,
    png_bytes,
    sha256_of,
)
from medrft.data.notes import count_noun
from medrft.rundir import read_json, write_atomic, write_json

RENDERING = 1
"""Part of the cache key. Raise it when a change of ours makes another picture of the same file and view."""

PLAIN = "a plain image file does not say how it lies"
NO_PACKAGE = "a package is missing"
NIFTI = (".nii", ".nii.gz")
DICOM = (".dcm", ".dicom", ".ima")
TIFF_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
WHITE_IS_ZERO = 0
PHOTOMETRIC = 262
"""TIFF's tag that says whether 0 is black or white. Pillow inverts 8-bit files by it, but leaves deeper ones alone."""


def show_medical(path: Path, view: View, cache: Path) -> tuple[Path, dict[str, Any]] | None:
    """The 8-bit PNG of a medical file, and the record of what was done; `None` for a plain file that is used as it is.

    Raises `BadImageError` with a reason, also for a view that the file cannot give.
    """
    reader = reader_of(path) or (read_deep if view.frame and path.is_file() else None)
    if reader is None:
        if path.is_file():
            refuse_unoriented(view, PLAIN)
        return None
    digest = sha256_of(path)
    asked = json.dumps([RENDERING, digest, view.asked()], sort_keys=True)
    target = cache / "images" / f"{hashlib.sha256(asked.encode()).hexdigest()}.png"
    beside = target.with_suffix(".json")
    if target.is_file() and beside.is_file():
        return target, dict(read_json(beside))
    try:
        shown = reader(path, view)
    except ModuleNotFoundError as error:
        raise BadImageError(NO_PACKAGE, f"{error.name}; pip install 'medrft[dicom]' reads this file") from error
    record = {**shown.record, "sha256": digest}
    write_atomic(target, png_bytes(shown.image))
    write_json(beside, record)
    return target, record


def show_all(path: Path, view: View, cache: Path, *, folder: Path) -> list[tuple[Path, dict[str, Any] | None]]:
    """Every image that a file is shown as: one, or several of its slices if the view asks for `slices`.

    A folder is one series, whose files are taken in the order of their positions. It is shown as its middle file, as
    the one that `slice` names, or as so many `slices`. No file outside `folder` is read. Raises `BadImageError`.
    """
    if path.is_dir():
        files = series_files(path, folder)
        one = [pick_index(view.slice, len(files), default=len(files) // 2, what="slice")]
        places = spread_slices(len(files), view.slices) if view.slices else one
        alone = replace(view, slice=None, slices=None)
        return [_with_place(files[place], alone, cache, place, len(files)) for place in places]
    if view.slices is None:
        shown = show_medical(path, view, cache)
        return [shown if shown is not None else (path, None)]
    reader = reader_of(path)
    found: list[tuple[Path, dict[str, Any] | None]] = []
    for each in _sampled(path, view, reader):
        shown = show_medical(path, each, cache)
        found.append(shown if shown is not None else (path, None))
    return found


def _sampled(path: Path, view: View, reader: Callable[[Path, View], Shown] | None) -> list[View]:
    """One view for each slice of a volume, frame of a DICOM file or page of a TIFF."""
    assert view.slices is not None
    alone = replace(view, slices=None)
    try:
        if reader is read_nifti:
            return [replace(alone, slice=place) for place in spread_slices(slices_of(path, view), view.slices)]
        frames = frames_of(path) if reader is read_dicom else _pages(path)
    except ModuleNotFoundError as error:
        raise BadImageError(NO_PACKAGE, f"{error.name}; pip install 'medrft[dicom]' reads this file") from error
    if frames < 2:
        return [alone]
    return [replace(alone, frame=place) for place in spread_slices(frames, view.slices)]


def _pages(path: Path) -> int:
    """Pages of a TIFF file; 1 for any other file, and for a broken one, which the check of images reports later."""
    try:
        with Image.open(path, formats=("TIFF",)) as opened:
            return int(getattr(opened, "n_frames", 1))
    except (OSError, SyntaxError, ValueError, EOFError, KeyError, IndexError, TypeError, struct.error):
        return 1


def _with_place(path: Path, view: View, cache: Path, place: int, count: int) -> tuple[Path, dict[str, Any] | None]:
    """One file of a series as it is shown, and its record with its place in the series."""
    shown = show_medical(path, view, cache)
    if shown is None:
        return path, None
    return shown[0], {**shown[1], "slice": place, "slices": count}


def reader_of(path: Path) -> Callable[[Path, View], Shown] | None:
    """The function that reads a file, by its first bytes and its ending; `None` for a plain 8-bit image or no file."""
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            start = file.read(132)
    except OSError:
        return None  # the check of plain images reports it
    name = path.name.lower()
    if start[128:] == b"DICM" or name.endswith(DICOM):
        return read_dicom
    if name.endswith(NIFTI):
        return read_nifti
    deep = start[:8] == b"\x89PNG\r\n\x1a\n" and start[24:25] == b"\x10"
    if deep or start[:4] in TIFF_MARKS:
        reason = header_reason(path)
        return read_deep if reason is not None and reason[0] == DEEP else None
    return None


def read_deep(path: Path, view: View) -> Shown:
    """A 16-bit or floating-point PNG or TIFF file as 8 bits, or a page of one of 8 bits; raises `BadImageError`."""
    refuse_unoriented(view, PLAIN)
    reason = header_reason(path)
    if reason is not None and reason[0] != DEEP:
        raise BadImageError(*reason)
    try:
        with Image.open(path, formats=FORMATS) as opened:
            frames = int(getattr(opened, "n_frames", 1))
            frame = pick_index(view.frame, frames, default=0, what="page")
            opened.seek(frame)
            check_size(opened.height, opened.width, 1)
            upright = ImageOps.exif_transpose(opened)
            inverted = getattr(opened, "tag_v2", {}).get(PHOTOMETRIC) == WHITE_IS_ZERO
            values, mode, kind = np.asarray(upright), opened.mode, opened.format
    except BadImageError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, MemoryError) as error:
        raise BadImageError(UNREADABLE, first_line(error)) from error
    where = {"frame": frame, "frames": frames} if frames > 1 else {}
    if mode in EIGHT_BIT:
        page = upright.convert("RGB")
        page.info.clear()  # a colour profile names its maker
        size = {"rows": page.height, "columns": page.width}
        record = {"format": kind, **size, **where, "window": {"chosen": "none: 8 bits as stored"}}
        return Shown(page, {**record, "orientation": f"as stored: {PLAIN}"})
    if values.ndim != 2:
        raise BadImageError(UNREADABLE, f"mode {mode} is neither grey nor 8-bit colour")
    why_not = "a PNG or TIFF file does not say what its values are"
    pixels, window = through_window(view, values, own=None, hounsfield=False, why_not=why_not)
    record = {
        "format": kind,
        "rows": values.shape[0],
        "columns": values.shape[1],
        **where,
        "window": window,
        "orientation": f"as stored: {PLAIN}",
    }
    return Shown(Image.fromarray(255 - pixels if inverted else pixels), record)


def view_notes(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """One note for each thing a person should know: images without a window or an orientation, or with text in them."""
    seen = list({(record["sha256"], json.dumps(record, sort_keys=True)): record for record in records}.values())
    automatic = sum("automatic" in record["window"]["chosen"] for record in seen)  # one choice, or one per channel
    stored = sum(record["orientation"].startswith("as stored:") for record in seen)
    burned = sum("burned_in_annotation" in record for record in seen)
    notes = {
        "no window in the file: shown from the 1st to the 99th percentile; window=… chooses one": automatic,
        "no orientation: shown as stored; orientation=require leaves them out": stored,
        "text drawn into the pixels, by their own header: look for names before you share them": burned,
    }
    return [f"{count_noun(n, 'medical image has', 'medical images have')} {what}" for what, n in notes.items() if n]
