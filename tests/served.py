"""A reward server for tests: in a thread of this process, or as `medrft serve` in a process of its own."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from medrft.integrations import ForeignReward
from medrft.integrations.client import RewardClient
from medrft.integrations.serve.app import RewardServer
from medrft.listening import bound_socket


@contextmanager
def serving(held: ForeignReward, **settings: Any) -> Iterator[tuple[RewardClient, RewardServer]]:
    """A server on a free port, and a client of it that gives up soon."""
    server = RewardServer(held, **settings)
    with bound_socket("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        running = uvicorn.Server(uvicorn.Config(server.app, log_config=None, access_log=False))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
        thread.start()
        while not running.started:
            time.sleep(0.005)
        try:
            yield (
                RewardClient(f"http://127.0.0.1:{port}", token=settings.get("token"), patience=5, timeout=30),
                server,
            )
        finally:
            running.should_exit = True
            thread.join()


def ask(client: RewardClient, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, Any]:
    """One request as it is: status, JSON and headers. Bytes are sent as they are, all else as JSON."""
    host = client.place.split("://")[1]
    connection = http.client.HTTPConnection(host, timeout=30)
    sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    connection.request(method, path, body=sent, headers=headers)
    answer = connection.getresponse()
    found = answer.status, json.loads(answer.read()), answer.headers
    connection.close()
    return found


class Served:
    """`medrft serve` in a process of its own; `port` stays the same when it is started again."""

    def __init__(self, *words: str, env: dict[str, str] | None = None) -> None:
        self.words, self.port, self.env = words, 0, {**os.environ, **(env or {})}
        self.lines: list[str] = []
        self.start()

    def start(self) -> None:
        """Start it, and wait until it serves."""
        command = [sys.executable, "-m", "medrft", "serve", *self.words, "--port", str(self.port)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=self.env)
        for line in self.process.stderr or ():
            self.lines.append(line)
            if found := re.search(r"serving .* at (http://[\w.]+:(\d+))", line):
                self.url, self.port = found[1], int(found[2])
                break
        else:
            raise AssertionError("".join(self.lines))
        # So that a full pipe never stops the server.
        self._reader = threading.Thread(target=lambda: self.lines.extend(self.process.stderr or ()))
        self._reader.start()

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; returns the exit status."""
        self.process.send_signal(number)
        status = self.process.wait(60)
        self._reader.join()
        if self.process.stderr is not None:
            self.process.stderr.close()
        return status

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.end(signal.SIGKILL)
