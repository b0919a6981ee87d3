"""Judges of radiology reports by other groups, as scorers: their packages compute, here only pairs and numbers pass.

    radgraph_f1   RadEval   entities and relations in common (Delbrouck et al. 2022, RadGraph-XL)
    ratescore     RadEval   entities in common, synonyms included (Zhao et al. 2024)
    green         RadEval   errors and matches that a 7B language model counts (Ostmeier et al. 2024)
    chexbert      RadEval   share of the CheXpert labels that are the same (Smit et al. 2020)
    crimson       CRIMSON   weighted errors that a 4B language model finds (Baharoon et al. 2026)

RadEval is the package `radeval` (2.2), CRIMSON the package `crimson-score` (0.2). Their models come from the hub on
first use. They were made for reports; of a short answer most of them see little.
"""

from __future__ import annotations

import importlib
import math
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from typing import Any, ClassVar, Literal

from medrft.errors import ModelError, RecipeError, need_packages
from medrft.scorers.base import FallibleScorer, Pair
from medrft.scorers.guarded import call_guarded
from medrft.torchvision_ops import declare_missing_operators
from medrft.types import Score

Judged = tuple[Mapping[Pair, Score], Mapping[Pair, str]]
MATCHED = "[Matched Findings]:"
"""What GREEN looks for in its model's reply; where it is missing, GREEN counts nothing and gives 0."""


@dataclass(frozen=True)
class OutsideJudge(FallibleScorer):
    """Base of them all: a batch is one call; what fails or gives no number is `None` with the reason, never 0."""

    package: ClassVar[str]
    """The module that is imported."""

    def __post_init__(self) -> None:
        need_packages(self.package)

    def describe(self) -> dict[str, Any]:
        """The judge and the version of its package."""
        try:
            version = metadata.version({"CRIMSON": "crimson-score"}.get(self.package, self.package))
        except metadata.PackageNotFoundError:
            version = "unknown"
        return {"judge": self.name, "package": f"{self.package} {version}"}

    def rate(self, references: list[str], answers: list[str]) -> list[float | str | None]:
        """For each pair a number in [0, 1], or as text why it has none."""
        raise TypeError(f"{type(self).__name__} defines no rate")

    def load(self) -> Any:
        """The package's own scorer with its models, once per process; raises `ModelError` if it cannot be had."""
        raise TypeError(f"{type(self).__name__} defines no load")

    def judge_pairs(self, pairs: Sequence[Pair]) -> Judged:
        """One number per pair; warns once for all that have none."""
        self.load()
        references, answers = [pair.reference for pair in pairs], [pair.answer for pair in pairs]
        with _apart():
            made, error = call_guarded(lambda: [_unit(value) for value in self.rate(references, answers)])
        if error is None and len(made) != len(pairs):
            error = f"returned {len(made)} scores for {len(pairs)} answers"
        rated = made if error is None else [error] * len(pairs)
        why = {pair: value for pair, value in zip(pairs, rated, strict=True) if isinstance(value, str)}
        if why:
            first = next(iter(why.values()))
            warnings.warn(f"{self.name}: {len(why)} of {len(pairs)} unscored: {first}", stacklevel=2)
        return {pair: None if isinstance(value, str) else value for pair, value in zip(pairs, rated, strict=True)}, why


@dataclass(frozen=True)
class _RadEval(OutsideJudge):
    """A metric of RadEval, one number per pair."""

    package: ClassVar[str] = "radeval"
    metric: ClassVar[str]

    def key(self) -> str:
        """The entry of RadEval's result that is the score."""
        return self.metric

    def load(self) -> Any:
        """`RadEval` with this one metric."""
        return _loaded(self.name, _make_radeval, self.metric)

    def rate(self, references: list[str], answers: list[str]) -> list[float | str | None]:
        """The metric's own number for each pair."""
        return list(self.load()(refs=references, hyps=answers)[self.key()])


@dataclass(frozen=True)
class RadGraphF1(_RadEval):
    """F1 of RadGraph-XL's annotations of answer and reference, 0 where either holds none that they share.

    `level`: `simple` compares entities, `partial` also whether each has a relation (the usual figure), `complete` the
    relations themselves.
    """

    name: ClassVar[str] = "radgraph_f1"
    metric: ClassVar[str] = "radgraph"
    level: Literal["simple", "partial", "complete"] = "partial"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.level not in ("simple", "partial", "complete"):
            raise RecipeError(f"radgraph_f1 level must be simple, partial or complete, got {self.level!r}")

    def key(self) -> str:
        """The entry of the level."""
        return f"radgraph_{self.level}"


@dataclass(frozen=True)
class RaTEScore(_RadEval):
    """RaTEScore; its own value for a pair where it finds no entity on one side is 0.5."""

    name: ClassVar[str] = "ratescore"
    metric: ClassVar[str] = "ratescore"


@dataclass(frozen=True)
class Green(_RadEval):
    """GREEN: matched findings / (matched findings + significant errors), unscored where its model's reply has no form.

    By its own rule a pair without matched findings gets 0, so two normal reports do as well.
    """

    name: ClassVar[str] = "green"
    metric: ClassVar[str] = "green"

    def rate(self, references: list[str], answers: list[str]) -> list[float | str | None]:
        """GREEN's numbers, but for a 0 that comes from a reply it could not read."""
        scores = super().rate(references, answers)
        replies = getattr(self.load().green_scorer, "completions", None) or []
        if len(replies) != len(scores):
            return scores
        return [
            score if score or MATCHED in reply else f"unparsable reply: {reply[:80]!r}"
            for score, reply in zip(scores, replies, strict=True)
        ]


@dataclass(frozen=True)
class CheXbert(_RadEval):
    """The share of CheXpert labels that CheXbert gives to answer and reference alike; F1 is a figure of whole sets.

    `labels`: `all` 14, or the `5` most frequent. Most labels of two short texts are empty, and so alike.
    """

    name: ClassVar[str] = "chexbert"
    metric: ClassVar[str] = "f1chexbert"
    labels: Literal["all", "5"] = "all"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "labels", str(self.labels))  # YAML reads 5 as a number
        if self.labels not in ("all", "5"):
            raise RecipeError(f"chexbert labels must be all or 5, got {self.labels!r}")

    def key(self) -> str:
        """The entry of the labels."""
        return f"f1chexbert_sample_acc_{self.labels}"


@dataclass(frozen=True)
class Crimson(OutsideJudge):
    """CRIMSON's score s in (-1, 1] as (1 + s) / 2: 1 is perfect, 0.5 no better than a normal report, less is worse.

    `api`: `hf` or `vllm`, on this machine; `model`: a hub id in place of its own; `batch_size`: prompts at a time (hf).
    """

    name: ClassVar[str] = "crimson"
    package: ClassVar[str] = "CRIMSON"
    api: Literal["hf", "vllm"] = "hf"
    model: str | None = None
    batch_size: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        # Its third way, a server elsewhere, takes no batches, and nobody would be told where the answers go.
        if self.api not in ("hf", "vllm"):
            raise RecipeError(f"crimson api must be hf or vllm, got {self.api!r}")

    def describe(self) -> dict[str, Any]:
        """Also which model judges."""
        return {**super().describe(), "model": self.model, "api": self.api}

    def load(self) -> Any:
        """`CRIMSONScore` with its model."""
        return _loaded(self.name, _make_crimson, self.api, self.model)

    def rate(self, references: list[str], answers: list[str]) -> list[float | str | None]:
        """One number per pair; a reply that CRIMSON cannot read is unscored."""
        results = self.load().evaluate_batch(references, answers, batch_size=self.batch_size)
        return ["unparsable reply" if one is None else (1 + one["crimson_score"]) / 2 for one in results]


def _make_radeval(metric: str) -> Any:
    declare_missing_operators()
    module = importlib.import_module("radeval")
    # RadEval 2.2.1's RadGraph imports its own parts as `RadEval`, which no file system finds that tells case.
    sys.modules.setdefault("RadEval", module)
    return module.RadEval(metrics=[metric], per_sample=True, show_progress=False)


def _make_crimson(api: str, model: str | None) -> Any:
    declare_missing_operators()
    return importlib.import_module("CRIMSON").CRIMSONScore(api=api, model_name=model)


@lru_cache(maxsize=8)
def _loaded(name: str, make: Callable[..., Any], *settings: Any) -> Any:
    """What `make` makes, once for these settings; raises `ModelError` in one line if that fails."""
    with _apart():
        made, error = call_guarded(lambda: make(*settings))
    if error is not None:
        raise ModelError(f"{name} cannot be loaded: {error}; docs/clinical.md says what it needs")
    return made


@contextmanager
def _apart() -> Iterator[None]:
    """Keeps what these packages print off standard output, and their filters of warnings from ours."""
    with redirect_stdout(sys.stderr), warnings.catch_warnings():
        yield


def _unit(value: Any) -> float | str:
    """A number in [0, 1], or why it is none."""
    if value is None or isinstance(value, str):
        return value or "it gave no number"
    number = float(value)
    return min(1.0, max(0.0, number)) if math.isfinite(number) else f"a score is {number}"
