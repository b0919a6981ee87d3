"""The recipe's shape: frozen pydantic models that refuse unknown keys.

A recipe is a YAML file. `load_recipe` reads it, applies `--set a.b=c` overrides and validates it; names (scorer, data
set, model) are checked where they are built. Importable without torch.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from medrft.errors import RecipeError
from medrft.types import KINDS, Kind

TAGS = ("preset", "stack", "by_kind", "[key]")
"""Names of union members in pydantic's error locations; not keys of a recipe."""

Device = Literal["auto", "cpu", "cuda"]


class Shape(BaseModel):
    """Base of every recipe table: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class EncoderConfig(Shape):
    """The sentence encoder behind BERTScore and cosine; every figure names it."""

    id: str = "all-MiniLM-L6-v2"
    """`all-MiniLM-L6-v2` is the packaged one; any other id or path is a sentence-transformers or hub model."""
    bertscore: str | None = None
    """Another model for BERTScore; by default the one above, so that one forward pass serves both."""
    revision: str | None = None
    layer: int | None = None
    """Hidden layer for BERTScore; the last by default."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    idf: bool = False
    rescale: bool = False
    """Subtract a baseline from BERTScore, as bert-score does."""
    cache_dir: str | None = None
    """Keep embeddings on disk here, keyed by model, revision and text."""


class ModelConfig(Shape):
    """The policy: any image-text-to-text model that transformers loads, or `tiny:<family>`."""

    id: str
    revision: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    attn_implementation: str | None = None
    freeze: tuple[Literal["vision", "projector", "language", "lm_head"], ...] = ()
    lora: dict[str, Any] | None = None
    """Keyword arguments of `peft.LoraConfig`; full fine-tuning when absent."""
    trust_remote_code: bool = False
    device: Device = "auto"
    tiny: dict[str, Any] = Field(default_factory=dict)
    """Sizes that override those of `tiny:<family>`."""


class DataConfig(Shape):
    """A data set. Keys beyond these are options of its loader and are checked against its parameters."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str
    root: str | None = None
    max_pixels: int = Field(default=401_408, gt=0)
    """Images are shrunk to at most this many pixels before any processor sees them."""
    validation: float = Field(default=0.1, gt=0, lt=1)
    """Share of train images cut off for validation where there is no official split."""
    exclude_test_images: bool = False
    """Leave out train rows whose image is also in test."""
    blank: bool = False
    """Show a grey picture of the same size in place of each, in training and evaluation: the control that never saw."""

    @property
    def options(self) -> dict[str, Any]:
        """The loader's own options."""
        return dict(self.model_extra or {})


class CorrectConfig(Shape):
    """The one binary outcome for open questions; closed and choice use their match."""

    scorer: str = "exact_match"
    at_least: float = 1.0


class PartConfig(Shape):
    """One scorer with its weight and calibration."""

    scorer: str
    weight: float
    calibrate: str | dict[str, Any] = "none"
    options: dict[str, Any] = Field(default_factory=dict)


class GateConfig(Shape):
    """Below this score the answer parts become 0."""

    scorer: str
    below: float
    options: dict[str, Any] = Field(default_factory=dict)


class StackConfig(Shape):
    """Parts that make one reward."""

    combine: Literal["weighted_sum", "normalize_then_sum"] = "weighted_sum"
    parts: tuple[PartConfig, ...] = Field(min_length=1)
    gate: GateConfig | None = None


def _shape_of_reward(value: Any) -> str:
    """Which of the three forms a reward has, so that errors speak of that form alone."""
    if isinstance(value, str):
        return "preset"
    by_kind = isinstance(value, Mapping) and not set(value) & {*StackConfig.model_fields}
    return "by_kind" if by_kind else "stack"


NamedOrStack = Annotated[
    Annotated[str, Tag("preset")] | Annotated[StackConfig, Tag("stack")],
    Discriminator(lambda value: "preset" if isinstance(value, str) else "stack"),
]
RewardConfig = Annotated[
    Annotated[str, Tag("preset")]
    | Annotated[StackConfig, Tag("stack")]
    | Annotated[dict[Kind, NamedOrStack], Tag("by_kind")],
    Discriminator(_shape_of_reward),
]


class StageConfig(Shape):
    """One training stage."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    kind: Literal["sft", "grpo"]
    start: str | None = None
    """The stage whose final model this one starts from; by default the one before it, `base` for the first."""
    kinds: tuple[Kind, ...] | None = None
    """Train on these kinds of question only."""
    limit: int | None = Field(default=None, gt=0)
    """Train on at most this many examples, drawn by seed."""
    validation_limit: int | None = Field(default=200, gt=0)
    """Checkpoints are chosen on at most this many validation examples, drawn by seed."""
    wall_clock_of: str | None = None
    """Train for as long as that earlier stage took, whatever its number of steps."""
    evaluate: bool = True
    resample_groups: int = Field(default=0, ge=0)
    """Rounds in which other examples replace groups whose completions are all `correct` or all not (grpo)."""
    share_prefix: bool = True
    """Compute the image and prompt of a group of completions once (grpo); off: as TRL does, for each completion."""
    verify_prefix: Literal["first", "always", "never"] = "first"
    """When to compare shared prompts with the plain computation: on the first batch, on each, or not at all."""
    trl: dict[str, Any] = Field(default_factory=dict)
    """`trl.SFTConfig` or `trl.GRPOConfig` keyword arguments, passed through."""


class SampledConfig(Shape):
    """A second evaluation with sampling."""

    temperature: float = Field(gt=0)
    samples: int = Field(default=1, gt=0)


class EvalConfig(Shape):
    """How models are evaluated after each stage."""

    limit: int | None = Field(default=None, gt=0)
    """Examples per data set, drawn by seed; all by default."""
    batch_size: int = Field(default=32, gt=0)
    max_new_tokens: int = Field(default=256, gt=0)
    sampled: SampledConfig | None = None
    controls: tuple[Literal["blank", "shuffled"], ...] = ("blank",)
    zero_shot: bool = True
    """Evaluate the start model with the `short` prompt."""
    resamples: int = Field(default=1000, gt=0)
    """Bootstrap resamples of each interval."""


class AuditConfig(Shape):
    """The audit of the run's own reward, made before the first GRPO stage."""

    stop_on: Literal["note", "warning", "error"] | None = None
    """Refuse to train on a finding of this severity or a graver one."""


class ReportConfig(Shape):
    """What the report may show."""

    images: Literal["thumb", "none"] = "thumb"
    """A run with thumbnails holds patient images; `none` keeps them out."""


class Recipe(Shape):
    """Everything that starts a run."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    seed: int = Field(default=0, ge=0)
    output: str | None = None
    prompt: str = "think"
    strict: bool = False
    """Stop where training would otherwise go on and count: a scorer that fails, a silent judge, a vanished image."""
    encoder: EncoderConfig = EncoderConfig()
    model: ModelConfig
    data: DataConfig
    correct: CorrectConfig = CorrectConfig()
    reward: RewardConfig = "armed"
    stages: tuple[StageConfig, ...] = ()
    audit: AuditConfig = AuditConfig()
    eval: EvalConfig = EvalConfig()
    report: ReportConfig = ReportConfig()

    @model_validator(mode="after")
    def _stages_fit(self) -> Recipe:
        seen = ["base"]
        for stage in self.stages:
            if stage.name in seen:
                raise ValueError(f"stage name {stage.name!r} is used twice; give each stage its own name")
            for key in ("start", "wall_clock_of"):
                value = getattr(stage, key)
                if value is not None and value not in seen:
                    raise ValueError(f"stage {stage.name!r}: {key} is {value!r}, but the stages before it are {seen}")
            seen.append(stage.name)
        return self

    def start_of(self, stage: StageConfig) -> str:
        """Name of the stage whose final model `stage` starts from."""
        if stage.start is not None:
            return stage.start
        names = ["base", *(other.name for other in self.stages)]
        return names[names.index(stage.name) - 1]


def load_recipe(path: Path, *, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Read, override and validate a recipe.

    `overrides` maps dotted keys to values, list positions as numbers: `{"stages.1.trl.beta": 0.01}`.
    Raises `RecipeError` naming the key, what was got and the nearest known key.
    """
    if not path.is_file():
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*.yaml")], n=1)
        hint = f"; did you mean {path.parent / near[0]}?" if near else ""
        raise RecipeError(f"no recipe at {path}{hint}")
    try:
        table = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise RecipeError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(table, dict):
        raise RecipeError(f"{path} holds a {type(table).__name__}; a recipe is a table of keys")
    for key, value in (overrides or {}).items():
        _assign(table, key, value)
    return parse_recipe(_found_files(table, path.parent), source=str(path))


def _found_files(value: Any, folder: Path) -> Any:
    """The recipe with each `file.py:Name` that lies beside it made absolute, so that it is found from anywhere."""
    if isinstance(value, dict):
        return {key: _found_files(inner, folder) for key, inner in value.items()}
    if isinstance(value, list):
        return [_found_files(inner, folder) for inner in value]
    where, _, name = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    if where.endswith(".py") and name.isidentifier() and (folder / where).is_file():
        return f"{(folder / where).resolve()}:{name}"
    return value


def parse_recipe(table: Mapping[str, Any], *, source: str = "recipe") -> Recipe:
    """Validate a recipe's table; raises `RecipeError` with one line."""
    try:
        return Recipe.model_validate(dict(table))
    except ValidationError as error:
        raise RecipeError(f"{source}: {_one_line(error)}") from error


def parse_set(assignments: Iterable[str]) -> dict[str, Any]:
    """`["a.b=1", "c=x"]` as a mapping; values are read as YAML.

    >>> parse_set(["seed=3", "data.root=/data", "eval.limit=null"])
    {'seed': 3, 'data.root': '/data', 'eval.limit': None}
    """
    result: dict[str, Any] = {}
    for assignment in assignments:
        key, found, value = assignment.partition("=")
        if not found or not key.strip():
            raise RecipeError(f"--set takes key=value, got {assignment!r}; for example --set seed=1")
        try:
            result[key.strip()] = _number(yaml.safe_load(value)) if value else None
        except yaml.YAMLError as error:
            raise RecipeError(f"--set {key}: {value!r} is not a YAML value; put it in quotes") from error
    return result


def _number(value: Any) -> Any:
    """YAML 1.1 reads `1e-3` as a string; people mean a number."""
    if isinstance(value, str):
        try:
            return float(value) if any(c.isdigit() for c in value) else value
        except ValueError:
            return value
    return value


def _assign(table: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key inside nested tables and lists."""
    parts = key.split(".")
    here: Any = table
    for position, part in enumerate(parts):
        last = position == len(parts) - 1
        if isinstance(here, list):
            index = _index(here, part, key)
            if last:
                here[index] = value
            else:
                here = here[index]
        elif isinstance(here, dict):
            if last:
                here[part] = value
            else:
                here = here.setdefault(part, {})
        else:
            raise RecipeError(f"--set {key}: {'.'.join(parts[:position])} is {here!r}, which has no key {part!r}")


def _index(values: list[Any], part: str, key: str) -> int:
    """A list position by number, or by the `name` of the table that stands there."""
    names = [value.get("name") for value in values if isinstance(value, dict)]
    if part in names:
        return names.index(part)
    if part.isdigit() and int(part) < len(values):
        return int(part)
    raise RecipeError(f"--set {key}: {part!r} is no position or name in a list of {len(values)} ({names})")


def _one_line(error: ValidationError) -> str:
    """The first few problems of a validation, each with the key's path."""
    lines = []
    for problem in error.errors()[:3]:
        where = ".".join(str(part) for part in problem["loc"] if part not in TAGS)
        if problem["type"] == "extra_forbidden":
            lines.append(_unknown_key(where, problem["loc"]))
        elif problem["type"] == "value_error":
            lines.append(str(problem["ctx"]["error"]))
        else:
            got = repr(problem["input"])
            lines.append(f"{where}: {problem['msg'].lower()}, got {got if len(got) < 80 else got[:77] + '...'}")
    more = error.error_count() - len(lines)
    return "; ".join(lines) + (f"; and {more} more" if more > 0 else "")


def _unknown_key(where: str, location: Sequence[int | str]) -> str:
    known = _known_keys(location)
    near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(sorted(known))}"
    return f"unknown key {where!r}; {hint}"


def _known_keys(location: Sequence[int | str]) -> list[str]:
    """Keys of the table in which an unknown key was found."""
    shapes: list[type[Shape]] = [Recipe]
    for part in location[:-1]:
        found = [shape.model_fields[str(part)].annotation for shape in shapes if str(part) in shape.model_fields]
        shapes = [shape for annotation in found for shape in _shapes_in(annotation)] or shapes
    return [name for shape in shapes for name in shape.model_fields]


def _shapes_in(annotation: Any) -> list[type[Shape]]:
    if isinstance(annotation, type) and issubclass(annotation, Shape):
        return [annotation]
    return [shape for inner in get_args(annotation) for shape in _shapes_in(inner)]


def reward_of(config: RewardConfig, kind: Kind) -> str | StackConfig:
    """The reward for one kind; raises `RecipeError` when a table by kind lacks it."""
    if not isinstance(config, dict):
        return config
    if kind not in config:
        have = [k for k in KINDS if k in config]
        raise RecipeError(f"reward has no entry for kind {kind!r}, only for {have}; add one or leave that kind out")
    return config[kind]
