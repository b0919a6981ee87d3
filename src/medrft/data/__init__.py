"""Data sets: official releases, your own tables, and the drawn phantom, all read into the same `Example`.

`load_data` is what a run uses; a loader alone (`LOADERS[name]`) reads the official splits and nothing else.
"""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from medrft.config import DataConfig
from medrft.data import phantom, slake, splits, table, vqa_rad
from medrft.data.base import Loaded
from medrft.errors import DataError, unknown_name


class Loader(Protocol):
    """A function that reads a data set; its keyword-only parameters are the options of `data:` in a recipe."""

    def __call__(self, root: Path | None, *, seed: int = 0) -> Loaded:
        """Read the data set under `root`."""


LOADERS: dict[str, Loader] = {
    "vqa_rad": vqa_rad.load,
    "slake": slake.load,
    "table": table.load,
}
if hasattr(phantom, "load"):
    LOADERS["phantom"] = phantom.load


def load_data(config: DataConfig, *, seed: int, cache: Path | None = None) -> Loaded:
    """Read a data set as a run uses it: with a validation split, and without test images in train if asked.

    `cache` is where images that are not plain files are written; by default the user's cache folder. Raises
    `DataError` for a missing root, a wrong layout or no row left, `UnknownNameError` for a wrong name or option.
    """
    loaded = read_data(config.name, config.root, seed=seed, cache=cache, options=config.options)
    if config.exclude_test_images:
        loaded = splits.exclude_test_images(loaded)
    if loaded.split("train") and not loaded.split("validation"):
        loaded = splits.cut_validation(loaded, fraction=config.validation, seed=seed)
    return not_empty(loaded)


def read_data(
    name: str,
    root: str | Path | None,
    *,
    seed: int = 0,
    cache: Path | None = None,
    options: Mapping[str, Any] | None = None,
) -> Loaded:
    """Read a data set with its official splits, by name or as `file.py:function`; raises as `load_data`."""
    loader = find_loader(name)
    known = option_names(loader)
    given = dict(options or {})
    for key in given:
        if key not in known:
            raise unknown_name(f"option of data set {name}", key, [*known, "validation", "exclude_test_images"])
    if cache is not None and "cache" in known:
        given.setdefault("cache", cache)
    return loader(Path(root) if root is not None else None, seed=seed, **given)


def not_empty(loaded: Loaded) -> Loaded:
    """The same, or a `DataError` saying why no row is left."""
    if loaded.examples:
        return loaded
    report = loaded.report
    reasons = ", ".join(f"{reason}: {count:,}" for reason, count in report.reasons().most_common())
    first = f"; the first is {report.left_out[0].row}: {report.left_out[0].detail}" if report.left_out else ""
    read = sum(report.read.values())
    raise DataError(
        f"no row of {report.dataset} is left of {read:,} read ({reasons or 'the files hold no rows'}){first}"
    )


def find_loader(name: str) -> Loader:
    """The loader of a data set, or the function `file.py:name` of a user's own file."""
    path, colon, function = name.rpartition(":")
    if colon and path.endswith(".py"):
        return _from_file(Path(path), function)
    if name not in LOADERS:
        raise unknown_name("data set", name, LOADERS)
    return LOADERS[name]


def option_names(loader: Loader) -> list[str]:
    """The options a loader takes beside root and seed."""
    parameters = inspect.signature(loader).parameters.values()
    return [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY and p.name != "seed"]


def _from_file(path: Path, function: str) -> Loader:
    spec = importlib.util.spec_from_file_location(f"medrft_data_{path.stem}", path) if path.is_file() else None
    if spec is None or spec.loader is None:
        raise DataError(f"no loader file {path}; name a data set as {', '.join(LOADERS)} or as my_dataset.py:load")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = getattr(module, function, None)
    if not callable(found):
        names = [key for key, value in vars(module).items() if inspect.isfunction(value) and not key.startswith("_")]
        raise unknown_name(f"function of {path}", function, names)
    loader: Loader = found
    return loader
