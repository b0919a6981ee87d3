"""Runs the rollout viewer: binds to this machine, says where, serves until Ctrl-C or SIGTERM."""

from __future__ import annotations

import secrets
from pathlib import Path

from medrft.files import tell_user
from medrft.listening import bound_socket, http_address, serve_app
from medrft.report.rollout_groups import Asked
from medrft.view.app import RolloutViewer

HOST = "127.0.0.1"
CONNECTIONS = 100
"""Connections at a time; one more is answered with 503."""


def run_viewer(run: Path, *, port: int, where: str = "") -> None:
    """Serve the run's rollouts until a signal ends it; `where` is the condition of the address that is printed.

    Raises `StorageError` for a port that is taken.
    """
    key = secrets.token_urlsafe(16)
    viewer = RolloutViewer(run, key=key)
    with bound_socket(HOST, port) as listening:
        place = f"{http_address(HOST, listening.getsockname()[1])}/{key}/"
        query = Asked(where=where).query()
        tell_user(f"rollouts of {run} at {place}{f'?{query}' if query else ''} (Ctrl-C ends it)")
        serve_app(viewer.app, listening, connections=CONNECTIONS)
