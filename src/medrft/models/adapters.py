"""LoRA adapters as start models: an adapter's folder or hub id goes in, its base with the adapter merged comes out.

It is merged because all that follows takes whole models. GRPO loads its reference model from a folder, vLLM and the
final folder hold plain weights, and `model.lora` adds a new adapter on top of what was learned before.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrft.errors import ModelError
from medrft.hub import hub_silence, why_unreachable

if TYPE_CHECKING:
    import torch

CONFIG = "adapter_config.json"
PROCESSOR = ("processor_config.json", "preprocessor_config.json")


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter and what it was trained on."""

    source: str
    """Folder or hub id."""
    base: str
    """Folder or hub id of the model that the adapter was trained on."""
    revision: str | None
    """Revision of the base."""
    own_processor: bool
    """Whether the adapter's folder holds a processor, whose chat template may differ from the base's."""

    @property
    def processor(self) -> str:
        """Where the processor lies."""
        return self.source if self.own_processor else self.base


def find_adapter(source: str, *, revision: str | None = None) -> Adapter | None:
    """The adapter at a folder or hub id; `None` if there is a whole model, or nothing.

    Raises `ModelError` for an adapter that does not name its base, or whose base cannot be found.
    """
    path = _file(source, CONFIG, revision)
    if path is None or _file(source, "config.json", revision) is not None:
        return None
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {path}: {error}; save the adapter again with save_pretrained") from error
    base = told.get("base_model_name_or_path") if isinstance(told, dict) else None
    if not base:
        raise ModelError(f"the adapter {source} names no base; set base_model_name_or_path in its {CONFIG}")
    # peft writes down the base as it was named in training. A relative path is tried from the adapter's folder first,
    # in case the two were moved together: another folder of that name may lie in the current one.
    beside = path.parent / base
    place = str(beside.resolve()) if beside.is_dir() and not Path(base).is_absolute() else str(base)
    if place.startswith(("/", ".", "~")) and not Path(place).expanduser().is_dir():
        raise ModelError(
            f"the adapter {source} was trained on {base}, and no such folder is here; set base_model_name_or_path in "
            f"its {CONFIG} to where that model lies"
        )
    if (away := why_unreachable(place)) is not None:
        raise ModelError(f"cannot load the base {place} of the adapter {source}: {away}")
    own = any(_file(source, name, revision) is not None for name in PROCESSOR)
    return Adapter(source, place, told.get("revision"), own)


def merge_adapter(model: Any, adapter: Adapter, *, dtype: torch.dtype) -> Any:
    """The base with the adapter's weights added, in `dtype`. The sum is taken in float32 and rounded once.

    `model` must be in float32. Raises `ModelError` for an adapter that fits another model or cannot be merged.
    """
    from peft import PeftModel
    from safetensors import SafetensorError

    try:
        adapted = PeftModel.from_pretrained(model, adapter.source)
        merged = adapted.merge_and_unload()
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        told = " ".join(str(error).split())[:240]
        raise ModelError(
            f"cannot merge the adapter {adapter.source} into its base {adapter.base}: {told}; an adapter must be of a "
            "kind that merges (LoRA and its like) and belong to that very model"
        ) from error
    return merged.to(dtype).requires_grad_(True)  # peft had frozen the base


def _file(source: str, name: str, revision: str | None) -> Path | None:
    """Path of a file in a folder or a hub repository; `None` if it has no such file or the hub cannot be reached."""
    if Path(source).is_dir():
        path = Path(source) / name
        return path if path.is_file() else None
    if Path(source).exists() or source.count("/") > 1 or source.startswith((".", "~", "/")):
        return None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    hub_silence(source)
    try:
        return Path(hf_hub_download(source, name, revision=revision))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError):
        return None
