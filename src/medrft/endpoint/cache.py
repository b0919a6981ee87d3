"""Replies on disk, one JSON file per request.

    {"request": {"model": "qwen3-8b", "messages": […], …}, "reply": {"text": "Yes.", "finish": "stop", …}}

A file is named by the digest of its request, as in `ab/ab12….json`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medrft.endpoint.attempt import Reply
from medrft.files import write_atomic
from medrft.masking import mask_secrets


def request_digest(url: str, request: Mapping[str, Any]) -> str:
    """The name of a request: sha256 over its URL and its whole content."""
    content = json.dumps([url, request], sort_keys=True, allow_nan=False)
    return hashlib.sha256(content.encode()).hexdigest()


def read_cache(folder: Path, key: str) -> Reply | None:
    """A stored reply; `None` without one. A damaged or foreign file counts as none: that costs one request."""
    try:
        stored = json.loads((folder / key[:2] / f"{key}.json").read_text(encoding="utf-8"))
        reply = Reply(**stored["reply"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return reply if isinstance(reply.text, str) else None


def write_cache(folder: Path, key: str, request: Mapping[str, Any], reply: Reply) -> None:
    """Store a reply, whole or not at all, readable by its owner only and without secrets; raises `OSError`."""
    path = folder / key[:2] / f"{key}.json"
    own = mask_secrets({name: value for name, value in request.items() if name != "messages"})
    kept = {"request": {**own, "messages": request.get("messages")}, "reply": asdict(reply)}
    write_atomic(path, json.dumps(kept), mode=0o600)
