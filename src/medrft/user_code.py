"""Runs a user's Python file, and says in one line what is wrong with it and where.

mine.py, line 3: ModuleNotFoundError: No module named 'numpyy'
mine.py, line 1: SyntaxError: invalid syntax
"""

from __future__ import annotations

import traceback
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from medrft.errors import MedrftError, RecipeError


def run_file(module: ModuleType, spec: ModuleSpec, path: Path) -> None:
    """Execute a user's file as `module`; raises `RecipeError` with the line of the file at which that failed."""
    assert spec.loader is not None
    try:
        spec.loader.exec_module(module)
    except MedrftError:
        raise
    except SyntaxError as error:
        where = error.filename or path
        raise RecipeError(f"{where}, line {error.lineno}: {type(error).__name__}: {error.msg}") from error
    except Exception as error:  # whatever the user's own code raises is theirs to mend
        frames = traceback.extract_tb(error.__traceback__)
        inside = [frame for frame in frames if Path(frame.filename).resolve() == path.resolve()]
        line = f", line {inside[-1].lineno}" if inside else ""
        raise RecipeError(f"{path}{line}: {type(error).__name__}: {error}") from error
