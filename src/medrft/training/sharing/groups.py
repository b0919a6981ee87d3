"""Bookkeeping of groups in a generation batch: which rows belong to one group, and each group's images once.

`group_numbers(4, size=2, process=0)` is `[0, 0, 1, 1]`: TRL's `RepeatSampler` puts the G rows of a prompt side by
side, so that a row's place tells its group. The prompts or pictures do not: each row is decoded anew and copied on the
way, so that those of a group are different objects.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from trl.trainer.utils import split_pixel_values_by_grid, split_tensor_dict

from medrft.models.prefix import branches_per_row

GROUP = "group"
"""The column that we add to the batch: the number of each row's group, (B,)."""


def group_numbers(rows: int, *, size: int, process: int) -> list[int]:
    """The group's number for each row of a process; a group may begin on one process and end on the next.

    >>> group_numbers(4, size=2, process=0), group_numbers(3, size=2, process=1)
    ([0, 0, 1, 1], [1, 2, 2])
    """
    return [(process * rows + row) // size for row in range(rows)]


def group_leaders(groups: Sequence[int]) -> tuple[list[int], list[int]]:
    """The first row of each group, and for each row the place of its group in that list.

    >>> group_leaders([4, 4, 5, 5])
    ([0, 2], [0, 0, 1, 1])
    """
    first: dict[int, int] = {}
    for row, group in enumerate(groups):
        first.setdefault(group, row)
    place = {group: number for number, group in enumerate(first)}
    return list(first.values()), [place[group] for group in groups]


def group_members(groups: Sequence[int]) -> list[list[int]]:
    """The rows of each group, groups in the order in which they first appear.

    >>> group_members([7, 8, 7])
    [[0, 2], [1]]
    """
    found: dict[int, list[int]] = {}
    for row, group in enumerate(groups):
        found.setdefault(group, []).append(row)
    return list(found.values())


def divide_groups(groups: Sequence[int], most: int) -> list[int]:
    """The groups' numbers after cutting them into parts of at most `most` rows.

    >>> divide_groups([7, 7, 8, 7, 8], 2)
    [0, 0, 1, 2, 1]
    """
    seen: Counter[int] = Counter()
    parts = []
    for group in groups:
        parts.append((group, seen[group] // most))
        seen[group] += 1
    number = {part: place for place, part in enumerate(dict.fromkeys(parts))}
    return [number[part] for part in parts]


def cut_groups(model: Any, groups: Sequence[int], *, prompt: int, completion: int) -> list[int]:
    """The groups' numbers for packing: a group is cut if one row for all of it would waste more than it saves.

    `prompt` and `completion` are lengths in tokens. Training and the plan of its memory (`planning.trace`) both call
    this, so that the plan counts the rows that training computes.
    """
    size = max(Counter(groups).values())
    most = branches_per_row(model, prompt=prompt, completion=completion, size=size)
    return list(groups) if most >= size else divide_groups(groups, most)


def take_rows(fields: Mapping[str, Any], rows: Sequence[int]) -> dict[str, Any]:
    """Multimodal inputs of the given rows, in that order; a row may be asked for several times.

    Works for each family's layout: per row, per image, per tile, or patches of all images in one tensor. `num_images`
    in `fields` counts the images of each row.
    """
    taken = {key: pick_rows(value, rows) for key, value in by_row(fields).items() if value is not None}
    return {key: torch.cat(value) if _in_parts(value) else value for key, value in taken.items()}


def by_row(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Multimodal inputs with one entry per row: what is kept per image or tile becomes a list with a tensor per row.

    `num_images`, `num_tiles` and grids say how to cut, by TRL's rules. Without `num_images` all is per row already.
    """
    counts = fields.get("num_images")
    if counts is None or isinstance(fields.get("pixel_values"), list):
        return dict(fields)
    padded = "pixel_attention_mask" in fields and "spatial_shapes" not in fields  # per row, though TRL may count images
    cut = dict(fields) if padded else split_pixel_values_by_grid(dict(fields))
    return {key: list(value.split(counts)) if _per_image(value, counts) else value for key, value in cut.items()}


def _per_image(value: Any, counts: Sequence[int]) -> bool:
    """Whether a tensor has one entry per image rather than per row."""
    return isinstance(value, torch.Tensor) and value.ndim > 0 and len(value) == sum(counts) != len(counts)


def _in_parts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], torch.Tensor)


def tile_counts(processor: Any, images: Sequence[Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """How many tiles each row (`num_tiles`) and each image (`num_patches`) has, if pixels are kept per tile.

    `images` are those of each row, `fields` is what the processor made of them. The processor does not return the
    counts, so the image processor is asked, as in TRL. Empty for families that keep pixels per image, per row, or by a
    grid.
    """
    counts = [len(shown or []) for shown in images]
    pixels = fields.get("pixel_values")
    if not isinstance(pixels, torch.Tensor) or not sum(counts):
        return {}
    shown = [row or [] for row in images]
    if "spatial_shapes" in fields:
        found = processor.image_processor(images=shown, return_tensors="pt", return_row_col_info=True)
        each = found["image_rows"] * found["image_cols"]
        if processor.image_processor.use_thumbnail:
            each = each + (each > 1).to(each.dtype)
    elif pixels.ndim == 4 and len(pixels) != sum(counts) and "image_grid_thw" not in fields:
        each = processor.image_processor(images=shown, crop_to_patches=True, return_tensors="pt")["num_patches"]
    else:
        return {}
    parts = list(torch.as_tensor(each).flatten().split(counts))
    return {"num_tiles": [int(part.sum()) for part in parts], "num_patches": parts}


def pick_rows(value: Any, rows: Sequence[int]) -> Any:
    """The given rows of a tensor or list; a tensor with a single number stays as it is."""
    if isinstance(value, torch.Tensor):
        return value if value.ndim == 0 else value[torch.as_tensor(rows, device=value.device)]
    return [value[row] for row in rows]


def micro_batches(batch: dict[str, Any], steps: int) -> list[dict[str, Any]]:
    """Cut a generation batch into `steps` batches; groups are shuffled but stay whole, and each image is held once.

    Draws the order from torch's global generator, as TRL does for its order of rows.
    """
    blocks = group_members(batch[GROUP].tolist())
    order = [row for block in torch.randperm(len(blocks)).tolist() for row in blocks[block]]
    split = by_row(batch)
    shuffled = {key: pick_rows(value, order) for key, value in split.items() if value is not None}
    shuffled = {key: _once(value, shuffled[GROUP].tolist()) for key, value in shuffled.items()}
    found: list[dict[str, Any]] = split_tensor_dict(shuffled, steps)
    return found


def _once(value: Any, groups: Sequence[int]) -> Any:
    """A list of tensors per row in which the rows of a group share one tensor.

    It is a copy (`clone`): a slice would keep the whole batch's tensor in memory.
    """
    if not _in_parts(value):
        return value
    kept: dict[int, torch.Tensor] = {}
    return [
        kept[group] if group in kept else kept.setdefault(group, row.clone())
        for row, group in zip(value, groups, strict=True)
    ]


def as_tensors(fields: Mapping[str, Any], *, pad: Any) -> dict[str, torch.Tensor]:
    """What a processor returned without `return_tensors`, as tensors.

    Lists with a value per token are padded on the left, by `pad`, TRL's padding function. TRL's own generation has the
    same rule.
    """
    found = {}
    for key, value in fields.items():
        if isinstance(value, torch.Tensor):
            found[key] = value
        elif isinstance(value, list) and value and isinstance(value[0], list) and isinstance(value[0][0], int):
            found[key] = pad([torch.tensor(row) for row in value], padding_value=0, padding_side="left")
        else:
            found[key] = torch.tensor(np.array(value))
    return found


def lost_sharing(*, size: int, rows: int, steps: int) -> str | None:
    """What sharing is lost if an update's `rows` do not hold whole groups of `size`, and which values would keep it.

    `steps` is the number of such batches in an optimizer step (`gradient_accumulation_steps`).

    >>> lost_sharing(size=8, rows=16, steps=1) is None
    True
    >>> lost_sharing(size=4, rows=2, steps=2).partition("; ")[2]
    'per_device_train_batch_size 4 with gradient_accumulation_steps 1 keep the same batch'
    >>> lost_sharing(size=8, rows=2, steps=2).partition("; ")[2]
    'per_device_train_batch_size 4 with gradient_accumulation_steps 1 keep the same batch and compute it 2 times'
    """
    if rows % size == 0:
        return None
    total = rows * steps
    told = f"per_device_train_batch_size {rows} cuts groups of {size} completions, so a prompt is computed "
    told += f"{-(-size // rows)} times and not once" if rows < size else "again wherever its group is cut"
    whole = next((fit for fit in range(size, total + 1, size) if total % fit == 0), None)
    fit = whole or total
    if fit == rows:
        return f"{told}; a larger per_device_train_batch_size would share more, and change the global batch"
    values = f"per_device_train_batch_size {fit} with gradient_accumulation_steps {total // fit} keep the same batch"
    return f"{told}; {values}" if whole else f"{told}; {values} and compute it {-(-size // fit)} times"


def whole_chunks(numbers: Sequence[int], most: int) -> list[list[int]]:
    """The rows in parts of at most `most`, cut between groups only; a larger group is a part of its own.

    >>> whole_chunks([0, 0, 1, 1, 2, 2], 4)
    [[0, 1, 2, 3], [4, 5]]
    """
    parts: list[list[int]] = []
    for rows in group_members(numbers):
        if parts and len(parts[-1]) + len(rows) <= most:
            parts[-1] = parts[-1] + rows
        else:
            parts.append(rows)
    return parts
