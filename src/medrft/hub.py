"""Finds out whether the Hugging Face hub answers. It is asked once, so that a silent hub costs seconds and one line.

On its own, huggingface_hub asks for each file six times, waits ten seconds each time and up to eight in between, and a
model has a dozen files. If the hub does not answer, it is switched off for this process, as HF_HUB_OFFLINE=1 does: what
is in its cache is used, and everything else fails at once.
"""

from __future__ import annotations

import queue
import threading
from functools import cache
from pathlib import Path
from typing import Any

SECONDS = 6.0
"""How long the hub may take to answer, including the look-up of its name."""


def hub_silence(source: str) -> str | None:
    """Why `source` must come from the hub's cache; `None` if it is a path on this machine or the hub answers.

    Call it before a library loads `source`, because it switches off a hub that does not answer.
    """
    from huggingface_hub import constants

    if Path(source).expanduser().exists():
        return None
    if (why := _unreachable(constants.ENDPOINT)) is not None:
        return f"the hub is unreachable ({why})"
    return "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else None


def why_unreachable(source: str) -> str | None:
    """What to do if the hub cannot be asked and nothing of a model is in its cache; else `None`.

    It imports no library that takes seconds.
    """
    from huggingface_hub import constants

    if (silence := hub_silence(source)) is None:
        return None
    kept = Path(constants.HF_HUB_CACHE) / f"models--{source.replace('/', '--')}"
    return None if kept.is_dir() else without_hub(silence, source)


def without_hub(silence: str, source: str) -> str:
    """The sentence that says what to do if the hub cannot be asked and `source` is not in its cache."""
    return (
        f"{silence}, and {source} is not whole in its cache: check the name and the network (HTTPS_PROXY for a proxy, "
        "HF_ENDPOINT for a mirror), or fetch it elsewhere (hf download NAME --local-dir FOLDER) and give the folder"
    )


@cache
def _unreachable(endpoint: str) -> str | None:
    """Why the hub does not answer; `None` if it does, or if HF_HUB_OFFLINE forbids asking."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return None
    answers: queue.Queue[str | None] = queue.Queue()
    # In a thread of its own: looking a name up takes as long as the system likes, and cannot be stopped.
    threading.Thread(target=lambda: answers.put(_asked(endpoint)), daemon=True).start()
    try:
        why = answers.get(timeout=SECONDS + 1)
    except queue.Empty:
        why = f"{endpoint} did not answer in {SECONDS:g} s"
    if why is not None:
        constants.HF_HUB_OFFLINE = True
    return why


def _asked(endpoint: str) -> str | None:
    from huggingface_hub import get_session
    from huggingface_hub.utils import _http

    client: Any = getattr(_http, "httpx2", None) or getattr(_http, "httpx")  # noqa: B009  whichever it is built on
    try:
        status = get_session().head(endpoint, timeout=SECONDS).status_code
    except (client.HTTPError, client.InvalidURL, OSError, ValueError) as error:
        return f"{endpoint}: {' '.join(str(error).split())[:100] or type(error).__name__}"
    return f"{endpoint} answers {status}" if status >= 500 else None
