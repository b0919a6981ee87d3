"""Sizes of tiny models, the same for all families."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

PATCH = 8
"""Pixels per side of a patch, where the vision tower is a plain transformer."""
SPARE_ROWS = 8
"""Rows of the embedding that no token uses, as in hub models, whose vocabulary is padded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TinySizes:
    """Sizes of a tiny model; about a million parameters by default."""

    image: int = 64
    """Side of a picture as the model sees it, in pixels. Families that cut a picture into tiles see tiles of half this
    side."""
    patch: int = 4
    vision_hidden: int = 128
    vision_layers: int = 4
    hidden: int = 128
    layers: int = 4
    heads: int = 4
    mlp: int = 384
    vocab: int = 2048
    """Tokens at most; a small data set yields fewer."""
    positions: int = 2048

    @property
    def tile(self) -> int:
        """Side of a tile, in pixels."""
        return self.image // 2


Built = tuple[Any, Any]
"""A transformers config and the processor that fits it."""
