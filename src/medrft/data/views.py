"""How a medical image is to be shown: its window, frame or slice, plane and orientation, and the arithmetic of both.

Everything is asked for by a `View` and answered by a `Shown`: 8-bit pixels and a record of what was done. The record
holds a short list of technical facts and never a tag that could identify a person.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medrft.data.images import HUGE, PIXEL_LIMIT, BadImageError
from medrft.errors import DataError, unknown_name

Array = NDArray[Any]

# Centre and width in Hounsfield units, as listed under "Windowing (CT)" on radiopaedia.org.
PRESETS: dict[str, tuple[float, float]] = {
    "lung": (-600, 1500),
    "mediastinum": (50, 350),
    "soft_tissue": (50, 400),
    "liver": (30, 150),
    "bone": (400, 1800),
    "temporal_bone": (600, 2800),
    "brain": (40, 80),
    "subdural": (75, 215),
    "stroke": (40, 40),
}
PLANES = ("axial", "coronal", "sagittal")
ORIENTATIONS = ("auto", "require", "stored")
WINDOWS = ("file", "percentile", *PRESETS)
PERCENTILES = (1.0, 99.0)
VOLUME_LIMIT = 16 * PIXEL_LIMIT
"""Frames x rows x columns that a file may declare; only one frame of them is decoded."""

NO_WINDOW = "window does not fit"
NO_FRAME = "no such frame or slice"
NO_ORIENTATION = "orientation unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What is asked of a medical image."""

    window: str | tuple[float, float] = "file"
    """`file`, `percentile`, a name of `PRESETS`, or centre and width."""
    frame: int | None = None
    """From 0: the frame of a DICOM file, page of a TIFF, volume of a 4-D NIfTI file."""
    slice: int | None = None
    """From 0, along the NIfTI file's own axis; the middle one by default."""
    plane: str = "axial"
    """The plane in which a NIfTI volume is cut."""
    orientation: str = "auto"
    """`auto` turns what says how it lies, `require` refuses what does not, `stored` turns nothing."""
    ct: bool = False
    """The table says that the image is CT: a NIfTI file cannot."""


class Window(NamedTuple):
    """Grey values from black to white, and who chose them."""

    centre: float
    width: float
    function: str = "LINEAR_EXACT"
    """DICOM's VOI LUT function: LINEAR, LINEAR_EXACT or SIGMOID."""
    chosen: str = "given"
    """`file`, `percentile`, `given` or a preset's name; `automatic` where the file has none."""

    def record(self) -> dict[str, Any]:
        """The window as it stands in metadata."""
        return {"chosen": self.chosen, "centre": round(self.centre, 3), "width": round(self.width, 3)}


class Shown(NamedTuple):
    """An 8-bit image and what was done to get it."""

    image: Image.Image
    record: dict[str, Any]


def make_view(
    *, window: Any = None, frame: Any = None, slice: Any = None, plane: str = "axial", orientation: str = "auto"
) -> View:
    """A view from values of a recipe or a table; raises `DataError` or `UnknownNameError` for one that is none."""
    if plane not in PLANES:
        raise unknown_name("plane", str(plane), PLANES)
    if orientation not in ORIENTATIONS:
        raise unknown_name("orientation", str(orientation), ORIENTATIONS)
    return View(
        window=_window("file" if window in (None, "") else window),
        frame=_index("frame", frame),
        slice=_index("slice", slice),
        plane=plane,
        orientation=orientation,
    )


def _window(value: Any) -> str | tuple[float, float]:
    numbers = value.split("/") if isinstance(value, str) and "/" in value else value
    if isinstance(numbers, str):
        if numbers not in WINDOWS:
            raise unknown_name("window", numbers, (*WINDOWS, "CENTRE/WIDTH"))
        return numbers
    try:
        centre, width = (float(number) for number in numbers)
    except (TypeError, ValueError):
        centre = width = math.nan
    if not (math.isfinite(centre) and math.isfinite(width) and width > 0):
        raise DataError(f"window: a name or CENTRE/WIDTH such as 40/400, got {value!r}")
    return centre, width


def _index(name: str, value: Any) -> int | None:
    if value is None or value == "":
        return None
    text = str(value)
    if isinstance(value, bool) or not re.fullmatch(r"\d{1,9}(\.0)?", text):
        raise DataError(f"{name}: a whole number from 0, got {value!r}")
    return int(text.removesuffix(".0"))


def picked(wanted: int | None, count: int, *, default: int, what: str) -> int:
    """The index of a frame or slice; raises `BadImageError` where there is no such one."""
    index = default if wanted is None else wanted
    if not 0 <= index < count:
        raise BadImageError(NO_FRAME, f"{what} {index} of {count}, counted from 0")
    return index


def check_size(rows: int, columns: int, frames: int) -> None:
    """Raise `BadImageError` for a declared size that is not to be decoded."""
    if min(rows, columns, frames) < 1:
        raise BadImageError(NO_FRAME, f"declares {frames} x {rows} x {columns} pixels")
    if rows * columns > PIXEL_LIMIT or frames * rows * columns > VOLUME_LIMIT:
        raise BadImageError(
            HUGE,
            f"{frames} x {rows} x {columns} pixels; the limits are {PIXEL_LIMIT:,} for one and {VOLUME_LIMIT:,} in all",
        )


def chosen_window(
    view: View, values: Array, *, own: Window | None, hounsfield: bool, why_not: str, padding: Array | None = None
) -> Window:
    """The window of a view: named, given, the file's own, or the 1st to 99th percentile of what is no padding.

    Raises `BadImageError` for a preset where the values are not known to be Hounsfield units.
    """
    if not isinstance(view.window, str):
        return Window(*view.window)
    if view.window in PRESETS:
        if not hounsfield:
            raise BadImageError(
                NO_WINDOW,
                f"{view.window} is a window for CT in Hounsfield units, and {why_not}; use file, percentile or "
                "CENTRE/WIDTH",
            )
        return Window(*PRESETS[view.window], chosen=view.window)
    if view.window == "file" and own is not None:
        return own
    return _percentile(values, padding, chosen="automatic" if view.window == "file" else "percentile")


def _percentile(values: Array, padding: Array | None, *, chosen: str) -> Window:
    usable = np.isfinite(values) if padding is None else np.isfinite(values) & ~padding
    seen = values[usable]
    if not seen.size:
        raise BadImageError(NO_WINDOW, "every pixel is padding or no number")
    low, high = (float(value) for value in np.percentile(seen, PERCENTILES))
    return Window((low + high) / 2, high - low, chosen=chosen)


def windowed(values: Array, window: Window) -> Array:
    """Grey values as bytes, by the formulas of DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3; what is no number is black."""
    x = np.nan_to_num(values.astype(np.float64), nan=-np.inf)
    if window.function == "SIGMOID":
        share = 1 / (1 + np.exp(np.clip(-4 * (x - window.centre) / window.width, -50, 50)))
    else:
        exact = window.function == "LINEAR_EXACT"
        centre, width = (window.centre, window.width) if exact else (window.centre - 0.5, window.width - 1)
        # A width of nothing is a threshold: what lies above it is white.
        share = (x - centre) / width + 0.5 if width > 0 else (x > centre).astype(np.float64)
    return np.rint(np.clip(share, 0, 1) * 255).astype(np.uint8)


def square(pixels: Array, spacing: tuple[float, float]) -> Image.Image:
    """A grey or RGB picture whose pixels are square: the coarser side is enlarged to the finer one's spacing.

    `spacing` is the distance between rows and that between columns. Raises `BadImageError` where it gets too large.
    """
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if not all(math.isfinite(step) and step > 0 for step in spacing):
        return image
    finer = min(spacing)
    rows, columns = (round(count * step / finer) for count, step in zip(pixels.shape[:2], spacing, strict=True))
    check_size(rows, columns, 1)
    return image if (columns, rows) == image.size else image.resize((columns, rows), Image.Resampling.BILINEAR)


def refuse_unoriented(view: View, why: str) -> None:
    """Raise `BadImageError` where a view requires an orientation that there is not."""
    if view.orientation == "require":
        raise BadImageError(NO_ORIENTATION, f"{why}; orientation=auto shows it as stored")
