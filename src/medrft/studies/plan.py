"""Reads and checks a STUDY.yaml: one recipe, arms that differ from it in a few values, seeds, and the primary outcome.

    name: length
    question: Does paying for length help?
    recipe: phantom_rl.yaml
    base: ../phantom_base.yaml
    arms:
      none: {}
      ecr: {reward.open: zhu_ecr}
    seeds: [1, 2, 3]
    primary: {a: ecr, against: none, dataset: phantom, kind: all, metric: truth}
    budget: {rule: steps, statement: each arm takes 40 steps of 128 completions}

`factors` instead of `arms` gives a full grid: `{reward: {text: {…}, armed: {…}}, start: {base: {…}, sft: {…}}}`.
The primary outcome is named before the first run, so that it cannot be chosen by the results.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, ValidationError, model_validator

from medrft.audit.figures import FIGURES
from medrft.config import ControlName, Recipe
from medrft.errors import RecipeError, unknown_name
from medrft.recipes import found_files, load_recipe, plain_problem, read_yaml
from medrft.reward_config import Shape
from medrft.shipped import find_shipped, hint_shipped
from medrft.studies.controls import ARM, Overrides, Rule, load_controls, results_folder

VERDICTS = ("truth", "correct")
"""Metrics that are 0 or 1 and kept for controls too; for closed and choice questions `correct` is the accuracy."""
FLIPS = ("side_flip", "polarity_flip")
"""Metrics of phantom data that are 0 or 1; fewer is better."""
OUTCOMES = (*VERDICTS, "exact_match", "answer_format", "in_grammar", *FLIPS)
"""Metrics that are 0 or 1 for each of the model's own answers."""
GRADES = ("bleu1", "rouge1", "bertscore", "cosine", "average", "n_tokens")
"""Graded metrics, kept for the model's own answers alone; `n_tokens` are whole numbers."""
SOURCES = ("none", "sampled", *get_args(ControlName), "frequent_type", "frequent_question")


class Primary(Shape):
    """The one outcome that a study is about: arm `a` minus arm `against`, paired by question and seed."""

    a: str
    against: str
    dataset: str
    kind: Literal["all", "closed", "choice", "open"] = "all"
    metric: str = "truth"
    source: str = "none"
    """`none` for the model's greedy answers, `sampled` for its sampled ones, or the name of a control."""


class Pair(Shape):
    """Two arms that are compared in every metric, in addition to the primary outcome."""

    a: str
    against: str


class Predict(Shape):
    """An audit of the arms' rewards, made before training, that is held against what each of them gains."""

    figure: str = "snr"
    """The audit's figure that is to predict, a name in `audit.figures`; all others are told too."""
    families: dict[str, tuple[str, ...]]
    """Family -> its arms. Arms of one family are alike, so intervals count families and not arms."""
    without: tuple[str, ...] = ()
    """Families that the correlations leave out, such as the truth itself."""


class Budget(Shape):
    """What is equal for all arms. The cost table shows what each arm used and whether the rule was kept."""

    rule: Rule
    """The quantity that is to be equal, counted after the stages that arms share."""
    statement: str
    tolerance: float = Field(default=0.0, ge=0)
    """How much more the largest arm may use than the smallest, as a share."""
    seconds_per_arm: float | None = Field(default=None, gt=0)
    """How long an arm is expected to take, for `--dry-run` before any arm was measured."""


class StudyTable(Shape):
    """The shape of a STUDY.yaml."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    question: str
    claim: str | None = None
    """What a paper claims about the question."""
    recipe: str
    """The base recipe, relative to the study's file."""
    base: str | None = None
    """A recipe whose final model every arm starts from; it is trained once."""
    set: Overrides = Field(default_factory=dict)
    controls: str | None = None
    """A file with control arms, relative to the study's file; studies that start alike share their results."""
    arms: dict[str, Overrides] | None = None
    """Arms by name, or, in the file, the name of a study beside it whose arms these are."""
    factors: dict[str, dict[str, Overrides]] | None = None
    seeds: tuple[int, ...] = Field(min_length=1)
    primary: Primary
    secondary: tuple[Pair, ...] = ()
    predict: Predict | None = None
    budget: Budget
    results: str | None = None
    """Folder of the small result files, relative to the study's file and inside its folder."""

    @model_validator(mode="after")
    def _arms_fit(self) -> StudyTable:
        if (self.arms is None) == (self.factors is None):
            raise ValueError("a study has either arms or factors; give one of the two")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds holds one twice: {list(self.seeds)}")
        return self


class Study:
    """A study that was read: its table, the path of its file, its controls, and all its arms by name, controls last.

    Raises `RecipeError` for an arm that has the name of a control.
    """

    def __init__(self, table: StudyTable, path: Path) -> None:
        self.table = table
        self.path = path
        self.controls = None if table.controls is None else load_controls(path.parent / table.controls)
        own = grid_arms(table.factors) if table.arms is None and table.factors else table.arms or {}
        shared = self.controls.table.arms if self.controls else {}
        if twice := sorted(own.keys() & shared.keys()):
            raise RecipeError(
                f"{path}: the arm {twice[0]!r} stands in {table.controls} too; rename it, or leave it out"
            )
        self.arms: dict[str, Overrides] = {**own, **shared}

    @property
    def name(self) -> str:
        """The study's name."""
        return self.table.name

    @property
    def results(self) -> Path:
        """The folder of the small result files, unless a command names another; `results_folder` has the rule."""
        return results_folder(self.path, self.table.results, self.name)

    def is_control(self, arm: str) -> bool:
        """Whether an arm comes from the study's file of controls."""
        return self.controls is not None and arm in self.controls.table.arms

    def recipe(self, arm: str, seed: int) -> Recipe:
        """The resolved recipe of one arm; raises `RecipeError` naming arm and key."""
        path = self.path.parent / self.table.recipe
        place = self.controls.path if self.controls is not None and self.is_control(arm) else self.path
        own = found_files(self.arms[arm], place.parent)
        # What an arm sets as a whole the study must not change in part: the arm's `reward`, the study's `reward.open`.
        common = {
            key: value for key, value in self.table.set.items() if not key.startswith(tuple(f"{k}." for k in own))
        }
        try:
            return load_recipe(path, overrides={**found_files(common, self.path.parent), **own, "seed": seed})
        except RecipeError as error:
            raise RecipeError(f"arm {arm!r} of {self.path}: {error}") from error

    def base(self) -> Recipe | None:
        """The recipe of the model that every arm starts from; `None` if the study has no base."""
        return None if self.table.base is None else load_recipe(self.path.parent / self.table.base)

    def chosen(self, arms: list[str] | None) -> list[str]:
        """The arms asked for (all if none), in the study's order; raises `UnknownNameError` for one that it lacks."""
        for arm in arms or ():
            if arm not in self.arms:
                raise unknown_name(f"arm of study {self.name}", arm, self.arms)
        return [arm for arm in self.arms if not arms or arm in arms]


def grid_arms(factors: Mapping[str, Mapping[str, Overrides]]) -> dict[str, Overrides]:
    """Every combination of one level per factor, as arms that are named by their levels.

    >>> grid_arms({"start": {"base": {"a": 1}, "sft": {}}, "reward": {"text": {"b": 2}}})
    {'base-text': {'a': 1, 'b': 2}, 'sft-text': {'b': 2}}

    Raises `RecipeError` if two factors set the same key, or if two arms would have the same name.
    """
    arms: dict[str, Overrides] = {}
    for levels in itertools.product(*(of.items() for of in factors.values())):
        name, merged = "-".join(level for level, _ in levels), dict[str, Any]()
        for _, values in levels:
            if twice := sorted(merged.keys() & values.keys()):
                raise RecipeError(f"two factors set {twice[0]} in arm {name!r}; each key belongs to one factor")
            merged |= values
        if name in arms:
            raise RecipeError(f"the levels of the factors give two arms called {name!r}; rename one level")
        arms[name] = merged
    return arms


def load_study(path: Path, *, overrides: Mapping[str, Any] | None = None) -> Study:
    """Read and check a study, or the shipped one of this name.

    `overrides` are recipe values for all its arms, such as where the data are.
    Raises `RecipeError` or `UnknownNameError` with a message of one line.
    """
    path = find_shipped(path)
    if not path.is_file():
        raise RecipeError(f"no study at {path}{hint_shipped(path)}")
    table = read_yaml(path)
    if not isinstance(table, dict):
        raise RecipeError(f"{path} holds a {type(table).__name__}; a study is a table of keys")
    if "model" in table:
        raise RecipeError(f"{path} is a recipe, not a study; medrft run {path} runs it")
    if isinstance(table.get("arms"), str):
        table = {**table, "arms": _arms_beside(path, table["arms"])}
    try:
        read = StudyTable.model_validate(table)
        study = Study(read.model_copy(update={"set": {**read.set, **(overrides or {})}}), path)
    except ValidationError as error:
        raise _told(error, path) from error
    _check_arms(study)
    return study


def _arms_beside(path: Path, name: str) -> Any:
    """The arms of the study `name` in the folder of `path`; raises `RecipeError` where there is none."""
    other = path.parent / name
    if Path(name).name != name or not other.is_file():
        raise RecipeError(
            f"{path}: arms: {name} is no file beside it; give arms, or the file name of a study with arms"
        )
    table = read_yaml(other)
    if not isinstance(table, dict) or not isinstance(table.get("arms"), dict):
        raise RecipeError(f"{path}: arms: {name} has no table of arms")
    return table["arms"]


def _told(error: ValidationError, path: Path) -> RecipeError:
    """The first problem of a table as an error; for an unknown key it names the nearest known one."""
    # An unknown key comes first: a misspelt key is also a missing one, and the spelling is what the user must change.
    problem = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    where = ".".join(map(str, problem["loc"]))
    if problem["type"] == "extra_forbidden":
        shapes: dict[str, type[Shape]] = {"primary": Primary, "secondary": Pair, "budget": Budget, "predict": Predict}
        shape = shapes.get(str(problem["loc"][0]), StudyTable)
        return RecipeError(f"{path}: {unknown_name('study key', str(problem['loc'][-1]), shape.model_fields)}")
    if problem["type"] == "value_error":
        return RecipeError(f"{path}: {problem['ctx']['error']}")
    if problem["type"] == "missing":
        return RecipeError(f"{path}: {where} is missing; docs/studies.md says what a study holds")
    return RecipeError(f"{path}: {where}: {plain_problem(problem)}")


def _check_arms(study: Study) -> None:
    if not study.arms:
        raise RecipeError(f"{study.path}: a study needs at least one arm")
    for arm in study.arms:
        if not re.fullmatch(ARM, arm):
            raise RecipeError(f"{study.path}: arm {arm!r} names files, so use lower-case letters, digits, - and _")
    table = study.table
    named = {f"{key}.{side}": getattr(pair, side) for key, pair in _pairs(table).items() for side in ("a", "against")}
    for where, name in named.items():
        if name not in study.arms:
            raise unknown_name(f"arm in {where} of study {study.name}", name, study.arms)
    for key, pair in _pairs(table).items():
        if pair.a == pair.against:
            raise RecipeError(f"{study.path}: {key} holds the arm {pair.a!r} against itself")
    _check_outcome(table.primary)
    if table.predict is not None:
        _check_families(study, table.predict)
    for arm in study.arms:
        study.recipe(arm, table.seeds[0])
    study.base()


def _pairs(table: StudyTable) -> dict[str, Primary | Pair]:
    return {"primary": table.primary, **{f"secondary.{i}": pair for i, pair in enumerate(table.secondary)}}


def _check_outcome(primary: Primary) -> None:
    """Check that the result files will hold the primary outcome; raises `UnknownNameError` if not."""
    if primary.source not in SOURCES:
        raise unknown_name("source in primary.source", primary.source, SOURCES)
    known = [name for name in (*OUTCOMES, *GRADES) if name != "n_tokens"] if primary.source == "none" else VERDICTS
    if primary.metric not in known:
        raise unknown_name(f"metric in primary.metric with source {primary.source}", primary.metric, known)


def _check_families(study: Study, plan: Predict) -> None:
    """Check that the families hold arms of the study, each once; raises `UnknownNameError` or `RecipeError`."""
    if plan.figure not in FIGURES:
        raise unknown_name("figure in predict.figure", plan.figure, FIGURES)
    named = [arm for arms in plan.families.values() for arm in arms]
    for arm in named:
        if arm not in study.arms:
            raise unknown_name(f"arm in predict.families of study {study.name}", arm, study.arms)
        if named.count(arm) > 1:
            raise RecipeError(f"{study.path}: predict.families holds the arm {arm!r} twice")
    for family in plan.without:
        if family not in plan.families:
            raise unknown_name("family in predict.without", family, plan.families)


FORM_SHARE = (0.05, 0.30)
"""Range for the share of a base's sampled completions that keep the answer form."""
