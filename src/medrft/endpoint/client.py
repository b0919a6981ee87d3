"""The client: conversations go in, and for each a `Reply` or an `EndpointError` comes out.

It decides which requests are sent, how many at a time and how often, and counts what they cost.
"""

from __future__ import annotations

import json
import os
import re
import ssl
import threading
import warnings
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import httpx

from medrft.endpoint.attempt import FailedError, Reply, describe_failure, post_once, wait_before_retry
from medrft.endpoint.cache import read_cache, request_digest, write_cache
from medrft.endpoint.deadline import Deadline, keep_deadline
from medrft.errors import EndpointError, RecipeError
from medrft.masking import mask_known, remember_secret, remember_secrets
from medrft.outgoing import Recipient, announce_recipients, is_loopback

Messages = Sequence[Mapping[str, Any]]
"""One conversation: `{"role": …, "content": …}`, as the server takes them."""

OWN_KEYS = frozenset(("model", "messages", "temperature", "stream", "n"))
REMEMBERED = 65_536


@dataclass(slots=True)
class Counts:
    """How much an endpoint was asked and what it cost. Tokens and cost count paid replies only."""

    requests: int = 0
    cached: int = 0
    sent: int = 0
    """Attempts over HTTP, retries included."""
    failed: int = 0
    uncounted: int = 0
    """Paid replies without a token count."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = None
    """In the currency of the prices; `None` without prices."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """An OpenAI-compatible server and how to treat it; raises `RecipeError` for options that cannot work."""

    model: str
    base_url: str
    """Such as `http://localhost:8000/v1`; requests go to `/chat/completions` below it."""
    api_key_env: str | None = None
    """Name of the environment variable with the key; no key is sent when absent."""
    concurrency: int = 8
    timeout: float = 60.0
    """Seconds for one attempt, from the look-up of the name to the last byte; with retries, for each of them."""
    retries: int = 3
    """Further attempts after a time-out, a lost connection, 408, 425, 429 or 5xx."""
    backoff: float = 0.5
    """Seconds before the first retry; doubles each time. A longer `Retry-After` is obeyed."""
    max_wait: float = 60.0
    """Longest wait before a retry, in seconds; a server that asks for longer has failed."""
    cache_dir: str | None = None
    """Keep replies here, one file per request. They hold the text of requests: treat the folder as the data."""
    price_in: float | None = None
    """Price of a million prompt tokens."""
    price_out: float | None = None
    """Price of a million completion tokens."""
    body: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """More of the server's own request fields, passed through."""
    who: str = field(default="the model", compare=False)
    """What the endpoint is used as, such as `judge`; named in the line that says what is sent to other machines."""
    sends: str = field(default="whatever its requests hold", compare=False)
    counts: Counts = field(default_factory=Counts, compare=False, repr=False)
    _memory: OrderedDict[str, Reply] = field(default_factory=OrderedDict, compare=False, repr=False, init=False)

    def __post_init__(self) -> None:
        remember_secrets(self.body)
        _check(self)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_memory": OrderedDict()}

    def recipients(self, key: str) -> list[Recipient]:
        """This server as one that data are sent to, named by its `key`; empty where it is this machine."""
        if is_loopback(self.base_url):
            return []
        return [Recipient(key=key, who=f"{self.who} {self.model}", where=self.base_url, what=self.sends)]

    def key(self) -> str | None:
        """The API key; raises `RecipeError` when its variable is named and not set."""
        if self.api_key_env is None:
            return None
        key = os.environ.get(self.api_key_env, "").strip()
        if not key:
            raise RecipeError(f"environment variable {self.api_key_env} is not set; export the endpoint's key there")
        remember_secret(key)
        if not re.fullmatch(r"[!-~]+", key):
            raise RecipeError(f"the key in {self.api_key_env} holds spaces or characters that no HTTP header may hold")
        return key

    def ask(
        self, conversations: Sequence[Messages], *, max_tokens: int, temperature: float = 0.0
    ) -> list[Reply | EndpointError]:
        """One reply or error per conversation, in order; equal requests are sent once.

        After `concurrency` failed requests in a row (at least three), the endpoint counts as down, and the rest of the
        call fails without being sent.
        """
        requests = [self._request(messages, max_tokens, temperature) for messages in conversations]
        keys = [request_digest(self._url, request) for request in requests]
        found: dict[str, Reply | EndpointError] = {}
        wanted: dict[str, dict[str, Any]] = {}
        for key, request in zip(keys, requests, strict=True):
            if key not in found and key not in wanted:
                reply = self._recall(key)
                if reply is None:
                    wanted[key] = request
                else:
                    found[key] = reply
        new = self._send(wanted) if wanted else {}
        for key, answer in new.items():
            if isinstance(answer, Reply) and answer.text.strip():
                self._keep(key, wanted[key], answer)
        self._count(keys, new)
        return _in_order(keys, {**found, **new})

    def _request(self, messages: Messages, max_tokens: int, temperature: float) -> dict[str, Any]:
        limit = {} if "max_completion_tokens" in self.body else {"max_tokens": max_tokens}
        own = {"model": self.model, "messages": [dict(message) for message in messages], "temperature": temperature}
        return {**own, **limit, **self.body}

    def _send(self, wanted: Mapping[str, dict[str, Any]]) -> dict[str, Reply | EndpointError]:
        """Send each request, `concurrency` at a time. If the server is another machine, a line says so first."""
        announce_recipients(self.recipients("base_url"))
        key = self.key()
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        breaker, deadline = _Breaker(limit=max(3, self.concurrency)), Deadline()
        pool = ThreadPoolExecutor(min(self.concurrency, len(wanted)), thread_name_prefix="medrft-endpoint")
        with httpx.Client(
            headers=headers,
            timeout=self.timeout,
            limits=httpx.Limits(max_connections=self.concurrency),
            verify=_tls(),
            trust_env=not is_loopback(self.base_url),  # no proxy can reach this machine's own
        ) as http:
            keep_deadline(http, deadline)
            try:
                jobs = [pool.submit(self._attempts, http, request, breaker, deadline) for request in wanted.values()]
                answers = [job.result() for job in jobs]
            finally:
                breaker.stopped.set()
                pool.shutdown(cancel_futures=True)
        self.counts.sent += breaker.sent
        return dict(zip(wanted, answers, strict=True))

    def _attempts(
        self, http: httpx.Client, request: Mapping[str, Any], breaker: _Breaker, deadline: Deadline
    ) -> Reply | EndpointError:
        """One request with its retries."""
        content = json.dumps(request, allow_nan=False).encode()
        for attempt in range(self.retries + 1):
            if breaker.open:
                return EndpointError(f"not asked: {self.base_url} is down")
            breaker.count()
            try:
                reply = post_once(http, self._url, content, seconds=self.timeout, deadline=deadline)
            except FailedError as failed:
                wait = wait_before_retry(attempt, failed.retry_after, backoff=self.backoff)
                if not failed.again or attempt == self.retries or wait > self.max_wait:
                    breaker.note(down=failed.down)
                    return EndpointError(describe_failure(failed, attempt, wait if wait > self.max_wait else None))
                breaker.stopped.wait(wait)
            else:
                breaker.note(down=False)
                return reply
        raise AssertionError("unreachable: the last attempt returns")

    @property
    def _url(self) -> str:
        return self.base_url.rstrip("/").removesuffix("/chat/completions") + "/chat/completions"

    def _recall(self, key: str) -> Reply | None:
        """A reply from memory or disk."""
        if key in self._memory:
            self._memory.move_to_end(key)
            return self._memory[key]
        reply = read_cache(Path(self.cache_dir).expanduser(), key) if self.cache_dir else None
        if reply is not None:
            reply = replace(reply, text=mask_known(reply.text))  # an older cache may hold a key that a server repeated
            self._remember(key, reply)
        return reply

    def _keep(self, key: str, request: Mapping[str, Any], reply: Reply) -> None:
        stored = replace(reply, cached=True)
        self._remember(key, stored)
        if self.cache_dir:
            try:
                write_cache(Path(self.cache_dir).expanduser(), key, request, stored)
            except OSError as error:  # the reply was paid for and is good; only its copy is lost
                warnings.warn(f"no cache of replies at {self.cache_dir}: {error}", stacklevel=2)

    def _remember(self, key: str, reply: Reply) -> None:
        self._memory[key] = reply
        if len(self._memory) > REMEMBERED:
            self._memory.popitem(last=False)

    def _count(self, keys: Sequence[str], new: Mapping[str, Reply | EndpointError]) -> None:
        counts = self.counts
        paid = [answer for answer in new.values() if isinstance(answer, Reply)]
        failed = sum(isinstance(new.get(key), EndpointError) for key in keys)
        counts.requests += len(keys)
        counts.failed += failed
        counts.cached += len(keys) - failed - len(paid)
        for reply in paid:
            counts.uncounted += reply.prompt_tokens is None or reply.completion_tokens is None
            counts.prompt_tokens += reply.prompt_tokens or 0
            counts.completion_tokens += reply.completion_tokens or 0
        if self.price_in is not None or self.price_out is not None:
            total = counts.prompt_tokens * (self.price_in or 0) + counts.completion_tokens * (self.price_out or 0)
            counts.cost = total / 1e6


def _in_order(keys: Sequence[str], answers: dict[str, Reply | EndpointError]) -> list[Reply | EndpointError]:
    """The answers in the order of the keys. Of several equal requests only the first paid; the others are `cached`."""
    ordered = []
    for key in keys:
        answer = answers[key]
        ordered.append(answer)
        if isinstance(answer, Reply):
            answers[key] = replace(answer, cached=True)
    return ordered


def _check(endpoint: Endpoint) -> None:
    """Raise `RecipeError` for options that cannot work, before anything is sent."""
    if not endpoint.model:
        raise RecipeError("an endpoint needs a model: the name the server knows it by")
    _check_url(endpoint.base_url)
    # The value may be a key pasted by mistake: it is not repeated.
    if endpoint.api_key_env is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", endpoint.api_key_env):
        raise RecipeError("api_key_env is the name of an environment variable, such as OPENAI_API_KEY, never the key")
    limits = {"concurrency": 1, "retries": 0, "backoff": 0.0, "max_wait": 0.0, "timeout": 1e-3}
    for name, low in limits.items():
        value = getattr(endpoint, name)
        wanted = int if isinstance(low, int) else int | float
        if not isinstance(value, wanted) or isinstance(value, bool) or not low <= value < 1e6:
            raise RecipeError(
                f"{name} must be a{' whole' * isinstance(low, int)} number of {low} or more, got {value!r}"
            )
    contradicting = sorted(OWN_KEYS & set(endpoint.body))
    if contradicting:
        raise RecipeError(f"body may not hold {contradicting[0]!r}: it is set by the caller; remove it")
    try:
        json.dumps(endpoint.body, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise RecipeError(f"body must hold what JSON can: {error}") from error


def _check_url(base_url: str) -> None:
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL as error:
        raise RecipeError(f"base_url is not a URL ({error}); write http://localhost:8000/v1") from error
    if url.userinfo or url.query:
        raise RecipeError("base_url may hold no user, password or query; name the key's variable in api_key_env")
    if url.scheme not in ("http", "https") or not url.host:
        raise RecipeError(
            f"base_url must begin with http:// or https://, got {base_url!r}; try http://localhost:8000/v1"
        )


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    """The certificates, read once, because reading them takes longer than a request."""
    return httpx.create_ssl_context()


class _Breaker:
    """Opens once `limit` requests in a row found the endpoint down; shared by the threads of one call."""

    def __init__(self, limit: int) -> None:
        self.limit, self.sent, self._row, self._lock = limit, 0, 0, threading.Lock()
        self.stopped = threading.Event()

    @property
    def open(self) -> bool:
        return self._row >= self.limit or self.stopped.is_set()

    def count(self) -> None:
        with self._lock:
            self.sent += 1

    def note(self, *, down: bool) -> None:
        with self._lock:
            self._row = self._row + 1 if down else 0
