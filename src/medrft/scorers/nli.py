"""From an answer and a reference to a score by natural language inference: does each entail the other?

    score = 0                                         if P(contradiction) >= gate in either direction
          = min(P(a -> r entails), P(r -> a entails))   otherwise

P comes from any cross-encoder on the hub that was trained for NLI. The minimum asks for both directions, as "semantic
equivalence" by bidirectional entailment does (Kuhn et al. 2023, arXiv 2302.09664). The question is put before both
sides, because "left" alone says nothing that could be entailed.
"""

from __future__ import annotations

import math
import warnings
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal, NamedTuple

from medrft.errors import ModelError, RecipeError, need_packages
from medrft.hub import hub_silence, without_hub
from medrft.scorers.base import AnswerScorer, Pair
from medrft.text import normalize, whole_characters
from medrft.torchvision_ops import declare_missing_operators
from medrft.types import Item, Score

REMEMBERED = 131_072
QUESTION_CHARS = 300
"""The last so many characters of a question are used: it stands on both sides, and must leave room for the answer."""


class Labels(NamedTuple):
    """The places of a model's outputs."""

    entailment: int
    contradiction: int | None


class Inference(NamedTuple):
    """A model's probabilities for a premise and a hypothesis, each in [0, 1]; the rest to 1 is neutral."""

    entailment: float
    contradiction: float


@dataclass(frozen=True)
class Nli(AnswerScorer):
    """Entailment both ways by the cross-encoder `model` (hub id or path), 0 on a contradiction.

    `gate`: the probability from which a contradiction counts; `None` for models without that label. `combine`: `min` or
    `mean` of the two directions. `labels`: the names of the outputs in order, if the model's config has none.
    `question`: whether the question stands before both sides. An answer of more than `max_chars` gets 0, because the
    model would see only a part of it. Raises `ModelError` if the model is no NLI model.
    """

    name: ClassVar[str] = "nli"
    model: str = ""
    revision: str | None = None
    gate: float | None = 0.5
    combine: Literal["min", "mean"] = "min"
    labels: tuple[str, ...] | None = None
    question: bool = True
    batch_size: int = 64
    max_length: int = 512
    """The most tokens of question and both sides; the model's own limit if that is less."""
    max_chars: int = 1_000
    device: str = "auto"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"

    def __post_init__(self) -> None:
        need_packages("torch", "transformers", extra="encoder")
        if not self.model:
            raise RecipeError("nli needs option model: the hub id or path of a cross-encoder trained for NLI")
        if self.combine not in ("min", "mean"):
            raise RecipeError(f"nli combine must be min or mean, got {self.combine!r}")
        if self.gate is not None and not 0 < self.gate <= 1:
            raise RecipeError(f"nli gate must be in (0, 1] or null, got {self.gate}")
        if self.labels is not None:
            object.__setattr__(self, "labels", tuple(self.labels))  # YAML gives a list, which cannot be hashed

    def describe(self) -> dict[str, Any]:
        """Which model infers, and how its directions are put together."""
        return {"nli": self.model, "revision": self.revision, "gate": self.gate, "combine": self.combine}

    def score_pairs(self, pairs: Sequence[Pair]) -> list[Score]:
        """One score per pair; `None`, with a warning, if the model's output is not a number."""
        # Equal texts need no model.
        scores: dict[Pair, Score] = {
            pair: 1.0 if normalize(pair.answer) == normalize(pair.reference) else None for pair in pairs
        }
        found = self.infer_both_ways([pair for pair in pairs if scores[pair] is None])
        scores |= {pair: self._score(forth, back) for pair, (forth, back) in found.items()}
        lost = sum(score is None for score in scores.values())
        if lost:
            warnings.warn(
                f"nli {self.model}: {lost} of {len(pairs)} unscored: its output is not a number", stacklevel=2
            )
        return [scores[pair] for pair in pairs]

    def infer_both_ways(self, pairs: Sequence[Pair]) -> dict[Pair, tuple[Inference, Inference]]:
        """For each pair what the model says of answer -> reference, and of reference -> answer."""
        encoder = _load(self.model, self.revision, self.device, self.dtype)
        labels = find_labels(encoder.id2label, model=self.model, given=self.labels, gated=self.gate is not None)
        texts = [self._texts(pair) for pair in pairs]
        both_ways = [direction for a, r in texts for direction in ((a, r), (r, a))]
        found = encoder.infer(both_ways, labels, batch_size=self.batch_size, max_length=self.max_length)
        return {pair: (found[a, r], found[r, a]) for pair, (a, r) in zip(pairs, texts, strict=True)}

    def _pairs(self, item: Item) -> list[Pair] | None:
        """The pairs as for any scorer of answers, but none for an answer that is too long: it gets 0 unread."""
        if item.answer is None or len(item.answer) <= self.max_chars:
            return super()._pairs(item)
        return [] if any(self.can_score(reference, item) for reference in item.references) else None

    def _texts(self, pair: Pair) -> tuple[str, str]:
        """Answer and reference as the model sees them."""
        ahead = f"{pair.question[-QUESTION_CHARS:]} " if self.question and pair.question else ""
        answer, reference = f"{ahead}{pair.answer}", f"{ahead}{pair.reference[: self.max_chars]}"
        return whole_characters(answer), whole_characters(reference)  # tokenizers refuse lone surrogates

    def _score(self, forth: Inference, back: Inference) -> Score:
        """Both directions as one number."""
        if any(math.isnan(value) for value in (*forth, *back)):
            return None
        if self.gate is not None and max(forth.contradiction, back.contradiction) >= self.gate:
            return 0.0
        ways = (forth.entailment, back.entailment)
        return min(ways) if self.combine == "min" else sum(ways) / 2


def find_labels(
    id2label: Mapping[int, str], *, model: str, given: Sequence[str] | None = None, gated: bool = True
) -> Labels:
    """Which outputs are entailment and contradiction, by their names; raises `ModelError` when they cannot be told.

    >>> find_labels({0: "CONTRADICTION", 1: "ENTAILMENT", 2: "NEUTRAL"}, model="x")
    Labels(entailment=1, contradiction=0)
    >>> find_labels({0: "entailment", 1: "not_entailment"}, model="x", gated=False)
    Labels(entailment=0, contradiction=None)
    >>> find_labels({0: "LABEL_0", 1: "LABEL_1"}, model="x", given=["contradiction", "entailment"])
    Labels(entailment=1, contradiction=0)
    """
    if given is not None and len(given) != len(id2label):
        raise ModelError(f"nli labels {list(given)} are {len(given)}, but {model} has {len(id2label)} outputs")
    names = dict(enumerate(given)) if given is not None else id2label
    entailment = [i for i, name in names.items() if _plain(name).startswith("entail")]
    contradiction = [i for i, name in names.items() if _plain(name).startswith("contradict")]
    if len(id2label) < 2 or len(entailment) != 1 or len(contradiction) > 1:
        raise ModelError(
            f"{model} does not say which output is entailment (its labels: {', '.join(map(str, names.values()))}); "
            "use a model trained for NLI, or name its outputs in option labels"
        )
    if gated and not contradiction:
        raise ModelError(
            f"{model} has no contradiction label (its labels: {', '.join(names.values())}); set gate: null"
        )
    return Labels(entailment[0], contradiction[0] if contradiction else None)


def _plain(name: str) -> str:
    return str(name).strip().lower()


class CrossEncoder:
    """A sequence-pair classifier with a bounded memory of what it has judged."""

    def __init__(self, model: Any, tokenizer: Any, device: str) -> None:
        self.model, self.tokenizer, self.device = model, tokenizer, device
        self.id2label: dict[int, str] = {int(i): str(name) for i, name in model.config.id2label.items()}
        self._memory: OrderedDict[tuple[int, str, str], tuple[float, ...]] = OrderedDict()

    def infer(
        self, pairs: Sequence[tuple[str, str]], labels: Labels, *, batch_size: int, max_length: int
    ) -> dict[tuple[str, str], Inference]:
        """Each distinct (premise, hypothesis) judged once, in batches of like length."""
        length = min(max_length, self._limit())
        wanted = dict.fromkeys(pairs)
        known = {pair: self._memory[length, *pair] for pair in wanted if (length, *pair) in self._memory}
        new = sorted((pair for pair in wanted if pair not in known), key=lambda pair: len(pair[0]) + len(pair[1]))
        for start in range(0, len(new), batch_size):
            batch = new[start : start + batch_size]
            for pair, row in zip(batch, self._forward(batch, length), strict=True):
                known[pair] = self._memory[length, *pair] = row
        while len(self._memory) > REMEMBERED:
            self._memory.popitem(last=False)
        at = labels.contradiction
        return {
            pair: Inference(row[labels.entailment], row[at] if at is not None else 0.0) for pair, row in known.items()
        }

    def _limit(self) -> int:
        """Tokens that the model takes, question and both sides together."""
        places = getattr(self.model.config, "max_position_embeddings", None) or 512
        # RoBERTa counts positions from its padding id (1) plus 1, so the first two position embeddings hold no token.
        offset = 2 if self.model.config.model_type in ("roberta", "xlm-roberta", "camembert") else 0
        return int(min(places - offset, self.tokenizer.model_max_length))

    def _forward(self, batch: Sequence[tuple[str, str]], length: int) -> list[tuple[float, ...]]:
        """The probabilities of all labels, rounded, so that they do not depend on the padding of a batch."""
        import torch

        premises, hypotheses = ([pair[side] for pair in batch] for side in (0, 1))
        tokens = self.tokenizer(
            premises, hypotheses, truncation="longest_first", max_length=length, padding=True, return_tensors="pt"
        )
        with torch.inference_mode():
            logits = self.model(**tokens.to(self.device)).logits
        rows = torch.softmax(logits.float(), dim=-1).tolist()
        return [tuple(round(value, 5) for value in row) for row in rows]


@lru_cache(maxsize=2)
def _load(model: str, revision: str | None, device: str, dtype: str) -> CrossEncoder:
    """A cross-encoder, loaded once per process; raises `ModelError` if it cannot be used."""
    import torch

    declare_missing_operators()
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    place = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    if place != "cpu" and not torch.cuda.is_available():
        raise ModelError(f"nli device {device!r} is not there: torch sees no GPU; use cpu or auto")
    silence = hub_silence(model)
    try:
        tokenizer = AutoTokenizer.from_pretrained(model, revision=revision)
        loaded, info = AutoModelForSequenceClassification.from_pretrained(
            model, revision=revision, dtype=getattr(torch, dtype), output_loading_info=True
        )
    except (OSError, ValueError, KeyError) as error:
        if silence is not None:
            raise ModelError(f"cannot load {model!r} as a cross-encoder: {without_hub(silence, model)}") from error
        told = " ".join(str(error).split())[:300]
        raise ModelError(f"cannot load {model!r} as a cross-encoder: {told}; give a hub id or a folder") from error
    # For a model without a classifier transformers makes one of random weights, and only logs a warning.
    if info["missing_keys"]:
        missing = ", ".join(sorted(info["missing_keys"])[:3])
        raise ModelError(
            f"{model} was not trained to classify pairs: it has no weights for {missing}; use an NLI model"
        )
    if tokenizer.pad_token is None:
        raise ModelError(f"{model} has no padding token, so it cannot take pairs in batches; use a cross-encoder")
    return CrossEncoder(loaded.eval().to(place), tokenizer, place)
