"""From an image file to an upright 8-bit RGB picture, its hash, or the reason why it cannot be used.

Palette, CMYK, grey and transparent files are converted, and an EXIF rotation is applied. Deeper files (16-bit PNG and
the like) need a window: they are refused here with a reason, and `data/deep` makes 8-bit pictures of them.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import hashlib
import io
import math
import os
import struct
import threading
import warnings
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from medrft.errors import DataError
from medrft.progress import Advance
from medrft.rundir import write_atomic

PIXEL_LIMIT = 64 * 1024 * 1024
"""Files that declare more pixels than this are not decoded: a small file may unpack to many gigabytes."""
_limit: contextvars.ContextVar[int] = contextvars.ContextVar("pixel_limit", default=PIXEL_LIMIT)
AT_ONCE = 16 * 1024 * 1024
"""Pixels that all threads together may decode at once; a larger image is decoded alone."""
STRIP = 1024 * 1024
"""Pixels that are hashed, or laid on a white ground, at a time."""

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")
EIGHT_BIT = frozenset({"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"})

MISSING = "missing image"
UNREADABLE = "unreadable image"
HUGE = "image too large"
DEEP = "image not 8-bit"

# What Pillow raises on files that are cut short, corrupt or not images at all.
_BROKEN = (
    *(OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, MemoryError, OverflowError),
    *(TypeError, AttributeError, AssertionError, RuntimeError, ZeroDivisionError, struct.error, zlib.error),
)


@contextlib.contextmanager
def pixel_limit(pixels: int | None) -> Iterator[None]:
    """Within the block, refuse images of more than so many pixels. `None` changes nothing. Raises `DataError`."""
    if pixels is None:
        yield
        return
    if isinstance(pixels, bool) or not isinstance(pixels, int) or not 0 < pixels <= PIXEL_LIMIT:
        raise DataError(f"pixel_limit is a number of pixels from 1 to {PIXEL_LIMIT:,}, got {pixels!r}")
    token = _limit.set(pixels)
    try:
        yield
    finally:
        _limit.reset(token)


class BadImageError(DataError):
    """An image that cannot be used: `reason` is one of a few phrases, to be counted, `detail` is about this image."""

    def __init__(self, reason: str, detail: str, *, path: Path | None = None) -> None:
        super().__init__(f"{path}: {reason} ({detail})" if path else f"{reason} ({detail})")
        self.reason = reason
        self.detail = detail
        self.path = path


def open_image(path: Path, *, max_pixels: int | None = None) -> Image.Image:
    """An image as upright 8-bit RGB, shrunk to at most `max_pixels` pixels with its aspect kept.

    Transparent pixels become white. Raises `BadImageError` with the reason that `inspect_image` would give.
    """
    reason = header_reason(path)
    if reason is not None:
        raise BadImageError(*reason, path=path)
    try:
        image = _decode(path)
    except _BROKEN as error:
        raise BadImageError(UNREADABLE, first_line(error), path=path) from error
    return shrink_image(image, max_pixels=max_pixels)


def shrink_image(image: Image.Image, *, max_pixels: int | None) -> Image.Image:
    """The image itself, or a copy resized to at most `max_pixels` pixels with its aspect kept."""
    width, height = image.size
    if max_pixels is None or width * height <= max_pixels:
        return image
    scale = math.sqrt(max_pixels / (width * height))
    # A long side is clipped too: a 1-pixel short side cannot shrink any further.
    short = max(1, math.floor(min(width, height) * scale))
    long = min(max(1, math.floor(max(width, height) * scale)), max_pixels // short)
    size = (long, short) if width >= height else (short, long)
    return image.resize(size, Image.Resampling.BICUBIC)


def inspect_image(path: Path) -> tuple[str, str] | None:
    """Why an image cannot be used, as a short phrase with a detail, or `None` when it can; decodes the whole file."""
    reason = header_reason(path)
    if reason is not None:
        return reason
    return _decode_reason(path)


def inspect_images(paths: Iterable[Path], *, on_progress: Advance | None = None) -> dict[Path, tuple[str, str]]:
    """The images among `paths` that cannot be used, each with its reason and detail; decodes all, in threads."""
    headers = {path: header_reason(path) for path in dict.fromkeys(paths)}
    bad = {path: reason for path, reason in headers.items() if reason is not None}
    good = [path for path in headers if path not in bad]
    room = _Room(AT_ONCE)

    def checked(path: Path) -> tuple[str, str] | None:
        with room.taken(_declared(path)):
            return _decode_reason(path)

    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for done, (path, reason) in enumerate(zip(good, pool.map(checked, good), strict=True), 1):
            if reason is not None:
                bad[path] = reason
            if on_progress is not None:
                on_progress(done, len(good))
    return bad


class _Room:
    """A budget of pixels that threads may decode at once, so that eight large images are not in memory together."""

    def __init__(self, pixels: int) -> None:
        self.all = self.free = pixels
        self.changed = threading.Condition()

    @contextlib.contextmanager
    def taken(self, pixels: int) -> Iterator[None]:
        """Wait until so many pixels are free. An image larger than the whole budget waits for all of it."""
        wanted = min(pixels, self.all)
        with self.changed:
            self.changed.wait_for(lambda: self.free >= wanted)
            self.free -= wanted
        try:
            yield
        finally:
            with self.changed:
                self.free += wanted
                self.changed.notify_all()


def _declared(path: Path) -> int:
    """The pixels that a file declares; the whole budget for a file that cannot be opened."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                return image.width * image.height
    except _BROKEN:
        return AT_ONCE


def sha256_of(path: Path) -> str:
    """SHA-256 of the file's bytes, in hexadecimal; read once per version of the file."""
    stat = path.stat()
    return _sha256(path, stat.st_size, stat.st_mtime_ns)


def pixels_of(path: Path) -> str:
    """SHA-256 of the decoded pixels and their size: the same for every lossless file of an image.

    Read once per version of the file: a load has it already from checking the image. Raises like `open_image`.
    """
    try:
        stat = path.stat()
        return _pixels(path, stat.st_size, stat.st_mtime_ns)
    except _BROKEN as error:
        raise BadImageError(*(inspect_image(path) or (UNREADABLE, first_line(error))), path=path) from error


def pixel_hash(image: Image.Image) -> str:
    """The hash that `pixels_of` gives, for an image that is open already."""
    digest = hashlib.sha256(repr(image.size).encode())
    for top, bottom in _strips(image):
        digest.update(image.crop((0, top, image.width, bottom)).tobytes())
    return digest.hexdigest()


def _strips(image: Image.Image) -> Iterator[tuple[int, int]]:
    """The first and last row of strips of about a megapixel, top to bottom: no copy of the whole image is made."""
    step = max(1, STRIP // max(1, image.width))
    for top in range(0, image.height, step):
        yield top, min(image.height, top + step)


def blank_image(size: tuple[int, int]) -> Image.Image:
    """A mid-grey image."""
    return Image.new("RGB", size, (127, 127, 127))


def blank_like(image: Image.Image) -> Image.Image:
    """A mid-grey image of the same size: the control that asks what a model says without seeing."""
    return blank_image(image.size)


def thumbnail_png(path: Path, size: int) -> bytes:
    """PNG bytes of the image fitted into `size` by `size` pixels; raises like `open_image`."""
    image = open_image(path)
    image.thumbnail((size, size), Image.Resampling.BICUBIC)
    red, green, blue = image.split()
    grey = red.tobytes() == green.tobytes() == blue.tobytes()
    return png_bytes(image.convert("L") if grey else image)


def default_cache() -> Path:
    """The folder that images are written to: `$MEDRFT_CACHE`, else `medrft` in the user's cache folder."""
    named = os.environ.get("MEDRFT_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "medrft"


def write_png(encoded: bytes, cache: Path) -> Path:
    """Write an encoded image as an upright 8-bit PNG named by the hash of its bytes, and return the file.

    Raises `BadImageError` for bytes that cannot be used. A file that is already there is kept.
    """
    path = cache / "images" / f"{hashlib.sha256(encoded).hexdigest()}.png"
    if path.is_file():
        return path
    reason = header_reason(io.BytesIO(encoded))
    if reason is not None:
        raise BadImageError(*reason)
    try:
        image = _decode(io.BytesIO(encoded))
    except _BROKEN as error:
        raise BadImageError(UNREADABLE, first_line(error)) from error
    write_atomic(path, png_bytes(image))
    return path


def header_reason(source: Path | io.BytesIO) -> tuple[str, str] | None:
    """Why the header alone rules an image out: no file, no image, too many pixels, or more than 8 bits; else `None`."""
    if isinstance(source, Path) and not _is_file(source):
        return MISSING, str(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is lower
            with Image.open(source, formats=FORMATS) as image:
                (width, height), mode = image.size, image.mode
    except Image.DecompressionBombError as error:
        return HUGE, first_line(error)
    except UnidentifiedImageError:
        return UNREADABLE, f"not one of {', '.join(FORMATS)}"
    except _BROKEN as error:
        return UNREADABLE, first_line(error)
    if width * height > _limit.get():
        return HUGE, f"{width} x {height} pixels; the limit is {_limit.get():,} (data.pixel_limit)"
    if mode not in EIGHT_BIT:
        return DEEP, f"mode {mode}; read it with the table loader, which takes a window, or save it as 8-bit PNG"
    return None


def _is_file(path: Path) -> bool:
    """Whether a plain file is there; false for a name that is too long for the system, which raises otherwise."""
    try:
        return path.is_file()
    except OSError:
        return False


def _decode_reason(path: Path) -> tuple[str, str] | None:
    try:
        stat = path.stat()
        _pixels(path, stat.st_size, stat.st_mtime_ns)
    except _BROKEN as error:
        return UNREADABLE, first_line(error)
    return None


@functools.lru_cache(maxsize=400_000)
def _pixels(path: Path, size: int, modified: int) -> str:
    return pixel_hash(_decode(path))


def _decode(source: Path | io.BytesIO) -> Image.Image:
    """Upright RGB pixels of the first frame; call `header_reason` first."""
    with Image.open(source, formats=FORMATS) as opened:
        image: Image.Image
        if opened.width * opened.height > AT_ONCE:  # `exif_transpose` copies, which would cost hundreds of megabytes
            ImageOps.exif_transpose(opened, in_place=True)
            opened.load()
            image = opened
        else:
            image = ImageOps.exif_transpose(opened)
        # A PNG without an alpha channel may name one colour transparent; Pillow keeps that in `info`.
        if image.mode == "RGB" and image is opened and "transparency" not in image.info:
            return image
        if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
            return _on_white(image)
        return image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    """A transparent image on a white ground, laid down in strips."""
    ground = Image.new("RGB", image.size)
    for top, bottom in _strips(image):
        layer = image.crop((0, top, image.width, bottom)).convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        ground.paste(Image.alpha_composite(white, layer).convert("RGB"), (0, top))
    return ground


@functools.lru_cache(maxsize=200_000)
def _sha256(path: Path, size: int, modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def png_bytes(image: Image.Image) -> bytes:
    """The image as a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or the name of its type if it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]
