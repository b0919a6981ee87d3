"""Rows of `medrft score` in Parquet: read batch by batch, and written with typed columns for their scores.

    reference ["no"] · answer "No." · … · scores {bleu1: 0.5, …} · reward 0.62
    parts {bleu1: {raw: 0.5, calibrated: 0.5, weight: 0.2, applicable: true}, …} · unscored_reason null · …

From a Parquet file to a Parquet file, columns that scoring does not need are copied as they are, whatever their type.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from medrft.errors import DataError, naming_extras
from medrft.rewards.answer_columns import answer_columns, usual_name
from medrft.rewards.reward import Reward
from medrft.rewards.shards import Shard

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

READ = 256
"""Rows decoded at a time; few, because other columns may hold images."""
ROW_GROUP = 4096
"""Rows in each row group that is written, and so the number of scored rows held in memory."""

TEXTS = ("reference", "options")
"""A text or a list of texts; lists in Parquet unless no row has one."""
TEXT = ("answer", "completion", "question")
"""Texts; numbers become text, as they do for the scorers."""

AS_JSON = "write JSON lines: --output NAME.jsonl"

Table = dict[str, Any]


# ---- reading --------------------------------------------------------------------------------------------------------


def read_tables(
    path: Path, *, columns: Sequence[str] | None = None, shard: Shard | None = None
) -> Iterator[tuple[int, Table | None]]:
    """Number (from 1) and content of each row (of a shard), with the columns that are there; `None` if it is not UTF-8.

    Raises `DataError` for a file that cannot be read.
    """
    start = 0
    for batch in _batches(path, columns, usual=True):
        end = start + batch.num_rows
        numbers = list(range(start + 1, end + 1))
        if shard is not None:
            groups = _tables(batch.select([name for name in batch.schema.names if name == "group"]))
            own = zip(numbers, groups, strict=True)
            numbers = [number for number, table in own if shard.takes(number, (table or {}).get("group"))]
            batch = batch.take([number - start - 1 for number in numbers])
        yield from zip(numbers, _tables(batch), strict=True)
        start = end


def count_rows(path: Path, *, shard: Shard | None = None) -> int:
    """The number of rows (of a shard)."""
    if shard is not None:
        return sum(1 for _ in read_tables(path, columns=("group",), shard=shard))
    with _reading(path), _file(path) as file:
        return int(file.metadata.num_rows)


def check_columns(path: Path, *, as_json: bool) -> None:
    """Raise `DataError` for a file without references, or with columns that JSON cannot hold where it must."""
    with _reading(path), _file(path) as file:
        schema = file.schema_arrow
    if answer_columns(dict.fromkeys(schema.names, "")).reference is None:
        raise DataError(f"{path} has no column `reference`; it has {', '.join(schema.names) or 'no columns'}")
    if as_json:
        for column in schema:
            if not _is_json(column.type):
                raise DataError(
                    f"{path}: column {column.name!r} is {column.type}, which JSON lines cannot hold; write Parquet: "
                    "--output NAME.parquet"
                )


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what pyarrow raises for a damaged file into `DataError`."""
    with naming_extras("data"):
        import pyarrow as pa

        try:
            yield
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"cannot read {path} as Parquet: {' '.join(str(error).split())[:200]}") from error


def _file(path: Path) -> pq.ParquetFile:
    import pyarrow.parquet as pq

    # Without a buffer, pyarrow reads a column of a whole row group at once, and a row group may hold the whole file.
    return pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False)


def _batches(path: Path, columns: Sequence[str] | None, *, usual: bool = False) -> Iterator[pa.RecordBatch]:
    """The rows of a file with some of its columns, named exactly, or with `usual` as `usual_name` writes them."""
    with _reading(path), _file(path) as file:
        there = file.schema_arrow.names
        names = None if columns is None else [n for n in there if (usual_name(n) if usual else n) in columns]
        yield from file.iter_batches(READ, columns=names, use_threads=False)


def _tables(batch: pa.RecordBatch) -> Iterator[Table | None]:
    """Each row as plain Python; `None` for one whose text is not UTF-8."""
    if not batch.num_columns:
        yield from ({} for _ in range(batch.num_rows))
        return
    try:
        yield from batch.to_pylist(maps_as_pydicts="lossy")
    except UnicodeDecodeError:
        for place in range(batch.num_rows):
            try:
                yield batch.slice(place, 1).to_pylist(maps_as_pydicts="lossy")[0]
            except UnicodeDecodeError:
                yield None


def _is_json(kind: pa.DataType) -> bool:
    """Whether every value of this type is one of JSON's."""
    from pyarrow import types

    if types.is_struct(kind):
        return all(_is_json(kind.field(place).type) for place in range(kind.num_fields))
    if types.is_map(kind):
        return _is_text(kind.key_type) and _is_json(kind.item_type)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind) or types.is_dictionary(kind):
        return _is_json(kind.value_type)
    plain = (types.is_null, types.is_boolean, types.is_integer, types.is_floating)
    return _is_text(kind) or any(holds(kind) for holds in plain)


def _is_text(kind: pa.DataType) -> bool:
    from pyarrow import types

    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


class RowPicker:
    """Takes rows of a Parquet file by their numbers, which only ever grow, in one pass over the file."""

    def __init__(self, path: Path, columns: Sequence[str] | None = None) -> None:
        self.rows = count_rows(path)
        self._batches = _batches(path, columns)
        self._batch: Any = None
        self._start = self._end = 0

    def take(self, numbers: Sequence[int]) -> list[pa.RecordBatch]:
        """These rows (numbers from 1, ascending)."""
        found: list[pa.RecordBatch] = []
        place = 0
        while place < len(numbers):
            if numbers[place] > self._end:
                self._batch = next(self._batches)
                self._start, self._end = self._end, self._end + self._batch.num_rows
                continue
            stop = bisect_right(numbers, self._end, place)
            found.append(self._batch.take([number - self._start - 1 for number in numbers[place:stop]]))
            place = stop
        return found


# ---- writing --------------------------------------------------------------------------------------------------------


def score_fields(scorers: Iterable[str], reward: Reward | None, *, why: bool = False) -> list[pa.Field]:
    """The columns that scoring adds; `why` is the one of `--explain`."""
    with naming_extras("data"):
        import pyarrow as pa
    parts = reward.names if reward is not None else ()
    names = dict.fromkeys((*parts, *scorers))
    fields = [pa.field("scores", pa.struct([(name, pa.float64()) for name in names]))]
    if reward is not None:
        kinds = {"raw": pa.float64(), "calibrated": pa.float64(), "weight": pa.float64(), "applicable": pa.bool_()}
        one = pa.struct(list(kinds.items()))
        fields += [
            pa.field("reward", pa.float64()),
            pa.field("parts", pa.struct([(name, one) for name in parts])),
            pa.field("gate", pa.bool_()),
            pa.field("reference_used", pa.int64()),
            pa.field("unscored_reason", pa.string()),
        ]
    return [*fields, pa.field("why", pa.list_(pa.string()))] if why else fields


def schema_of(tables: Iterable[Table]) -> pa.Schema:
    """The columns of rows that were read as JSON. Raises `DataError` for one with values of different types."""
    with naming_extras("data"):
        import pyarrow as pa
    kinds: dict[str, pa.DataType] = {}
    lists: set[str] = set()
    rest = iter(tables)
    while batch := list(islice(rest, ROW_GROUP)):
        for name in dict.fromkeys(name for table in batch for name in table):
            values = [table.get(name) for table in batch]
            if name in TEXTS:
                lists |= {name} if any(isinstance(value, list) for value in values) else set()
                kinds[name] = pa.list_(pa.string()) if name in lists else pa.string()
            elif name in TEXT:
                kinds[name] = pa.string()
            else:
                kinds[name] = _merged(name, kinds.get(name, pa.null()), values)
    for name, kind in kinds.items():
        if pa.types.is_struct(kind) and not kind.num_fields:
            kinds[name] = pa.null()
        elif _has_no_keys(kind):
            raise DataError(f"column {name!r} holds objects without a key, as Parquet cannot; {AS_JSON}")
    return pa.schema(list(kinds.items()))


def _has_no_keys(kind: pa.DataType) -> bool:
    """Whether there is an empty object anywhere inside this type."""
    from pyarrow import types

    if types.is_struct(kind):
        return not kind.num_fields or any(_has_no_keys(kind.field(place).type) for place in range(kind.num_fields))
    return bool(types.is_list(kind)) and _has_no_keys(kind.value_type)


def _merged(name: str, before: pa.DataType, values: Sequence[Any]) -> pa.DataType:
    import pyarrow as pa

    try:
        new = pa.schema([(name, pa.array(values).type)])
        return pa.unify_schemas([pa.schema([(name, before)]), new], promote_options="permissive").field(name).type
    except (pa.ArrowException, OverflowError) as error:
        raise DataError(
            f"column {name!r} does not fit into one type, as Parquet wants ({' '.join(str(error).split())[:120]}); "
            f"{AS_JSON}"
        ) from error


class ScoredParquet:
    """Writes scored rows to a file, one row group at a time.

    `made` are the columns of the scores. The others come from the Parquet file `source`, or else from the rows
    themselves, and then `columns` is their schema.
    """

    def __init__(
        self, file: IO[bytes], made: Sequence[pa.Field], *, source: Path | None = None, columns: pa.Schema | None = None
    ) -> None:
        import pyarrow as pa

        names = {column.name for column in made}
        if source is not None:
            with _reading(source), _file(source) as rows:
                columns = rows.schema_arrow
        self._others = [column for column in columns or () if column.name not in names]
        self._made = list(made)
        self._picker = None if source is None else RowPicker(source, [column.name for column in self._others])
        self.schema = pa.schema([*self._others, *self._made])
        self._writer = _writer(file, self.schema)
        self._rows: list[tuple[int, Mapping[str, Any]]] = []

    def add(self, number: int, row: Mapping[str, Any]) -> None:
        """Take the row in the line `number` (from 1)."""
        self._rows.append((number, row))
        if len(self._rows) == ROW_GROUP:
            self._flush()

    def __enter__(self) -> ScoredParquet:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        """Write what is left, and the file's footer; after an error the footer alone, for the file is given up."""
        try:
            if self._rows and kind is None:
                self._flush()
        finally:
            self._writer.close()

    def _flush(self) -> None:
        import pyarrow as pa

        fields = self._made if self._picker else [*self._others, *self._made]
        try:
            columns = [pa.array([_fitting(row.get(f.name), f) for _, row in self._rows], f.type) for f in fields]
        except (pa.ArrowException, OverflowError) as error:
            raise DataError(f"a scored row does not fit into Parquet: {' '.join(str(error).split())[:200]}") from error
        if self._picker and self._others:
            own = pa.Table.from_batches(self._picker.take([number for number, _ in self._rows]))
            columns = [*own.columns, *columns]
        self._writer.write_table(pa.table(columns, schema=self.schema), row_group_size=ROW_GROUP)
        self._rows = []


def _fitting(value: Any, column: pa.Field) -> Any:
    """A value of JSON as its column holds it: a list where some rows have lists, text where numbers stand for text."""
    import pyarrow as pa

    if value is None or pa.types.is_null(column.type):
        return None
    if column.name in TEXTS:
        texts = [str(one) for one in (value if isinstance(value, list) else [value])]
        return texts if pa.types.is_list(column.type) else texts[0]
    return str(value) if column.name in TEXT else value


def parquet_writer(file: IO[bytes], *, like: Path) -> pq.ParquetWriter:
    """A writer of rows such as those in the file `like`."""
    with _reading(like), _file(like) as found:
        return _writer(file, found.schema_arrow)


def _writer(file: IO[bytes], schema: pa.Schema) -> pq.ParquetWriter:
    import pyarrow.parquet as pq

    return pq.ParquetWriter(file, schema, compression="zstd")


def copy_rows(pickers: Sequence[RowPicker], order: Sequence[tuple[int, int]], writer: pq.ParquetWriter) -> None:
    """Write a row group of rows of several files, in this order of (file, row number of that file)."""
    import pyarrow as pa

    numbers: dict[int, list[int]] = {}
    for file, number in order:
        numbers.setdefault(file, []).append(number)
    table = pa.Table.from_batches([batch for file, own in numbers.items() for batch in pickers[file].take(own)])
    start = 0
    place: dict[tuple[int, int], int] = {}
    for file, own in numbers.items():
        place |= {(file, number): start + i for i, number in enumerate(own)}
        start += len(own)
    writer.write_table(table.take([place[one] for one in order]).combine_chunks(), row_group_size=ROW_GROUP)
