"""The routes of the rollout viewer, all under a key drawn at its start: the page, its style, pictures, whole texts.

    GET /KEY/?show=hacked&where=reward>0.5   the page
    GET /KEY/style.css · /KEY/image/SHA256 · /KEY/text?group_id=…&sample=3

Rollouts hold patients' pictures and what a model wrote. So a request is answered only if it has the key, names this
machine as its host (a page elsewhere whose name was pointed here does not) and comes from no other site's page. No
answer may run a script, load anything from elsewhere, or be put into a frame.
"""

from __future__ import annotations

import hmac
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from medrft.errors import UserError
from medrft.evaluation.run_files import read_thumbnail
from medrft.listening import names_this_machine
from medrft.report.rollout_groups import Asked, Found, Tally, find_groups, has_rollouts, read_completion, read_tally
from medrft.report.rollout_page import rollout_page, rollout_style

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
TEXTS = ("show", "order", "stage", "split", "kind", "where")
LONGEST_TEXT = 2000
"""Most characters of a condition or name in an address."""


class RolloutViewer:
    """One run behind HTTP; `app` is an ASGI application. Queries run one at a time, each within its own limit."""

    def __init__(self, run: Path, *, key: str) -> None:
        self.run, self.key = run, key
        self._one = threading.Lock()
        routes = [
            Route("/{key}/", self._guarded(self.page)),
            Route("/{key}/style.css", self._guarded(self.style)),
            Route("/{key}/image/{sha256}", self._guarded(self.image)),
            Route("/{key}/text", self._guarded(self.text)),
        ]
        self.app = Starlette(routes=routes, exception_handlers={HTTPException: _refuse})

    def page(self, request: Request) -> Response:
        """Groups, the form, and curves; a condition that DuckDB refuses is told on the page."""
        asked, live = _asked(request), request.query_params.get("live") == "1"
        with self._one:
            found, tally, error = self._read(asked)
            text = rollout_page(self.run, asked, tally, found, live=live, error=error)
        return _answer(text.encode(), "text/html; charset=utf-8", status=400 if error else 200)

    def _read(self, asked: Asked) -> tuple[Found | None, Tally | None, str]:
        """The groups and the tally, and why there are none."""
        if not has_rollouts(self.run):
            return None, None, ""
        try:
            found = find_groups(self.run, asked)
            return found, found.tally, ""
        except UserError as refused:
            error = str(refused)
        try:
            return None, read_tally(self.run), error
        except UserError as damaged:
            return None, None, str(damaged)

    def style(self, request: Request) -> Response:
        """The pages' style sheet."""
        return _answer(rollout_style().encode(), "text/css; charset=utf-8")

    def image(self, request: Request) -> Response:
        """A thumbnail from the run's folder."""
        png = read_thumbnail(self.run / "images", request.path_params["sha256"])
        if png is None:
            raise HTTPException(404, "the run keeps no such picture")
        return _answer(png, "image/png")

    def text(self, request: Request) -> Response:
        """One completion to its end, as plain text."""
        sample = request.query_params.get("sample", "")
        if not sample.isdecimal() or len(sample) > 9:
            raise HTTPException(400, f"sample is a number, got {sample[:20]!r}")
        with self._one:
            try:
                found = read_completion(self.run, request.query_params.get("group_id", ""), int(sample))
            except UserError as refused:
                raise HTTPException(400, str(refused)) from refused
        if found is None:
            raise HTTPException(404, "the run has no such rollout")
        return _answer(found.encode("utf-8", "replace"), "text/plain; charset=utf-8")

    def _guarded(self, route: Callable[[Request], Response]) -> Callable[[Request], Response]:
        def answer(request: Request) -> Response:
            if not names_this_machine(request.headers.get("host", "")):
                raise HTTPException(403, "this viewer answers at 127.0.0.1 or localhost only")
            if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
                raise HTTPException(403, "another site's page asked for this; open the address in a tab of its own")
            if not hmac.compare_digest(request.path_params["key"].encode(), self.key.encode()):
                raise HTTPException(404, "the address needs the key that `medrft rollouts --browse` printed")
            return route(request)

        return answer


def _asked(request: Request) -> Asked:
    given = request.query_params
    texts = {name: given.get(name, "").strip()[:LONGEST_TEXT] for name in TEXTS}
    page = given.get("page", "1")
    number = int(page) if page.isdecimal() and len(page) < 9 else 1
    return replace(Asked(), page=max(number, 1), **{name: text for name, text in texts.items() if text})


def _answer(body: bytes, kind: str, *, status: int = 200) -> Response:
    return Response(body, status_code=status, headers=HEADERS, media_type=kind)


def _refuse(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    said = error.detail if isinstance(error, HTTPException) else "this failed"
    return PlainTextResponse(f"{said}\n", status_code=status, headers=HEADERS)
