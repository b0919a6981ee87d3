"""Keeps rollouts in Parquet: training writes one row per completion, in whole groups; DuckDB reads them.

    rollouts/grpo-train-000000.parquet
    step 0 · generation_step 0 · stage grpo · split train · group_id grpo/train/0/3 · sample 5 · example_id …
    completion "<think>…</think><answer>left lung</answer>" · answer "left lung" · reward 0.62 · advantage 1.1
    raw {bleu1: 0.5, …} · calibrated {…} · applicable {…} · metadata {modality: "CR", …}

A file holds one stage and split; its struct columns have one field per part of that stage's reward.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrft.errors import DataError, naming_extras, unknown_name
from medrft.files import replace_file

if TYPE_CHECKING:
    import duckdb
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

RESERVED = frozenset({"references"})
"""Columns whose names are words of SQL; a query must put them in double quotes."""

IN_ORDER = "stage, split, generation_step, group_id, sample"

ROWS_PER_FILE = 4096
"""Few enough to hold in memory and to lose by a kill; many enough for a million rows to be a few hundred files."""


class RolloutWriter:
    """Collects whole groups and writes them as Parquet files of a few thousand rows.

    Raises `ValueError` for a group without exactly `group_size` rows. Raises `StorageError` when the disk refuses a
    file; its rows are then kept for the next try.
    """

    def __init__(
        self, folder: Path, *, stage: str, split: str, parts: Sequence[str], rows_per_file: int = ROWS_PER_FILE
    ):
        self.folder, self.stage, self.split = folder, stage, split
        self.parts = tuple(parts)
        self.rows_per_file = rows_per_file
        self._rows: list[Row] = []

    @naming_extras()
    def write(self, rows: Sequence[Row], *, group_size: int) -> None:
        """Take the rows of one generation batch; they are on the disk after `flush` at the latest."""
        sizes = Counter(row["group_id"] for row in rows)
        cut = [name for name, size in sizes.items() if size != group_size]
        if cut:
            raise ValueError(f"group {cut[0]} has {sizes[cut[0]]} of {group_size} samples; groups are written whole")
        self._rows += rows
        if len(self._rows) >= self.rows_per_file:
            self.flush()

    @naming_extras()
    def flush(self) -> Path | None:
        """Write the collected rows atomically and return the file; `None` when there were none."""
        if not self._rows:
            return None
        first = self._rows[0]["generation_step"]
        path = self.folder / f"{self.stage}-{self.split}-{first:06d}.parquet"
        _write(path, self._rows, self.parts)
        self._rows = []
        return path


@naming_extras()
def rollout_schema(parts: Sequence[str]) -> pa.Schema:
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


@naming_extras()
def read_rollouts(run: Path, sql: str = "SELECT * FROM rollouts") -> list[dict[str, Any]]:
    """Rows of a DuckDB query over the view `rollouts` of a run directory. It can read no other file and write none.

    Stages with different rewards share the view: their struct columns then have the parts of both.
    Raises `DataError` when the run has no rollouts, a file is damaged, or DuckDB refuses the query.
    """
    with open_rollouts(run, "the query") as database:
        kinds = [statement.type.name for statement in database.extract_statements(sql)]
        if kinds != ["SELECT"]:
            raise DataError(f"rollouts are read with one SELECT, got {' and '.join(kinds) or 'none'}: {sql!r}")
        return _rows(database.sql(sql))


@naming_extras()
def select_rollouts(
    run: Path,
    *,
    where: str | None = None,
    columns: Sequence[str] = (),
    order: str | None = None,
    limit: int | None = None,
) -> list[dict[str, Any]]:
    """Rollouts for which the SQL expression `where` is true, in the order in which they were written.

    By default all columns are returned; a part of the reward can be named as one too, as in `raw.bleu1`. `order` is a
    column, or a column and `desc`. Raises like `read_rollouts`, and `UnknownNameError` for a column that is not there.
    """
    with open_rollouts(run, "the query" if where is None else f"--where {where!r}") as database:
        found = database.view("rollouts")
        known = _columns(found)
        names = [_known(name, known) for name in columns or found.columns]
        if where is not None:
            found = found.filter(where)
        if order is not None:
            name, _, direction = order.strip().partition(" ")
            if direction.strip().lower() not in ("", "asc", "desc"):
                raise DataError(f"an order is a column, or a column and desc, got {order!r}; for example 'reward desc'")
            # Rows without a value come last.
            found = found.order(f"{known[_known(name, known)]} {direction} NULLS LAST, {IN_ORDER}")
        if limit is not None:
            found = found.limit(limit)
        return _rows(found.project(", ".join(f"{known[name]} AS {_quoted(name)}" for name in names)))


@naming_extras()
def drop_later(folder: Path, *, stage: str, step: int) -> int:
    """Drop a stage's rollouts that come after its checkpoint at `step`, and return how many rows went.

    Training rows of step `step` were drawn after that checkpoint was written; validation rows of it before. Raises
    `DataError` for a file that is cut short.
    """
    import pyarrow.compute as pc

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


def _write(path: Path, rows: Sequence[Row], parts: Sequence[str]) -> None:
    import pyarrow as pa

    columns: dict[str, list[Any]] = {name: [row.get(name) for row in rows] for name in PLAIN}
    for name in PARTS:
        columns[name] = [{part: row[name].get(part) for part in parts} for row in rows]
    columns["metadata"] = [_texts(row["metadata"]) for row in rows]
    _replace(path, pa.Table.from_pydict(columns, schema=rollout_schema(parts)))


def _replace(path: Path, table: pa.Table) -> None:
    """Write a file whole or not at all; once this returns, it is on the disk."""
    import pyarrow.parquet as pq

    with replace_file(path) as file:
        pq.write_table(table, file, compression="zstd")


def _table(path: Path) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise _cannot_read(path, error) from error


@contextmanager
def open_rollouts(run: Path, what: str, *, seconds: float | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database in memory with the view `rollouts`; SQL in it opens no other file. `what` names it in errors.

    What takes longer than `seconds` in all is stopped with a `DataError`, and may take 2 GB of memory at most.
    """
    import duckdb

    files = sorted(str(path) for path in (run / "rollouts").glob("*.parquet"))
    if not files:
        raise DataError(f"{run} has no rollouts; only a grpo stage writes them")
    allowed = ", ".join("'" + file.replace("'", "''") + "'" for file in files)
    with duckdb.connect() as database:
        try:
            # In this order: once access is off, allowed_paths cannot be set; once locked, a query can set nothing.
            database.execute("SET parquet_metadata_cache = true")
            database.read_parquet(files, union_by_name=True).create_view("rollouts")
            database.execute(f"SET allowed_paths = [{allowed}]")
            database.execute("SET enable_external_access = false")
            if seconds is not None:
                database.execute("SET memory_limit = '2GB'")
            database.execute("SET lock_configuration = true")
            with _stopped_after(database, seconds):
                yield database
        except duckdb.InterruptException as error:
            raise DataError(f"{what} took more than {seconds:g} seconds and was stopped; ask for less") from error
        except duckdb.Error as error:
            raise _refused(error, files, what) from error


@contextmanager
def _stopped_after(database: duckdb.DuckDBPyConnection, seconds: float | None) -> Iterator[None]:
    """Interrupt whatever the database still does after so many seconds."""
    if seconds is None:
        yield
        return
    done = threading.Event()

    def stop() -> None:
        late = done.wait(seconds)
        while not late:
            database.interrupt()  # again and again: between two queries there is nothing to interrupt
            late = done.wait(0.05)

    clock = threading.Thread(target=stop, daemon=True)
    clock.start()
    try:
        yield
    finally:
        done.set()
        clock.join()


def _refused(error: duckdb.Error, files: Sequence[str], what: str) -> DataError:
    """The error to raise: names a damaged file, else repeats DuckDB, and lists the columns if a name may be wrong."""
    import duckdb

    damaged = next((file for file in files if file in str(error)), None)
    if damaged is not None:
        return _cannot_read(Path(damaged), error)
    wrong_name = isinstance(error, duckdb.BinderException | duckdb.ParserException)
    if not wrong_name and not isinstance(error, duckdb.ConversionException | duckdb.PermissionException):
        for file in files:
            _table(Path(file))  # raises for the file that DuckDB stumbled over without naming it
    message = " ".join(str(error).split("\n\nLINE")[0].split())
    names = [_quoted(name) if name in RESERVED else name for name in (*PLAIN, *PARTS, "metadata")]
    return DataError(f"DuckDB refused {what}: {message}" + (f"; columns: {', '.join(names)}" if wrong_name else ""))


def _cannot_read(path: Path, error: Exception) -> DataError:
    reason = " ".join(str(error).split())
    return DataError(f"cannot read {path}: {reason}; if it was cut short, restore it, or move it away to do without it")


def _columns(view: duckdb.DuckDBPyRelation) -> dict[str, str]:
    """Name -> SQL of every column, including the parts of the reward."""
    known = {name: _quoted(name) for name in view.columns}
    for name, kind in zip(view.columns, view.types, strict=True):
        if name in PARTS:
            known |= {f"{name}.{part}": f"{name}.{_quoted(part)}" for part, _ in kind.children}
    return known


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _known(name: str, known: Mapping[str, str]) -> str:
    if name not in known:
        raise unknown_name("column", name, known)
    return name


def _rows(found: duckdb.DuckDBPyRelation) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = found.to_arrow_table().to_pylist(maps_as_pydicts="strict")
    return rows


def _texts(metadata: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Metadata as a map of strings; what is not a string becomes JSON.

    >>> _texts({"organ": "lung", "count": 2})
    [('organ', 'lung'), ('count', '2')]
    """
    return [
        (str(key), value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))
        for key, value in metadata.items()
    ]
