"""A group's prompt and image computed once in TRL's GRPO trainer: how, whether it is right, and when it is not done."""

from __future__ import annotations

from medrft.torchvision_ops import declare_missing_operators

declare_missing_operators()  # modules of this package import TRL
