"""Finds the groups of a run that a reader asks to see: a question, its completions, and what each earned.

    asked = Asked(show="hacked", order="longest", where="kind = 'open'", page=2)
    find_groups(run, asked)  ->  Found(groups=8 of them, count=317, …)

A group is found if one of its completions fits; then it is shown whole, the completions that fit first. The SQL of a
reader reads the run's rollouts and nothing else, and is stopped after `SECONDS`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from medrft.errors import DataError, unknown_name
from medrft.report.groups import LONGEST, Shown, shown_completion
from medrft.store import open_rollouts

if TYPE_CHECKING:
    import duckdb

Row = dict[str, Any]

PAGE = 8
"""Groups on a page."""
SECONDS = 5.0
"""How long a page's queries may take together."""
FARTHEST = 100_000
"""The last page that can be asked for."""
UNFOLDED = 4
"""Completions of a group that are shown before its fold."""

RIGHT = "coalesce(truth, correct)"
"""Whether a completion is right: by the phantom's oracle where there is one, else by the recipe's own test."""

CHOICES: dict[str, tuple[str, str]] = {
    "all": ("every group", ""),
    "turned_wrong": (
        "right before, wrong now",
        "group_id IN (SELECT group_id FROM (SELECT group_id, stage, split, example_id, min(generation_step) AS turn, "
        f"avg({RIGHT}::INT) AS share FROM rollouts GROUP BY ALL) QUALIFY share < 0.5 AND max(share) OVER (PARTITION BY "
        "stage, split, example_id ORDER BY turn ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) >= 0.5)",
    ),
    "hacked": (
        "wrong, yet paid like a right one",
        f"(group_id, sample) IN (SELECT group_id, sample FROM rollouts QUALIFY NOT {RIGHT} AND reward >= "
        f"median(reward) FILTER (WHERE {RIGHT}) OVER (PARTITION BY stage, split, kind))",
    ),
    "unscored": ("unscored", "reward IS NULL OR unscored_reason IS NOT NULL"),
    "no_spread": (
        "all paid the same",
        "group_id IN (SELECT group_id FROM rollouts GROUP BY group_id HAVING max(reward) - min(reward) < 1e-6)",
    ),
    "no_answer": ("no readable answer", "answer IS NULL"),
    "cut_off": ("cut off", "truncated"),
}
"""Name -> label, and the SQL of the completions that it finds."""

ORDERS: dict[str, tuple[str, str]] = {
    "newest": ("newest first", "step DESC"),
    "oldest": ("oldest first", "step"),
    "longest": ("longest first", "longest DESC"),
    "lowest": ("lowest reward first", "mean NULLS LAST"),
    "highest": ("highest reward first", "mean DESC NULLS LAST"),
    "spread": ("widest spread first", "spread DESC NULLS LAST"),
}

GROUPS = """
SELECT group_id, stage, split, min(step) AS step, min(generation_step) AS turn, avg(reward) AS mean,
    max(reward) - min(reward) AS spread, max(n_tokens) AS longest, count(*) OVER () AS found
FROM rollouts WHERE group_id IN (SELECT group_id FROM fits) GROUP BY group_id, stage, split
ORDER BY {order}, stage, split, turn, group_id LIMIT {limit} OFFSET {offset}
"""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a reader asks to see; empty texts ask for nothing."""

    show: str = "all"
    order: str = "newest"
    stage: str = ""
    split: str = ""
    kind: str = ""
    where: str = ""
    page: int = 1

    def query(self, **changes: Any) -> str:
        """The part of an address after `?`, without what is as it is by default."""
        plain = Asked()
        fields = {name: getattr(self, name) for name in plain.__dataclass_fields__} | changes
        return urlencode({name: value for name, value in fields.items() if value != getattr(plain, name)})


@dataclass(frozen=True, kw_only=True)
class RolloutGroup:
    """One question with all its completions; those that fit come first, then the better paid."""

    group_id: str
    step: int
    mean: float | None
    spread: float | None
    right: int | None
    """How many of its completions are right; `None` where that is not known."""
    row: Row
    """Any of its rows: question, references and images are the same in all."""
    completions: tuple[Shown, ...]
    """Where some fit and others do not, `fits` marks those that do."""


@dataclass(frozen=True, kw_only=True)
class Tally:
    """What the run's rollouts are."""

    rollouts: int
    last_step: int
    stages: tuple[str, ...]
    splits: tuple[str, ...]
    kinds: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Found:
    """A page of groups, how many groups fit in all, and what the run's rollouts are."""

    groups: tuple[RolloutGroup, ...]
    count: int
    tally: Tally


def find_groups(run: Path, asked: Asked) -> Found:
    """The page of groups that is asked for.

    Raises `DataError` for SQL that DuckDB refuses or that takes too long, and for a run without rollouts;
    `UnknownNameError` for a choice or order that is not there.
    """
    for name, known in ((asked.show, CHOICES), (asked.order, ORDERS)):
        if name not in known:
            raise unknown_name("view", name, known)
    if not 1 <= asked.page <= FARTHEST:
        raise DataError(f"a page is a number from 1 to {FARTHEST:,}, got {asked.page}")
    what = f"the condition {asked.where!r}" if asked.where else "the query"
    with open_rollouts(run, what, seconds=SECONDS) as database:
        fits = _fitting(database, asked)
        fits.create_view("fits")
        order = ORDERS[asked.order][1]
        sql = GROUPS.format(order=order, limit=PAGE, offset=(asked.page - 1) * PAGE)
        groups = _rows(database.sql(sql))
        shown = tuple(_whole(database, fits, groups))
        return Found(groups=shown, count=groups[0]["found"] if groups else 0, tally=_tally(database))


def has_rollouts(run: Path) -> bool:
    """Whether a run has written any rollouts yet."""
    return any((run / "rollouts").glob("*.parquet"))


def read_tally(run: Path) -> Tally:
    """The tally alone."""
    with open_rollouts(run, "the query", seconds=SECONDS) as database:
        return _tally(database)


def read_completion(run: Path, group_id: str, sample: int) -> str | None:
    """The whole text of one completion; `None` where there is none."""
    with open_rollouts(run, "the query", seconds=SECONDS) as database:
        sql = "SELECT completion FROM rollouts WHERE group_id = ? AND sample = ? LIMIT 1"
        found = database.execute(sql, [group_id, sample]).fetchone()
    return None if found is None else str(found[0])


def _fitting(database: duckdb.DuckDBPyConnection, asked: Asked) -> duckdb.DuckDBPyRelation:
    """The completions that fit. Each condition is parsed by itself, so that none can end another."""
    found = database.view("rollouts")
    for column in ("stage", "split", "kind"):
        if value := getattr(asked, column):
            found = found.filter(f"{column} = {_quoted(value)}")
    for condition in (CHOICES[asked.show][1], asked.where):
        if condition:
            found = found.filter(condition)
    return found


def _tally(database: duckdb.DuckDBPyConnection) -> Tally:
    sql = "SELECT stage, split, kind, count(*) AS rollouts, max(step) AS last FROM rollouts GROUP BY ALL ORDER BY ALL"
    rows = _rows(database.sql(sql))
    return Tally(
        rollouts=sum(row["rollouts"] for row in rows),
        last_step=max((row["last"] for row in rows), default=0),
        stages=tuple(dict.fromkeys(row["stage"] for row in rows)),
        splits=tuple(dict.fromkeys(row["split"] for row in rows)),
        kinds=tuple(sorted({row["kind"] for row in rows})),
    )


def _whole(
    database: duckdb.DuckDBPyConnection, fits: duckdb.DuckDBPyRelation, groups: Sequence[Row]
) -> list[RolloutGroup]:
    """The groups with their completions, in the order of `groups`; long texts are cut where they are read."""
    if not groups:
        return []
    names = ", ".join(_quoted(group["group_id"]) for group in groups)
    turns = ", ".join(sorted({str(group["turn"]) for group in groups}))
    there = f"generation_step IN ({turns}) AND group_id IN ({names})"  # the steps say which files hold them
    cut = f"* REPLACE (left(completion, {LONGEST}) AS completion), length(completion) AS characters"
    rows = _rows(database.sql(f"SELECT {cut} FROM rollouts WHERE {there} ORDER BY group_id, sample"))
    marked = set(fits.filter(there).project("group_id, sample").fetchall())
    of: dict[str, list[Row]] = {group["group_id"]: [] for group in groups}
    for row in rows:
        of[row["group_id"]].append(row)
    return [_group(group, of[group["group_id"]], marked) for group in groups]


def _group(group: Mapping[str, Any], rows: Sequence[Row], marked: set[tuple[str, int]]) -> RolloutGroup:
    fitting = {row["sample"] for row in rows if (row["group_id"], row["sample"]) in marked}
    some = len(fitting) < len(rows)
    ranked = sorted(rows, key=lambda row: (row["sample"] not in fitting, *_best_first(row)))
    known = [row["correct"] if row["truth"] is None else row["truth"] for row in rows]
    return RolloutGroup(
        group_id=group["group_id"],
        step=group["step"],
        mean=group["mean"],
        spread=group["spread"],
        right=None if None in known else sum(known),
        row=rows[0],
        completions=tuple(shown_completion(row, fits=some and row["sample"] in fitting) for row in ranked),
    )


def _best_first(row: Row) -> tuple[bool, float, int]:
    reward = row["reward"]
    return reward is None, -reward if reward is not None else 0.0, row["sample"]


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _rows(found: duckdb.DuckDBPyRelation) -> list[Row]:
    rows: list[Row] = found.to_arrow_table().to_pylist(maps_as_pydicts="strict")
    return rows
