"""From an answer and a reference to BERTScore or cosine, both from one forward pass over each distinct string.

The encoder reads the text as it was written (trimmed), as in both papers. `describe()` names the encoder, so that it
can stand beside every figure. torch is imported when the first pair is scored, not before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from medrft.config import EncoderConfig
from medrft.errors import ModelError, need_packages
from medrft.scorers.base import AnswerScorer, Pair
from medrft.text import for_model
from medrft.types import Score

if TYPE_CHECKING:
    from medrft.scorers.encoder_model import Encoder

MAX_CHARACTERS = 8_192
"""The most characters that are tokenised: encoders read only a few hundred tokens."""


@dataclass(frozen=True)
class EncoderScorer(AnswerScorer):
    """Base of the two scorers that use an encoder."""

    encoder: EncoderConfig = field(default_factory=EncoderConfig)

    def __post_init__(self) -> None:
        """Raise for a missing package when the reward is built, not in the first step of training."""
        need_packages("torch", "transformers", extra="encoder")

    def describe(self) -> dict[str, Any]:
        """The encoder's name and settings, to stand beside every figure."""
        return {"encoder": self.encoder.id, "revision": self.encoder.revision, "dtype": self.encoder.dtype}

    def _pair_scores(self, pairs: Sequence[Pair], encoder: Encoder) -> list[tuple[float, float]]:
        """(BERTScore F1, cosine) of each pair."""
        cut = [(for_model(p.answer, limit=MAX_CHARACTERS), for_model(p.reference, limit=MAX_CHARACTERS)) for p in pairs]
        return encoder.pair_scores(cut)


@dataclass(frozen=True)
class Cosine(EncoderScorer):
    """Cosine of the sentence embeddings, pooled as the model's own configuration says; negative values become 0."""

    name: ClassVar[str] = "cosine"

    def score_pairs(self, pairs: Sequence[Pair]) -> list[Score]:
        """Cosine of each pair."""
        return [_unit(cosine) for _, cosine in self._pair_scores(pairs, _encoder(self.encoder))]


@dataclass(frozen=True)
class BertScore(EncoderScorer):
    """BERTScore F1 (Zhang et al. 2020): greedy matching of token embeddings of one layer.

    `idf_corpus` is a file with one reference per line; tokens are then weighted by their inverse document frequency in
    it. The corpus is fixed, because weights from the batch would make scores depend on the batch. `baseline` b rescales
    to (F - b) / (1 - b); negative values become 0.
    """

    name: ClassVar[str] = "bertscore"
    idf_corpus: str | None = None
    baseline: float | None = None

    def __post_init__(self) -> None:
        """Refuse settings that cannot be computed, before any training."""
        super().__post_init__()
        if self.idf_corpus is not None and not Path(self.idf_corpus).is_file():
            raise ModelError(f"no file at {self.idf_corpus} (idf_corpus); write one reference a line there")
        if self.baseline is not None and not -1 < self.baseline < 1:
            raise ModelError(f"baseline is a BERTScore between -1 and 1, got {self.baseline}")

    def describe(self) -> dict[str, Any]:
        """The encoder's name and settings."""
        extra = {"layer": self.encoder.layer, "idf_corpus": self.idf_corpus, "baseline": self.baseline}
        return {**super().describe(), "encoder": self.encoder.bertscore or self.encoder.id, **extra}

    def score_pairs(self, pairs: Sequence[Pair]) -> list[Score]:
        """BERTScore F1 of each pair."""
        config = self.encoder
        if config.bertscore is not None:
            config = config.model_copy(update={"id": config.bertscore, "revision": None})
        encoder = _encoder(config, idf_corpus=self.idf_corpus)
        low = self.baseline or 0.0
        return [_unit((score - low) / (1 - low)) for score, _ in self._pair_scores(pairs, encoder)]


def embed_texts(texts: Sequence[str], config: EncoderConfig) -> list[list[float]]:
    """The sentence vector of each text, of length 1, by the encoder that `cosine` uses."""
    cut = [for_model(text, limit=MAX_CHARACTERS) for text in texts]
    encoded = _encoder(config).encode(cut)
    return [encoded[text].sentence.tolist() for text in cut]


def _encoder(config: EncoderConfig, *, idf_corpus: str | None = None) -> Encoder:
    """The one encoder of this process for these settings."""
    from medrft.scorers.encoder_model import get_encoder

    return get_encoder(config.id, config.revision, config.layer, config.dtype, config.cache_dir, idf_corpus)


def _unit(value: float) -> float:
    """The value clipped to [0, 1] and rounded to 6 digits.

    That is much finer than the noise of an encoder, but coarser than what rounding in different batches changes.
    """
    return round(min(1.0, max(0.0, value)), 6)
