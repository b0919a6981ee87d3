"""Rollouts in Parquet: one row per completion, whole groups only; written while training, read with DuckDB.

    rollouts/grpo-train-000000.parquet
    step 0 · generation_step 0 · stage grpo · split train · group_id grpo/train/0/3 · sample 5 · example_id …
    completion "<think>…</think><answer>left lung</answer>" · answer "left lung" · reward 0.62 · advantage 1.1
    raw {bleu1: 0.5, …} · calibrated {…} · applicable {…} · metadata {modality: "CR", …}

A file holds one stage and split; its struct columns have one field per part of that stage's reward.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrft.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

Row = Mapping[str, Any]

PLAIN: dict[str, str] = {
    "step": "int64",
    "generation_step": "int64",
    "stage": "string",
    "split": "string",
    "group_id": "string",
    "sample": "int64",
    "example_id": "string",
    "dataset": "string",
    "kind": "string",
    "image_sha256": "list",
    "question": "string",
    "references": "list",
    "completion": "string",
    "answer": "string",
    "n_tokens": "int64",
    "truncated": "bool",
    "correct": "bool",
    "truth": "bool",
    "reward": "double",
    "advantage": "double",
    "unscored_reason": "string",
    "gate": "bool",
}
"""Columns and their types; `correct`, `truth`, `reward`, `gate`, `answer` and `unscored_reason` may be null."""

PARTS: dict[str, str] = {"raw": "double", "calibrated": "double", "applicable": "bool"}
"""Struct columns with one field per part of the reward."""


class RolloutWriter:
    """Collects whole groups and writes them as Parquet files of a few thousand rows.

    Raises `ValueError` for a group that is not whole: not `group_size` samples numbered from 0.
    """

    def __init__(self, folder: Path, *, stage: str, split: str, parts: Sequence[str], rows_per_file: int = 2048):
        self.folder, self.stage, self.split = folder, stage, split
        self.parts = tuple(parts)
        self.rows_per_file = rows_per_file
        self._rows: list[Row] = []

    def write(self, rows: Sequence[Row], *, group_size: int) -> None:
        """Take the rows of one generation batch; they reach the disk at the latest with `flush`."""
        sizes = Counter(row["group_id"] for row in rows)
        cut = [name for name, size in sizes.items() if size != group_size]
        if cut:
            raise ValueError(f"group {cut[0]} has {sizes[cut[0]]} of {group_size} samples; groups are written whole")
        self._rows += rows
        if len(self._rows) >= self.rows_per_file:
            self.flush()

    def flush(self) -> Path | None:
        """Write what was collected, atomically; `None` when there was nothing."""
        if not self._rows:
            return None
        first = self._rows[0]["generation_step"]
        path = self.folder / f"{self.stage}-{self.split}-{first:06d}.parquet"
        _write(path, self._rows, self.parts)
        self._rows = []
        return path


def schema(parts: Sequence[str]) -> pa.Schema:
    """The columns of a rollout file whose reward has these parts."""
    import pyarrow as pa

    types = {
        "int64": pa.int64(),
        "string": pa.string(),
        "list": pa.list_(pa.string()),
        "bool": pa.bool_(),
        "double": pa.float64(),
    }
    fields = [pa.field(name, types[kind]) for name, kind in PLAIN.items()]
    fields += [pa.field(name, pa.struct([(part, types[kind]) for part in parts])) for name, kind in PARTS.items()]
    return pa.schema([*fields, pa.field("metadata", pa.map_(pa.string(), pa.string()))])


def read(run: Path, sql: str = "SELECT * FROM rollouts") -> list[dict[str, Any]]:
    """Rows of a DuckDB query over the view `rollouts` of a run directory.

    Stages with different rewards share the view: their struct columns then have the parts of both.
    Raises `DataError` when the run has no rollouts, or DuckDB refuses the query.
    """
    import duckdb

    files = sorted(str(path) for path in (run / "rollouts").glob("*.parquet"))
    if not files:
        raise DataError(f"{run} has no rollouts; only a grpo stage writes them")
    with duckdb.connect() as database:
        database.read_parquet(files, union_by_name=True).create_view("rollouts")
        try:
            found = database.sql(sql).to_arrow_table()
        except duckdb.Error as error:
            raise DataError(f"DuckDB refused the query: {' '.join(str(error).split())}") from error
    rows: list[dict[str, Any]] = found.to_pylist(maps_as_pydicts="strict")
    return rows


def supersede(folder: Path, *, stage: str, step: int) -> int:
    """Drop a stage's rollouts that come after its checkpoint at `step`, and return how many rows went.

    Training rows of step `step` were drawn after that checkpoint was written; validation rows of it before. What a
    killed write left goes too. Raises `DataError` for a file that is cut short.
    """
    import pyarrow.compute as pc

    for leftover in folder.glob(f".{stage}-*.parquet.*"):
        leftover.unlink()
    dropped = 0
    for path in sorted(folder.glob(f"{stage}-*.parquet")):
        table = _table(path)
        if table.num_rows == 0 or table["stage"][0].as_py() != stage:
            continue
        limit = step if table["split"][0].as_py() == "validation" else step - 1
        kept = table.filter(pc.less_equal(table["step"], limit))
        dropped += table.num_rows - kept.num_rows
        if kept.num_rows == 0:
            path.unlink()
        elif kept.num_rows < table.num_rows:
            _replace(path, kept)
    return dropped


def _table(path: Path) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path)
    except pa.ArrowInvalid as error:
        said = str(error).splitlines()[0]
        raise DataError(f"{path} is damaged ({said}); delete it to go on without its rollouts") from error


def _write(path: Path, rows: Sequence[Row], parts: Sequence[str]) -> None:
    import pyarrow as pa

    columns: dict[str, list[Any]] = {name: [row.get(name) for row in rows] for name in PLAIN}
    for name in PARTS:
        columns[name] = [{part: row[name].get(part) for part in parts} for row in rows]
    columns["metadata"] = [_texts(row["metadata"]) for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    _replace(path, pa.Table.from_pydict(columns, schema=schema(parts)))


def _replace(path: Path, table: pa.Table) -> None:
    """Write a file whole or not at all."""
    import pyarrow.parquet as pq

    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        pq.write_table(table, temporary, compression="zstd")
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _texts(metadata: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Metadata as a map of strings; what is not a string becomes JSON.

    >>> _texts({"organ": "lung", "count": 2})
    [('organ', 'lung'), ('count', '2')]
    """
    return [
        (str(key), value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))
        for key, value in metadata.items()
    ]
