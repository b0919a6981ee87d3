"""Makes TRL compute log-probabilities with the logits that the model writes with.

TRL 1.16 computes them with a head of its own (`add_fused_lm_head`), which multiplies logits by the language model's
`logit_scale` (Cohere) or a similar factor. A vision-language model's forward pass may leave that factor out. In
transformers 5.23 Aya Vision does: it writes with unscaled logits, and training would see another distribution, with
logits sixteen times smaller than in the rollouts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from trl.trainer import grpo_trainer, sft_trainer

SCALES = ("logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling")
"""Entries of a language model's config by which TRL scales its head."""
CLOSE = 1e-2
"""Logits agree if they differ by less than this share of the largest one: rounding stays below, a factor does not."""


@contextmanager
def matching_heads() -> Iterator[None]:
    """Build a trainer inside: TRL's heads then leave out a factor that a model's own forward pass leaves out."""
    kept = grpo_trainer.add_fused_lm_head, sft_trainer.add_fused_lm_head

    def add_head(model: Any, *args: Any, **kwargs: Any) -> None:
        with _without_unused_scales(model):
            kept[0](model, *args, **kwargs)

    grpo_trainer.add_fused_lm_head = sft_trainer.add_fused_lm_head = add_head
    try:
        yield
    finally:
        grpo_trainer.add_fused_lm_head, sft_trainer.add_fused_lm_head = kept


@contextmanager
def _without_unused_scales(model: Any) -> Iterator[None]:
    config = model.config.get_text_config()
    named = {name: getattr(config, name, None) for name in SCALES}
    unused = {name: value for name, value in named.items() if value not in (None, 1.0)}
    if unused and not _writes_unscaled(model):
        unused = {}
    try:
        for name in unused:
            setattr(config, name, 1.0)
        yield
    finally:
        for name, value in unused.items():
            setattr(config, name, value)


def _writes_unscaled(model: Any) -> bool:
    """Whether a model's logits are exactly its head's output on the last hidden states, measured on a few tokens."""
    device = model.get_output_embeddings().weight.device
    ids = torch.arange(10, 14, device=device)[None]
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "use_cache": False}
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            logits = model(**inputs).logits.float()
            plain = model.get_output_embeddings()(model.base_model(**inputs).last_hidden_state).float()
    finally:
        model.train(training)
    return float((logits - plain).abs().max()) < CLOSE * float(plain.abs().max())
