"""What a model looks like without its weights: a model id goes in, its configuration comes out.

It comes from a folder, the hub, or `shapes.json`, which holds the public architecture of common models so that a run
can be planned without the hub. `published` there is the parameter count on a model's page, in thousand millions.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrft.errors import ModelError
from medrft.models.bundled import find_bundled
from medrft.torchvision_ops import declare_missing_operators

if TYPE_CHECKING:
    import torch

    from medrft.config import ModelConfig


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A model's configuration and where it was found."""

    config: Any
    source: str
    """`folder`, `hub` or `shipped`."""
    published: float | None = None
    """Parameters that the model's page names, if its architecture is shipped here."""


@cache
def shipped_shapes() -> dict[str, dict[str, Any]]:
    """The shipped architectures by hub id; several ids (`also`) may share one."""
    found = json.loads(files("medrft.models").joinpath("shapes.json").read_text(encoding="utf-8"))
    return {name: entry for first, entry in found.items() for name in (first, *entry.get("also", ()))}


def model_shape(model: ModelConfig) -> Shape:
    """The shape of a recipe's model; raises `ModelError` if neither a folder, `shapes.json` nor the hub has it."""
    declare_missing_operators()
    from transformers import AutoConfig

    shipped = shipped_shapes()
    if model.id in shipped and not Path(model.id).is_dir():
        entry = shipped[model.id]
        # A deep copy: the entries are cached, and a configuration may keep and change the tables it is given.
        config = AutoConfig.for_model(**json.loads(json.dumps(entry["config"])))
        return Shape(config=config, source="shipped", published=entry["published"] * 1e9)
    source = find_bundled(model.id)
    try:
        config = AutoConfig.from_pretrained(
            source, revision=model.revision, trust_remote_code=model.trust_remote_code, local_files_only=False
        )
    except (OSError, ValueError) as error:
        raise ModelError(
            f"no shape of {model.id} to plan with: {' '.join(str(error).split())[:160]}; pass --set "
            f"model.id=FOLDER of a copy, or one of {', '.join(sorted(shipped))}"
        ) from error
    return Shape(config=config, source="folder" if Path(source).is_dir() else "hub")


def picture_inputs(config: Any, pixels: int) -> tuple[dict[str, torch.Tensor], int]:
    """The multimodal inputs of one square picture of `pixels` pixels, and how many image tokens it takes.

    Known for the families in `shapes.json`. Raises `ModelError` for others, of which only their processor knows.
    """
    import torch

    vision, side = config.vision_config, math.isqrt(pixels)
    kind = str(config.model_type)
    if kind in ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5", "glm4v"):
        patch, merge = vision.patch_size, vision.spatial_merge_size
        count = max(1, round(side / (patch * merge))) * merge
        values = torch.zeros(count * count, 3 * vision.temporal_patch_size * patch * patch)
        return {"pixel_values": values, "image_grid_thw": torch.tensor([[1, count, count]])}, (count // merge) ** 2
    size = vision.image_size if isinstance(vision.image_size, int) else vision.image_size[0]
    values = torch.zeros(1, 3, size, size)
    if kind == "internvl":
        return {"pixel_values": values}, config.image_seq_length
    if kind == "gemma3":
        return {"pixel_values": values}, config.mm_tokens_per_image
    if kind == "llava":
        return {"pixel_values": values}, (size // vision.patch_size) ** 2
    raise ModelError(f"how many tokens a picture takes in {kind} models only their processor knows; plan with a folder")
