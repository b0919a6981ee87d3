"""How a medical image is shown: a `View` asks for a window, slice and orientation, and a `Shown` is the answer.

A `Shown` is 8-bit pixels and a record of what was done: a short list of technical facts, and never a tag that could
identify a person. The arithmetic of windows, spacing and slices that all readers share is here too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medrft.data.images import HUGE, PIXEL_LIMIT, BadImageError
from medrft.errors import DataError, unknown_name

Array = NDArray[Any]
OneWindow = str | tuple[float, float]

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
ALIASES = {"soft": "soft_tissue", "mediastinal": "mediastinum"}
PLANES = ("axial", "coronal", "sagittal")
ORIENTATIONS = ("auto", "require", "stored")
WINDOWS = ("file", "percentile", *PRESETS)
PERCENTILES = (1.0, 99.0)
VOLUME_LIMIT = 16 * PIXEL_LIMIT
"""The most frames x rows x columns that a file may declare; only one of its frames is decoded."""

FLAT = 0.999
"""A picture in which at least this share of the pixels has one grey value counts as showing nothing."""
STORED_OFFSETS = (32_768, 1_024, 1_000)
"""Offsets that some files add to Hounsfield units to store no negative value; tried for the hint in an error."""

NO_WINDOW = "window does not fit"
NO_FRAME = "no such frame or slice"
NO_ORIENTATION = "orientation unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What is asked of a medical image."""

    window: OneWindow | tuple[OneWindow, ...] = "file"
    """`file`, `percentile`, a name of `PRESETS`, or centre and width; three of them are red, green and blue."""
    frame: int | None = None
    """From 0: the frame of a DICOM file, page of a TIFF, volume of a 4-D NIfTI file."""
    slice: int | None = None
    """From 0, along the NIfTI file's own axis; the middle one by default."""
    plane: str = "axial"
    """The plane in which a NIfTI volume is cut."""
    orientation: str = "auto"
    """`auto` turns images that tell their orientation, `require` refuses those that do not, `stored` turns none."""
    ct: bool = False
    """The table says that the image is CT, because a NIfTI file has no field for its modality."""
    slices: int | None = None
    """So many slices (or frames) of a volume, evenly spread, each as an image of its own."""

    def asked(self) -> dict[str, Any]:
        """What was asked, as plain data for the cache key."""
        return {key: value for key, value in asdict(self).items() if key != "slices" or value is not None}


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
    *,
    window: Any = None,
    frame: Any = None,
    slice: Any = None,
    plane: str = "axial",
    orientation: str = "auto",
    slices: Any = None,
) -> View:
    """A view from the values in a recipe or a table; raises `DataError` or `UnknownNameError` for a wrong value."""
    if plane not in PLANES:
        raise unknown_name("plane", str(plane), PLANES)
    if orientation not in ORIENTATIONS:
        raise unknown_name("orientation", str(orientation), ORIENTATIONS)
    view = View(
        window=_windows("file" if window in (None, "") else window),
        frame=_index("frame", frame),
        slice=_index("slice", slice),
        plane=plane,
        orientation=orientation,
        slices=_index("slices", slices),
    )
    if view.slices == 0:
        raise DataError("slices: a whole number from 1, got 0")
    if view.slices is not None and view.slice is not None:
        raise DataError(
            f"slices={view.slices} asks for several of a volume, slice={view.slice} for one; set one of the two"
        )
    return view


def _windows(value: Any) -> OneWindow | tuple[OneWindow, ...]:
    """One window, or three; as text with commas between them (`lung,soft,bone`), or as a list."""
    if isinstance(value, str) and ("," in value or value.strip().startswith("[")):
        value = [part.strip(" '\"") for part in value.strip("[] ").split(",")]
        value = "/".join(value) if len(value) == 2 else value
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 3:
        return tuple(map(_window, value))
    return _window(value)


def _window(value: Any) -> OneWindow:
    numbers = value.split("/") if isinstance(value, str) and "/" in value else value
    if isinstance(numbers, str):
        name = ALIASES.get(numbers, numbers)
        if name not in WINDOWS:
            raise unknown_name("window", name, (*WINDOWS, "CENTRE/WIDTH"))
        return name
    try:
        centre, width = (float(number) for number in numbers)
    except (TypeError, ValueError):
        centre = width = math.nan
    if not (math.isfinite(centre) and math.isfinite(width) and width > 0):
        raise DataError(
            f"window: a name, CENTRE/WIDTH such as 40/400, or three of them for red, green and blue, got {value!r:.80}"
        )
    return centre, width


def _index(name: str, value: Any) -> int | None:
    if value is None or value == "":
        return None
    text = str(value)
    if isinstance(value, bool) or not re.fullmatch(r"\d{1,9}(\.0)?", text):
        raise DataError(f"{name}: a whole number from 0, got {value!r}")
    return int(text.removesuffix(".0"))


def pick_index(wanted: int | None, count: int, *, default: int, what: str) -> int:
    """The index of a frame or slice, from 0; raises `BadImageError` if it is not within `count`."""
    index = default if wanted is None else wanted
    if not 0 <= index < count:
        raise BadImageError(NO_FRAME, f"{what} {index} of {count}, counted from 0")
    return index


def check_size(rows: int, columns: int, frames: int) -> None:
    """Raise `BadImageError` for a declared size that is too large to decode, or is less than one pixel."""
    if min(rows, columns, frames) < 1:
        raise BadImageError(NO_FRAME, f"declares {frames} x {rows} x {columns} pixels")
    if rows * columns > PIXEL_LIMIT or frames * rows * columns > VOLUME_LIMIT:
        raise BadImageError(
            HUGE,
            f"{frames} x {rows} x {columns} pixels; the limits are {PIXEL_LIMIT:,} for one and {VOLUME_LIMIT:,} in all",
        )


Pixels = tuple[Array, dict[str, Any]]
"""8-bit pixels, (rows, columns) if grey or (rows, columns, 3), and the record of their window."""


def through_window(
    view: View, values: Array, *, own: Window | None, hounsfield: bool, why_not: str, padding: Array | None = None
) -> Pixels:
    """Values as bytes through the window of a view, or through its three windows as red, green and blue.

    Raises `BadImageError` for a preset where the values are not known to be Hounsfield units, and for a window that
    makes the picture one colour though the values differ.
    """
    wanted = view.window if isinstance(view.window, tuple) and len(view.window) == 3 else (view.window,)
    windows = [
        chosen_window(one, values, own=own, hounsfield=hounsfield, why_not=why_not, padding=padding)  # type: ignore[arg-type]
        for one in wanted
    ]
    shown = [apply_window(values, window) for window in windows]
    if all(is_flat(picture, padding) for picture in shown) and not is_flat(values, padding):
        raise BadImageError(NO_WINDOW, _why_flat(values, windows, padding))
    if len(windows) == 1:
        return shown[0], windows[0].record()
    records = [window.record() for window in windows]
    return np.stack(shown, axis=-1), {key: [record[key] for record in records] for key in records[0]}


def is_flat(values: Array, padding: Array | None = None) -> bool:
    """Whether all but a thousandth of the values are the same; padding and NaN are not counted."""
    seen = values if padding is None else values[~padding]
    seen = seen[np.isfinite(seen)] if seen.dtype.kind == "f" else seen
    if not seen.size:
        return True
    return float(np.mean(seen == np.median(seen))) >= FLAT


def _why_flat(values: Array, windows: Sequence[Window], padding: Array | None) -> str:
    seen = values[np.isfinite(values) if padding is None else np.isfinite(values) & ~padding]
    low, high = float(seen.min()), float(seen.max())
    asked = ", ".join(f"{window.centre:g}/{window.width:g}" for window in windows)
    fits = f"{(low + high) / 2:.0f}/{max(high - low, 1):.0f} or percentile shows them all"
    for offset in STORED_OFFSETS:
        moved = [window.centre + offset for window in windows]
        if all(low < centre < high for centre in moved):
            pairs = ", ".join(f"{c:g}/{w.width:g}" for c, w in zip(moved, windows, strict=True))
            fits += f", and {pairs} does if {offset:,} was added to the values"
            break
    return f"values run from {low:g} to {high:g}, so that {asked} makes the picture one colour; {fits}"


def chosen_window(
    asked: OneWindow,
    values: Array,
    *,
    own: Window | None,
    hounsfield: bool,
    why_not: str,
    padding: Array | None = None,
) -> Window:
    """The window asked for: a preset, a given one, the file's own, or the 1st to 99th percentile without the padding.

    Raises `BadImageError` for a preset where the values are not known to be Hounsfield units.
    """
    if not isinstance(asked, str):
        return Window(*asked)
    if asked in PRESETS:
        if not hounsfield:
            raise BadImageError(
                NO_WINDOW,
                f"{asked} is a window for CT in Hounsfield units, and {why_not}; use file, percentile or CENTRE/WIDTH",
            )
        return Window(*PRESETS[asked], chosen=asked)
    if asked == "file" and own is not None:
        return own
    return _percentile(values, padding, chosen="automatic" if asked == "file" else "percentile")


def spread_slices(count: int, wanted: int) -> list[int]:
    """The places, from 0, of `wanted` slices spread evenly over `count`: each in the middle of its share.

    >>> spread_slices(16, 4), spread_slices(3, 8)
    ([1, 5, 9, 13], [0, 1, 2])
    """
    if wanted >= count:
        return list(range(count))
    return [((2 * i + 1) * count - wanted) // (2 * wanted) for i in range(wanted)]


def _percentile(values: Array, padding: Array | None, *, chosen: str) -> Window:
    usable = np.isfinite(values) if padding is None else np.isfinite(values) & ~padding
    seen = values[usable]
    if not seen.size:
        raise BadImageError(NO_WINDOW, "every pixel is padding or no number")
    low, high = (float(value) for value in np.percentile(seen, PERCENTILES))
    return Window((low + high) / 2, high - low, chosen=chosen)


def apply_window(values: Array, window: Window) -> Array:
    """Grey values as bytes, by the formulas of DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3; NaN is black."""
    x = np.nan_to_num(values.astype(np.float64), nan=-np.inf)
    if window.function == "SIGMOID":
        share = 1 / (1 + np.exp(np.clip(-4 * (x - window.centre) / window.width, -50, 50)))
    else:
        exact = window.function == "LINEAR_EXACT"
        centre, width = (window.centre, window.width) if exact else (window.centre - 0.5, window.width - 1)
        # A width of 0 is a threshold: values above the centre are white.
        share = (x - centre) / width + 0.5 if width > 0 else (x > centre).astype(np.float64)
    return np.rint(np.clip(share, 0, 1) * 255).astype(np.uint8)


def square_pixels(pixels: Array, spacing: tuple[float, float]) -> Image.Image:
    """A grey or RGB picture with square pixels: the side with the wider spacing is enlarged to match the other.

    `spacing` is the distance between rows, then between columns. Raises `BadImageError` if the picture gets too large.
    """
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if not all(math.isfinite(step) and step > 0 for step in spacing):
        return image
    finer = min(spacing)
    rows, columns = (round(count * step / finer) for count, step in zip(pixels.shape[:2], spacing, strict=True))
    check_size(rows, columns, 1)
    return image if (columns, rows) == image.size else image.resize((columns, rows), Image.Resampling.BILINEAR)


def refuse_unoriented(view: View, why: str) -> None:
    """Raise `BadImageError` if the view requires an orientation; the caller has found none, and says why."""
    if view.orientation == "require":
        raise BadImageError(NO_ORIENTATION, f"{why}; orientation=auto shows it as stored")
