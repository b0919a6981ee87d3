"""Pushing a finished model to the hub, by TRL's own keys in the stage's `trl:` table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medrft.config import StageConfig
from medrft.masking import MASK


def hub_target(config: StageConfig, *, default: str) -> dict[str, Any] | None:
    """Where to push, or `None` when the table does not ask for it; a token that no file kept is the environment's.

    >>> stage = StageConfig(name="grpo", kind="grpo", trl={"push_to_hub": True, "hub_model_id": "me/vqa"})
    >>> hub_target(stage, default="run-grpo")
    {'repo_id': 'me/vqa', 'private': None, 'token': None, 'revision': None}
    """
    table = config.trl
    if not table.get("push_to_hub"):
        return None
    return {
        "repo_id": table.get("hub_model_id") or default,
        "private": table.get("hub_private_repo"),
        "token": None if table.get("hub_token") == MASK else table.get("hub_token"),
        "revision": table.get("hub_revision"),
    }


def publish(final: Path, config: StageConfig) -> str | None:
    """Upload the final folder, card included, where `push_to_hub` asks for it; returns the repository's address."""
    target = hub_target(config, default=f"medrft-{config.name}")
    if target is None:
        return None
    from huggingface_hub import HfApi

    api = HfApi(token=target["token"])
    repo = api.create_repo(target["repo_id"], private=target["private"], exist_ok=True)
    api.upload_folder(
        repo_id=repo.repo_id,
        folder_path=final,
        revision=target["revision"],
        commit_message=f"medrft stage {config.name}",
    )
    return str(repo)
