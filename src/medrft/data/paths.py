"""From the file name in a row to a path inside the folder of the images. A name that leads elsewhere is refused."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from medrft.data.images import BadImageError
from medrft.data.values import show_value

OUTSIDE = "image outside its folder"
NO_NAME = "image name that no file can have"
LONGEST = 4_096
"""The longest path, in characters, that is tried."""


def image_in(folder: Path, name: str) -> Path:
    """The file that a row names, by a relative or a full path; the file itself need not be there.

    Raises `BadImageError` for a name that leads out of `folder` (`..`, an address, or a link to elsewhere), and for a
    name that no file can have. The folder itself may be a link, and so may the folders above it.
    """
    try:
        usable = "\0" not in name and len(name) <= LONGEST and len(os.fsencode(name)) <= LONGEST
    except UnicodeEncodeError:
        usable = False
    if not usable:
        raise BadImageError(NO_NAME, show_value(name))
    path = folder / name
    if not _within(Path(os.path.abspath(path)), Path(os.path.abspath(folder))):
        raise BadImageError(OUTSIDE, f"{show_value(name)} leads out of {folder}; image_root names another folder")
    try:
        real = _real(path.parent.absolute()) / path.name
        if ".." in path.parts or real.is_symlink():
            real = real.resolve()
        # Compared after links are followed. A directory or a pipe is refused later, by `header_reason`.
        if not any(_within(real, place) for place in _places(folder.absolute())):
            raise BadImageError(
                OUTSIDE, f"{show_value(name)} is a link to {show_value(str(real))}, which is outside {folder}"
            )
        path.is_file()
    except (OSError, RuntimeError) as error:  # a name or a link that the system refuses, or links in a circle
        raise BadImageError(NO_NAME, f"{show_value(name)}: {getattr(error, 'strerror', None) or error}") from error
    return path


@functools.lru_cache(maxsize=100_000)
def _real(folder: Path) -> Path:
    return folder.resolve()


@functools.lru_cache(maxsize=1_000)
def _places(folder: Path) -> tuple[Path, ...]:
    """The folders that a file may really lie in: `folder`, and `blobs` if it is a snapshot in the hub's cache.

    The hub's cache fills `…/snapshots/REVISION/…` with links to `…/blobs`, so those links lead out of the folder.
    """
    parts = folder.parts
    if "snapshots" not in parts:
        return (_real(folder),)
    repository = Path(*parts[: parts.index("snapshots")])
    return _real(folder), _real(repository) / "blobs"


def _within(path: Path, folder: Path) -> bool:
    return path == folder or path.is_relative_to(folder)
