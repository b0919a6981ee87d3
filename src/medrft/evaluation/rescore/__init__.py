"""Rescoring: scores other evaluators' outputs with our scorers, and says why their figures differ from ours."""

from __future__ import annotations

from medrft.evaluation.rescore.perform import EVALUATORS, Rescored, check_evaluator, rescore

__all__ = ["EVALUATORS", "Rescored", "check_evaluator", "rescore"]
