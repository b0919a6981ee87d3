"""A reward of ours over a Ray data set: one row out for each row in, with its reward and parts as further columns.

    rows.map_batches(RayScorer, fn_constructor_args=("text",), concurrency=2, batch_size=2048, batch_format="pyarrow")

    reference "left lung" · answer "lung" · … · reward 0.41 · unscored_reason null · raw.bleu1 0.37 · …

Columns are those of the rows of `medrft score`. A row that cannot be read or scored keeps its place, with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medrft.errors import DataError, RecipeError, UserError
from medrft.integrations.foreign import ForeignReward
from medrft.rewards.rows import FIELDS, read_row
from medrft.types import Form, Item, Outcome

if TYPE_CHECKING:
    import pyarrow as pa

WHOLE = ("n_tokens", "max_tokens", "group")
"""Whole numbers, which NumPy holds as floats where some are missing."""


class RayScorer:
    """A class for `map_batches`, or for `map_groups` with a reward that compares completions of a group.

    Each worker builds the reward once. Batches are Arrow tables (`batch_format="pyarrow"`) or tables of NumPy arrays,
    and come back as what they were; in NumPy a missing number is NaN.
    """

    def __init__(
        self,
        reward: str | Path | Mapping[str, Any],
        *,
        state: str | Path | None = None,
        form: Form = "think",
        encoder: str | None = None,
        options: Mapping[str, Mapping[str, Any]] | None = None,
        group: str | None = None,
    ) -> None:
        """`group` is the column by which the data set was grouped; the others are those of `ForeignReward`.

        Files that are named (`state`, a reward's) must be there on every worker. Raises `RecipeError` for calibrations
        without a fitted state, and for a reward that needs groups without `group`.
        """
        self.held = ForeignReward(reward, state=state, encoder=encoder, options=options)
        self.form, self.group = form, group
        if self.held.reward.needs_groups and group is None:
            raise RecipeError(
                f"{self.held.named.name} compares completions within a group, and map_batches cuts groups; use "
                "rows.groupby('group').map_groups(RayScorer, fn_constructor_kwargs={…, 'group': 'group'})"
            )

    def __call__(self, batch: Any) -> Any:
        """The batch with the columns of the reward; with `group` it is one whole group."""
        if isinstance(batch, Mapping):
            tables = _rows_of_arrays({name: batch[name] for name in batch if name in FIELDS})
            made = self._columns(tables, None if self.group is None else list(batch[self.group]))
            return {**batch, **_as_arrays(made)}
        names = [name for name in batch.column_names if name in FIELDS]
        tables = batch.select(names).to_pylist(maps_as_pydicts="lossy")
        return _with_columns(
            batch, self._columns(tables, None if self.group is None else batch[self.group].to_pylist())
        )

    def _columns(self, tables: Sequence[Mapping[str, Any]], groups: Sequence[Any] | None) -> dict[str, list[Any]]:
        """The columns that are added: texts or `None` in `unscored_reason`, numbers or `None` in all others."""
        if groups is not None and len(set(groups)) > 1:
            raise DataError(f"a batch holds {len(set(groups))} groups; group is for groupby({self.group!r}).map_groups")
        read = [self._read(table, place) for place, table in enumerate(tables)]
        items = [item for item in read if isinstance(item, Item)]
        scored = iter(self.held(items, groups=None if groups is None else groups[: len(items)]) if items else ())
        return self._table([next(scored) if isinstance(item, Item) else item for item in read])

    def _read(self, table: Mapping[str, Any], place: int) -> Item | str:
        """The item of a row, or why there is none."""
        try:
            return read_row(table, where=f"row {place} of a batch", form=self.form).item
        except UserError as error:
            return str(error)

    def _table(self, outcomes: Sequence[Outcome | str]) -> dict[str, list[Any]]:
        columns: dict[str, list[Any]] = {
            "reward": [None if isinstance(one, str) else one.reward for one in outcomes],
            "unscored_reason": [one if isinstance(one, str) else one.unscored_reason for one in outcomes],
        }
        for kind in ("raw", "calibrated"):
            for name in self.held.reward.names:
                columns[f"{kind}.{name}"] = [
                    None if isinstance(one, str) else getattr(one, kind).get(name) for one in outcomes
                ]
        return columns


def _rows_of_arrays(columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of NumPy columns as plain Python; NaN is a missing value there."""
    plain = {name: [_plain(value, name) for value in column] for name, column in columns.items()}
    return [dict(zip(plain, values, strict=True)) for values in zip(*plain.values(), strict=True)]


def _plain(value: Any, name: str) -> Any:
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float) and (math.isnan(value) or (name in WHOLE and value.is_integer())):
        return None if math.isnan(value) else int(value)
    return value


def _as_arrays(columns: Mapping[str, Sequence[Any]]) -> dict[str, np.ndarray]:
    kinds = {name: object if name == "unscored_reason" else np.float64 for name in columns}
    return {name: np.array(values, dtype=kinds[name]) for name, values in columns.items()}


def _with_columns(batch: pa.Table, columns: Mapping[str, Sequence[Any]]) -> pa.Table:
    import pyarrow as pa

    batch = batch.drop_columns([name for name in columns if name in batch.column_names])
    for name, values in columns.items():
        kind = pa.string() if name == "unscored_reason" else pa.float64()
        batch = batch.append_column(name, pa.array(values, kind))
    return batch
