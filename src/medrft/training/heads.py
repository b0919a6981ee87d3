"""Makes TRL train the distribution that the model writes with, where TRL's head would scale the logits otherwise.

TRL 1.16 computes log-probabilities with a head of its own (`add_fused_lm_head`), which multiplies logits by the
language model's `logit_scale` (Cohere) or the like. A vision-language model's forward pass may not: in transformers
5.23 Aya Vision writes with unscaled logits, and training would learn another distribution, sixteen times flatter than
that of the rollouts.
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
"""Logits agree when they differ by less than this share of the largest: roundings do, scales do not."""


@contextmanager
def matching_heads() -> Iterator[None]:
    """While a trainer is built: its models' heads leave out a scale that their own forward passes leave out."""
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
    """Whether a model's logits are what its head makes of its last hidden states, measured on a few tokens."""
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
