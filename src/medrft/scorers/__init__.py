"""Scorers: batched functions from items to scores in [0, 1]. One function serves reward and evaluation.

`SCORERS` is a table of where each one lives; `build_scorer` loads that module and no other, so that nothing here needs
torch until an encoder is asked to score.
"""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any, cast

from medrft.config import EncoderConfig
from medrft.errors import RecipeError, unknown_name
from medrft.scorers.custom import load_custom
from medrft.scorers.items import item_of
from medrft.types import Scorer

SCORERS: dict[str, str] = {
    "bleu1": "medrft.scorers.lexical:Bleu1",
    "rouge1": "medrft.scorers.lexical:Rouge1",
    "exact_match": "medrft.scorers.lexical:ExactMatch",
    "precision": "medrft.scorers.lexical:TokenPrecision",
    "recall": "medrft.scorers.lexical:TokenRecall",
    "f1": "medrft.scorers.lexical:TokenF1",
    "set_match": "medrft.scorers.lexical:SetMatch",
    "choice_match": "medrft.scorers.choice:ChoiceMatch",
    "yes_no_match": "medrft.scorers.choice:YesNoMatch",
    "bertscore": "medrft.scorers.encoder:BertScore",
    "cosine": "medrft.scorers.encoder:Cosine",
    "clinical": "medrft.scorers.clinical:Clinical",
    "nli": "medrft.scorers.nli:Nli",
    "judge": "medrft.scorers.judge:judge",
    "answer_format": "medrft.rewards.answer_format:AnswerFormat",
}
"""Name -> `module:Class`; a user's own scorer is written the same way, `my_reward.py:Brevity`."""

__all__ = ["SCORERS", "build_scorer", "item_of"]


def build_scorer(
    name: str, *, encoder: EncoderConfig | None = None, base_dir: Path | None = None, **options: Any
) -> Scorer:
    """The scorer called `name`, or the user's own at `file.py:Name` (relative to `base_dir`).

    `options` are the scorer's own. Raises `UnknownNameError` for a name, `RecipeError` for an option that it lacks.
    """
    if ":" in name:
        return load_custom(name, base_dir=base_dir, options=options)
    if name not in SCORERS:
        raise unknown_name("scorer", name, SCORERS)
    module, _, attribute = SCORERS[name].partition(":")
    factory = getattr(importlib.import_module(module), attribute)
    known = [parameter for parameter in inspect.signature(factory).parameters if parameter != "encoder"]
    wrong = sorted(set(options) - set(known))
    if wrong:
        raise RecipeError(f"scorer {name} has no option {wrong[0]!r}; its options: {', '.join(known) or 'none'}")
    if "encoder" in inspect.signature(factory).parameters:
        options = {**options, "encoder": encoder or EncoderConfig()}
    return cast(Scorer, factory(**options))
