"""Which rows of a file each of several processes scores, and how their outputs become one again.

    medrft score rows.jsonl --reward text --output out.jsonl --shard 2/4
    out.2-of-4.jsonl             the rows of shard 2 with their scores
    out.2-of-4.left_out.jsonl    those of its rows that could not be scored, if there are any
    out.2-of-4.shard.json        what the scores depend on; written last: with it the shard is whole

A row with a `group` goes by a hash of the group, so that no group falls apart; any other goes by its line number.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medrft.errors import DataError, RecipeError
from medrft.rewards.reward import Reward
from medrft.rundir import read_json, write_json


@dataclass(frozen=True, slots=True)
class Shard:
    """Shard `number` (from 1) of `of`."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def takes(self, line: int, group: object) -> bool:
        """Whether the row in this line (from 1) belongs to this shard."""
        return shard_of(line, group, self.of) == self.number

    def path(self, output: Path) -> Path:
        """Where this shard's rows go.

        >>> Shard(2, 4).path(Path("runs/out.jsonl")).as_posix()
        'runs/out.2-of-4.jsonl'
        """
        return output.with_name(f"{output.stem}.{self.number}-of-{self.of}{output.suffix}")


def read_shard(text: str) -> Shard:
    """`3/16` as a shard; raises `RecipeError` for anything that is not 1 to N of N."""
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise RecipeError(f"--shard takes K/N, shard K of N with K from 1 to N, got {text!r}; for example --shard 1/4")
    return Shard(int(found[1]), int(found[2]))


def shard_of(line: int, group: object, of: int) -> int:
    """The number (from 1) of the shard of a row: by its group, if that is a text or whole number, else by its line.

    >>> shard_of(1, 7, 4) == shard_of(9, 7, 4), [shard_of(line, None, 4) for line in (1, 2, 5)]
    (True, [1, 2, 1])
    """
    if not isinstance(group, str | int):
        return (line - 1) % of + 1
    key = json.dumps(group if isinstance(group, str) else int(group))  # true and 1 are one group
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) % of + 1


def group_in(content: bytes) -> object:
    """The group of a line of JSON; `None` where it has none or cannot be read."""
    if b"group" not in content and b"\\u" not in content:  # the letters of a key may be written as \\u0067 and so on
        return None
    try:
        table = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    return table.get("group") if isinstance(table, dict) else None


def check_shardable(reward: Reward, *, fitted: bool) -> None:
    """Raise `RecipeError` for a reward whose numbers depend on rows of other shards."""
    if reward.combine_rule == "normalize_then_sum":
        raise RecipeError(
            "normalize_then_sum standardises over all rows, and a shard has only its own; score them at once"
        )
    if reward.stateful and not fitted:
        raise RecipeError(
            f"the calibrations of {', '.join(reward.stateful)} are fitted on all rows, and a shard has only its own; "
            "fit them first on the file, or some hundred rows of it (medrft score ROWS --reward … --fit state.json), "
            "and pass --state state.json to every shard"
        )


def record_path(output: Path) -> Path:
    """Where the facts about a shard's output are kept."""
    return output.with_name(f"{output.stem}.shard.json")


def write_record(output: Path, header: Mapping[str, Any], reward: Reward | None) -> None:
    """Say that the output of a shard is whole, and what its scores depend on."""
    write_json(record_path(output), {**header, "state": reward.state_dict() if reward is not None else None})


def check_records(outputs: list[Path]) -> dict[str, Any]:
    """The facts that all shards share. Raises `DataError` if one is not finished, or was made from others."""
    shared: dict[str, Any] = {}
    for output in outputs:
        record = record_path(output)
        if not (record.is_file() and output.is_file()):
            raise DataError(f"{output} is not there or not whole; run its shard again, it goes on where it stopped")
        facts = read_json(record)
        facts["rows"] = {key: value for key, value in facts["rows"].items() if key not in ("lines", "shard")}
        shared = shared or facts
        for key in {**shared, **facts}:
            if facts.get(key) != shared.get(key):
                what = {"rows": "another file of rows", "state": "another calibration state"}.get(key, f"another {key}")
                raise DataError(f"{output} was made with {what} than {outputs[0]}; run that shard again")
    return shared
