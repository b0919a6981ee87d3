"""A drawn radiology world with known facts: pictures, questions, wordings, rationales, and a judge of answers."""

from medrft.data.phantom.load import load_phantom
from medrft.data.phantom.truth import Truth, grade_answer

__all__ = ["Truth", "grade_answer", "load_phantom"]
