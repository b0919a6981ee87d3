"""Runs a user's Python code, and says in one line what is wrong with it and where.

mine.py, line 3: ModuleNotFoundError: No module named 'numpyy'
mine.py, line 1: SyntaxError: invalid syntax
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from medrft.errors import MedrftError, RecipeError


def call_safely(work: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    """What somebody else's code returns, or what it raises, so that the error can be reported."""
    # A future holds whatever was raised, also the SystemExit that `except Exception` would let through.
    with ThreadPoolExecutor(max_workers=1) as pool:
        future = pool.submit(work)
        error = future.exception()
    return (None, error) if error is not None else (future.result(), None)


def run_file(module: ModuleType, spec: ModuleSpec, path: Path) -> None:
    """Execute a user's file as `module`; raises `RecipeError` with the line of the file at which that failed."""
    loader = spec.loader
    assert loader is not None
    _, error = call_safely(lambda: loader.exec_module(module))
    if error is None:
        return
    if isinstance(error, MedrftError):
        raise error
    if isinstance(error, SyntaxError):
        where = f"{error.filename or path}, line {error.lineno}"
        raise RecipeError(f"{where}: {type(error).__name__}: {error.msg}") from error
    frames = traceback.extract_tb(error.__traceback__)
    inside = [frame for frame in frames if Path(frame.filename).resolve() == path.resolve()]
    line = f", line {inside[-1].lineno}" if inside else ""
    raise RecipeError(f"{path}{line}: {type(error).__name__}: {error}") from error
