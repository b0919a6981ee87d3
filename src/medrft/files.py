"""Writes files so that a kill cannot spoil them: whole or not at all, by whole lines, and one process at a time.

    .recipe.yaml.k3x9.tmp   what `write_atomic` is writing; if a kill leaves it, `sweep_scraps` removes it
    .lock                   locked by the process that works in a folder; the kernel unlocks it when that process ends

This is the lowest level: every part of medrft may import it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from medrft.errors import MedrftError, RunInUseError, StorageError, cannot_write

SCRAP = ".tmp"
LOCK = ".lock"
Tell = Callable[[str], None]

HASHERS = 4
"""How many files are hashed at the same time."""

_held: set[int] = set()
"""File descriptors of the locks that this process holds; a forked child closes its copies."""


def write_atomic(path: Path, content: str | bytes, *, mode: int = 0o644) -> None:
    """Write a file whole or not at all; raises `StorageError` naming the file when the disk refuses it.

    `mode`: its permissions. By default others may read it.
    """
    with replace_file(path, mode=mode) as file:
        file.write(content.encode("utf-8") if isinstance(content, str) else content)


@contextmanager
def replace_file(path: Path, *, mode: int = 0o644) -> Iterator[IO[bytes]]:
    """A file to write that replaces `path` when the block ends without an error, after it has reached the disk.

    Raises `StorageError` naming `path` when the disk refuses it; the file that was there then stays.
    """
    temporary: Path | None = None
    _check_file(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:200]}.", suffix=SCRAP)
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            try_lock(file.fileno())  # tells `sweep_scraps` of other processes that it is still being written
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, mode)  # mkstemp makes files that only their owner may read
        os.replace(temporary, path)
    except MedrftError:
        raise
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        if temporary is not None:
            with suppress(OSError):  # gone once it has replaced the file
                temporary.unlink()


@contextmanager
def scratch_folder(beside: Path) -> Iterator[Path]:
    """A new folder in the folder of `beside`, for what must be whole before it is moved there; removed at the end."""
    make_folder(beside.parent)
    folder = Path(tempfile.mkdtemp(dir=beside.parent, prefix=f".{beside.name}.", suffix=SCRAP))
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try_lock(descriptor)
        yield folder
    finally:
        os.close(descriptor)
        shutil.rmtree(folder, ignore_errors=True)


def make_folder(path: Path) -> Path:
    """Make a folder and all above it if they are missing; raises `StorageError` if that fails."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error
    return path


def check_writable(path: Path) -> None:
    """Raise `StorageError` for a file that could not be written, before any work is done for it."""
    _check_file(path)
    parent = next(folder for folder in path.absolute().parents if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        raise cannot_write(path, error) from error


def _check_file(path: Path) -> None:
    """Raise `StorageError` if `path` is there and is not a plain file, such as a folder or a device."""
    if path.exists() and not path.is_file():
        raise StorageError(f"cannot write {path}: it is {'a folder' if path.is_dir() else 'no file'}; name a file")


def sweep_scraps(folder: Path, *, of: str = "**/.*") -> int:
    """Remove what killed writes left below `folder`, and return how many; files still being written stay.

    `of` narrows it to the scraps of one file: `.NAME.*`.
    """
    swept = 0
    for path in list(folder.glob(f"{of}{SCRAP}")):
        with suppress(OSError):  # another sweep was faster, or it may not be removed
            descriptor = os.open(path, os.O_RDONLY)
            try:
                if try_lock(descriptor) is not True:
                    continue
                shutil.rmtree(path) if path.is_dir() else path.unlink()
                swept += 1
            finally:
                os.close(descriptor)
    return swept


def is_scrap(path: Path) -> bool:
    """Whether a file is a lock or the rest of a killed write; a folder with only such files counts as empty.

    >>> is_scrap(Path("a/.lock")), is_scrap(Path("a/.recipe.yaml.k3x9.tmp")), is_scrap(Path("a/recipe.yaml"))
    (True, True, False)
    """
    return path.name == LOCK or (path.name.startswith(".") and path.name.endswith(SCRAP))


# ---- lines ----------------------------------------------------------------------------------------------------------


def append_bytes(path: Path, content: bytes) -> None:
    """Add whole lines to a file, all or none of them. A last line that a kill cut off is removed before.

    Raises `StorageError` naming the file when the disk refuses it; the file then ends as it did before.
    """
    try:
        # Without a buffer, a full disk is noticed here and not when the file is closed; one write may then be partial.
        with path.open("ab", buffering=0) as file:
            before = whole_size(path)
            file.truncate(before)
            left = memoryview(content)
            try:
                while left:
                    left = left[file.write(left) :]
            except OSError:
                file.truncate(before)
                raise
    except OSError as error:
        raise cannot_write(path, error) from error


def whole_size(path: Path) -> int:
    """Size of a file in bytes up to the end of its last whole line."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - 65536)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
    return 0


# ---- hashes ---------------------------------------------------------------------------------------------------------


def hash_file(path: Path) -> str:
    """SHA-256 of a file, read piece by piece."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def list_files(folder: Path, *, without: tuple[str, ...] = ()) -> dict[str, dict[str, Any]]:
    """`{name: {"size": …, "sha256": …}}` of every file below `folder`, after each has reached the disk."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and not is_scrap(path)]
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    names = {name: path for name, path in names.items() if name not in without}
    with ThreadPoolExecutor(max_workers=HASHERS) as pool:  # hashlib releases the GIL
        return dict(zip(names, pool.map(describe_file, names.values()), strict=True))


def describe_file(path: Path) -> dict[str, Any]:
    """Size and hash of a file, after it has reached the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return {"size": path.stat().st_size, "sha256": hash_file(path)}


def find_flaw(folder: Path, listed: Mapping[str, Any], *, content: bool) -> str | None:
    """What is wrong with the first file that differs from `list_files`: it is missing, or has another size.

    With `content` the hashes are compared too. `None` when all files are as they were written.
    """
    for name, facts in listed.items():
        file = folder / name
        size = facts["size"] if isinstance(facts, Mapping) else facts  # 0.4 and earlier listed sizes alone
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != size:
            return f"{name} has {file.stat().st_size} bytes, {size} were written"
        if content and isinstance(facts, Mapping) and hash_file(file) != facts["sha256"]:
            return f"{name} is not what was written (its bytes changed on the disk)"
    return None


# ---- locks ----------------------------------------------------------------------------------------------------------


def try_lock(descriptor: int) -> bool | None:
    """Lock an open file: `True` if taken, `False` if another process holds it, `None` if there are no locks here.

    The kernel releases it when the file is closed, also when the process is killed.
    """
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows
        return None
    # Not lockf: that lock is lost as soon as the process closes any other descriptor of the same file.
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def tell_user(message: str) -> None:
    """Print one line on standard error."""
    sys.stderr.write(f"medrft: {message}\n")


@contextmanager
def locked_folder(folder: Path, *, wait: bool = False, tell: Tell = tell_user) -> Iterator[None]:
    """Lock `folder` for this process, and remove what killed writes left there; the lock's file goes with the block.

    If another process holds it, raises `RunInUseError` that names it, or with `wait` says so once and waits. On a file
    system without locks it prints one line and goes on.
    """
    path = folder / LOCK
    descriptor = _take(path, wait=wait, tell=tell)
    _held.add(descriptor)
    try:
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        with suppress(OSError):  # a full disk: the lock holds all the same
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()} since {since}\n".encode(), 0)
        sweep_scraps(folder)
        yield
    finally:
        if descriptor in _held:  # not in a forked child, whose parent still works there
            _held.discard(descriptor)
            with suppress(OSError):  # removed while it is still held, so that nobody else's file is removed
                path.unlink()
            os.close(descriptor)


def _take(path: Path, *, wait: bool, tell: Tell) -> int:
    """An open, locked file at `path`; raises `RunInUseError` where another process holds it."""
    told = False
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise cannot_write(path, error) from error
        taken = try_lock(descriptor)
        if taken is None:
            tell(f"the file system of {path.parent} has no locks: a second process in this folder would not be noticed")
            return descriptor
        if taken and _is_at(descriptor, path):
            return descriptor
        holder = _holder(descriptor)
        os.close(descriptor)
        if taken:
            continue  # whoever held it removed the file just now: another one may lock the next
        if not wait:
            raise RunInUseError(f"{path.parent} is in use by {holder}; wait until it ends, or choose another --output")
        if not told:
            tell(f"waiting for {holder}, which works in {path.parent}")
        told = True
        time.sleep(1)


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file is the one that `path` names now."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _holder(descriptor: int) -> str:
    return os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip() or "another process"


def _let_go() -> None:
    """Close the locks in a forked child: its copies would keep a folder locked after its parent was killed."""
    for descriptor in _held:
        with suppress(OSError):
            os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
