"""The routes: /score, /get_reward (OpenRLHF's), /health and /state. All answers are JSON, `{"error": …}` if refused."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from medrft import __version__
from medrft.integrations.foreign import ForeignReward
from medrft.integrations.serve.reading import Limits, Refused, RemoteRequest, ScoreRequest, read_remote, read_score
from medrft.integrations.serve.remember import Remembered
from medrft.integrations.serve.worker import Job, Worker
from medrft.listening import names_this_machine
from medrft.types import Form

READ_S = 60.0
"""Seconds in which a request's body must have come."""


class RewardServer:
    """One reward behind HTTP; `app` is an ASGI application, for one process and one event loop."""

    def __init__(
        self,
        held: ForeignReward,
        *,
        form: Form = "think",
        token: str | None = None,
        remembered: Remembered | None = None,
        limits: Limits | None = None,
        state: Path | None = None,
        log_rows: Path | None = None,
        on_start: Callable[[], None] = lambda: None,
    ) -> None:
        """`form` is that of requests which name none. Without a `token` only this machine's own callers are served.

        With a ledger in `remembered` the state is written to the file `state`; every row to `log_rows`, if given.
        """
        self.held, self.form, self.token, self.limits = held, form, token, limits or Limits()
        self.remembered = remembered or Remembered(rows=self.limits.remembered_rows)
        self.worker = Worker(
            held,
            deliver=self._deliver,
            remembered=self.remembered,
            limits=self.limits,
            state=state,
            log_rows=log_rows,
        )
        self.refused: Counter[int] = Counter()
        """Requests that were refused, by status."""
        self.repeated = 0
        """Requests that were answered with what was remembered, or that joined one that still waited."""
        self._bytes = 0
        self._pending: dict[str, Job] = {}
        self._began = time.monotonic()
        self._on_start = on_start
        routes = [
            Route("/score", self._guarded(self.score), methods=["POST"]),
            Route("/get_reward", self._guarded(self.get_reward), methods=["POST"]),
            Route("/health", self._guarded(self.health)),
            Route("/state", self._guarded(self.state)),
        ]
        self.app = Starlette(routes=routes, lifespan=self._lifespan, exception_handlers={HTTPException: _not_there})

    @asynccontextmanager
    async def _lifespan(self, _: Any) -> AsyncIterator[None]:
        self._loop = asyncio.get_running_loop()
        self.worker.start()
        self._on_start()
        yield
        await asyncio.to_thread(self.worker.stop)

    # ---- routes

    async def score(self, request: Request) -> bytes:
        """The rewards of a batch of rows."""
        return await self._answered(request, lambda body: read_score(body, form=self.form, limits=self.limits))

    async def get_reward(self, request: Request) -> bytes:
        """The rewards of OpenRLHF's queries, each scored by itself."""
        if self.held.update or self.held.reward.needs_groups:
            raise Refused(
                400,
                "OpenRLHF sends one row a request, and this server's reward learns from batches or compares within "
                "groups; start it without --update, with a fitted --state",
            )
        return await self._answered(request, lambda body: read_remote(body, form=self.form, limits=self.limits))

    async def health(self, request: Request) -> bytes:
        """What waits, and counts since the start; `learnt` counts since the state began."""
        worker = self.worker
        if worker.dead:
            raise Refused(500, "the thread that scores has ended; the server's log says why")
        facts = {
            "status": "ok",
            "medrft": __version__,
            "reward": self.held.named.name,
            "seconds": round(time.monotonic() - self._began, 1),
            "waiting": {"rows": worker.rows, "bytes": self._bytes},
            "counts": {
                **asdict(worker.counts),
                "repeated": self.repeated,
                "refused": {str(status): n for status, n in sorted(self.refused.items())},
            },
            "learnt": {"batches": worker.learnt.batches, "rows": worker.learnt.rows} if self.held.update else None,
        }
        return json.dumps(facts).encode()

    async def state(self, request: Request) -> bytes:
        """The calibrations' state after the last answered batch, as a file for `--state`."""
        return json.dumps(self.worker.learnt.document).encode()

    # ---- how a request is answered

    def _guarded(self, route: Callable[[Request], Any]) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            try:
                self._check_caller(request)
                return Response(await route(request), media_type="application/json")
            except Refused as refused:
                self.refused[refused.status] += 1
                after = {} if refused.retry_after is None else {"Retry-After": str(refused.retry_after)}
                # What is left of a body that nobody reads would be taken for the next request.
                after |= {"Connection": "close"} if refused.status in (401, 403, 408, 413, 429) else {}
                return _json(refused.body, refused.status, after)
            except ClientDisconnect:
                return Response(status_code=499)

        return answer

    def _check_caller(self, request: Request) -> None:
        if self.token is not None:
            given = _token_in(request.headers.get("authorization", ""))
            if not hmac.compare_digest(given.encode(), self.token.encode()):
                raise Refused(401, "this server asks for its token: `Authorization: Bearer TOKEN`")
            return
        # A page in a browser on this machine can send requests here, under its own host's name or with its origin.
        if "origin" in request.headers or not names_this_machine(request.headers.get("host", "")):
            raise Refused(403, "without a token only programs on this machine are served, at 127.0.0.1 or localhost")

    async def _answered(self, request: Request, read: Callable[[bytes], ScoreRequest | RemoteRequest]) -> bytes:
        held = 0
        try:
            body = bytearray()
            try:
                async with asyncio.timeout(READ_S):
                    async for chunk in request.stream():
                        held += len(chunk)
                        self._bytes += len(chunk)
                        self._check_size(held)
                        body += chunk
            except TimeoutError as error:
                raise Refused(408, f"the body did not come within {READ_S:.0f} seconds") from error
            wanted = read(bytes(body))
            return await self._scored(wanted, hashlib.blake2b(body, digest_size=16).hexdigest())
        finally:
            self._bytes -= held

    def _check_size(self, held: int) -> None:
        if held > self.limits.body_bytes:
            raise Refused(413, f"a request's body has up to {self.limits.body_bytes} bytes; send several")
        if self._bytes > self.limits.queue_bytes:
            raise Refused(429, "the requests that wait are too large together", retry_after=self.worker.wait_s())

    async def _scored(self, wanted: ScoreRequest | RemoteRequest, digest: str) -> bytes:
        job = self._known(wanted, digest)
        if isinstance(job, bytes):
            return job
        if job is None:
            self._check_learning(wanted)
            job = Job(wanted, digest, waiting=self._loop.create_future())
            self.worker.offer(job)
            if wanted.id is not None:
                self._pending[wanted.id] = job
        # Shielded: where the one who asked first has gone, another may wait for the same answer.
        await asyncio.shield(job.waiting)
        if isinstance(job.result, Refused):
            raise job.result
        assert job.result is not None
        return job.result

    def _known(self, wanted: ScoreRequest | RemoteRequest, digest: str) -> bytes | Job | None:
        """The answer to a request that has come before, or its job if it still waits."""
        if wanted.id is None:
            return None
        found = self._pending.get(wanted.id) or self.remembered.find(wanted.id)
        if found is None:
            return None
        if found.digest != digest:
            raise Refused(409, "another request had this `id`; give each request its own, and the same only to a retry")
        self.repeated += 1
        return found if isinstance(found, Job) else found.body

    def _check_learning(self, wanted: ScoreRequest | RemoteRequest) -> None:
        if not (self.held.update and wanted.learns):
            return
        if wanted.id is None:
            raise Refused(400, 'this server learns, so a request needs an `id`, or "learns": false')
        if len(wanted.rows) == 1:
            raise Refused(
                400,
                "this server learns from batches, and one row is none: send a whole batch in a request, or "
                '"learns": false, or start the server without --update, with a fitted --state',
            )

    def _deliver(self, jobs: Sequence[Job]) -> None:
        """From the scoring thread to the event loop."""

        def wake() -> None:
            for job in jobs:
                if job.request.id is not None:
                    self._pending.pop(job.request.id, None)
                if not job.waiting.done():
                    job.waiting.set_result(None)

        self._loop.call_soon_threadsafe(wake)


def _token_in(header: str) -> str:
    """The token of a header: `Bearer TOKEN`, or `Basic` with it as the password, as in http://user:TOKEN@host."""
    scheme, _, given = header.partition(" ")
    if scheme.lower() != "basic":
        return given.strip() if scheme.lower() == "bearer" else ""
    try:
        return base64.b64decode(given).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _json(table: dict[str, Any], status: int, headers: dict[str, str]) -> Response:
    return Response(json.dumps(table), status_code=status, headers=headers, media_type="application/json")


async def _not_there(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return _json(
        {"error": "there are POST /score, POST /get_reward, GET /health and GET /state"},
        status,
        {"Connection": "close"},
    )
