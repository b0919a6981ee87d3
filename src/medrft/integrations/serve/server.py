"""Runs the server: binds, says where, serves until SIGTERM or Ctrl-C, answers what waits, saves the state."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path

from medrft.errors import DataError, RecipeError
from medrft.files import check_writable, tell_user
from medrft.integrations.foreign import ForeignReward
from medrft.integrations.serve.app import RewardServer
from medrft.integrations.serve.reading import Limits
from medrft.integrations.serve.remember import Ledger, Remembered
from medrft.listening import bound_socket, http_address, only_here, serve_app
from medrft.masking import remember_secret
from medrft.rewards.state import load_document
from medrft.rundir import read_json
from medrft.types import Form

TOKEN = "MEDRFT_TOKEN"
"""The environment variable that holds the token if none is named."""
AT_RANDOM = "openssl rand -hex 32 prints a good one"
CONNECTIONS = 1000
"""Connections at a time; one more is answered with 503."""


@dataclass(frozen=True, kw_only=True)
class Serving:
    """What `medrft serve` is told."""

    reward: str
    state: Path | None = None
    update: bool = False
    unscored: float | None = None
    form: Form = "think"
    encoder: str | None = None
    host: str = "127.0.0.1"
    port: int = 8421
    token_env: str | None = None
    log_rows: Path | None = None


def run_server(asked: Serving) -> None:
    """Serve until a signal ends it. Raises `RecipeError` or `DataError` before that for what could not work."""
    token = find_token(asked.host, asked.token_env)
    if asked.log_rows is not None:
        check_writable(asked.log_rows)
        asked.log_rows.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(asked.log_rows, os.O_CREAT | os.O_APPEND, 0o600))
    held, remembered = open_reward(asked)
    # They quote what a scorer of the user's raised, which may hold a model's text. /health has the counts.
    warnings.filterwarnings("ignore", message=".* unscored: ", category=UserWarning)
    with bound_socket(asked.host, asked.port) as listening:
        place = http_address(asked.host, listening.getsockname()[1])
        server = RewardServer(
            held,
            form=asked.form,
            token=token,
            remembered=remembered,
            state=asked.state,
            log_rows=asked.log_rows,
            on_start=lambda: tell_user(f"serving {held.named.name} at {place}{_told(asked, token)}"),
        )
        serve_app(server.app, listening, connections=CONNECTIONS, timeout_keep_alive=60)
    counts = server.worker.counts
    tell_user(f"stopped after {counts.rows} rows in {counts.requests} requests")
    if remembered.ledger is not None:
        remembered.ledger.close()
    if server.worker.dead:
        raise RuntimeError("the thread that scores has ended")


def open_reward(asked: Serving) -> tuple[ForeignReward, Remembered]:
    """The reward with its state, and the answers that a server before this one gave."""
    limit = Limits().remembered_rows
    if not asked.update:
        held = ForeignReward(asked.reward, state=asked.state, unscored=asked.unscored, encoder=asked.encoder)
        return held, Remembered(rows=limit)
    held = ForeignReward(asked.reward, update=True, unscored=asked.unscored, encoder=asked.encoder)
    if not held.reward.stateful:
        raise RecipeError(f"{asked.reward} has no calibration that learns; leave --update out")
    if asked.state is None:
        raise RecipeError("--update needs --state FILE: the file in which the state is kept, made if it is not there")
    check_writable(asked.state)
    ledger = Ledger(asked.state.with_name(f"{asked.state.name}.served"))
    learnt = ledger.learnt
    if learnt is not None:
        _check_own(asked.state, ledger)
        load_document(held.reward, learnt.document, asked.state)
    elif asked.state.exists():
        held.load_state(asked.state)
    return held, Remembered(rows=limit, ledger=ledger)


def _check_own(state: Path, ledger: Ledger) -> None:
    """Raise `DataError` if the state's file is not the one that goes with the ledger: it would be passed over."""
    document = read_json(state) if state.exists() else {"served": ledger.name}
    if not isinstance(document, dict) or document.get("served") != ledger.name:
        raise DataError(
            f"{state} was put beside {ledger.path}, which holds what a server has learnt; to go on from that, move "
            f"{state} away; to begin anew with {state}, remove {ledger.path}"
        )


def find_token(host: str, variable: str | None) -> str | None:
    """The token from the environment; raises `RecipeError` if there is none and other machines could connect."""
    token = os.environ.get(variable or TOKEN, "").strip()
    if token:
        remember_secret(token)
        if len(token) < 16 or not token.isascii() or not token.isprintable() or " " in token:
            raise RecipeError(
                f"{variable or TOKEN}: a token has 16 characters or more, letters and digits; {AT_RANDOM}"
            )
        return token
    if variable is not None:
        raise RecipeError(f"--token-env {variable}: it is not set; {AT_RANDOM}")
    if not only_here(host):
        raise RecipeError(
            f"--host {host} lets other machines in, so a token is needed: set {TOKEN}, here and for the clients "
            f"({AT_RANDOM}); or stay on 127.0.0.1"
        )
    return None


def _told(asked: Serving, token: str | None) -> str:
    parts = ["learning" if asked.update else None, "with a token" if token else None]
    if not only_here(asked.host):
        parts.append("unencrypted: texts and the token can be read on the way, so put TLS or a tunnel before it")
    if asked.log_rows:
        parts.append(f"texts are written to {asked.log_rows}")
    return "".join(f"; {part}" for part in parts if part)
