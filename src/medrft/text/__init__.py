"""From any string that a policy can write to its thought and answer, a normal spelling, a yes or no, or a choice.

Everything that compares or reads text (scorers, rewards, metrics, audit) uses this package and nothing else, so the
doctests here are the specification. All functions take time linear in the text.

    normal      one spelling for comparisons: `normalize`, `tokens`
    signs       signs that carry meaning, and numbers, in one spelling
    thoughts    a model's thought parted from its answer, whatever marks the model uses: `part_thought`
    extraction  the answer of a completion in its prompt's form: `extract`; in any form: `answer_of`
    polarity    yes or no: `yes_no`; and the kind of a question
    choices     which option an answer chooses: `chosen`
"""

from medrft.text.choices import chosen, label_of
from medrft.text.extraction import Extracted, answer_of, boxes_of, extract
from medrft.text.normal import CACHED_LENGTH, for_model, is_placeholder, normalize, sentences, tokens, whole_characters
from medrft.text.polarity import infer_kind, yes_no, yes_no_said
from medrft.text.thoughts import after_thought, part_thought

__all__ = [
    "CACHED_LENGTH",
    "Extracted",
    "after_thought",
    "answer_of",
    "boxes_of",
    "chosen",
    "extract",
    "for_model",
    "infer_kind",
    "is_placeholder",
    "label_of",
    "normalize",
    "part_thought",
    "sentences",
    "tokens",
    "whole_characters",
    "yes_no",
    "yes_no_said",
]
