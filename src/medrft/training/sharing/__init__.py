"""Computes a group's prompt and image once in TRL's GRPO trainer, checks the result, and falls back if it differs."""

from __future__ import annotations

from medrft.torchvision_ops import declare_missing_operators

declare_missing_operators()  # modules of this package import TRL
