"""Looks at each picture once where the vision tower is frozen: what it gave for a picture is kept for the next pass.

A frozen tower gives the same features in rollouts, for the old policy, the reference model and every update. It is
called with several pictures at a time, other ones in each pass, so features are kept picture by picture (of families
that cut pictures into tiles, tile by tile). They carry no gradient: what comes after the tower still learns.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from medrft.models.parts import part_of
from medrft.models.prefix import plain_model

LIMIT = 1 << 28
"""Bytes of features that are kept; beyond them, what was used longest ago is forgotten."""
GRID = "grid_thw"
"""The tower's argument that says how many patches of a flat tensor belong to each picture (Qwen-VL, GLM-V)."""


@dataclass
class PictureMemory:
    """What frozen vision towers gave for each picture."""

    limit: int = LIMIT
    size: int = 0
    """Bytes that are kept now."""
    looks: int = 0
    """Pictures (or tiles) that a tower has looked at."""
    recalled: int = 0
    """Pictures (or tiles) whose features were known."""
    held: OrderedDict[bytes, dict[str, Any]] = field(default_factory=OrderedDict)
    towers: list[Any] = field(default_factory=list)
    """One of each kind of tower: those with the same weights give the same."""

    def clear(self) -> None:
        """Forget all pictures."""
        self.held.clear()
        self.size = 0

    def attach(self, model: Any) -> None:
        """Let the model's vision tower remember, if it is frozen and gives the same each time."""
        tower = vision_tower(model)
        if tower is None or not is_fixed(tower) or "forward" in vars(tower):
            return
        kind = next((kind for kind, other in enumerate(self.towers) if _same(tower, other)), len(self.towers))
        self.towers += [tower] * (kind == len(self.towers))
        plain = tower.forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            return self._look(tower, kind, plain, args, kwargs)

        tower.forward = forward

    def _look(
        self, tower: Any, kind: int, plain: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """The tower's output, computed for the pictures that are not known yet."""
        import torch

        given = dict(kwargs) if not args else {**kwargs, "": args[0]}
        sizes = _sizes(given)
        if sizes is None or len(args) > 1 or not is_fixed(tower):
            return plain(*args, **kwargs)
        names = [_digest(tower, kind, _taken(given, sizes, [place])) for place in range(len(sizes))]
        new = [place for place, name in enumerate(names) if name not in self.held and name not in names[:place]]
        made: dict[bytes, dict[str, Any]] = {}
        if new:
            wanted = _taken(given, sizes, new)
            first = (wanted.pop(""),) if args else ()
            with torch.no_grad():
                found = plain(*first, **wanted)
            parts = _divided(found, [sizes[place] for place in new])
            if parts is None:
                return plain(*args, **kwargs)
            made = {names[place]: {**part, "": type(found)} for place, part in zip(new, parts, strict=True)}
        self.looks, self.recalled = self.looks + len(new), self.recalled + len(names) - len(new)
        parts = [made[name] if name in made else self._recall(name) for name in names]
        for name, part in made.items():
            self._keep(name, part)
        return _joined(parts)

    def _recall(self, name: bytes) -> dict[str, Any]:
        self.held.move_to_end(name)
        return self.held[name]

    def _keep(self, name: bytes, part: dict[str, Any]) -> None:
        self.held[name] = part
        self.size += _weight(part)
        while self.size > self.limit:
            self.size -= _weight(self.held.popitem(last=False)[1])


def vision_tower(model: Any) -> Any | None:
    """The module that looks at pictures; `None` if there is none by the names that families give it."""
    return next((module for name, module in plain_model(model).named_modules() if part_of(name) == "vision"), None)


def is_fixed(tower: Any) -> bool:
    """Whether a tower has no weight that learns and no dropout that draws."""
    import torch

    if any(weight.requires_grad for weight in tower.parameters()):
        return False
    return not any(isinstance(m, torch.nn.Dropout) and m.training and m.p > 0 for m in tower.modules())


def _same(one: Any, other: Any) -> bool:
    """Whether two towers have the same weights, in the same dtype."""
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return type(one) is type(other) and all(a.dtype == b.dtype and a.equal(b) for a, b in pairs)


def _sizes(given: dict[str, Any]) -> list[int] | None:
    """How many entries of the first dimension each picture has; `None` if that is not known."""
    if "image_sizes" in given:  # Pixtral joins its pictures, and fills them to one size
        return None
    tensors = [value for value in given.values() if _is_tensor(value)]
    if _is_tensor(given.get(GRID)):
        sizes: list[int] = given[GRID].prod(-1).tolist()
        flat = [len(value) for name, value in given.items() if _is_tensor(value) and name != GRID]
        return sizes if flat == [sum(sizes)] else None
    count = len(tensors[0]) if tensors and tensors[0].ndim else 0
    return [1] * count if count and all(value.ndim and len(value) == count for value in tensors) else None


def _taken(given: dict[str, Any], sizes: Sequence[int], places: Sequence[int]) -> dict[str, Any]:
    """The arguments for some of the pictures."""
    import torch

    def chosen(name: str, value: Any) -> Any:
        if not _is_tensor(value):
            return value
        parts = value.split(1) if name == GRID else value.split(list(sizes))
        return torch.cat([parts[place] for place in places])

    return {name: chosen(name, value) for name, value in given.items()}


def _digest(tower: Any, kind: int, piece: dict[str, Any]) -> bytes:
    """A name for what a tower is given, and in which precision it computes."""
    import torch

    device = next(tower.parameters()).device.type
    cast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    hashed = hashlib.blake2b(repr((kind, cast)).encode())
    for name, value in sorted(piece.items()):
        hashed.update(name.encode())
        if _is_tensor(value):
            hashed.update(repr((value.dtype, value.shape)).encode())
            hashed.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        else:
            hashed.update(repr(value).encode())
    return hashed.digest()


def _divided(found: Any, sizes: Sequence[int]) -> list[dict[str, Any]] | None:
    """A tower's output picture by picture; `None` for an output of another layout."""
    if not hasattr(found, "items"):
        return None
    try:
        fields = {name: _cut(value, sizes) for name, value in found.items()}
    except _OtherLayoutError:
        return None
    return [{name: parts[place] for name, parts in fields.items()} for place in range(len(sizes))]


class _OtherLayoutError(Exception):
    """An output that has not one part for each picture, side by side."""


def _cut(value: Any, sizes: Sequence[int]) -> list[Any]:
    """A part for each picture of one field of a tower's output."""
    if value is None:  # Swin gives a list of attentions that it did not keep
        return [None] * len(sizes)
    if isinstance(value, list | tuple):
        each = [_cut(part, sizes) for part in value]
        return [type(value)(parts[place] for parts in each) for place in range(len(sizes))]
    if not _is_tensor(value) or not value.ndim or not len(value) or sum(sizes) % len(value):
        raise _OtherLayoutError
    merged = sum(sizes) // len(value)  # patches that a tower with a grid makes one feature of
    if any(size % merged for size in sizes):
        raise _OtherLayoutError
    # Copies: a view would keep the features of all pictures of the pass.
    return [part.clone() for part in value.split([size // merged for size in sizes])]


def _joined(parts: Sequence[dict[str, Any]]) -> Any:
    """A tower's output for several pictures."""
    import torch

    def whole(values: Sequence[Any]) -> Any:
        if values[0] is None:
            return None
        if isinstance(values[0], list | tuple):
            return type(values[0])(whole(each) for each in zip(*values, strict=True))
        return torch.cat(list(values))

    kind = parts[0][""]
    return kind(**{name: whole([part[name] for part in parts]) for name in parts[0] if name})


def _weight(part: dict[str, Any]) -> int:
    """Bytes of one picture's features."""

    def size(value: Any) -> int:
        if value is None:
            return 0
        return sum(map(size, value)) if isinstance(value, list | tuple) else int(value.nbytes)

    return sum(size(value) for name, value in part.items() if name)


def _is_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor)
