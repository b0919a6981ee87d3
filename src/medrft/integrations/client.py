"""A client of `medrft serve` with the standard library alone: copy this one file to where medrft cannot be installed.

    from reward_client import RewardClient, trl_reward
    reward = trl_reward("http://127.0.0.1:8421")                                  # GRPOTrainer(reward_funcs=[reward])
    RewardClient("http://127.0.0.1:8421").score([{"completion": "…", "reference": "no"}]).rewards

A request is one batch: what is compared within a group, and learnt from, lies within it. It is sent again until it is
answered, under the same id, so that a server which learns does not learn from it twice. What is not answered raises
`ServerError`. The token is taken from the environment variable MEDRFT_TOKEN.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import random
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import urlsplit

LOG = logging.getLogger("medrft")
AGAIN = (408, 425, 429, 500, 502, 503, 504)
"""Statuses after which a request may succeed; 500 only from what stands between, for our server's own has a reason."""
REFERENCE = ("references", "answers", "reference", "solution", "ground_truth", "gt", "label", "target", "answer")
QUESTION = ("question", "problem", "query")
OPTIONS = ("options", "choices")
"""Usual names of columns, in the order of search."""


class ServerError(RuntimeError):
    """The server refused a request, or gave no answer in time."""


class Scored(NamedTuple):
    """What the server says of one batch, row by row."""

    # Not a dataclass: verl runs this file without entering it in `sys.modules`, where dataclasses look it up.

    rewards: list[float | None]
    """`None` for a row that could not be scored, unless the server was started with `--unscored`."""
    parts: dict[str, list[float | None]]
    """Calibrated parts by name; `None` where one does not apply."""
    unscored: dict[int, str]
    """Row number -> why it has no score."""
    learnt: int | None
    """Which batch of those that the state learnt from this is, from 1; `None` if it taught nothing."""


class RewardClient:
    """Sends rows to a server; may be used from several threads and in forked processes."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        form: str | None = None,
        timeout: float = 120.0,
        patience: float = 600.0,
    ) -> None:
        """`timeout` is for one attempt and `patience` for all of them together, waits included; both in seconds."""
        parts = urlsplit(url)
        shown = parts.netloc.rpartition("@")[2]  # without a token
        if parts.scheme not in ("http", "https") or not parts.hostname or not shown.rpartition(":")[2]:
            raise ServerError(f"the server's address is http://HOST:PORT, got {url.rpartition('@')[2]!r}")
        self.place, self.base = f"{parts.scheme}://{shown}", parts.path.rstrip("/")
        self._secure, self._host, self._port = parts.scheme == "https", parts.hostname, parts.port
        self._token = token or parts.password or os.environ.get("MEDRFT_TOKEN")
        if self._token is not None and not self._token.isascii():
            raise ServerError("the token holds other characters than letters, digits and signs")
        self.form, self.timeout, self.patience = form, timeout, patience
        self._open, self._tell_at = threading.local(), 0.0

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key != "_open"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._open, self._tell_at = threading.local(), 0.0

    def score(self, rows: Sequence[Mapping[str, Any]], *, learns: bool = True, id: str | None = None) -> Scored:
        """The rewards of these rows, which are one batch; raises `ServerError`.

        A row has `completion` (text or messages) or `answer`, `reference` (text or list), and may have `question`,
        `options`, `kind`, `group`, `n_tokens`, `max_tokens` and `metadata`. With `learns=False` it teaches nothing.
        """
        if not rows:
            return Scored([], {}, {}, None)
        name = id or uuid.uuid4().hex
        body: dict[str, Any] = {"id": name, "rows": [_plain(row) for row in rows], "learns": learns}
        if self.form is not None:
            body["form"] = self.form
        found = self._ask("POST", "/score", json.dumps(body, allow_nan=False).encode())
        if found.get("id") != name or len(found.get("rewards", ())) != len(rows):
            raise ServerError(f"{self.place} answered another request than the one sent; is it medrft serve?")
        unscored = {int(number): reason for number, reason in found["unscored"].items()}
        return Scored(found["rewards"], found["parts"], unscored, found["learnt"])

    def health(self) -> dict[str, Any]:
        """The server's counts."""
        return self._ask("GET", "/health", None)

    def state(self) -> dict[str, Any]:
        """The calibrations' state."""
        return self._ask("GET", "/state", None)

    def _ask(self, method: str, path: str, body: bytes | None) -> dict[str, Any]:
        until, attempt, last = time.monotonic() + self.patience, 0, ""
        while True:
            wait: float | None = None
            try:
                status, headers, text = self._once(method, path, body)
                if status == 200:
                    return _object(text)
                last = f"{status}: {_reason(text)}"
                if status not in AGAIN or (status == 500 and "the reward failed" in last):
                    raise ServerError(f"{self.place}{path} refused the request, {last}")
                wait = _seconds(headers.get("Retry-After"))
            except (OSError, http.client.HTTPException, ValueError) as error:
                self._close()
                last = f"{type(error).__name__}: {error}"
            attempt += 1
            wait = min(10.0, 0.1 * 2 ** min(attempt, 7)) if wait is None else wait
            wait *= random.uniform(0.5, 1.0)  # so that many workers do not come back at one moment
            if attempt > 2 and time.monotonic() > self._tell_at:  # one thread tells for all
                self._tell_at = time.monotonic() + 30
                LOG.warning("medrft: %s%s gives no answer yet (%s); trying again", self.place, path, last)
            if time.monotonic() + wait > until:
                raise ServerError(f"{self.place}{path} gave no answer in {attempt} attempts; the last: {last}")
            time.sleep(wait)

    def _once(self, method: str, path: str, body: bytes | None) -> Any:
        connection = self._connection()
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        # The server may refuse a request before it has all of it; what it says can then be read.
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.request(method, self.base + path, body=body, headers=headers)
        response = connection.getresponse()
        text = response.read()
        if response.will_close:
            self._close()
        return response.status, response.headers, text

    def _connection(self) -> http.client.HTTPConnection:
        """This thread's connection; a forked process makes its own."""
        held = getattr(self._open, "held", None)
        if held is None or held[0] != os.getpid():
            kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
            held = (os.getpid(), kind(self._host, self._port, timeout=self.timeout))
            self._open.held = held
        return held[1]

    def _close(self) -> None:
        held = getattr(self._open, "held", None)
        if held is not None:
            held[1].close()
            self._open.held = None


def rows_of(
    completions: Sequence[Any],
    columns: Mapping[str, Sequence[Any]],
    *,
    references: str | None = None,
    group_by: str = "id",
    n_tokens: Sequence[int] | None = None,
) -> list[dict[str, Any]]:
    """Rows from a trainer's completions and the columns of its data set, found by their usual names.

    `references` names the column of references if its name is no usual one. No other column is sent.
    """
    names = {
        "reference": references or _first(REFERENCE, columns),
        "question": _first(QUESTION, columns),
        "options": _first(OPTIONS, columns),
        "kind": "kind" if "kind" in columns else None,
        "group": group_by if group_by in columns else None,
    }
    if names["reference"] not in columns:
        raise ServerError(f"no column of references among {', '.join(columns) or 'no columns'}; name it: references=…")
    made: list[dict[str, Any]] = []
    for i, completion in enumerate(completions):
        row = {key: columns[name][i] for key, name in names.items() if name is not None}
        row = {key: _cell(value, key) for key, value in row.items()}
        row = {key: value for key, value in row.items() if key == "reference" or value not in (None, "", [])}
        if n_tokens is not None:
            row["n_tokens"] = n_tokens[i]
        made.append({"completion": completion, **row})
    return made


def trl_reward(
    url: str,
    *,
    references: str | None = None,
    group_by: str = "id",
    learns: bool | Callable[[], bool] = True,
    **settings: Any,
) -> Callable[..., list[float | None]]:
    """A function for TRL's `reward_funcs`; `settings` are those of `RewardClient`.

    Each process sends its own completions as a batch. `learns` may be a function, such as `lambda: model.training`, so
    that evaluations teach a learning server nothing.
    """
    client = RewardClient(url, **settings)

    def medrft_served(completions: Sequence[Any], **given: Any) -> list[float | None]:
        n = len(completions)
        skip = ("prompts", "images", "completion_ids", "response_token_ids", "messages")
        columns = {k: v for k, v in given.items() if isinstance(v, (list, tuple)) and len(v) == n and k not in skip}
        ids = given.get("completion_ids") or given.get("response_token_ids")
        counts = None if ids is None else [_length(one) for one in ids]
        rows = rows_of(completions, columns, references=references, group_by=group_by, n_tokens=counts)
        return client.score(rows, learns=learns() if callable(learns) else learns).rewards

    return medrft_served


def register_reward(name: str, url: str, **settings: Any) -> None:
    """Register the server with ms-swift as the reward `name`, in a file for `--external_plugins`.

    `settings` are those of `trl_reward`. ms-swift also scores its evaluations, so they would teach a learning server.
    """
    from swift.rewards import ORM, orms

    made = trl_reward(url, **settings)
    call = {"__call__": lambda self, completions, **given: made(completions, **given)}
    orms[name] = type("MedrftServed", (ORM,), call)  # ms-swift builds it with its own arguments


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: dict[str, Any] | None = None,
    *,
    url: str,
    unscored: float = 0.0,
    form: str | None = None,
    **_: Any,
) -> dict[str, float]:
    """verl's `custom_reward_function`, with `reward_kwargs: {url: …}`: `score`, `unscored` (0 or 1) and each part.

    verl has no missing reward, so an unscored row gets the number `unscored` and has 1 in that column.
    """
    extra = extra_info or {}
    known = {key: extra[key] for key in ("question", "options", "kind") if extra.get(key) is not None}
    written = json.loads(extra.get("medrft") or "{}")  # by `medrft data convert --to verl`: all references, the options
    known.update({key: written[key] for key in ("references", "options") if written.get(key)})
    fields = {**known, **_fields(_plain(ground_truth))}
    found = _client(url, form).score(
        rows_of([solution_str], {key: [value] for key, value in fields.items()}), learns=False
    )
    reward = found.rewards[0]
    parts = {name: float(column[0] or 0.0) for name, column in found.parts.items()}
    missing = bool(found.unscored)
    return {"score": unscored if missing or reward is None else reward, "unscored": float(missing), **parts}


@lru_cache(maxsize=8)
def _client(url: str, form: str | None) -> RewardClient:
    return RewardClient(url, form=form)


def _fields(value: Any) -> dict[str, Any]:
    """A label's fields: plain text is the reference, a table (as JSON too) has fields."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = json.loads(value)
        except ValueError:
            return {"reference": value}
    return dict(value) if isinstance(value, dict) else {"reference": value}


def _first(names: Sequence[str], columns: Mapping[str, Any]) -> str | None:
    return next((name for name in names if name in columns), None)


def _cell(value: Any, key: str) -> Any:
    """A cell as JSON has it; a list that was written as JSON is read."""
    value = _plain(value)
    if key in ("options", "reference") and isinstance(value, str) and value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _plain(value: Any) -> Any:
    """Arrays, tuples and other containers as plain lists and dicts."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return [_plain(inner) for inner in value]


def _length(ids: Any) -> int:
    """Number of tokens, from a list of ids or from one list of ids per turn."""
    return sum(len(turn) if isinstance(turn, (list, tuple)) else 1 for turn in ids)


def _object(text: bytes) -> dict[str, Any]:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("the answer is no JSON object")
    return found


def _reason(text: bytes) -> str:
    try:
        return str(_object(text).get("error", ""))[:500]
    except ValueError:
        return text[:200].decode("utf-8", "replace")


def _seconds(value: str | None) -> float | None:
    return float(value) if value is not None and value.isdigit() else None
