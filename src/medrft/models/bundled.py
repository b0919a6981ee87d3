"""Models that medrft brings along, by the id that a recipe names: `model: {id: phantom-base}`.

`phantom-base` is a small LLaVA that was pretrained on drawn pictures (`medrft.data.phantom`); its folder has the model
card. A folder of your own with that name is written as a path, `./phantom-base`.
"""

from __future__ import annotations

from pathlib import Path

from medrft.errors import ModelError
from medrft.models.saved import find_damage

FOLDERS: dict[str, Path] = {"phantom-base": Path(__file__).parent / "phantom_base"}
LICENCE = "apache-2.0"
"""Of all of them."""


def is_bundled(id_: str) -> bool:
    """Whether medrft brings that model along."""
    return id_ in FOLDERS


def find_bundled(id_: str) -> str:
    """The folder of a model that medrft brings along; any other id or path as it is.

    Raises `ModelError` if the files in the folder are not those that were shipped.
    """
    folder = FOLDERS.get(id_)
    if folder is None:
        return id_
    if not (folder / "config.json").is_file():
        raise ModelError(f"{id_} is missing from this installation ({folder}); install medrft again")
    if (flaw := find_damage(folder, content=True)) is not None:
        raise ModelError(f"{id_} is not as it was shipped: {flaw}; install medrft again")
    return str(folder)
