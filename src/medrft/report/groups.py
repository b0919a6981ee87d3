"""Picks example groups from a stage's rollouts: one question, its completions, and what each earned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from medrft.evaluation.run_files import Row, RunFiles
from medrft.report.html import png_address

LONGEST = 4000
"""Most characters of a completion that are shown."""
LATE = 0.25
"""Examples come from this last share of the steps, when the policy has learned most of what it will learn."""

# Label, order and number of the groups that are picked, in turn.
CHOICES: tuple[tuple[str, str, int], ...] = (
    ("highest reward", "mean_reward DESC", 2),
    ("lowest reward", "mean_reward ASC", 2),
    ("widest spread", "spread DESC", 2),
)

GROUPS = """
SELECT group_id, min(step) AS step, avg(reward) AS mean_reward, max(reward) - min(reward) AS spread
FROM rollouts
WHERE stage = '{stage}' AND split = 'train'
GROUP BY group_id
HAVING count(reward) = count(*)
"""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of a completion's reward."""

    name: str
    raw: float | None
    calibrated: float | None
    applicable: bool


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One completion of a group."""

    row: Row
    text: str
    cut: int
    """Characters not shown."""
    parts: tuple[Part, ...]
    fits: bool = False
    """Whether it is one of those that a reader asked for."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """One question with all its completions, the best first."""

    why: str
    step: int
    mean: float
    spread: float
    row: Row
    """Any of its rows: question, references and images are the same in all."""
    images: tuple[str, ...]
    """Thumbnails as data URIs."""
    completions: tuple[Shown, ...]


def example_groups(run: RunFiles, stage: str) -> list[Group]:
    """Groups worth looking at from the last steps of a stage; none if it has no rollouts."""
    from medrft.store import read_rollouts

    if not any((run.path / "rollouts").glob(f"{stage}-train-*.parquet")):
        return []
    groups = read_rollouts(run.path, GROUPS.format(stage=stage))
    chosen = _choose(groups)
    if not chosen:
        return []
    names = ", ".join("'" + group["group_id"].replace("'", "''") + "'" for _, group in chosen)
    rows = read_rollouts(run.path, f"SELECT * FROM rollouts WHERE group_id IN ({names}) ORDER BY group_id, sample")
    return [_group(run, why, group, [r for r in rows if r["group_id"] == group["group_id"]]) for why, group in chosen]


def _choose(groups: Sequence[Row]) -> list[tuple[str, Row]]:
    """Late groups picked by each of `CHOICES`, none of them twice."""
    if not groups:
        return []
    first, last = min(g["step"] for g in groups), max(g["step"] for g in groups)
    late = [group for group in groups if group["step"] >= last - LATE * (last - first)]
    chosen: dict[str, tuple[str, Row]] = {}
    for why, order, count in CHOICES:
        key, direction = order.split()
        sign = -1 if direction == "DESC" else 1
        ranked = sorted(late, key=lambda group: (sign * group[key], group["group_id"]))
        fresh = [group for group in ranked if group["group_id"] not in chosen][:count]
        chosen |= {group["group_id"]: (why, group) for group in fresh}
    return list(chosen.values())


def _group(run: RunFiles, why: str, facts: Row, rows: Sequence[Row]) -> Group:
    best_first = sorted(rows, key=lambda row: (-row["reward"], row["sample"]))
    return Group(
        why=why,
        step=facts["step"],
        mean=facts["mean_reward"],
        spread=facts["spread"],
        row=rows[0],
        images=tuple(map(png_address, run.thumbnails(rows[0]["image_sha256"]))),
        completions=tuple(map(shown_completion, best_first)),
    )


def shown_completion(row: Row, *, fits: bool = False) -> Shown:
    """A rollout as pages show it; a row whose text was cut while it was read says in `characters` how long it is."""
    text = str(row["completion"])
    length = row.get("characters", len(text))
    return Shown(row=row, text=text[:LONGEST], cut=max(0, length - LONGEST), parts=tuple(_parts(row)), fits=fits)


def _parts(row: Row) -> list[Part]:
    """Parts of this row's reward; the table has a column for every stage's parts, null where they are of another."""
    raw: dict[str, Any] = row["raw"] or {}
    calibrated: dict[str, Any] = row["calibrated"] or {}
    applicable: dict[str, Any] = row["applicable"] or {}
    return [
        Part(name=name, raw=raw.get(name), calibrated=calibrated.get(name), applicable=bool(applicable[name]))
        for name in raw
        if applicable.get(name) is not None
    ]
