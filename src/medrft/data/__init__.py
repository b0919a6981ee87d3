"""Data sets: from a name and a root folder to examples and a report of the rows left out (`Loaded`).

Official releases, your own tables and the drawn phantom are all read into the same `Example`. A run calls `load_data`;
a loader alone (`LOADERS[name]`) reads the official splits and changes nothing about them.
"""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from medrft.config import DataConfig
from medrft.errors import DataError, naming_extras, unknown_name
from medrft.progress import Advance
from medrft.recipes import refuse_masked
from medrft.user_code import run_file

with naming_extras():
    from medrft.data import phantom, splits
    from medrft.data.base import Loaded
    from medrft.data.images import MISSING, pixel_limit
    from medrft.data.sets import (
        medxpertqa,
        omnimedvqa,
        path_vqa,
        pmc_vqa,
        slake,
        unions,
        vqa_med_2019,
        vqa_med_2021,
        vqa_rad,
    )
    from medrft.data.tables import convert, table
    from medrft.data.tables.columns import check_columns


class Loader(Protocol):
    """A function that reads a data set; its keyword-only parameters are the options of `data:` in a recipe.

    Three of them are no options: `seed`, `cache` and `on_progress` are set by the run, for the loaders that have them.
    """

    def __call__(self, root: Path | None) -> Loaded:
        """Read the data set under `root`."""


LOADERS: dict[str, Loader] = {
    "vqa_rad": vqa_rad.load_vqa_rad,
    "slake": slake.load_slake,
    "path_vqa": path_vqa.load_path_vqa,
    "vqa_med_2019": vqa_med_2019.load_vqa_med_2019,
    "vqa_med_2021": vqa_med_2021.load_vqa_med_2021,
    "pmc_vqa": pmc_vqa.load_pmc_vqa,
    "medxpertqa": medxpertqa.load_medxpertqa,
    "omnimedvqa": omnimedvqa.load_omnimedvqa,
    "armed_in_domain": unions.load_armed_in_domain,
    "armed_out_of_domain": unions.load_armed_out_of_domain,
    "zhu": unions.load_zhu,
    "table": table.load_table,
    "phantom": phantom.load_phantom,
    "phantom_composed": phantom.load_composed,
    **convert.READERS,
}

OURS = ("seed", "cache", "on_progress")
"""Parameters of a loader that are not options of a recipe; each is passed to the loaders that have it."""

NO_TEST = (
    "no test rows, so nothing will be evaluated: --set data.by_image=0.2 splits all rows anew by image, or give the "
    "table a split column or a test file"
)
TOO_FEW = (
    "no test rows, so nothing will be evaluated: all questions are about one image, its copies, or images that rows "
    "show together, which no split by image can part; give the table a split column or a test file, or more images"
)
SHARED = ("validation", "exclude_test_images", "by_image", "max_pixels", "blank", "pixel_limit", "private")
"""Keys of `data:` that hold for every data set."""


@naming_extras()
def load_data(
    config: DataConfig,
    *,
    seed: int,
    cache: Path | None = None,
    cut: bool = True,
    on_progress: Advance | None = None,
) -> Loaded:
    """Read a data set as a run uses it: with a validation split, and without test images in train if asked.

    With `cut=False` no validation is cut from train. `cache` is where images that are not plain files are written; by
    default the user's cache folder. `on_progress(done, total)` counts images. Raises `DataError` for a missing root, a
    wrong layout or where no row is left, and `UnknownNameError` for a wrong name or option.
    """
    loaded = read_data(
        config.name, config.root, seed=seed, cache=cache, options=config.options, on_progress=on_progress
    )
    copies = config.exclude_test_images == "copies"
    if config.by_image is not None:
        loaded = splits.by_image(loaded, test=config.by_image, validation=config.validation, seed=seed)
    elif config.exclude_test_images:
        loaded = splits.exclude_test_images(loaded, copies=copies)
    if cut and loaded.split("train") and not loaded.split("validation"):
        loaded = splits.cut_validation(loaded, fraction=config.validation, seed=seed, copies=copies)
    loaded = not_empty(loaded)
    if loaded.split("test") or not loaded.split("train"):
        return loaded
    return replace(loaded, report=replace(loaded.report, notes=(untested_note(config), *loaded.report.notes)))


def untested_note(config: DataConfig) -> str:
    """What to say where no row is left for testing, and what helps."""
    return NO_TEST if config.by_image is None else TOO_FEW


@naming_extras()
def read_data(
    name: str,
    root: str | Path | None,
    *,
    seed: int = 0,
    cache: Path | None = None,
    options: Mapping[str, Any] | None = None,
    on_progress: Advance | None = None,
) -> Loaded:
    """Read a data set with its official splits, by name or as `file.py:function`; raises as `load_data`.

    The option `pixel_limit` holds for every data set: images that declare more pixels are listed and not decoded.
    """
    own = {key: value for key, value in (options or {}).items() if key != "pixel_limit"}
    loader = check_options(name, own)
    ours = {"seed": seed, "cache": cache, "on_progress": on_progress}
    taken = {key: value for key, value in ours.items() if value is not None and key in _keywords(loader)}
    with pixel_limit((options or {}).get("pixel_limit")):
        return loader(Path(root) if root is not None else None, **taken, **own)


def not_empty(loaded: Loaded) -> Loaded:
    """The data as they are; raises `DataError`, with the reasons, if no row is left."""
    if loaded.examples:
        return loaded
    report = loaded.report
    counts = report.reasons().most_common()
    reasons = ", ".join(f"{reason}: {count:,}" for reason, count in counts) or "the files hold no rows"
    first = next((row for row in report.left_out if row.reason == counts[0][0]), None)
    example = f"; the first is {first.row}" + (f": {first.detail}" if first.detail else "") if first else ""
    if counts and counts[0][0] == MISSING and not loaded.counts:
        example += "; a table whose images lie elsewhere takes their folder: image_root=FOLDER"
    cause = next((f". {count.split}: {count.cause}" for count in loaded.counts if count.read and count.cause), "")
    raise DataError(
        f"{report.dataset}: no row is left of {sum(report.read.values()):,} read ({reasons}){example}{cause}"
    )


def find_loader(name: str) -> Loader:
    """The loader of a data set, or the function `file.py:name` of a user's own file."""
    path, colon, function = name.rpartition(":")
    if colon and path.endswith(".py"):
        return _from_file(Path(path), function)
    if name == "hf":
        raise DataError(
            "a data set on the hub is read as a table: table:hf:owner/name (data check: table hf:owner/name)"
        )
    if name not in LOADERS:
        if Path(name).exists() and not name.endswith(".py"):
            raise DataError(
                f"{name} is a file or folder, and how it is read stands before it: table:{name} for a table of your "
                f"own (data check and data show: table {name})"
            )
        raise unknown_name("data set", name, LOADERS)
    return LOADERS[name]


def check_options(name: str, options: Mapping[str, Any]) -> Loader:
    """The loader of a data set that takes these options; raises `UnknownNameError` for a name or option it lacks."""
    refuse_masked(options, where="data")
    loader = find_loader(name)
    known = option_names(loader)
    for key in options:
        if key not in known:
            raise unknown_name(f"option of data set {name}", key, [*known, *SHARED, "name", "root"])
    if name == "table":
        check_columns(options.get("columns") or {})
    return loader


def option_names(loader: Loader) -> list[str]:
    """The options a loader takes from a recipe: its keyword-only parameters except those in `OURS`."""
    return [name for name in _keywords(loader) if name not in OURS]


def _keywords(loader: Loader) -> list[str]:
    parameters = inspect.signature(loader).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind is inspect.Parameter.KEYWORD_ONLY]


def _from_file(path: Path, function: str) -> Loader:
    spec = importlib.util.spec_from_file_location(f"medrft_data_{path.stem}", path) if path.is_file() else None
    if spec is None or spec.loader is None:
        raise DataError(f"no loader file {path}; name a data set as {', '.join(LOADERS)} or as my_dataset.py:load")
    module = importlib.util.module_from_spec(spec)
    run_file(module, spec, path)
    found = getattr(module, function, None)
    if not callable(found):
        names = [key for key, value in vars(module).items() if inspect.isfunction(value) and not key.startswith("_")]
        raise unknown_name(f"function of {path}", function, names)
    loader: Loader = found
    return loader
