"""`medrft serve` beside a trainer's own code."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from contract import Case
from medrft.integrations import ForeignReward
from medrft.integrations.serve.app import RewardServer
from medrft.listening import bound_socket


@contextmanager
def serving(case: Case, token: str | None = None) -> Iterator[tuple[str, RewardServer]]:
    """The server in a thread; its address, with the token in it where there is one, and the server itself."""
    server = RewardServer(ForeignReward(case.reward, **case.settings), token=token)
    with bound_socket("127.0.0.1", 0) as listening:
        running = uvicorn.Server(uvicorn.Config(server.app, log_config=None, access_log=False))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not running.started:
                time.sleep(0.01)
            yield f"http://{f'any:{token}@' if token else ''}127.0.0.1:{listening.getsockname()[1]}", server
        finally:
            running.should_exit = True
            thread.join()
