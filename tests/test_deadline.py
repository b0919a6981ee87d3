"""An attempt ends at its deadline, whatever a server does: sockets of loopback that keep no manners."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
from contextlib import contextmanager, suppress

import httpcore
import pytest

from loopback import Answer, Loopback, say
from medrft.endpoint import Endpoint, Reply, deadline
from medrft.errors import EndpointError

TIMEOUT = 0.4
HEAD = b"HTTP/1.1 200 OK\r\n"


@contextmanager
def server(serve):
    """A server of one function, called with each connection in a thread of its own; yields its address."""
    closing = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def talk(connection):
        with connection, suppress(OSError):  # the client left, as it should
            serve(connection, closing)

    def accept():
        while not closing.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=talk, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        closing.set()
        listener.close()


def dripping(text, *, pause=0.02):
    """Bytes one by one, for longer than any test."""

    def serve(connection, closing):
        for byte in text * 1_000:
            connection.sendall(bytes((byte,)))
            if closing.wait(pause):
                return

    return serve


def flooding(head, piece):
    """As much as the client takes."""

    def serve(connection, closing):
        connection.recv(65_536)
        connection.sendall(head)
        while not closing.is_set():
            connection.sendall(piece)

    return serve


def silent(connection, closing):
    closing.wait(20)


def one_answer_left_open(connection, closing):
    connection.recv(65_536)
    connection.sendall(HEAD + b"\r\n" + b'{"choices": [')  # no length: the body ends when the connection does
    closing.wait(20)


@pytest.mark.parametrize(
    ("serve", "scheme", "size", "told"),
    [
        (dripping(HEAD + b"X-Slow: y\r\n"), "http", 10, "time-out"),
        (dripping(b"HTTP/1.1 100 Continue\r\n\r\n"), "http", 10, "time-out"),
        (flooding(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), "http", 10, "time-out"),
        (dripping(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\n \r\n"), "http", 10, "time-out"),
        (one_answer_left_open, "http", 10, "time-out"),
        (silent, "http", 10, "time-out"),
        (silent, "http", 30_000_000, "time-out"),  # a picture that the server never reads
        (silent, "https", 10, "time-out"),
        (dripping(b"\x16\x03\x03\x40\x00" + b"\x00" * 99), "https", 10, ""),
        (flooding(HEAD, b"X: " + b"y" * 1000 + b"\r\n"), "http", 10, "lost connection"),
        (flooding(HEAD + b"\r\n", b" " * 65_536), "http", 10, "malformed reply: over"),
        (flooding(HEAD + b"Content-Length: 1000000000000\r\n\r\n", b" " * 65_536), "http", 10, "malformed reply: over"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_no_server_holds_a_request_beyond_its_deadline(serve, scheme, size, told):
    with server(serve) as address:
        endpoint = Endpoint(model="toy", base_url=f"{scheme}://{address}/v1", timeout=TIMEOUT, retries=1, backoff=0.0)
        start = time.monotonic()
        [error] = endpoint.ask([[{"role": "user", "content": "x" * size}]], max_tokens=8)
        took = time.monotonic() - start
    assert isinstance(error, EndpointError) and told in str(error)
    assert took < 2 * TIMEOUT + 2.5  # two attempts, and a busy machine


def test_a_name_that_is_never_resolved_is_given_up(monkeypatch):
    stuck = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: stuck.wait(20) and [])
    start = time.monotonic()
    with pytest.raises(httpcore.ConnectTimeout, match="not resolved in time"):
        deadline._addresses("nowhere.example", 443, 0.2)
    assert time.monotonic() - start < 5
    stuck.set()


def test_every_address_of_a_name_is_tried(monkeypatch):
    with Loopback(lambda request, n: say("YES")) as there:
        port = there.http.server_port
        found = [(socket.AF_INET6, 1, 6, "", ("::1", port)), (socket.AF_INET, 1, 6, "", ("127.0.0.1", port))]
        real = socket.getaddrinfo

        def resolve(host, *rest, **more):
            return found if host == "localhost" else real(host, *rest, **more)

        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        endpoint = Endpoint(model="toy", base_url=f"http://localhost:{port}/v1", retries=0)
        assert endpoint.ask([[{"role": "user", "content": "a"}]], max_tokens=8)[0].text == "YES"


WHOLE = say("YES").body


@pytest.mark.parametrize(
    ("body", "encoding", "told"),
    [
        (gzip.compress(WHOLE), "gzip", "YES"),
        (gzip.compress(b" " * 60_000_000, 1), "gzip", "malformed reply: over"),
        (WHOLE, "gzip", "compression is broken"),
        (WHOLE, "zstd", "Content-Encoding zstd"),
        (WHOLE, "identity", "YES"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_bodies_that_were_compressed_unasked(body, encoding, told):
    with Loopback(lambda request, n: Answer(body=body, headers={"Content-Encoding": encoding})) as there:
        endpoint = Endpoint(model="toy", base_url=there.url, retries=0)
        [answer] = endpoint.ask([[{"role": "user", "content": "a"}]], max_tokens=8)
    assert there.seen[0].headers["accept-encoding"] == "identity"
    assert told in (answer.text if isinstance(answer, Reply) else str(answer))


@pytest.mark.parametrize("shape", ["reply", "finish", "body", "status", "cut"])
def test_a_key_that_a_server_repeats_reaches_nothing(shape, tmp_path, monkeypatch, recwarn):
    from medrft.scorers import build_scorer
    from medrft.types import Item

    key = "Tf9-kkQ2x7pLmW4"
    monkeypatch.setenv("TOY_KEY", key)
    answers = {
        "reply": say(f"Your key is {key}, and a half \ud800"),
        "finish": say("YES?", finish=key),
        "body": Answer(body=json.dumps({"detail": f"x {key}"}).encode()),
        "status": Answer(401, f"no such key: {key}".encode()),
        "cut": Answer(401, b"x" * 152 + key.encode()),
    }
    with Loopback(lambda request, n: answers[shape]) as there:
        judge = build_scorer("judge", model="m", base_url=there.url, api_key_env="TOY_KEY", cache_dir=str(tmp_path))
        scores, why = judge.scored([Item(references=("effusion",), kind="open", answer="fluid in the pleura")])
    assert scores == [None]
    written = "".join(path.read_text() for path in tmp_path.rglob("*.json"))
    told = " ".join([written, *why.values(), *(str(warning.message) for warning in recwarn)])
    assert key not in told and key[:6] not in told
    assert all(path.stat().st_mode & 0o077 == 0 for path in tmp_path.rglob("*.json"))
