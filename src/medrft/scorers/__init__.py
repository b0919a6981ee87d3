"""Scorers: from a batch of items to one score per item, most in [0, 1]; the same for reward and evaluation.

`SCORERS` tells in which module each one lives. `build_scorer` imports only that module, so that nothing here needs
torch until an encoder is asked to score.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from medrft.config import ClinicalConfig, CorrectConfig, EncoderConfig
from medrft.errors import RecipeError, naming_extras, unknown_name
from medrft.recipes import refuse_masked
from medrft.scorers.correct import Correct
from medrft.scorers.custom import load_custom
from medrft.scorers.guarded import Guarded
from medrft.types import Scorer

SCORERS: dict[str, str] = {
    "bleu1": "medrft.scorers.lexical:Bleu1",
    "rouge1": "medrft.scorers.lexical:Rouge1",
    "exact_match": "medrft.scorers.lexical:ExactMatch",
    "precision": "medrft.scorers.lexical:TokenPrecision",
    "recall": "medrft.scorers.lexical:TokenRecall",
    "set_match": "medrft.scorers.lexical:SetMatch",
    "choice_match": "medrft.scorers.choice:ChoiceMatch",
    "yes_no_match": "medrft.scorers.choice:YesNoMatch",
    "bertscore": "medrft.scorers.encoder:BertScore",
    "cosine": "medrft.scorers.encoder:Cosine",
    "clinical": "medrft.scorers.clinical:Clinical",
    "nli": "medrft.scorers.nli:Nli",
    "judge": "medrft.scorers.judge:build_judge",
    "radgraph_f1": "medrft.scorers.radiology:RadGraphF1",
    "ratescore": "medrft.scorers.radiology:RaTEScore",
    "green": "medrft.scorers.radiology:Green",
    "chexbert": "medrft.scorers.radiology:CheXbert",
    "crimson": "medrft.scorers.radiology:Crimson",
    "correct": "medrft.scorers.correct:as_part",
    "oracle": "medrft.scorers.truth:Oracle",
    "coin": "medrft.scorers.truth:Coin",
    "answer_format": "medrft.scorers.form:AnswerFormat",
    "modality_tag": "medrft.scorers.form:ModalityTag",
    "ecr": "medrft.scorers.length:Ecr",
    "cwr": "medrft.scorers.length:Cwr",
    "cosine_length": "medrft.scorers.length:CosineLength",
    "soft_overlong": "medrft.scorers.length:SoftOverlong",
    "sentence_band": "medrft.scorers.length:SentenceBand",
}
"""Name -> `module:Class`; a user's own scorer is written the same way, `my_reward.py:Brevity`."""

OTHER_NAMES = {"f1": "rouge1"}
"""Names in papers of scorers that have another name here; asking for one raises an error with our name."""


def build_scorer(
    name: str,
    *,
    encoder: EncoderConfig | None = None,
    clinical: ClinicalConfig | None = None,
    correct: CorrectConfig | None = None,
    correct_options: Mapping[str, Any] | None = None,
    base_dir: Path | None = None,
    **options: Any,
) -> Scorer:
    """The scorer called `name`, or the user's own at `file.py:Name` (relative to `base_dir`).

    `options` are the scorer's own. `encoder`, the settings in `clinical`, and the outcome that `correct` and
    `correct_options` describe, go only to scorers with such a parameter. If a user's own scorer raises while it scores,
    the item is unscored. Raises `UnknownNameError` for a wrong name, `RecipeError` for a wrong option.
    """
    refuse_masked(options, where=f"scorer {name}")
    if ":" in name:
        return Guarded(load_custom(name, base_dir=base_dir, options=options))
    if name in OTHER_NAMES:
        raise RecipeError(f"there is no scorer {name!r}: its number is that of {OTHER_NAMES[name]!r}; use that name")
    if name not in SCORERS:
        raise unknown_name("scorer", name, SCORERS)
    module, _, attribute = SCORERS[name].partition(":")
    with naming_extras():
        factory = getattr(importlib.import_module(module), attribute)
    taken = inspect.signature(factory).parameters
    shared: dict[str, Any] = {
        "encoder": encoder or EncoderConfig(),
        **dict(clinical or ClinicalConfig()),
        "correct": None,
    }
    if "correct" in taken:
        shared["correct"] = build_correct(
            correct or CorrectConfig(), encoder=encoder, clinical=clinical, options=correct_options
        )
    known = [parameter for parameter in taken if parameter not in shared]
    wrong = sorted(set(options) - set(known))
    if wrong:
        raise RecipeError(f"scorer {name} has no option {wrong[0]!r}; its options: {', '.join(known) or 'none'}")
    return cast(Scorer, factory(**{key: value for key, value in shared.items() if key in taken}, **options))


def build_correct(
    config: CorrectConfig,
    *,
    encoder: EncoderConfig | None = None,
    clinical: ClinicalConfig | None = None,
    options: Mapping[str, Any] | None = None,
) -> Correct:
    """The binary outcome that a recipe's `correct:` describes; `options` are its scorer's.

    Raises `UnknownNameError` for a scorer that does not exist.
    """
    scorer = build_scorer(config.scorer, encoder=encoder, clinical=clinical, **(options or {}))
    return Correct(scorer, at_least=config.at_least)
