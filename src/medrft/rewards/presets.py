"""Rewards by name: from `armed` to its stack. Their weights are only here; `medrft score --show NAME` prints them."""

from __future__ import annotations

from typing import Any

from medrft.reward_config import GateConfig, PartConfig, StackConfig


def _stack(*parts: dict[str, Any], **more: Any) -> StackConfig:
    return StackConfig(parts=tuple(PartConfig(**part) for part in parts), **more)


def _part(scorer: str, weight: float, **more: Any) -> dict[str, Any]:
    return {"scorer": scorer, "weight": weight, **more}


FORMAT = _part("answer_format", 0.2)

PRESETS: dict[str, StackConfig] = {
    # ARMed's ablation without a semantic term, with three equal weights.
    "text": _stack(_part("bleu1", 1 / 3), _part("rouge1", 1 / 3), _part("answer_format", 1 / 3)),
    # ARMed (arXiv 2508.12957) with the semantic term as it is.
    "armed_static": _stack(
        *(_part("bleu1", 0.2), _part("rouge1", 0.2), _part("bertscore", 0.08), _part("cosine", 0.32), FORMAT)
    ),
    # ARMed, Eq. 10: g = (0.4, 0.4, 0.2), l1 = 0.5, l2 = 0.2; the calibration's settings are not the authors' values.
    "armed": _stack(
        *(_part("bleu1", 0.2), _part("rouge1", 0.2)),
        _part("bertscore", 0.08, calibrate="adaptive"),
        _part("cosine", 0.32, calibrate="adaptive"),
        FORMAT,
    ),
    # Ours. The clinical scorer has three quarters of the weight that Eq. 10 gives the answer, and what words and
    # embeddings earn is multiplied by its score: a contradiction keeps next to nothing, a near miss a little more.
    "armed_clinical": _stack(
        *(_part("clinical", 0.6), _part("bleu1", 0.05), _part("rouge1", 0.05)),
        _part("bertscore", 0.02, calibrate="adaptive"),
        _part("cosine", 0.08, calibrate="adaptive"),
        FORMAT,
        gate=GateConfig(scorer="clinical", multiply=True),
    ),
    # MRPO (2606.31825): R_ans = (ROUGE-1 + BLEU-1) / 4 + BERTScore / 2, and the sentence band with a weight of ours.
    "mrpo": _stack(
        *(_part("rouge1", 0.25), _part("bleu1", 0.25), _part("bertscore", 0.5), _part("sentence_band", 1.0))
    ),
    # MediX-R1 (2602.23363); the judge needs options model and base_url.
    "medix": _stack(
        _part("judge", 0.5175),
        _part("cosine", 0.3375, calibrate={"kind": "threshold", "at": 0.8}),
        *(_part("modality_tag", 0.045), _part("answer_format", 0.10)),
    ),
    # Zhu et al. (2505.13973): accuracy, format and a length reward. Functions and weights are unpublished; these are
    # our reading.
    "zhu_ecr": _stack(_part("correct", 1 / 3), _part("answer_format", 1 / 3), _part("ecr", 1 / 3)),
    "zhu_cwr": _stack(_part("correct", 1 / 3), _part("answer_format", 1 / 3), _part("cwr", 1 / 3)),
    # What shipped recipes use for questions with a closed set of answers.
    "closed": _stack(_part("yes_no_match", 0.8), FORMAT),
    "choice": _stack(_part("choice_match", 0.8), FORMAT),
}
