"""Bookkeeping of groups in a generation batch: which rows are of one group, and each group's images once.

`group_numbers(4, size=2, process=0)` is `[0, 0, 1, 1]`: TRL's `RepeatSampler` puts the G rows of a prompt side by
side. A row's group is known by its place alone. Comparing the prompts or pictures themselves would not do: each row is
decoded anew and copied on the way, so that equal ones are different objects.
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
"""The batch's own column: the number of each row's group, (B,)."""


def group_numbers(rows: int, *, size: int, process: int) -> list[int]:
    """The group of each of a process's rows; a group may begin on one process and end on the next.

    >>> group_numbers(4, size=2, process=0), group_numbers(3, size=2, process=1)
    ([0, 0, 1, 1], [1, 2, 2])
    """
    return [(process * rows + row) // size for row in range(rows)]


def group_leaders(groups: Sequence[int]) -> tuple[list[int], list[int]]:
    """The first row of each group, and for each row the place of its group among them.

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
    """Groups cut into parts of at most `most` rows, numbered anew.

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
    """Groups as packed rows hold them: cut where one row for a whole group would waste more than it saves.

    `prompt` and `completion` are lengths in tokens. Training and the plan of its memory (`planning.trace`) both ask
    here, so that the plan counts the rows that training computes.
    """
    size = max(Counter(groups).values())
    most = branches_per_row(model, prompt=prompt, completion=completion, size=size)
    return list(groups) if most >= size else divide_groups(groups, most)


def take_rows(fields: Mapping[str, Any], rows: Sequence[int]) -> dict[str, Any]:
    """Multimodal inputs of some rows, in that order, repeated where asked; `num_images` among them counts each row's.

    Whatever a family's layout is (per row, per image, per tile, patches of all images in one tensor), each row gets
    its own.
    """
    taken = {key: pick_rows(value, rows) for key, value in by_row(fields).items() if value is not None}
    return {key: torch.cat(value) if _in_parts(value) else value for key, value in taken.items()}


def by_row(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Multimodal inputs with one entry per row: what is kept per image or tile becomes a list of a tensor per row.

    `num_images`, `num_tiles` and grids say how to cut, by TRL's rules; without `num_images` all is per row already.
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
    """How many tiles each row has (`num_tiles`) and each image (`num_patches`), where pixels are kept per tile.

    `images` are each row's; `fields` what the processor made of them. Asked of the image processor as TRL does, since
    the processor drops it. Empty for families that keep pixels per image, per row, or by a grid.
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
    """Rows of a tensor or list; a number stays."""
    if isinstance(value, torch.Tensor):
        return value if value.ndim == 0 else value[torch.as_tensor(rows, device=value.device)]
    return [value[row] for row in rows]


def micro_batches(batch: dict[str, Any], steps: int) -> list[dict[str, Any]]:
    """A generation batch as `steps` batches of an update, groups shuffled but whole, each image held once.

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
    """A list of tensors, one per row, in which rows of a group share one tensor of their own."""
    if not _in_parts(value):
        return value
    kept: dict[int, torch.Tensor] = {}
    return [
        kept[group] if group in kept else kept.setdefault(group, row.clone())
        for row, group in zip(value, groups, strict=True)
    ]


def as_tensors(fields: Mapping[str, Any], *, pad: Any) -> dict[str, torch.Tensor]:
    """What a processor returned without `return_tensors`, as tensors; lists of a token's values are padded on the left.

    `pad` is TRL's padding function. The rule is that of TRL's own generation.
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
    """What sharing is lost when an update's `rows` do not hold whole groups of `size`, and values that keep the batch.

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
    """Rows cut between groups into parts of at most `most` rows where a group allows it.

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
