"""From a study to its arms: for each the stages it shares with other arms, its own stages, and keys for all of them.

A key is a hash of those parts of the resolved recipe that training (and, for an arm, evaluation) depends on. It does
not cover the code, paths on a machine, or values left at their defaults.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medrft.config import ModelConfig, Recipe, StageConfig
from medrft.errors import RecipeError
from medrft.studies.plan import Study

TRAINS = ("seed", "prompt", "model", "data", "stages")
"""Keys of a recipe that every training depends on."""
REWARDS = ("reward", "correct", "encoder", "clinical")
"""Keys that only a stage with a reward depends on."""
CURATES = ("curate", "correct", "encoder", "clinical")
WRITES = ("batch_size", "max_new_tokens")
"""Keys of a recipe, and keys of its `eval`, that only a stage with `curate:` depends on."""
ABOUT_PLACES = {"data": ("root", "cache"), "encoder": ("cache_dir",)}
ABOUT_LOGGING = ("evaluate", "verify_prefix")


@dataclass(frozen=True, kw_only=True)
class Shared:
    """A stage that is trained once for all arms and kept under its key, as a recipe with this stage alone."""

    key: str
    recipe: Recipe
    start: str | None
    """Key of the shared stage that it starts from; `None` if it starts from the recipe's own model."""

    @property
    def stage(self) -> StageConfig:
        """The recipe's only stage."""
        return self.recipe.stages[0]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One arm with one seed."""

    name: str
    seed: int
    key: str
    recipe: Recipe
    """The recipe of its own stages. `base` in it is the model after the last shared stage, if there is one."""
    shared: tuple[Shared, ...]
    """The shared stages before its own, in order, including those of the study's base."""
    base: Shared | None = None
    """The last stage of the study's base, where it has one."""
    control: bool = False
    """Whether it is one of the controls that studies share."""

    @property
    def label(self) -> str:
        """`<arm>-seed<k>`: the name of its result file."""
        return f"{self.name}-seed{self.seed}"

    @property
    def folder(self) -> str:
        """`<arm>-seed<k>-<key>`: the name of its run folder, and of a control's result file.

        It has the arm's key, so a changed arm never continues an older run, and studies that start otherwise do not
        take each other's controls.
        """
        return f"{self.label}-{self.key[:8]}"


def arms_of(study: Study, names: list[str], seeds: list[int]) -> list[Arm]:
    """The arms to run, seed by seed, so that all arms have a result for the first seed early on."""
    base = _chain(study.base(), None)
    return [
        _arm(study.recipe(name, seed), name, seed, base, control=study.is_control(name))
        for seed in seeds
        for name in names
    ]


def _chain(recipe: Recipe | None, start: str | None) -> tuple[Shared, ...]:
    """Every stage of a base recipe, as shared stages."""
    if recipe is None:
        return ()
    shared, rest = split_stages(recipe, start, most=len(recipe.stages))
    if rest:
        raise RecipeError(f"the base recipe {recipe.name!r} may hold sft stages in a row only, not {rest[0].name!r}")
    return shared


def _arm(recipe: Recipe, name: str, seed: int, base: tuple[Shared, ...], *, control: bool) -> Arm:
    if base:
        recipe = recipe.model_copy(update={"model": base[-1].recipe.model})
    shared, rest = split_stages(recipe, base[-1].key if base else None, most=1)
    chain = (*base, *shared)
    own = recipe.model_copy(update={"stages": _restarted(rest, shared)})
    evaluated = {key: _dumped(recipe, (key,)).get(key) for key in ("eval", "correct", "encoder")}
    if evaluated["eval"] and evaluated["eval"].get("base") == "skip":
        del evaluated["eval"]["base"]
        evaluated["eval"]["zero_shot"] = False  # its name in the keys of results made before
    evaluated |= _dumped(recipe, ("clinical",))  # absent by default, as in the keys of results made before it
    content = {"start": chain[-1].key if chain else None, **_content(own), "evaluated": evaluated}
    return Arm(
        name=name,
        seed=seed,
        key=json_digest(content),
        recipe=own,
        shared=chain,
        base=base[-1] if base else None,
        control=control,
    )


def split_stages(recipe: Recipe, start: str | None, *, most: int) -> tuple[tuple[Shared, ...], tuple[StageConfig, ...]]:
    """A recipe's leading SFT stages, at most `most`, each with its key, and the stages after them.

    SFT depends on no reward, so arms that differ in their reward can share these stages. For an arm `most` is 1: the
    stages after the first SFT are its own and count in its cost.
    """
    shared: list[Shared] = []
    for stage in recipe.stages[:most]:
        before_it = (None, shared[-1].stage.name if shared else "base")
        follows = stage.start in before_it and stage.curate in before_it
        if stage.kind != "sft" or stage.wall_clock_of is not None or not follows:
            break
        alone = stage.model_copy(update={"start": None, "evaluate": False, "curate": stage.curate and "base"})
        own = recipe.model_copy(update={"stages": (alone,)})
        before = shared[-1].key if shared else start
        key = json_digest({"start": before, **_content(own, model=before is None)})
        shared.append(Shared(key=key, recipe=own, start=before))
    return tuple(shared), recipe.stages[len(shared) :]


def _restarted(rest: tuple[StageConfig, ...], shared: tuple[Shared, ...]) -> tuple[StageConfig, ...]:
    """An arm's own stages, starting from the model after the shared ones; only the last stage is evaluated."""
    last = shared[-1].stage.name if shared else "base"
    gone = {one.stage.name for one in shared[:-1]} | ({"base"} if shared else set())
    found: list[StageConfig] = []
    for stage in rest:
        if {stage.start, stage.curate} & gone or stage.wall_clock_of in {*gone, last}:
            raise RecipeError(
                f"stage {stage.name!r} refers to a model before the last shared stage; in a study it may start from "
                f"that SFT stage ({last!r}) or a stage after it, and so with curate"
            )
        start = "base" if stage.start == last or (stage.start is None and not found) else stage.start
        curate = "base" if stage.curate == last else stage.curate
        found.append(stage.model_copy(update={"start": start, "curate": curate, "evaluate": stage is rest[-1]}))
    return tuple(found)


def start_from(recipe: Recipe, model: Path | None) -> Recipe:
    """The recipe, started from a model folder if one is given, and without the zero-shot baseline, as all arms are."""
    changed: dict[str, Any] = {"eval": recipe.eval.model_copy(update={"base": "skip"})}
    if model is not None:
        table = recipe.model.model_dump(exclude={"id", "revision", "tiny"})
        changed["model"] = ModelConfig(id=str(model), **table)
    return recipe.model_copy(update=changed)


def _content(recipe: Recipe, *, model: bool = True) -> dict[str, Any]:
    """The values that the training of a recipe's stages depends on; without the model's name if not `model`."""
    rewarded = any(stage.kind == "grpo" for stage in recipe.stages)
    curates = any(stage.curate or stage.rejection for stage in recipe.stages)
    found = _dumped(recipe, TRAINS + (REWARDS if rewarded else ()) + (CURATES if curates else ()))
    if curates:
        found["writes"] = recipe.eval.model_dump(mode="json", include=set(WRITES))
    for stage in found.get("stages", ()):
        for key in ABOUT_LOGGING:
            stage.pop(key, None)
    if not model:  # the key of the stage before already says whose weights these are
        found["model"].pop("id", None)
        found["model"].pop("tiny", None)
    return found


def reward_digest(recipe: Recipe) -> str:
    """A hash of all that a recipe's reward depends on; files of yours count by their text."""
    return json_digest(_dumped(recipe, REWARDS))


def _dumped(recipe: Recipe, keys: tuple[str, ...]) -> dict[str, Any]:
    table = recipe.model_dump(mode="json", exclude_defaults=True, include=set(keys))
    for key, places in ABOUT_PLACES.items():
        for place in places:
            table.get(key, {}).pop(place, None)
    portable: dict[str, Any] = _portable(table)
    return portable


def _portable(value: Any) -> Any:
    """The value with each lexicon and each `/a/b/file.py:Name` replaced by the file's name and a hash of its text."""
    if isinstance(value, dict):
        return {key: _portable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_portable(inner) for inner in value]
    where, _, name = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    if isinstance(value, str) and value.endswith((".yaml", ".yml")) and Path(value).is_file():
        return f"{Path(value).name}@{hashlib.sha256(Path(value).read_bytes()).hexdigest()[:12]}"
    if where.endswith(".py") and Path(where).is_file():
        return f"{Path(where).name}@{hashlib.sha256(Path(where).read_bytes()).hexdigest()[:12]}:{name}"
    return value


def json_digest(content: Any) -> str:
    """16 hex digits that hash a JSON value; the order of its keys does not matter."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
