"""Loads data sets for commands, from NAME, PATH and `--set`, or from a source such as `vqa_rad:data/vqa_rad:test`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from medrft.cli import common
from medrft.config import DataConfig
from medrft.errors import DataError, RecipeError
from medrft.progress import Advance
from medrft.recipes import plain_problem

if TYPE_CHECKING:
    from medrft.data.base import Loaded


def load_source(text: str, assignments: list[str] | None) -> tuple[str, str | None, Loaded]:
    """Name, split (if one is named) and rows of `NAME:PATH[:SPLIT]`; raises `DataError` for a split without rows."""
    name, path, split = common.data_source(text)
    loaded = load_dataset(name, path, assignments)
    if split is not None and not loaded.split(split):
        raise DataError(
            f"{text} has no {split} rows; it has {', '.join(k for k, n in loaded.report.kept.items() if n)}"
        )
    return name, split, loaded


def settings_by_source(names: list[str], assignments: list[str] | None) -> dict[str, list[str]]:
    """The `--set` values that each data set takes; raises `UnknownNameError` for one that none of them takes."""
    from medrft.data import SHARED, check_options, find_loader, option_names

    known = {name: {"seed", *SHARED, *option_names(find_loader(name))} for name in names}
    taken: dict[str, list[str]] = {name: [] for name in names}
    for assignment in assignments or []:
        for key in common.loader_options([assignment]):
            root = key.partition(".")[0]
            for name in (takers := [name for name in names if root in known[name]]):
                taken[name].append(assignment)
            if not takers:
                check_options(names[0], {root: None})
    return taken


def load_dataset(name: str, path: str | None, assignments: list[str] | None) -> Loaded:
    """A data set in its official splits. Validation is cut from train only if `--set validation=` asks for it."""
    if path is None and ":" in name and ".py:" not in name:
        first, _, rest = ("table", "", name) if name.startswith("hf:") else name.partition(":")
        raise DataError(f"give the name and the path apart: medrft data check {first} {rest}")
    options = nested_options(assignments)
    return load_options({"root": path, **options, "name": name}, cut="validation" in options)


def load_options(data: Mapping[str, Any], *, cut: bool) -> Loaded:
    """The data set of a recipe's `data:` table, with a `seed` in it if any; with `cut` validation is cut from train."""
    from medrft.data import load_data

    table = dict(data)
    seed = table.pop("seed", 0)
    if not isinstance(seed, int) or seed < 0:
        raise RecipeError(f"--set seed: a whole number from 0, got {seed!r}")
    config = _config(table)
    name = config.name
    with ExitStack() as stack:
        bar: list[Advance] = []

        def update(done: int, total: int) -> None:
            if not bar:  # only once there is something to count, so that an early mistake stays one line
                bar.append(stack.enter_context(common.progress_bar(f"reading {name}", total=total)))
            bar[0](done, total)

        return load_data(config, seed=seed, cut=cut, on_progress=update)


def _config(table: Mapping[str, Any]) -> DataConfig:
    try:
        return DataConfig.model_validate(table)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise RecipeError(f"--set {where}: {plain_problem(problem)}") from error


def nested_options(assignments: list[str] | None) -> dict[str, Any]:
    """The values of `--set` for a loader, dotted keys as tables: `columns.image=x` is `{"columns": {"image": "x"}}`."""
    nested: dict[str, Any] = {}
    for key, value in common.loader_options(assignments).items():
        here = nested
        *tables, last = key.split(".")
        for table in tables:
            inner = here.setdefault(table, {})
            if not isinstance(inner, dict):
                raise RecipeError(f"--set {key}: {table} is {inner!r}, which has no key {last!r}")
            here = inner
        here[last] = value
    return nested
