"""Other evaluators' outputs, scored again with our scorers; their figures beside ours, and why they differ."""

from __future__ import annotations

from medrft.evaluation.rescore.perform import EVALUATORS, Rescored, rescore

__all__ = ["EVALUATORS", "Rescored", "rescore"]
