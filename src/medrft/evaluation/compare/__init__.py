"""Compares two models on the same questions: paired differences with intervals, tests, and which answers changed."""
