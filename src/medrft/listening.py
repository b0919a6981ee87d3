"""What our servers share: a bound socket, a calm stop, and the check that a request was meant for this machine."""

from __future__ import annotations

import ipaddress
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from medrft.errors import StorageError
from medrft.outgoing import is_loopback


def only_here(host: str) -> bool:
    """Whether nobody but this machine can reach a server that binds to `host`.

    >>> [only_here(host) for host in ("127.0.0.1", "localhost", "::1", "0.0.0.0", "::", "", "10.0.0.5", "example.org")]
    [True, True, True, False, False, False, False, False]
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def names_this_machine(host: str) -> bool:
    """Whether a `Host` header names this machine's own address; that of a page from elsewhere names its own server.

    >>> [names_this_machine(host) for host in ("127.0.0.1:8421", "localhost", "[::1]:80", "evil.example:8421", "", "[")]
    [True, True, True, False, False, False]
    """
    try:
        return is_loopback(f"http://{host}")
    except ValueError:  # no address at all, such as "["
        return False


@contextmanager
def bound_socket(host: str, port: int) -> Iterator[socket.socket]:
    """A listening socket, so that a port in use is told at once and port 0 is known; raises `StorageError`."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        found = socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise StorageError(
            f"cannot listen at {http_address(host, port)}: {error.strerror or error}; name another port with --port, "
            "or 0 for any that is free"
        ) from error
    with found:
        yield found


def http_address(host: str, port: int) -> str:
    """The address of a server.

    >>> http_address("::1", 80)
    'http://[::1]:80'
    """
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def serve_app(app: Any, listening: socket.socket, *, connections: int, **settings: Any) -> None:
    """Serve an ASGI app on a bound socket until SIGINT or SIGTERM, without a log of its requests.

    `connections` at a time; one more is answered with 503. `settings` are further ones of `uvicorn.Config`.
    """
    import uvicorn

    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=connections,
        **settings,
    )
    with _calm_signals():
        uvicorn.Server(config).run(sockets=[listening])


@contextmanager
def _calm_signals() -> Iterator[None]:
    """uvicorn stops on a signal and then raises it again; here that does nothing, so that a stop ends with status 0."""
    before = {number: signal.signal(number, _ignore) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ignore(number: int, frame: Any) -> None:
    """The signal has done its work."""
