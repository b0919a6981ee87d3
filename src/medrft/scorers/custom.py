"""From `file.py:Name` in a recipe to a scorer: a user's class, a function of items, or a TRL reward function."""

from __future__ import annotations

import importlib.util
import inspect
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from medrft.errors import RecipeError, unknown_name
from medrft.types import Item, Score, Scorer
from medrft.user_code import run_file

UNBOUNDED = (-math.inf, math.inf)


def load_custom(spec: str, *, base_dir: Path | None, options: dict[str, Any]) -> Scorer:
    """The scorer at `file.py:Name` (or `package.module:Name`).

    A class is built with `options`. A function with a parameter `completions` is taken for a TRL reward function, and
    any other function for one from items to scores. Raises `RecipeError` or `UnknownNameError`.
    """
    where, _, name = spec.rpartition(":")
    module = _load_file(where, base_dir) if where.endswith(".py") else _load_module(where)
    if not hasattr(module, name):
        public = [key for key in vars(module) if not key.startswith("_")]
        raise unknown_name(f"name in {where}", name, public)
    found = getattr(module, name)
    if inspect.isclass(found):
        return _checked(found, spec, options)
    if not callable(found):
        raise RecipeError(f"{spec} is a {type(found).__name__}; a scorer is a class or a function")
    if isinstance(found, Scorer):
        return found
    if options:
        raise RecipeError(f"{spec} is a function and takes no options, got {sorted(options)}; make it a class")
    called = getattr(found, "__name__", name)
    if "completions" in inspect.signature(found).parameters:
        return TrlFunction(name=called, function=found)
    return ItemFunction(name=called, function=found)


def files_in(table: Any) -> list[Path]:
    """The user's own files that a table of settings names, at any depth: scorers (`file.py:Name`) and lexicons."""
    if isinstance(table, str):
        where = Path(table if table.endswith((".yaml", ".yml")) else table.rpartition(":")[0])
        return [where] if where.suffix in (".py", ".yaml", ".yml") and where.is_file() else []
    inner = table.values() if isinstance(table, Mapping) else table if isinstance(table, list | tuple) else ()
    return sorted({path for value in inner for path in files_in(value)})


def _load_file(where: str, base_dir: Path | None) -> ModuleType:
    path = (base_dir or Path()) / where
    if not path.is_file() and Path(where).is_file():
        path = Path(where)
    if not path.is_file():
        raise RecipeError(f"no file at {path} for scorer {where!r}; paths are relative to the recipe")
    # A module name made of the path: pickle finds a class by that name in other processes that loaded the same file.
    name = f"medrft_custom_{path.stem}_{sha256(str(path.resolve()).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        run_file(module, spec, path)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _load_module(where: str) -> ModuleType:
    try:
        return importlib.import_module(where)
    except ModuleNotFoundError as error:
        raise RecipeError(
            f"no module {error.name!r} for a scorer; write file.py:Name or package.module:Name"
        ) from error


def _checked(cls: Callable[..., Any], spec: str, options: dict[str, Any]) -> Scorer:
    """An instance of a user's class, with every member that a scorer needs."""
    try:
        scorer = cls(**options)
    except TypeError as error:
        raise RecipeError(f"{spec} cannot be built with options {sorted(options)}: {error}") from error
    for member in ("name", "range", "needs", "applies", "__call__"):
        if not hasattr(scorer, member):
            raise RecipeError(f"{spec} has no {member!r}; a scorer has name, range, needs, applies and __call__")
    return cast(Scorer, scorer)


@dataclass(frozen=True)
class ItemFunction:
    """A function from items to scores in [0, 1], as a scorer."""

    name: str
    function: Callable[[Sequence[Item]], Sequence[Score]]
    range: tuple[float, float] = (0.0, 1.0)
    needs: tuple[str, ...] = ()

    def applies(self, item: Item) -> bool:
        """Every item."""
        return True

    def __call__(self, items: Sequence[Item]) -> list[Score]:
        """What the function returns."""
        return list(self.function(items))


@dataclass(frozen=True)
class TrlFunction:
    """A TRL reward function, unchanged: `f(prompts=…, completions=…, **columns) -> list[float | None]`.

    It sees conversational prompts and completions, the columns `solution` (first reference), `references`, `question`,
    `options`, `kind` and `answer`, and those of the metadata, but no images and no trainer state. NaN is unscored. Its
    range is not known, so it is taken as unbounded.
    """

    name: str
    function: Callable[..., Sequence[Score]]
    range: tuple[float, float] = UNBOUNDED
    needs: tuple[str, ...] = ("completion",)

    def applies(self, item: Item) -> bool:
        """Items with a completion; a bare answer has none."""
        return item.completion is not None

    def __call__(self, items: Sequence[Item]) -> list[Score]:
        """What the function returns for the items with a completion, `None` for the others."""
        rows = [item for item in items if self.applies(item)]
        scores = iter(self._call(rows) if rows else ())
        return [next(scores) if self.applies(item) else None for item in items]

    def _call(self, rows: Sequence[Item]) -> list[Score]:
        columns: dict[str, list[Any]] = {
            key: [row.metadata.get(key) for row in rows]
            for key in dict.fromkeys(key for row in rows for key in row.metadata)
        }
        columns |= {
            "prompts": [[{"role": "user", "content": row.question or ""}] for row in rows],
            "completions": [[{"role": "assistant", "content": row.completion}] for row in rows],
            "completion_ids": [None for _ in rows],
            "solution": [row.references[0] for row in rows],
            "references": [list(row.references) for row in rows],
            "answer": [row.answer for row in rows],
            "question": [row.question for row in rows],
            "options": [list(row.options) for row in rows],
            "kind": [row.kind for row in rows],
        }
        # TRL passes every column, so functions written for it take **kwargs. One without gets the columns it names.
        taken = inspect.signature(self.function).parameters
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values()):
            columns = {key: values for key, values in columns.items() if key in taken}
        scores = self.function(**columns)
        return [None if score is None or math.isnan(score) else float(score) for score in scores]
