"""From the image cell of a row (a path, encoded bytes, base64 text, or a list of these) to image files."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from medrft.data import base
from medrft.data.base import RowError
from medrft.data.deep.read import show_all
from medrft.data.deep.views import View
from medrft.data.images import BadImageError, write_png
from medrft.data.paths import image_in
from medrft.data.tables.literals import parse_literal
from medrft.data.values import show_value

MAGIC = ("iVBORw0KGgo", "/9j/", "R0lGOD", "UklGR", "Qk", "SUkq", "TU0A")
"""How PNG, JPEG, GIF, WebP, BMP and TIFF begin as base64."""
BASE64 = re.compile(r"[A-Za-z0-9+/\s]+={0,2}\s*")
SHORTEST = 64
"""A base64 text of fewer characters holds no image."""
SEPARATORS = ("|", ";", ",")
ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".dcm", ".nii", ".nii.gz")
"""Endings of image files. A name without any is tried with each, for many lists name images without."""
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)

Picture = tuple[Path, dict[str, Any] | None]
"""A file, and the record of what was done to show it; `None` for a file used as it is."""


@dataclass(slots=True)
class Pictures:
    """Finds the images of one table's rows."""

    folder: Path
    cache: Path
    shown: dict[tuple[Path, View], list[Picture]] = field(default_factory=dict)
    """What each file was shown as, remembered because a table may ask many questions about one file."""
    rows: dict[str, list[Picture]] = field(default_factory=dict)
    """Base64 images by the id of their row: VLMEvalKit writes that id in place of an image which came before."""

    def read(self, value: Any, view: View, *, row: str) -> list[Picture]:
        """All images of a cell, in order; raises `RowError` or `BadImageError`."""
        if (
            isinstance(value, str | int)
            and not isinstance(value, bool)
            and (again := self.rows.get(str(value).strip()))
        ):
            return again
        values = cell_images(value)
        found = [picture for one in values for picture in self._one(one, view)]
        if len(values) == 1 and isinstance(values[0], str) and is_base64(values[0]) and len(row) < SHORTEST:
            self.rows.setdefault(row, found)
        return found

    def records(self) -> Iterator[dict[str, Any]]:
        """The records of what was done, of all images that were shown."""
        return (record for found in self.shown.values() for _, record in found if record is not None)

    def _one(self, value: Any, view: View) -> list[Picture]:
        if isinstance(value, Mapping):  # as `datasets` stores images, {"image_path": …}, {"url": …}
            encoded = value.get("bytes")
            named = (value.get(key) for key in ("path", "image_path", "image", "url"))
            value = encoded if encoded is not None else next((name for name in named if name is not None), None)
        if isinstance(value, bytes):
            return [(write_png(value, self.cache), None)]
        if not isinstance(value, str):
            raise RowError(base.NO_IMAGE, f"got {type(value).__name__}")
        if value.startswith("data:"):
            return [(write_png(_decoded(value.partition(",")[2]), self.cache), None)]
        if is_base64(value):
            return [(write_png(_decoded(value), self.cache), None)]
        return [picture for path in self._files(value) for picture in self._shown(path, view)]

    def _files(self, name: str) -> list[Path]:
        """The file that a name means; several if the cell names several, with a separator, and all of them exist."""
        path = _found(self.folder, name)
        if path.exists():
            return [path]
        if not path.name.lower().endswith(ENDINGS):
            longer = (_found(self.folder, name.strip() + ending) for ending in ENDINGS)
            if (named := next((one for one in longer if one.is_file()), None)) is not None:
                return [named]
        for separator in SEPARATORS:
            parts = [part.strip() for part in name.split(separator) if part.strip()]
            if 1 < len(parts) < 100:
                paths = [_found(self.folder, part) for part in parts]
                if all(part.is_file() for part in paths):
                    return paths
        return [path]

    def _shown(self, path: Path, view: View) -> list[Picture]:
        if (path, view) not in self.shown:
            self.shown[path, view] = show_all(path, view, self.cache, folder=self.folder)
        return self.shown[path, view]


def cell_images(value: Any) -> list[Any]:
    """The images of a cell that holds one, a list, or a list as text; empty ones are left out.

    >>> cell_images('["a.png", "b.png"]'), cell_images("['a.png' 'b.png']"), cell_images(" ")
    (['a.png', 'b.png'], ['a.png', 'b.png'], [])
    """
    if isinstance(value, str) and value.strip().startswith(("[", "array(")):
        try:
            value = parse_literal(value)
        except ValueError as error:
            raise RowError(base.NO_IMAGE, f"{show_value(value, 60)} is not a JSON list") from error
    values = value if isinstance(value, list | tuple) else [value]
    return [image for image in values if not (image is None or image != image or _is_blank(image))]


def is_base64(text: str) -> bool:
    """Whether a text is an encoded image and not a file name.

    >>> is_base64("iVBORw0KGgo" + "A" * 80), is_base64("images/scan.png")
    (True, False)
    """
    return len(text) >= SHORTEST and text.startswith(MAGIC) and BASE64.fullmatch(text) is not None


def image_name(name: str) -> str:
    """The path in a `file:` address; any other name as it is.

    >>> image_name("file:img/0.png"), image_name("file:///data/a%20b.png"), image_name("file://localhost/x.png")
    ('img/0.png', '/data/a b.png', '/x.png')
    """
    if name.lower().startswith("file:"):
        rest = name[5:]
        if rest.startswith("//"):
            host, slash, path = rest[2:].partition("/")
            rest = f"{slash}{path}" if host in ("", "localhost") else f"{host}{slash}{path}"
        return unquote(rest)
    return name


def _found(folder: Path, name: str) -> Path:
    """The file in its folder, also if its name has backslashes or outer spaces; raises `BadImageError`, `RowError`."""
    if ADDRESS.match(name) and not name.lower().startswith("file:"):
        raise RowError(base.NO_IMAGE, f"{show_value(name)} is a web address; download it first")
    name = image_name(name)
    tried = dict.fromkeys((name, name.strip(), name.strip().replace("\\", "/")))
    *others, last = tried
    for other in others:
        try:
            path = image_in(folder, other)
        except BadImageError:
            continue
        if path.exists():
            return path
    return image_in(folder, last)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except ValueError as error:  # covers binascii.Error and text that is not ASCII
        raise RowError(base.NO_IMAGE, f"a data address that is not base64 ({error})") from error


def _is_blank(image: Any) -> bool:
    return isinstance(image, str) and not image.strip()
