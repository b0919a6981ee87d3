"""Saved models: a policy goes in, a folder that plain transformers loads comes out, such as `stages/sft/final`.

`files.json` in that folder lists the size and sha256 of each file, so that `find_damage` can tell later what a full
disk, a copy cut short or a person has changed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medrft.errors import DataError, StorageError
from medrft.files import find_flaw, list_files, scratch_folder, tell_user, write_atomic
from medrft.models.policy import Policy
from medrft.rundir import read_json

FILES = "files.json"
"""Sizes and hashes of a saved model's files, in its folder."""
TEXTS = (".json", ".jinja", ".txt")
"""Endings of a saved model's files that people edit."""


def save_final(policy: Policy, folder: Path) -> Path:
    """Write merged weights, processor, chat template and generation config: a folder that transformers loads.

    LoRA adapters are merged into the weights first. Files that were there before, such as a model card, are kept.
    """
    model = policy.model
    if hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()
    save_model(model, policy.processor, folder)
    return folder


def save_model(model: Any, processor: Any, folder: Path) -> None:
    """Write a model and its processor into `folder`.

    They are written into a folder beside it first, so that a killed save never leaves half a model behind.
    """
    from safetensors import SafetensorError

    with scratch_folder(folder) as temporary:
        try:
            with without_bars():
                model.save_pretrained(temporary)
                processor.save_pretrained(temporary)
        except SafetensorError as error:  # it does not pass on the system's error number
            raise StorageError(f"cannot write {folder}: {error}; free space there, then go on with --resume") from error
        list_model(temporary)
        folder.mkdir(exist_ok=True)
        names = sorted(os.listdir(temporary), key=lambda name: name == "config.json")
        # config.json goes last: a new folder that holds one holds a whole model (RunDir.is_finished).
        for name in names:
            os.replace(temporary / name, folder / name)


def list_model(folder: Path) -> None:
    """List the files of a saved model with their sizes and hashes, except its card, which may be written again."""
    write_atomic(folder / FILES, json.dumps(list_files(folder, without=(FILES, "README.md")), indent=2) + "\n")


def find_damage(folder: Path, *, content: bool = False) -> str | None:
    """What is wrong with a saved model: a file is missing, cut short or, with `content`, has other bytes.

    `None` for a whole model, and for a folder without a list of files. People edit configurations and templates: one
    that differs but can be read is told to the user, and is no damage.
    """
    if not (folder / FILES).is_file():
        return None
    try:
        listed: dict[str, Any] = read_json(folder / FILES)
        texts = {name: facts for name, facts in listed.items() if Path(name).suffix in TEXTS}
        rest = {name: facts for name, facts in listed.items() if name not in texts}
        return find_flaw(folder, rest, content=content) or _find_broken_text(folder, texts)
    except (DataError, AttributeError, KeyError, TypeError):
        return f"{FILES} is not the list of files that was written"


def _find_broken_text(folder: Path, listed: dict[str, Any]) -> str | None:
    for name, facts in listed.items():
        flaw = find_flaw(folder, {name: facts}, content=True)
        if flaw is None:
            continue
        if not (folder / name).is_file() or not (folder / name).stat().st_size:
            return flaw
        if name.endswith(".json"):
            try:
                read_json(folder / name)
            except DataError:
                return flaw
        tell_user(f"{folder / name} is not as it was written; it is taken as edited")
    return None


@contextmanager
def without_bars() -> Iterator[None]:
    """Inside, transformers shows no progress bar: saving and loading take a moment. Downloads keep theirs."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
