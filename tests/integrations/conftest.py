"""The tiny start model is that of the training tests."""

from training.conftest import base, drawn

__all__ = ["base", "drawn"]
