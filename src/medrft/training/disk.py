"""Turns errors of a full disk, or of a limit on files, into one `StorageError`, whichever library was writing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from medrft.errors import FULL, StorageError

SIGNS = ("os error 28", "os error 122", "os error 27", "unexpected pos", "iostream error", "PytorchStreamWriter failed")
"""How safetensors and torch say that a disk is full: neither passes on the system's error number."""


@contextmanager
def storage_errors(folder: Path, *, whole: bool = False) -> Iterator[None]:
    """Turn a failure to write into `folder` into `StorageError`.

    With `whole` the folder is of use only if all of it was written, so it is removed.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        if not is_full(error):
            raise
        free = shutil.disk_usage(folder.parent).free
        if whole:
            shutil.rmtree(folder, ignore_errors=True)
        raise StorageError(
            f"could not write all of {folder}: the disk or a limit on files is full, {free / 2**20:.0f} MiB were free. "
            "The last whole checkpoint is kept, so make space and go on with the same command and --resume"
        ) from error


def is_full(error: Exception) -> bool:
    """Whether an error means that nothing more can be written.

    >>> is_full(OSError(28, "No space left on device")), is_full(OSError(2, "No such file or directory"))
    (True, False)
    >>> is_full(RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"))
    True
    """
    if isinstance(error, OSError):
        return error.errno in FULL
    return any(sign in str(error) for sign in SIGNS)
