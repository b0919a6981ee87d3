"""An OpenAI-compatible server on loopback whose answers a test writes: real HTTP, no network."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any


@dataclass
class Answer:
    """One HTTP answer; `how` is whole, hang (never answers), drop (closes the connection) or drip (byte by byte)."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    how: str = "whole"


def say(text: str | None, *, finish: str = "stop", usage: Any = (10, 2)) -> Answer:
    """A chat completion; `usage` is (prompt tokens, completion tokens) or what to send in its place."""
    if isinstance(usage, tuple):
        usage = {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return Answer(body=json.dumps({"object": "chat.completion", "choices": [choice], "usage": usage}).encode())


@dataclass
class Seen:
    """One request as it came in."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def text(self) -> str:
        """All that was said to the model."""
        return "\n".join(message["content"] for message in self.body["messages"])


class Loopback:
    """`with Loopback(lambda request, number: say("YES")) as server:`; number counts the requests from 0."""

    def __init__(self, answer: Callable[[Seen, int], Answer], *, port: int = 0) -> None:
        self.answer, self.seen, self.lock = answer, [], threading.Lock()
        self.running = self.most = 0
        self.closing = threading.Event()
        self.http = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"

    def __enter__(self) -> Loopback:
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.closing.set()
        self.http.shutdown()
        self.http.server_close()

    def _handler(server) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *args: Any) -> None:
                pass

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with server.lock:
                    number = len(server.seen)
                    server.seen.append(Seen(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                    server.running += 1
                    server.most = max(server.most, server.running)
                try:
                    self.send(server.answer(server.seen[number], number))
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True  # the client did not wait, as it should
                finally:
                    with server.lock:
                        server.running -= 1

            def send(self, answer: Answer) -> None:
                if answer.how == "hang":
                    server.closing.wait(30)
                if answer.how in ("hang", "drop"):
                    self.close_connection = True
                    return
                self.send_response(answer.status)
                for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if answer.how == "drip":
                    for byte in answer.body:
                        self.wfile.write(bytes((byte,)))
                        self.wfile.flush()
                        if server.closing.wait(0.02):
                            break
                    self.close_connection = True
                else:
                    self.wfile.write(answer.body)

        return Handler
