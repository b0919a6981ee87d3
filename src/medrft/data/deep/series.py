"""From a folder of slices to its files in order: by their place in the body, else by instance number, else by name."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from medrft.data.deep.dicom import position_of
from medrft.data.images import MISSING, UNREADABLE, BadImageError
from medrft.data.paths import image_in

DICOM = (".dcm", ".dicom", ".ima")
PLAIN = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
MOST = 5_000
"""The most files that one series may have."""


def series_files(path: Path, folder: Path) -> list[Path]:
    """The slices in a folder, first to last; raises `BadImageError` if there are none, or if they are of two series.

    Each is looked up like any image that a row names, so that no link leads out of `folder`.
    """
    if path.resolve() == folder.resolve():
        raise BadImageError(MISSING, f"{path} is the folder of all images; a series needs one of its own")
    try:
        names = sorted((entry.name for entry in os.scandir(path) if entry.is_file()), key=natural_order)
    except OSError as error:  # such as links in a circle
        raise BadImageError(UNREADABLE, f"{path}: {error.strerror}") from error
    if len(names) > MOST:
        raise BadImageError(UNREADABLE, f"a folder of {len(names):,} files is no series; at most {MOST:,}")
    relative = path.relative_to(folder) if path.is_relative_to(folder) else path
    files = [image_in(folder, str(relative / name)) for name in names]
    dicom = [file for file in files if file.name.lower().endswith(DICOM) or _is_dicom(file)]
    if dicom:
        return _in_order(dicom)
    plain = [file for file in files if file.suffix.lower() in PLAIN]
    if not plain:
        raise BadImageError(MISSING, f"{path} is a folder without images")
    return plain


def natural_order(name: str) -> tuple[Any, ...]:
    """Orders names by the numbers in them.

    >>> sorted(["s10.dcm", "s9.dcm"], key=natural_order)
    ['s9.dcm', 's10.dcm']
    """
    return tuple(
        (0, int(part[:18]), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name) if part
    )


def _is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _in_order(files: list[Path]) -> list[Path]:
    try:
        facts = {file: position_of(file) for file in files}
    except ModuleNotFoundError as error:
        raise BadImageError("a package is missing", f"{error.name}; pip install 'medrft[dicom]' reads it") from error
    series = {one for one, _, _ in facts.values()}
    if len(series) > 1:
        raise BadImageError(UNREADABLE, f"a folder with slices of {len(series)} series; give each a folder of its own")
    places = [place for _, place, _ in facts.values()]
    numbers = [number for _, _, number in facts.values()]
    if all(place is not None for place in places) and len(set(places)) == len(places):
        return sorted(files, key=lambda file: facts[file][1] or 0.0)
    if all(number is not None for number in numbers) and len(set(numbers)) == len(numbers):
        return sorted(files, key=lambda file: facts[file][2] or 0)
    return files
