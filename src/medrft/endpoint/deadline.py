"""One deadline for a whole HTTP attempt: name, connection, TLS, request, headers and body together.

httpx starts its time-out again with each piece that arrives, so a server that sends a header byte now and then can hold
a request for hours. Here each wait on a socket lasts only for the time that is left of the attempt.
"""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Iterable
from typing import Any

import httpcore
import httpx

PIECE = 16_384
"""Bytes handed to the socket at a time, so that the deadline is also checked while a slow server reads."""


class Deadline(threading.local):
    """When the attempt of this thread must be over, in seconds of the monotonic clock."""

    end = float("inf")

    def start(self, seconds: float) -> None:
        """Begin an attempt that may take so many seconds."""
        self.end = time.monotonic() + seconds

    def left(self, kind: type[Exception]) -> float:
        """Seconds that are left; raises `kind` when there are none."""
        left = self.end - time.monotonic()
        if left <= 0:
            raise kind("the attempt's time is over")
        return left


def keep_deadline(http: httpx.Client, deadline: Deadline) -> None:
    """Make every connection of a client, also through proxies, end at the deadline of the thread that uses it."""
    # Private names, because httpx has no argument for the network backend of its pools.
    for transport in (http._transport, *http._mounts.values()):
        if isinstance(transport, httpx.HTTPTransport):
            pool: Any = transport._pool
            pool._network_backend = _Backend(pool._network_backend, deadline)


class _Backend(httpcore.NetworkBackend):
    """Connections that keep the deadline."""

    def __init__(self, backend: httpcore.NetworkBackend, deadline: Deadline) -> None:
        self._backend, self._deadline = backend, deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first address that answers; the time that is left is for all of them together."""
        options = list(socket_options or ())
        failed: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in _addresses(host, port, self._deadline.left(httpcore.ConnectTimeout)):
            left = self._deadline.left(httpcore.ConnectTimeout)
            try:
                stream = self._backend.connect_tcp(address, port, left, local_address, options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
            else:
                return _Stream(stream, self._deadline)
        raise failed


class _Stream(httpcore.NetworkStream):
    """A connection whose every wait ends with the attempt."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: Deadline) -> None:
        self._stream, self._deadline = stream, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """What has arrived, or arrives in the time that is left."""
        return self._stream.read(max_bytes, self._deadline.left(httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of it in the time that is left."""
        for start in range(0, len(buffer), PIECE):
            self._stream.write(buffer[start : start + PIECE], self._deadline.left(httpcore.WriteTimeout))

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """Encrypt the connection in the time that is left."""
        left = self._deadline.left(httpcore.ConnectTimeout)
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, left), self._deadline)

    def close(self) -> None:
        """Close the connection."""
        self._stream.close()

    def get_extra_info(self, info: str) -> Any:
        """Passed on to the connection itself."""
        return self._stream.get_extra_info(info)


def _addresses(host: str, port: int, seconds: float) -> list[str]:
    """The addresses of a name. A thread waits for the system's resolver, which has no time-out of its own."""
    found: queue.SimpleQueue[list[str] | OSError | UnicodeError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            found.put(error)
        else:
            found.put(list(dict.fromkeys(str(row[4][0]) for row in rows)))

    threading.Thread(target=ask, daemon=True, name="medrft-resolver").start()
    try:
        answer = found.get(timeout=seconds)
    except queue.Empty as error:
        raise httpcore.ConnectTimeout(f"{host} was not resolved in time") from error
    if isinstance(answer, Exception):
        raise httpcore.ConnectError(str(answer)) from answer
    return answer
