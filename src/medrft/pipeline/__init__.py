"""Whole runs: from a recipe to trained, evaluated and reported models."""
