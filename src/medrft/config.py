"""The shape of a recipe: frozen pydantic models that refuse unknown keys.

`recipes` makes a `Recipe` from a YAML file. Names of scorers, data sets and models are checked later, where they are
built.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import ConfigDict, Field, field_validator, model_validator

from medrft.reward_config import RewardConfig, Shape
from medrft.types import Kind

Device = Literal["auto", "cpu", "cuda"]
OnPictures = Literal["blank", "shuffled", "question_only", "same_modality", "blur", "contrast"]
OnQuestions = Literal["options", "paraphrase", "flip", "negated", "sides"]
ControlName = Literal[OnPictures, OnQuestions]


class EncoderConfig(Shape):
    """The sentence encoder of BERTScore and cosine; every figure made with it names it."""

    id: str = "all-MiniLM-L6-v2"
    """`all-MiniLM-L6-v2` is the packaged one; any other id or path is a sentence-transformers or hub model."""
    bertscore: str | None = None
    """Another model for BERTScore; by default the one above, so that one forward pass serves both."""
    revision: str | None = None
    """Commit, tag or branch of the encoder on the hub."""
    layer: int | None = None
    """Hidden layer for BERTScore; the last by default."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Type in which it computes; `auto` is float32, as bfloat16 moves a cosine by up to 0.01."""
    cache_dir: str | None = None
    """Keep embeddings on disk here, keyed by model, revision and text."""


class ClinicalConfig(Shape):
    """What a recipe adds to the clinical scorer wherever it is used: reward, `correct`, evaluation, audit, curation."""

    lexicon: tuple[str, ...] = ()
    """The user's own lexicon files, added to ours; docs/clinical.md describes their form."""
    nli: str | None = None
    """Hub id or folder of an NLI model, which decides where the lexicon does not know a third of the reference."""

    @field_validator("lexicon", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value


class ModelConfig(Shape):
    """The policy: any image-text-to-text model that transformers loads, `phantom-base`, or `tiny:<family>`."""

    id: str
    """A hub id, a folder, or `tiny:<family>`, a small model with random weights."""
    revision: str | None = None
    """Commit, tag or branch of the model on the hub."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Type in which the model computes, is evaluated and is saved; `auto` takes that of its checkpoint."""
    master_dtype: Literal["float32", "bfloat16"] = "float32"
    """Type in which weights are kept while they train; `bfloat16` loses most updates at small learning rates."""
    attn_implementation: str | None = None
    """The attention that transformers uses, such as `sdpa`; its own choice by default."""
    freeze: tuple[Literal["vision", "projector", "language", "lm_head"], ...] = ()
    """Parts of the model that do not train."""
    lora: dict[str, Any] | None = None
    """Keyword arguments of `peft.LoraConfig`; full fine-tuning when absent."""
    trust_remote_code: bool = False
    """Run code that comes with the model; only for models whose code you have read."""
    chat_template: str | None = None
    """A Jinja file in place of the model's own chat template."""
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the chat template, such as `enable_thinking: true`, in every stage and in evaluation."""
    device: Device = "auto"
    """Where the model computes; `auto` takes a GPU if there is one."""
    tiny: dict[str, Any] = Field(default_factory=dict)
    """Sizes that override those of `tiny:<family>`."""


class SourceConfig(Shape):
    """A data set to read. Keys beyond these are options of its loader and are checked against its parameters."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str
    """The data set: the name of a loader, or `file.py:function` for a loader of your own."""
    root: str | None = None
    """The folder or file it is read from, or `hf:owner/name` for a hub table."""

    @property
    def options(self) -> dict[str, Any]:
        """The loader's own options."""
        return dict(self.model_extra or {})

    @property
    def drawn(self) -> bool:
        """Whether medrft draws these data itself, so that no folder is needed."""
        return self.name in ("phantom", "phantom_composed")


class DataConfig(SourceConfig):
    """The data set that a run trains on."""

    max_pixels: int = Field(default=401_408, gt=0)
    """Images are shrunk to at most this many pixels before any processor sees them."""
    validation: float = Field(default=0.1, gt=0, lt=1)
    """Share of train images cut off for validation where there is no official split."""
    exclude_test_images: bool | Literal["copies"] = False
    """Leave out train rows whose image is also in test; `copies`: also recompressed, resized or cropped."""
    blank: bool = False
    """A control: replace every picture with a grey one of the same size, in training and evaluation."""
    private: bool = False
    """Nothing of the data may leave this machine: judges, teachers, trackers and hubs elsewhere are refused."""
    by_image: float | None = Field(default=None, gt=0, lt=1)
    """Instead of the official split, split all rows anew by image, with this share of the images in test."""


class CorrectConfig(Shape):
    """When an open answer counts as right; closed and choice questions use their match."""

    scorer: str = "exact_match"
    """The scorer that decides."""
    at_least: float = 1.0
    """The score from which an answer is right."""


class RejectionConfig(Shape):
    """Rejection sampling (sft): a stage's start model writes several completions a row, and learns from the right ones.

    What counts as right is a score of at least `keep.at_least` by `keep.scorer`; by default the recipe's `correct`.
    """

    samples: int = Field(default=8, gt=0)
    """Completions of each row."""
    temperature: float = Field(default=1.0, gt=0)
    """Temperature of sampling."""
    keep: CorrectConfig | None = None
    """What counts as right; by default the recipe's `correct`."""


class StageConfig(Shape):
    """One training stage."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    """Names the stage's folder; lower-case letters, digits and `_`."""
    kind: Literal["sft", "grpo"]
    """Learn from given answers (`sft`) or from a reward (`grpo`)."""
    start: str | None = None
    """The stage whose final model this one starts from; by default the one before it, `base` for the first."""
    kinds: tuple[Kind, ...] | None = None
    """Train on these kinds of question only."""
    unseen: bool = False
    """Train on rows without a chain of thought only: those that SFT on thoughts has not seen."""
    limit: int | None = Field(default=None, gt=0)
    """Train on at most this many examples, drawn by seed."""
    validation_limit: int | None = Field(default=200, gt=0)
    """Checkpoints are chosen on at most this many validation examples, drawn by seed."""
    wall_clock_of: str | None = None
    """Train for as long as that earlier stage took, whatever its number of steps."""
    curate: str | None = None
    """Train on thoughts that this earlier stage's model writes for thinned data, as `curate:` says (sft)."""
    asked_first: int | None = Field(default=None, gt=0)
    """Train only on the questions that a grpo stage with the same `kinds` and `limit` asks first, so many (sft)."""
    teach: Literal["thoughts", "answers"] = "thoughts"
    """Under a prompt with a thought: teach thought and answer, or the answer alone, without a thought (sft)."""
    rejection: RejectionConfig | None = None
    """Train on what the start model itself writes for the rows, where it is right (sft)."""
    evaluate: bool = True
    """Evaluate the stage's final model."""
    resample_groups: int = Field(default=0, ge=0)
    """Rounds in which other examples replace groups whose completions are all `correct` or all wrong (grpo)."""
    share_prefix: bool = True
    """Compute the image and prompt of a group of completions once (grpo); off: as TRL does, for each completion."""
    verify_prefix: Literal["first", "always", "never"] = "first"
    """When to compare shared prompts with the plain computation: on the first batch, on each, or not at all."""
    rollout_batch_size: int | None = Field(default=None, gt=0)
    """Completions that a process writes at a time, where ended ones give way to others (grpo); all by default."""
    trl: dict[str, Any] = Field(default_factory=dict)
    """`trl.SFTConfig` or `trl.GRPOConfig` keyword arguments, passed through."""


class SampledConfig(Shape):
    """A second evaluation with sampling."""

    temperature: float = Field(gt=0)
    """Temperature of sampling."""
    samples: int = Field(default=1, gt=0)
    """Answers to each question."""


class CurateConfig(Shape):
    """How `medrft curate` and stages with `curate:` thin answers and gather thoughts (docs/armed.md).

    The paper publishes neither tau, nor the cluster counts, nor its checks: every default here is ours.
    """

    tau: int = Field(default=50, ge=1)
    """An answer that more train rows than this have is frequent, and is thinned."""
    clusters: int | None = Field(default=None, gt=0)
    """K-means clusters, and so pairs left, of each frequent answer; by default `tau`, so that none ends up rarer."""
    long_tail: Literal["keep", "drop"] = "keep"
    """Whether pairs whose answer is not frequent are kept."""
    tries: int = Field(default=4, gt=0)
    """Thoughts sampled for a pair until one passes."""
    temperature: float = Field(default=0.7, gt=0)
    """Temperature of sampling."""
    min_words: int = Field(default=5, gt=0)
    """Shorter thoughts are dropped."""
    near_identical: float | None = Field(default=0.9, gt=0, le=1)
    """Drop a thought whose word trigrams overlap this much (Jaccard) with one kept for another question."""

    @property
    def left(self) -> int:
        """Pairs that a frequent answer keeps, at most."""
        return self.clusters or self.tau


class EvalJudgeConfig(Shape):
    """A judge of greedy answers to open questions. Keys beyond this are the judge's own options (docs/judge.md)."""

    model_config = ConfigDict(frozen=True, extra="allow")

    repeats: int = Field(default=1, gt=0)
    """How often each answer is judged; the metric is the mean, and the spread stands beside it."""


class EvalConfig(Shape):
    """How models are evaluated after each stage."""

    data: tuple[SourceConfig, ...] = ()
    """Further data sets whose test split is evaluated beside the run's own, as out of domain."""
    limit: int | None = Field(default=None, gt=0)
    """Examples per data set, drawn by seed; all by default."""
    engine: Literal["transformers", "vllm"] = "transformers"
    """What the model runs in; `vllm` must be installed."""
    batch_size: int = Field(default=32, gt=0)
    """Answers written at a time."""
    max_new_tokens: int = Field(default=256, gt=0)
    """Tokens of an answer, at most."""
    sampled: SampledConfig | None = None
    """A second evaluation with sampled answers; off by default."""
    controls: tuple[ControlName, ...] = ("blank",)
    """Other ways of asking the same model, each a further pass over the test set; `all` is every one."""
    base: Literal["full", "quick", "skip"] = "full"
    """The start model with the `short` prompt: on all test questions, on a sample of each set (`quick`), or not."""
    judge: EvalJudgeConfig | None = None
    """A language model that judges open answers as well; off by default."""
    scorers: tuple[str, ...] = ()
    """Further scorers to report, by name or as `file.py:Name`, for every answer that they apply to."""

    @field_validator("scorers", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("controls", mode="before")
    @classmethod
    def _all_controls(cls, value: Any) -> Any:
        if value in ("all", ["all"]):
            return get_args(ControlName)
        return (value,) if isinstance(value, str) else value


class AuditConfig(Shape):
    """The audit of the run's own reward, made before the first GRPO stage."""

    stop_on: Literal["note", "warning", "error"] | None = None
    """Refuse to train on a finding of this severity or a graver one."""


class ReportConfig(Shape):
    """What the report may show."""

    images: Literal["thumb", "none"] = "thumb"
    """A run with thumbnails holds patient images; `none` keeps them out."""


def _check_taught(stage: StageConfig) -> None:
    """Raise `ValueError` for keys of sft in a grpo stage, and for two sources of what is taught."""
    for key in ("asked_first", "teach", "rejection"):
        # Not `model_fields_set`: a run's own recipe.yaml holds every key, with its default.
        if stage.kind != "sft" and getattr(stage, key) != StageConfig.model_fields[key].default:
            raise ValueError(f"stage {stage.name!r}: {key} is for sft stages, this one is {stage.kind}")
    sources = [key for key in ("curate", "rejection") if getattr(stage, key) is not None]
    sources += ["teach: answers"] if stage.teach == "answers" else []
    if len(sources) > 1:
        raise ValueError(f"stage {stage.name!r} has {' and '.join(sources)}; choose one, for each says what is taught")


class Recipe(Shape):
    """Everything that starts a run."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    """Names the run, and its folder `runs/<name>` unless `--output` says otherwise."""
    seed: int = Field(default=0, ge=0)
    """Of everything that is drawn: splits, samples, weights that start random."""
    prompt: str = "think"
    """How questions are asked: `think` (thought, then answer), `direct`, `short` or `plain`."""
    strict: bool = False
    """Stop on what training would otherwise only count: a scorer that fails, a silent judge, a vanished image."""
    encoder: EncoderConfig = EncoderConfig()
    """What turns answers into vectors."""
    clinical: ClinicalConfig = ClinicalConfig()
    """Your additions to the clinical scorer."""
    model: ModelConfig
    """The policy."""
    data: DataConfig
    """What it trains and is tested on."""
    correct: CorrectConfig = CorrectConfig()
    """When an open answer counts as right."""
    reward: RewardConfig = "armed"
    """What GRPO pays for: a preset's name, a table of parts, or one of the two for each kind of question."""
    stages: tuple[StageConfig, ...] = ()
    """Training stages in their order; none evaluates the start model alone."""
    audit: AuditConfig = AuditConfig()
    """The check of the reward before it trains."""
    curate: CurateConfig = CurateConfig()
    """How rows and thoughts are chosen."""
    eval: EvalConfig = EvalConfig()
    """How models are tested."""
    report: ReportConfig = ReportConfig()
    """What the report may show."""

    @model_validator(mode="after")
    def _stages_fit(self) -> Recipe:
        seen = ["base"]
        for stage in self.stages:
            if stage.name in seen:
                raise ValueError(f"stage name {stage.name!r} is used twice; give each stage its own name")
            for key in ("start", "wall_clock_of", "curate"):
                value = getattr(stage, key)
                if value is not None and value not in seen:
                    raise ValueError(f"stage {stage.name!r}: {key} is {value!r}, but the stages before it are {seen}")
            if stage.curate is not None and stage.kind != "sft":
                raise ValueError(f"stage {stage.name!r}: curate is for sft stages, this one is {stage.kind}")
            _check_taught(stage)
            seen.append(stage.name)
        return self

    def start_of(self, stage: StageConfig) -> str:
        """Name of the stage whose final model `stage` starts from."""
        if stage.start is not None:
            return stage.start
        names = ["base", *(other.name for other in self.stages)]
        return names[names.index(stage.name) - 1]

    def goes_on(self, name: str) -> bool:
        """Whether any stage starts from the final model of stage `name`."""
        return any(self.start_of(stage) == name for stage in self.stages)
