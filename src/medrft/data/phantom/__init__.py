"""A drawn radiology world with known facts: pictures, questions, wordings, rationales, and a judge of answers."""

from medrft.data.phantom.load import load
from medrft.data.phantom.truth import Truth, truth

__all__ = ["Truth", "load", "truth"]
