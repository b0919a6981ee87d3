"""Reads the answers that `compare` compares: run folders, `predictions.jsonl` or rescored outputs in, `Side`s out.

One side of a comparison is a model with one set of answers per training seed. On the command line it is `RUN`,
`RUN:STAGE`, a file of predictions, or several of these joined by commas.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any

from medrft.errors import DataError, unknown_name
from medrft.evaluation.metrics import cluster_of, source_of
from medrft.evaluation.partial import ROWS, read_predictions
from medrft.evaluation.rescore.foreign import WRITERS
from medrft.recipes import load_recipe
from medrft.rundir import read_jsonl
from medrft.types import KINDS

Row = dict[str, Any]
Key = tuple[str, str, str]
"""Data set, split and example id."""

NEEDED: dict[str, type | tuple[type, ...]] = {
    **{"id": str, "dataset": str, "split": str, "kind": str, "question": str, "control": str},
    **{"images": list, "references": list, "scores": dict, "temperature": (int, float), "answer": (str, NoneType)},
    **{"truncated": (bool, NoneType), "n_tokens": (int, NoneType)},
}
"""Fields that a row of predictions must have to be compared, and their types."""


@dataclass(frozen=True, kw_only=True)
class Answers:
    """The greedy answers of one model, trained once."""

    path: Path
    stage: str | None
    """`None` for a file that names no stage."""
    headers: dict[str, Row]
    """First lines of the files, by data set; the first line of a file with several data sets is listed under each."""
    rows: dict[Key, tuple[Row, ...]]
    """Rows by example, all samples together."""

    @property
    def images(self) -> Path:
        """Where the run keeps thumbnails, if it keeps any."""
        return self.path / "images"


@dataclass(frozen=True, kw_only=True)
class Side:
    """One model of a comparison: its answers, one set per training seed."""

    name: str
    runs: tuple[Answers, ...]


def read_sides(arguments: Sequence[str], *, stage: str | None = None) -> list[Side]:
    """The sides that the arguments of a command line name; `stage` is used for an argument that names none.

    Raises `DataError` for fewer than two sides, sides of unequal numbers of runs, or a place without predictions.
    """
    if len(arguments) < 2:
        raise DataError(
            f"compare needs two runs or more, got {len(arguments)}; for example: medrft compare before after"
        )
    if stage is not None and all(not Path(one).exists() and ":" in one for one in arguments):
        raise DataError(f"--stage {stage} is for runs that name none, and all of these do; leave it out")
    runs = []
    for argument in arguments:
        # `a,b` are two places, unless a file or folder has that name.
        places = [argument] if Path(argument).exists() else [part for part in argument.split(",") if part]
        runs.append([read_answers(place, stage=stage) for place in places])
    for argument, found in zip(arguments, runs, strict=True):
        if len(found) != len(runs[0]):
            raise DataError(
                f"{argument} is {len(found)} run(s) but {arguments[0]} is {len(runs[0])}; seeds are paired one by one, "
                "so name as many on each side"
            )
    return [Side(name=name, runs=tuple(found)) for name, found in zip(_names(arguments, runs), runs, strict=True)]


def _names(arguments: Sequence[str], runs: Sequence[Sequence[Answers]]) -> list[str]:
    """Short names that tell the sides apart: the stages of one run, else the names of the places."""
    first = [found[0] for found in runs]
    if all(len(found) == 1 for found in runs) and len({one.path for one in first}) == 1:
        stages = [str(one.stage) for one in first]
        if len(set(stages)) == len(stages):
            return stages
    names = [_name(found) for found in runs]
    if len(set(names)) == len(names):
        return names
    return [
        f"{argument} ({i})" if list(arguments).count(argument) > 1 else argument
        for i, argument in enumerate(arguments, 1)
    ]


def _name(found: Sequence[Answers]) -> str:
    one = found[0]
    path = one.path.resolve()
    name = path.parent.name if path.name == "predictions.jsonl" else path.stem if path.is_file() else path.name
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    return f"{name}{f':{one.stage}' if one.stage and path.is_dir() else ''}{more}"


def read_answers(argument: str, *, stage: str | None = None) -> Answers:
    """The answers at `RUN[:STAGE]` or in a file or folder of predictions."""
    path, named = Path(argument), None
    if not path.exists() and ":" in argument:
        before, _, named = argument.rpartition(":")
        path = Path(before)
    if not path.exists():
        raise DataError(f"nothing at {path}; compare takes run folders, RUN:STAGE and predictions.jsonl files")
    writer = WRITERS.get(path.suffix.lower())
    if path.is_file() and writer is not None:
        raise DataError(f"{path} is a file of {writer}; first medrft rescore {writer} {path} --output FOLDER")
    if path.is_file():
        return _answers(path, None, [path])
    if (path / "predictions.jsonl").is_file():
        return _answers(path, None, [path / "predictions.jsonl"])
    chosen = _stage(path, named or stage)
    return _answers(path, chosen, sorted((path / "eval" / chosen).glob("*/predictions.jsonl")))


def _stage(run: Path, wanted: str | None) -> str:
    """The stage asked for, else the last stage of the recipe that was evaluated."""
    evaluated = {path.parent.parent.name for path in run.glob("eval/*/*/predictions.jsonl")}
    if not evaluated:
        raise DataError(f"{run} holds no predictions; evaluate it first: medrft eval {run}")
    if wanted is not None:
        if wanted not in evaluated:
            raise unknown_name(f"stage in {run}", wanted, evaluated)
        return wanted
    recipe = run / "recipe.yaml"
    order = ["base", *(stage.name for stage in load_recipe(recipe).stages)] if recipe.is_file() else sorted(evaluated)
    return [name for name in [*sorted(evaluated - set(order)), *order] if name in evaluated][-1]


def _answers(path: Path, stage: str | None, files: Sequence[Path]) -> Answers:
    """All rows of the model's own greedy answers; controls and sampled answers are left out."""
    headers: dict[str, Row] = {}
    rows: list[Row] = []
    for file in files:
        header, found = read_predictions(file) if stage is not None else _read_named(file)
        for number, row in enumerate(found, 2 if header else 1):
            _check(row, f"{file}, row {number}")
            if source_of(row) == "none":
                headers.setdefault(row["dataset"], header)
                rows.append(row)
    if not rows:
        raise DataError(
            f"{path} holds no answer of a model to compare; outputs of other evaluators go through: medrft rescore"
        )
    return Answers(path=path, stage=stage, headers=headers, rows=rows_by_key(rows))


def _read_named(file: Path) -> tuple[Row, list[Row]]:
    """The header and the rows of a file that was named, which others may have made.

    Such rows may lack a header: a first line with scores is an answer. Their last line may lack its line break too.
    """
    first = next(read_jsonl(file), {})
    if ROWS in first:
        return read_predictions(file)
    rows = list(read_jsonl(file))
    return ({}, rows) if "scores" in first else (first, rows[1:])


def rows_by_key(rows: Iterable[Row]) -> dict[Key, tuple[Row, ...]]:
    """Rows of predictions grouped by example, with all its samples."""
    found: dict[Key, list[Row]] = {}
    for row in rows:
        found.setdefault((row["dataset"], row["split"], str(row["id"])), []).append(row)
    return {key: tuple(samples) for key, samples in found.items()}


def _check(row: Row, where: str) -> None:
    """Raise `DataError` for a row that is not a row of our predictions."""
    for name, wanted in NEEDED.items():
        if name not in row or not isinstance(row[name], wanted):
            got = f"{name} is {row[name]!r}" if name in row else f"no {name!r}"
            raise DataError(
                f"{where}: {got}, so these are not predictions of medrft; outputs of other evaluators go through: "
                "medrft rescore"
            )
    if row["kind"] not in KINDS:
        raise unknown_name(f"kind in {where}", row["kind"], KINDS)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One example that both sides answered, in one pair of runs."""

    key: Key
    run: int
    a: tuple[Row, ...]
    b: tuple[Row, ...]

    @property
    def kind(self) -> str:
        """The example's kind."""
        return str(self.a[0]["kind"])

    @property
    def cluster(self) -> Hashable:
        """The example's data set and images; the images come from side b where side a knows none."""
        known = next((row for row in (self.a[0], self.b[0]) if row["images"]), self.a[0])
        return (self.key[0], *cluster_of(known))
