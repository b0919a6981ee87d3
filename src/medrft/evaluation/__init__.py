"""Evaluation: ask a model about held-out examples, score its answers, and compare them with those under controls."""
