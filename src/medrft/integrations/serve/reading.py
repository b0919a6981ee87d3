"""From the body of a request to rows that can wait in the queue, and from those to items.

{"id": "4f1c…", "rows": [{"completion": "…<answer>no</answer>", "reference": "no", "group": "q7"}], "learns": true}
{"query": ["…prompt…completion"], "prompts": ["…prompt"], "labels": ["no"]}                  OpenRLHF's
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, cast

from medrft.errors import UserError
from medrft.integrations.foreign import Batch, ForeignReward
from medrft.integrations.openrlhf import item_in
from medrft.integrations.rows import text_of
from medrft.rewards.rows import FORMS, read_row
from medrft.types import Form, Item, Outcome

ROW_KEYS = frozenset(
    (
        *("completion", "answer", "reference", "question", "kind", "options", "group", "form"),
        *("n_tokens", "max_tokens", "truncated", "metadata"),
    )
)
"""The keys of a row, as `medrft score` reads them."""
BODY_KEYS = frozenset(("id", "rows", "form", "learns"))
TOLD = 300
"""Characters of a reason that are sent back."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one request may hold and how much may wait; what is over it is refused, so that memory stays bounded."""

    rows: int = 4096
    """Rows of one request."""
    row_chars: int = 200_000
    """Characters of one row's texts together."""
    listed: int = 256
    """References, and options, of one row."""
    body_bytes: int = 32 * 2**20
    queue_rows: int = 16_384
    """Rows that wait or are scored now."""
    queue_bytes: int = 128 * 2**20
    """Bodies that are read, wait or are scored now."""
    batch_rows: int = 1024
    """Rows that are scored in one call; a single request may hold more."""
    remembered_rows: int = 262_144
    """Rows of the answers that are remembered."""


class Refused(Exception):
    """A request that gets no score: the status and the JSON that say why."""

    def __init__(self, status: int, reason: str, *, retry_after: int | None = None, **more: Any) -> None:
        super().__init__(reason)
        self.status, self.retry_after = status, retry_after
        self.body = {"error": reason, **more}


@dataclass(frozen=True, kw_only=True)
class ScoreRequest:
    """The rows of `/score`, which are one batch."""

    rows: Sequence[Any]
    form: Form
    learns: bool
    id: str | None = None

    def batch(self, held: ForeignReward, limits: Limits) -> Batch:
        """The rows as items; raises `Refused` naming each row that cannot be read, up to twenty."""
        found: list[tuple[Item, str | int | None]] = []
        bad: dict[int, str] = {}
        for number, row in enumerate(self.rows):
            try:
                found.append(_read(row, number, self.form, held, limits))
            except UserError as error:
                bad[number] = str(error).removeprefix(f"row {number}: ")[:TOLD]
        _refuse_rows(bad)
        groups = [group for _, group in found]
        if held.reward.needs_groups and None in groups:
            _refuse_rows({groups.index(None): f"{held.named.name} compares completions within a group: give `group`"})
        batch = Batch(items=[item for item, _ in found], groups=_groups(groups), learns=self.learns)
        try:
            held.check_groups(batch.groups)
        except UserError as error:
            raise Refused(400, str(error)) from error
        return batch

    def answer(self, held: ForeignReward, outcomes: Sequence[Outcome]) -> dict[str, Any]:
        """Rewards, calibrated parts by name, and why a row has no score of its own, by its number."""
        return {
            "id": self.id,
            "rewards": held.values(outcomes),
            "parts": {name: [one.calibrated.get(name) for one in outcomes] for name in held.reward.names},
            "unscored": {
                str(n): one.unscored_reason or "no reason told" for n, one in enumerate(outcomes) if one.reward is None
            },
        }


@dataclass(frozen=True, kw_only=True)
class RemoteRequest:
    """What OpenRLHF sends to a remote reward; each query is a row of its own, and teaches nothing."""

    queries: Sequence[Any]
    prompts: Sequence[Any]
    labels: Sequence[Any]
    form: Form
    learns: bool = False
    id: str | None = None

    @property
    def rows(self) -> Sequence[Any]:
        """One for each query."""
        return self.queries

    def batch(self, held: ForeignReward, limits: Limits) -> Batch:
        """The completions as items; raises `Refused` naming each query that cannot be read, up to twenty."""
        items: list[Item] = []
        bad: dict[int, str] = {}
        for number, (query, prompt, label) in enumerate(zip(self.queries, self.prompts, self.labels, strict=True)):
            try:
                if not isinstance(query, str) or not isinstance(prompt, str):
                    raise _Bad("query and prompt are texts")
                items.append(_checked(item_in(query, prompt, label, form=self.form), held, limits))
            except UserError as error:
                bad[number] = str(error).removeprefix("completion 0: ")[:TOLD]
        _refuse_rows(bad)
        return Batch(items=items, learns=False)

    def answer(self, held: ForeignReward, outcomes: Sequence[Outcome]) -> dict[str, Any]:
        """`rewards` that train, `scores` in [0, 1] for dynamic filtering, and `extra_logs`.

        OpenRLHF sends one query a request and wraps what comes back in a list of its own, so one query gets numbers.
        """
        rows = [held.columns(outcome) for outcome in outcomes]
        logs = {name: [row[name] for row in rows] for name in rows[0]}
        rewards = logs.pop("score")
        scores = [min(1.0, max(0.0, reward)) for reward in rewards]
        if len(rows) == 1:
            return {"rewards": rewards[0], "scores": scores[0], "extra_logs": {key: v[0] for key, v in logs.items()}}
        return {"rewards": rewards, "scores": scores, "extra_logs": logs}


def read_score(body: bytes, *, form: Form, limits: Limits) -> ScoreRequest:
    """The request of `/score`, its rows not yet read; raises `Refused`."""
    table = _table(body)
    _refuse_unknown(table, BODY_KEYS, "the request")
    rows, learns, own, name = (table.get(key) for key in ("rows", "learns", "form", "id"))
    if not isinstance(rows, list) or not rows:
        raise Refused(400, '`rows` is a list of rows, such as {"completion": "…", "reference": "no"}')
    _check_rows(len(rows), limits)
    if own is not None and own not in FORMS:
        raise Refused(400, f"`form` is one of {', '.join(FORMS)}")
    if learns is not None and not isinstance(learns, bool):
        raise Refused(400, "`learns` is true or false")
    if name is not None and not (isinstance(name, str) and 0 < len(name) <= 128 and name.isascii()):
        raise Refused(400, "`id` is a text of 1 to 128 ASCII characters, another one for each request")
    return ScoreRequest(rows=rows, form=cast(Form, own or form), learns=learns is not False, id=name)


def read_remote(body: bytes, *, form: Form, limits: Limits) -> RemoteRequest:
    """The request of `/get_reward`; raises `Refused`."""
    table = _table(body)
    lists = [table.get(key) for key in ("query", "prompts", "labels")]
    if not all(isinstance(one, list) and len(one) == len(lists[0] or ()) for one in lists) or not lists[0]:
        raise Refused(400, "`query`, `prompts` and `labels` are lists of one length, as OpenRLHF sends them")
    queries, prompts, labels = cast(list[list[Any]], lists)
    _check_rows(len(queries), limits)
    return RemoteRequest(queries=queries, prompts=prompts, labels=labels, form=form)


def _table(body: bytes) -> dict[str, Any]:
    try:
        table = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, json.JSONDecodeError) else "not UTF-8, or too deep, or no number"
        raise Refused(400, f"the body is not JSON: {reason}") from error
    if not isinstance(table, dict):
        raise Refused(400, f"the body is a JSON object, got {type(table).__name__}")
    return table


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _check_rows(n: int, limits: Limits) -> None:
    if n > limits.rows:
        raise Refused(413, f"a request holds up to {limits.rows} rows, got {n}; send several")


def _refuse_unknown(table: dict[str, Any], known: frozenset[str], where: str) -> None:
    if unknown := sorted(set(table) - known):
        raise Refused(400, f"{where} has an unknown key {unknown[0][:60]!r}; known: {', '.join(sorted(known))}")


def _refuse_rows(bad: dict[int, str]) -> None:
    if bad:
        number, reason = next(iter(bad.items()))
        more = f" (and {len(bad) - 1} more rows)" if len(bad) > 1 else ""
        told = {str(n): why for n, why in list(bad.items())[:20]}
        raise Refused(400, f"row {number}: {reason}{more}; nothing was scored", rows=told)


def _read(row: Any, number: int, form: Form, held: ForeignReward, limits: Limits) -> tuple[Item, str | int | None]:
    if not isinstance(row, dict):
        raise _Bad(f"a row is an object, got {type(row).__name__}")
    if unknown := sorted(set(row) - ROW_KEYS):
        raise _Bad(f"unknown key {unknown[0][:60]!r}; a row has {', '.join(sorted(ROW_KEYS))}")
    if isinstance(row.get("completion"), list | dict):
        row = {**row, "completion": text_of(row["completion"])}
    _check_shape(row, limits)
    made = read_row(row, where=f"row {number}", form=form)
    return _checked(made.item, held, limits), made.group


def _check_shape(row: dict[str, Any], limits: Limits) -> None:
    """Refuse, before it is read, a row that would take long to read, to score, or to quote in an error."""
    chars = 0
    for key, value in row.items():
        if key == "metadata":
            continue
        inner = value if isinstance(value, list) else [value]
        if any(isinstance(one, list | dict) for one in inner):
            raise _Bad(f"`{key}` is no object, and no list of lists or objects")
        if len(inner) > limits.listed:
            raise _Bad(f"`{key}` lists up to {limits.listed} texts, got {len(inner)}")
        chars += sum(len(one) for one in inner if isinstance(one, str))
    _check_chars(chars, limits)


def _check_chars(chars: int, limits: Limits) -> None:
    if chars > limits.row_chars:
        raise _Bad(f"its texts have {chars} characters, up to {limits.row_chars} are taken")


def _checked(item: Item, held: ForeignReward, limits: Limits) -> Item:
    """The item, once it is known that the reward has an entry for its kind and that it is not too long."""
    held.reward.stack(item.kind)
    texts = (item.completion, item.answer, item.question, *item.references, *item.options)
    _check_chars(sum(len(text or "") for text in texts), limits)
    return item


def _groups(groups: Sequence[str | int | None]) -> Sequence[Hashable] | None:
    return None if all(group is None for group in groups) else groups


class _Bad(UserError):
    """A row that cannot be read."""
