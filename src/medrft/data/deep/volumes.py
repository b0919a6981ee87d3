"""From a NIfTI volume to one slice as a radiologist views it, with square pixels.

Axial: the patient's right on the image's left, anterior up. Coronal: right on the left, head up. Sagittal: anterior on
the left, head up. Each axis of the affine is taken as the body axis nearest to it, so an oblique volume is not
resampled; only voxels that are not square are.
"""

from __future__ import annotations

import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from medrft.data.deep import views
from medrft.data.images import UNREADABLE, BadImageError

# The direction in which rows, columns and slices run. Slices keep the file's own, so their letter only names an axis.
TOWARDS = {"axial": "PLS", "coronal": "ILA", "sagittal": "IPL"}
AXES = {"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2}
NO_ORIENTATION_IN_FILE = "the NIfTI header has neither an sform nor a qform"
_BROKEN = (OSError, ValueError, EOFError, KeyError, IndexError, TypeError, MemoryError, OverflowError, zlib.error)


def read_nifti(path: Path, view: views.View) -> views.Shown:
    """One slice of a NIfTI file as 8 bits; raises `BadImageError` with a reason."""
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = nibabel.load(path)
            return _shown(image, view)
    except BadImageError:
        raise
    except (*_BROKEN, ImageFileError, HeaderDataError) as error:
        raise BadImageError(UNREADABLE, f"not a whole NIfTI file ({type(error).__name__})") from error


def _shown(image: Any, view: views.View) -> views.Shown:
    shape = tuple(int(size) for size in image.shape)
    if len(shape) not in (3, 4) or not hasattr(image, "affine"):
        raise BadImageError(UNREADABLE, f"a NIfTI file of {len(shape)} dimensions; 3 or 4 can be shown")
    width, height, depth, volumes = (*shape, 1)[:4]
    views.check_size(height, width, depth * volumes)
    axes, flips, turned = _layout(image, view)
    count = (width, height, depth)[axes[2]]
    index = views.pick_index(view.slice, count, default=count // 2, what="slice")
    volume = views.pick_index(view.frame, volumes, default=0, what="volume")
    values = _cut(image, axes, index, volume)
    for axis, flip in enumerate(flips):
        values = np.flip(values, axis) if flip else values
    pixels, window = _bytes(image, values, view)
    zooms = image.header.get_zooms()
    spacing = (abs(float(zooms[axes[0]])), abs(float(zooms[axes[1]])))
    as_stored = "as stored, as asked" if view.orientation == "stored" else f"as stored: {NO_ORIENTATION_IN_FILE}"
    record = {
        "format": "NIfTI",
        "plane": view.plane if turned else f"stored axis {axes[2]}",
        "orientation": "radiological" if turned else as_stored,
        "slice": index,
        "slices": count,
        **({"frame": volume, "frames": volumes} if volumes > 1 else {}),
        "rows": pixels.shape[0],
        "columns": pixels.shape[1],
        "window": window,
    }
    return views.Shown(views.square_pixels(pixels, spacing), record)


def _layout(image: Any, view: views.View) -> tuple[tuple[int, int, int], tuple[bool, bool], bool]:
    """The file's axes for rows, columns and slices; which of the first two to flip; whether the affine said so."""
    from nibabel.orientations import io_orientation

    # With both codes 0 nibabel makes an affine from the voxel sizes, which says nothing of how the patient lay.
    known = bool(image.header["sform_code"]) or bool(image.header["qform_code"])
    found = io_orientation(image.affine) if known else np.full((3, 2), np.nan)
    if not np.isfinite(found).all():
        views.refuse_unoriented(view, NO_ORIENTATION_IN_FILE)
        known = False
    if view.orientation == "stored" or not known:
        if view.plane != "axial":
            raise BadImageError(
                views.NO_ORIENTATION, f"which slices are {view.plane} cannot be told without an orientation"
            )
        return (1, 0, 2), (False, False), False
    towards = TOWARDS[view.plane]
    world = [int(axis) for axis in found[:, 0]]
    axes = tuple(world.index(AXES[letter]) for letter in towards)
    # nibabel's sign is +1 towards right, anterior and superior.
    flips = [bool((found[axis, 1] > 0) != (letter in "RAS")) for axis, letter in zip(axes, towards, strict=True)]
    return (axes[0], axes[1], axes[2]), (flips[0], flips[1]), True


def _cut(image: Any, axes: tuple[int, int, int], index: int, volume: int) -> views.Array:
    """One slice as rows and columns of the file's scaled values; the rest of the file is not kept in memory."""
    # Not `get_fdata`: it would read the whole volume as float64 and keep it.
    where: list[Any] = [slice(None)] * 3
    where[axes[2]] = index
    cut: views.Array = np.asanyarray(image.dataobj[(*where, volume)[: len(image.shape)]])
    return cut.T if axes[0] > axes[1] else cut


def _bytes(image: Any, values: views.Array, view: views.View) -> tuple[views.Array, dict[str, Any]]:
    if values.dtype.names:  # RGB24 and RGBA32
        return np.stack([values[name] for name in ("R", "G", "B")], axis=-1), {"chosen": "none: colour"}
    if values.dtype.kind not in "iufb":
        raise BadImageError(UNREADABLE, f"values of type {values.dtype} are no grey values")
    low, high = float(image.header["cal_min"]), float(image.header["cal_max"])
    own = views.Window((low + high) / 2, high - low, chosen="file") if high > low else None
    why_not = "a NIfTI file does not say so (a column modality = CT does)"
    return views.through_window(view, values, own=own, hounsfield=view.ct, why_not=why_not)


def slices_of(path: Path, view: views.View) -> int:
    """How many slices a NIfTI file has in the plane of a view; reads the header only. Raises `BadImageError`."""
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = nibabel.load(path)
            return int(image.shape[_layout(image, view)[0][2]])
    except BadImageError:
        raise
    except (*_BROKEN, ImageFileError, HeaderDataError) as error:
        raise BadImageError(UNREADABLE, f"not a whole NIfTI file ({type(error).__name__})") from error
