"""One attempt at a request over HTTP: a body goes in, a `Reply` comes out, or else a `FailedError` is raised."""

from __future__ import annotations

import json
import re
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from medrft.endpoint.deadline import Deadline
from medrft.masking import mask_known, mask_text

RETRIED = frozenset((408, 425, 429, 500, 502, 503, 504, 529))
MAX_BYTES = 4 * 1024 * 1024
"""A longer body is no chat completion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The model's answer to one request."""

    text: str
    finish: str | None = None
    """Why it stopped; `length` means at the token limit."""
    prompt_tokens: int | None = None
    """As the server counted; `None` when it did not say."""
    completion_tokens: int | None = None
    cached: bool = False
    """It cost nothing: it came from memory or disk, or an equal request of the same call paid for it."""


class FailedError(Exception):
    """One attempt that brought no reply.

    `again`: a further attempt may succeed. `down`: the server itself seems to fail, not this request alone.
    `retry_after`: the header of that name, unparsed.
    """

    def __init__(self, what: str, *, again: bool, down: bool = True, retry_after: str | None = None) -> None:
        super().__init__(what)
        self.again, self.down, self.retry_after = again, down, retry_after


HEADERS = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
"""A compressed body could be a thousand times as long as it is on the wire."""


def post_once(http: httpx.Client, url: str, content: bytes, *, seconds: float, deadline: Deadline) -> Reply:
    """One attempt, which ends after `seconds` whatever the server does (see `deadline`); raises `FailedError`."""
    deadline.start(seconds)
    received = bytearray()
    try:
        with http.stream("POST", url, content=content, headers=HEADERS) as response:
            # Not iter_bytes, which unpacks a compressed body before its size can be checked.
            for piece in response.iter_raw():
                received += piece
                if len(received) > MAX_BYTES:
                    raise FailedError(f"malformed reply: over {MAX_BYTES} bytes", again=False)
        received = _unpacked(received, response.headers.get("Content-Encoding", "identity"))
    except httpx.TimeoutException as error:
        raise FailedError(f"time-out after {seconds:g} s", again=True) from error
    except httpx.ConnectError as error:
        raise FailedError(f"cannot connect to {url}: {error}", again=True) from error
    except (httpx.RequestError, httpx.StreamError) as error:
        raise FailedError(f"lost connection: {type(error).__name__}", again=True) from error
    if response.status_code != 200:
        status = response.status_code
        raise FailedError(
            f"HTTP {status}: {_excerpt(received)}",
            again=status in RETRIED,
            down=status not in (400, 413, 422),  # those are about this request alone
            retry_after=response.headers.get("Retry-After"),
        )
    return _parse(bytes(received))


def _unpacked(body: bytearray, encoding: str) -> bytearray:
    """The body of a server that compresses unasked; raises `FailedError` for one that grows beyond the limit."""
    if encoding.strip().lower() in ("", "identity"):
        return body
    if encoding.strip().lower() not in ("gzip", "x-gzip", "deflate"):
        raise FailedError(f"malformed reply: Content-Encoding {encoding[:20]}, which was not asked for", again=False)
    reader = zlib.decompressobj(wbits=47)  # gzip or zlib, by its own header
    try:
        plain = reader.decompress(bytes(body), MAX_BYTES + 1)
    except zlib.error as error:
        raise FailedError("malformed reply: its compression is broken", again=False, down=False) from error
    if len(plain) > MAX_BYTES:
        raise FailedError(f"malformed reply: over {MAX_BYTES} bytes", again=False)
    return bytearray(plain)


def _parse(body: bytes) -> Reply:
    """The reply in a response's body; raises `FailedError` for any other shape than a chat completion's."""
    try:
        data = json.loads(body)
        choice = data["choices"][0]
        text = choice["message"]["content"]
        usage = data.get("usage") or {}
        usage = {name: usage.get(name) for name in ("prompt_tokens", "completion_tokens")}
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise FailedError(f"malformed reply: {_excerpt(body)}", again=False, down=False) from error
    if text is not None and not isinstance(text, str):
        raise FailedError("malformed reply: content is not text", again=False, down=False)
    finish = choice.get("finish_reason")
    prompt, completion = (n if type(n) is int and n >= 0 else None for n in usage.values())
    # A server may send halves of a character (lone surrogates), which no file can hold, and repeat our key.
    text = mask_known((text or "").encode("utf-8", "replace").decode())
    finish = mask_known(finish)[:40] if isinstance(finish, str) else None
    return Reply(text=text, finish=finish, prompt_tokens=prompt, completion_tokens=completion)


def _excerpt(body: bytes | bytearray) -> str:
    """The beginning of a body as one printable line."""
    text = mask_text(bytes(body[:8_000]).decode("utf-8", "replace"))  # masked before it is cut, so that no half is left
    return " ".join("".join(c if c.isprintable() else " " for c in text[:1_000]).split()) or "empty body"


def describe_failure(failed: FailedError, attempt: int, wait: float | None) -> str:
    """A failure in one line. Secrets are masked, because a server may repeat our key in its error."""
    tries = f" ({attempt + 1} attempts)" if attempt else ""
    asked = f"; it asks to wait {wait:g} s" if wait is not None else ""
    return f"{mask_text(str(failed))[:160]}{tries}{asked}"


def wait_before_retry(attempt: int, retry_after: str | None, *, backoff: float, now: datetime | None = None) -> float:
    """Seconds to wait after attempt number `attempt` (from 0): exponential, or what `Retry-After` asks if longer.

    >>> [wait_before_retry(n, None, backoff=0.5) for n in range(3)], wait_before_retry(0, "7", backoff=0.5)
    ([0.5, 1.0, 2.0], 7.0)
    >>> wait_before_retry(0, "Sat, 01 Jan 2028 00:00:10 GMT", backoff=0.5, now=datetime(2028, 1, 1, tzinfo=UTC))
    10.0
    >>> wait_before_retry(0, "soon", backoff=0.5), wait_before_retry(0, "-1", backoff=0.5)
    (0.5, 0.5)
    """
    asked = 0.0
    if retry_after and re.fullmatch(r"[0-9]{1,9}(?:\.[0-9]+)?", retry_after.strip()):
        asked = float(retry_after)
    elif retry_after:
        try:
            then = parsedate_to_datetime(retry_after)
        except ValueError:
            then = None
        # A date that ends in "-0000" comes back without a zone, and cannot be subtracted from one that has it.
        if then is not None and then.tzinfo is not None:
            asked = (then - (now or datetime.now(UTC))).total_seconds()
    return max(backoff * 2.0**attempt, asked)
