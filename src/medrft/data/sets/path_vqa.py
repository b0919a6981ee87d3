"""PathVQA: 4,998 pathology images with 32,795 questions (MIT text; images from textbooks; He et al., 2020).

    {"image": "val_0000", "question": "What has pseudohyphae and budding yeasts?", "answer": "candida organism"}

The release stores its questions as pickles. A pickle can run code when it is read, so ours are read by an unpickler
that admits only built-in containers, text and numbers. The hub copy has fewer rows, in another order, and some CMYK
images.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medrft.data import base
from medrft.data.base import Loaded, Reading
from medrft.data.counts import Form
from medrft.data.fields import (
    Fields,
    is_hub_form,
    keep_row,
    metadata_of,
    plain_fields,
    read_hub,
    require_any,
    with_ending,
)
from medrft.data.layout import Release, require_file
from medrft.data.values import show_value
from medrft.errors import DataError
from medrft.progress import Advance
from medrft.types import SPLITS, Split

OFFICIAL = Form(name="the official release", rows={"train": 19_755, "validation": 6_279, "test": 6_761})
HUB = Form(name="the hub copy flaviagiammarino/path-vqa", rows={"train": 19_654, "validation": 6_259, "test": 6_719})
FOLDERS: dict[Split, str] = {"train": "train", "validation": "val", "test": "test"}
RELEASE = Release(
    dataset="path_vqa",
    wanted="pvqa/qas/{train,val,test}/…_qa.pkl beside pvqa/images/{train,val,test}/, or the hub copy's Parquet files",
    source="https://github.com/UCSD-AI4H/PathVQA (MIT) or hf:flaviagiammarino/path-vqa",
)
ADMITTED = frozenset({"set", "frozenset", "complex"})
"""Built-in classes that a pickle may name; dictionaries, lists, tuples, text and numbers need no name."""
_BROKEN = (pickle.UnpicklingError, EOFError, ValueError, IndexError, KeyError, AttributeError, TypeError)


def load_path_vqa(
    root: Path | None,
    *,
    revision: str | None = None,
    cache: Path | None = None,
    on_progress: Advance | None = None,
) -> Loaded:
    """Read the official folder, a folder of the hub's Parquet files, or `hf:owner/name` (`revision` pins it).

    Raises `DataError` for a missing folder, another layout, or a pickle that holds more than data.
    """
    if root is not None and is_hub_form(root):
        reading = Reading("path_vqa", splits=SPLITS, forms=(HUB, OFFICIAL))
        read_hub(reading, root, plain_fields, revision=revision, cache=cache)
        return reading.done(on_progress)
    root = RELEASE.require(root)
    root = root / "pvqa" if (root / "pvqa").is_dir() else root
    files = {name: root / "qas" / name / f"{name}_qa.pkl" for name in FOLDERS.values()}
    require_any(RELEASE, root, {f"qas/{name}/{path.name}": path.is_file() for name, path in files.items()})
    reading = Reading("path_vqa", splits=SPLITS, forms=(OFFICIAL, HUB))
    for split, folder in FOLDERS.items():
        rows = read_pickle(files[folder]) if files[folder].is_file() else []
        if not isinstance(rows, list):
            raise RELEASE.wrong(root, missing=f"a list of rows in {files[folder].name}")
        for number, row in enumerate(rows):
            _read_row(reading, row, f"path_vqa/{split}/{number}", split=split, images=root / "images" / folder)
    return reading.done(on_progress)


class _PlainUnpickler(pickle.Unpickler):
    """Builds built-in containers, text and numbers; looks up no other class or function."""

    def find_class(self, module: str, name: str) -> Any:
        if module in ("builtins", "__builtin__") and name in ADMITTED:
            return {"set": set, "frozenset": frozenset, "complex": complex}[name]
        raise _RefusedError(f"{module}.{name}")


class _RefusedError(Exception):
    """A pickle names a class or function that is not in `ADMITTED`."""


def read_pickle(path: Path) -> Any:
    """The data in a pickle; raises `DataError` for one that names any class or function, and for a broken one."""
    try:
        content = require_file(path).read_bytes()
        _check_memo(content)
        return _PlainUnpickler(io.BytesIO(content)).load()
    except _RefusedError as refused:
        raise DataError(
            f"{path} is refused: it asks for {refused}, and a pickle can run code when it is read. The release holds "
            f"plain lists, dictionaries and text alone. Get it: {RELEASE.source}"
        ) from refused
    except (*_BROKEN, OverflowError, MemoryError, RecursionError) as error:
        raise DataError(
            f"{path} is not a whole pickle ({type(error).__name__}: {show_value(str(error), 200)})"
        ) from error


def _check_memo(content: bytes) -> None:
    """Refuse a memo index that no pickle of this size needs: the unpickler allocates memory for all those below it."""
    for opcode, place, _ in pickletools.genops(content):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and isinstance(place, int) and place > len(content):
            raise pickle.UnpicklingError(f"memo place {place:,} in a file of {len(content):,} bytes")


def _read_row(reading: Reading, row: Any, name: str, *, split: Split, images: Path) -> None:
    if not isinstance(row, Mapping):
        reading.leave(name, split, base.NOT_A_ROW, show_value(row))
        return
    missing = [key for key in ("image", "question", "answer") if key not in row]
    if missing:
        reading.leave(name, split, base.MISSING_COLUMN, ", ".join(missing))
        return
    image = base.one_line(row["image"])
    fields = Fields(
        question=row["question"],
        answers=(row["answer"],),
        images=(with_ending(image),) if image else (),
        folder=images,
        metadata=metadata_of({key: value for key, value in row.items() if isinstance(key, str)}, "question", "answer"),
    )
    keep_row(reading, name, split, fields)
