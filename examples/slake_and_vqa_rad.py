"""Two data sets as one: SLAKE in English and VQA-RAD, each with its official splits.

    medrft data check examples/slake_and_vqa_rad.py:load DATA

DATA holds the folders `slake` and `vqa_rad`. Every test image of VQA-RAD but one is in its train split too, so train
with `data.exclude_test_images=true`. Validation is SLAKE's: VQA-RAD has none of its own, and none is cut where a set
has one.
"""

from __future__ import annotations

from pathlib import Path

from medrft.data.base import Loaded
from medrft.data.sets import slake, vqa_rad
from medrft.data.sets.unions import merge_sets
from medrft.errors import DataError


def load(root: Path | None, *, seed: int = 0) -> Loaded:
    """Read both folders; raises `DataError` when one is not there."""
    if root is None or not all((root / name).is_dir() for name in ("slake", "vqa_rad")):
        raise DataError(f"slake_and_vqa_rad looks for the folders slake and vqa_rad in {root}; links to them will do")
    parts = [slake.load_slake(root / "slake", lang="en"), vqa_rad.load_vqa_rad(root / "vqa_rad")]
    return merge_sets("slake_and_vqa_rad", parts, note="official splits of slake (English) and vqa_rad")
