"""Reads a run folder: from its path to its recipe, metrics, evaluations and predictions.

A file that is missing reads as empty, so that a run which was cut off has a report as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from medrft.config import Recipe
from medrft.errors import DataError
from medrft.evaluation.metrics import source_of
from medrft.evaluation.partial import read_predictions
from medrft.masking import mask_text
from medrft.recipes import load_recipe
from medrft.rundir import read_growing, read_record

Row = dict[str, Any]


@dataclass(frozen=True)
class RunFiles:
    """The files of one run, each read once and on first use."""

    path: Path

    def __post_init__(self) -> None:
        """Raise `DataError` for a folder that is not a run."""
        if not (self.path / "recipe.yaml").is_file():
            raise DataError(f"{self.path} is not a run folder: it has no recipe.yaml")

    @cached_property
    def recipe(self) -> Recipe:
        """The resolved recipe."""
        return load_recipe(self.path / "recipe.yaml")

    @cached_property
    def recipe_text(self) -> str:
        """The text of the resolved recipe, with secrets masked."""
        return mask_text((self.path / "recipe.yaml").read_text(encoding="utf-8"))

    @cached_property
    def environment(self) -> Row:
        """Versions, hardware and hashes; empty where the run has none."""
        return self._json("environment.json")

    @cached_property
    def data(self) -> Row:
        """Counts and notes of the data; empty where the run has none."""
        return self._json("data.json")

    @cached_property
    def audit(self) -> Row:
        """The summary of the audit of the run's own reward; empty where none was made."""
        return self._json("audit/summary.json")

    @cached_property
    def metrics(self) -> dict[str, list[Row]]:
        """Rows of `metrics.jsonl` by stage, in the order they were written."""
        by_stage: dict[str, list[Row]] = {}
        for row in read_growing(self.path / "metrics.jsonl"):
            by_stage.setdefault(str(row.get("stage", "")), []).append(row)
        return by_stage

    @cached_property
    def stages(self) -> list[str]:
        """`base` and the recipe's stages in order, then any other that was evaluated, by name."""
        named = ["base", *(stage.name for stage in self.recipe.stages)]
        others = sorted(path.name for path in (self.path / "eval").glob("*") if path.is_dir())
        return [*named, *(name for name in others if name not in named)]

    @cached_property
    def evaluations(self) -> dict[str, dict[str, Row]]:
        """`{data set: {stage: metrics}}` of all evaluations, the recipe's data set first."""
        found: dict[str, dict[str, Row]] = {}
        for stage in self.stages:
            for path in sorted((self.path / "eval" / stage).glob("*/metrics.json")):
                if facts := read_record(path):
                    found.setdefault(path.parent.name, {})[stage] = facts
        order = sorted(found, key=lambda name: (name != self.recipe.data.name, name))
        return {name: found[name] for name in order}

    def record(self, stage: str, name: str = "stage.json") -> Row:
        """A stage's own record, or another JSON file beside it; empty where there is none."""
        return self._json(f"stages/{stage}/{name}")

    def predictions(self, stage: str, dataset: str) -> list[Row]:
        """Rows of one stage's predictions, without the header."""
        return read_predictions(self.path / "eval" / stage / dataset / "predictions.jsonl")[1]

    def answers(self, stage: str, dataset: str, source: str = "none") -> dict[str, Row]:
        """The first sample of each example by id, for one source (see `source_of`)."""
        rows = (row for row in self.predictions(stage, dataset) if row["sample"] == 0)
        return {row["id"]: row for row in rows if source_of(row) == source}

    def thumbnails(self, hashes: Iterable[str]) -> list[bytes]:
        """The thumbnails that the run keeps of these images, as PNG; those it lacks are left out."""
        found = (read_thumbnail(self.path / "images", sha256) for sha256 in hashes)
        return [png for png in found if png is not None]

    def _json(self, name: str) -> Row:
        return read_record(self.path / name)


def read_thumbnail(folder: Path, sha256: str) -> bytes | None:
    """The thumbnail of an image from a run's folder of thumbnails, as PNG; `None` where there is none.

    The hash comes from a file that somebody else may have written, so only 64 letters and digits become a path.
    """
    path = folder / f"{sha256}.png"
    return path.read_bytes() if len(sha256) == 64 and sha256.isalnum() and path.is_file() else None


def series_of(rows: Sequence[Row], key: str) -> tuple[list[float], list[float]]:
    """Steps and values of one key of `metrics.jsonl`; rows without a finite number there are left out."""
    pairs = list(_pairs(rows, key))
    return [step for step, _ in pairs], [value for _, value in pairs]


def _pairs(rows: Sequence[Row], key: str) -> Iterator[tuple[float, float]]:
    for i, row in enumerate(rows):
        value = row.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            step = row.get("step", i)
            yield float(step if isinstance(step, int | float) else i), float(value)
