"""Training stages, SFT and GRPO through TRL: a model and examples go in, `stages/<name>/final` comes out.

Beside it lie rollouts, metrics, checkpoints to resume from, and a model card.
"""

from __future__ import annotations

from medrft.training.arguments import check_stage

__all__ = ["check_stage"]
