"""`medrft serve`: a reward over HTTP, with one calibration state for many workers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from medrft.errors import RecipeError, unknown_name

RewardName = Annotated[
    str, typer.Argument(metavar="REWARD", help="A preset, or a YAML file with a reward or a recipe.")
]
State = Annotated[
    Path | None, typer.Option(metavar="STATE.json", help="The calibrations' state; with --update, where it is kept.")
]
Update = Annotated[bool, typer.Option("--update", help="Learn from each request that is a batch, in order of arrival.")]
Host = Annotated[str, typer.Option(help="The address to bind to; any but this machine's own needs a token.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free; it is printed.")]
TokenEnv = Annotated[
    str | None, typer.Option("--token-env", metavar="NAME", help="Environment variable of the token [MEDRFT_TOKEN].")
]
Unscored = Annotated[float | None, typer.Option(help="The number to give for a row without a score, instead of null.")]
FormName = Annotated[str, typer.Option("--form", help="Answer form where a request names none: think, direct, short.")]
EncoderName = Annotated[str | None, typer.Option("--encoder", help="Encoder of bertscore and cosine: id or folder.")]
LogRows = Annotated[
    Path | None, typer.Option("--log-rows", metavar="FILE.jsonl", help="Write each row, texts included, to a file.")
]


def serve(
    reward: RewardName,
    state: State = None,
    update: Update = False,
    host: Host = "127.0.0.1",
    port: Port = 8421,
    token_env: TokenEnv = None,
    unscored: Unscored = None,
    form: FormName = "think",
    encoder: EncoderName = None,
    log_rows: LogRows = None,
) -> None:
    """Serve a reward to trainers over HTTP: POST /score, OpenRLHF's /get_reward, GET /health and /state.

    Calibrations that learn need --state from `medrft score --fit`, or --update. Ctrl-C or SIGTERM: what waits is
    answered, and the state is saved. medrft.integrations.client is a client, one file to copy.
    """
    from medrft.rewards.rows import FORMS

    known = {name: name for name in FORMS}
    if form not in known:
        raise unknown_name("form", form, FORMS)
    if unscored is not None and not math.isfinite(unscored):
        raise RecipeError(f"--unscored is a finite number, got {unscored}")
    from medrft.integrations.serve.server import Serving, run_server

    run_server(
        Serving(
            reward=reward,
            state=state,
            update=update,
            host=host,
            port=port,
            token_env=token_env,
            unscored=unscored,
            form=known[form],
            encoder=encoder,
            log_rows=log_rows,
        )
    )
