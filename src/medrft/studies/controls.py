"""Control arms that studies share: read from one file, and kept in one folder by what their training depends on.

    name: phantom_controls
    arms:
      start: {stages.grpo: null}
      oracle: {reward: {parts: [{scorer: oracle, weight: 0.8}, {scorer: answer_format, weight: 0.2}]}}
      sft_on: {stages.grpo.kind: sft, stages.grpo.trl: {max_steps: 340}}
    equal: {sft_on: [wall_clock]}
    tolerance: 0.25

An arm is written over the recipe of the study that names the file, after what that study sets for all its arms. So two
studies with the same recipe, base and settings have the same control, by its key, and the second one finds its result.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from medrft.errors import RecipeError
from medrft.recipes import first_problems, read_yaml
from medrft.reward_config import Shape

Overrides = dict[str, Any]
Rule = Literal["steps", "examples", "tokens", "wall_clock"]
COMMITTED = Path("benchmarks/results/studies")
"""Where this repository keeps the results of what lies in its `recipes/studies` and `recipes/controls`."""
ARM = r"^[a-z0-9][a-z0-9_-]*$"
ORACLE = "oracle"
"""The arm that is paid by the truth: the positive control."""


class ControlsTable(Shape):
    """The shape of a file of controls."""

    name: str = Field(pattern=ARM)
    arms: dict[str, Overrides] = Field(min_length=1)
    equal: dict[str, tuple[Rule, ...]] = Field(default_factory=dict)
    """What an arm spends as much of as `oracle` does. An arm that is not named keeps to the budget of the study."""
    tolerance: float = Field(default=0.0, ge=0)
    """How far apart the two may be, as a share of the smaller amount."""
    results: str | None = None
    """Folder of the small result files, relative to this file and inside its folder."""

    @model_validator(mode="after")
    def _arms_fit(self) -> ControlsTable:
        for arm in self.arms:
            if not re.fullmatch(ARM, arm):
                raise ValueError(f"arm {arm!r} names files, so use lower-case letters, digits, - and _")
        for arm in self.equal:
            if arm not in self.arms or arm == ORACLE:
                raise ValueError(f"equal names {arm!r}; it takes arms of this file other than {ORACLE}")
        if self.equal and ORACLE not in self.arms:
            raise ValueError(f"equal compares with the arm {ORACLE}, which this file lacks")
        return self


class Controls:
    """A file of controls that was read: its table and its path."""

    def __init__(self, table: ControlsTable, path: Path) -> None:
        self.table, self.path = table, path

    @property
    def results(self) -> Path:
        """The folder of the controls' result files, by the rule of `results_folder`."""
        return results_folder(self.path, self.table.results, self.table.name)


def load_controls(path: Path) -> Controls:
    """Read and check a file of controls; raises `RecipeError` with a message of one line."""
    if not path.is_file():
        raise RecipeError(f"no controls at {path}; `controls:` of a study names a file, relative to the study's own")
    table = read_yaml(path)
    try:
        return Controls(ControlsTable.model_validate(table), path)
    except ValidationError as error:
        raise RecipeError(f"{path}: {first_problems(error)}") from error


def results_folder(path: Path, named: str | None, name: str) -> Path:
    """The folder of the small result files of a study or of controls, which lie at `path`.

    It is the folder that they name, inside their own. Those in `recipes/` of this repository have their committed
    results, if there are any. All others have a folder below `runs/studies`. Raises `RecipeError` for a named folder
    outside their own.
    """
    own = path.parent.resolve()
    if named is not None:
        place = (own / named).resolve()
        if not place.is_relative_to(own):
            raise RecipeError(
                f"{path}: results: {named} leads out of {own}; name a folder in it, or pass --results {place}"
            )
        return place
    shipped = own.parts[-2:] in (("recipes", "studies"), ("recipes", "controls"))
    committed = own.parents[1] / COMMITTED / name if shipped else None
    if committed is not None and committed.is_dir():
        return committed
    return Path("runs/studies") / name / "results"
