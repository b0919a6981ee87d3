"""TRL's head computes the log-probabilities of the logits that a model writes with."""

import pytest
import torch
from trl.trainer import grpo_trainer

from medrft.models.tiny import build_tiny
from medrft.training.heads import SCALES, matching_heads

SMALL = {"image": 32, "hidden": 32, "vision_hidden": 16, "layers": 2, "vision_layers": 1, "mlp": 32}
TEXTS = ["The left lung shows an opacity."] * 3


@pytest.mark.parametrize(("family", "scale"), [("aya_vision", 0.0625), ("qwen2_5_vl", None), ("gemma4", None)])
def test_trained_log_probabilities_are_those_written(family, scale):
    model, _ = build_tiny(family, texts=TEXTS, sizes=SMALL, seed=0)
    model.eval()
    config = model.config.get_text_config()
    ids = torch.arange(20, 30)[None]
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    with torch.no_grad():
        logits = model(**inputs).logits[:, :-1] / 0.7
    written = logits.log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
    with matching_heads():
        grpo_trainer.add_fused_lm_head(model, temperature=0.7)
    with torch.no_grad():
        trained = model(**inputs, labels=ids, fused_lm_head=True).log_probs
    assert (trained - written).abs().max() < 1e-4
    assert {getattr(config, name, None) for name in SCALES} == {scale, None}  # the checkpoint's own stays in its config


def test_a_model_that_scales_keeps_its_scale():
    from transformers import Cohere2Config, Cohere2ForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = Cohere2ForCausalLM(Cohere2Config(vocab_size=64, num_key_value_heads=2, **sizes)).eval()
    ids = torch.arange(20, 30)[None]
    with torch.no_grad():
        written = model(ids).logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
        with matching_heads():
            grpo_trainer.add_fused_lm_head(model)
        trained = model(ids, labels=ids, fused_lm_head=True).log_probs
    assert (trained - written).abs().max() < 1e-5
