"""A drawn radiology world with known facts: pictures, questions, wordings, rationales, and an oracle of answers."""

from medrft.data.phantom.composed import known_facts, looks
from medrft.data.phantom.load import load_phantom
from medrft.data.phantom.load_composed import load_composed
from medrft.data.phantom.truth import Truth, ask_oracle, grade_answer

__all__ = ["Truth", "ask_oracle", "grade_answer", "known_facts", "load_composed", "load_phantom", "looks"]
