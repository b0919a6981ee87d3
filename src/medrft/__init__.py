"""Reinforcement fine-tuning for open-ended medical visual question answering."""

__version__ = "0.1.0"
