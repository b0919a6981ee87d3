"""The shipped fact check of thoughts: it passes what is drawn from the facts, and sees a teacher's errors."""

from pathlib import Path

import pytest

from medrft.data.phantom import load_phantom
from medrft.scorers import build_scorer
from medrft.scorers.base import item_of
from medrft.types import Completion

FACT_CHECK = f"{Path(__file__).resolve().parents[3] / 'recipes' / 'studies' / 'fact_check.py'}:FactCheck"
SMALL = {"seed": 3, "images": 60, "validation_images": 0, "test_images": 0, "size": 32}


def verdicts(examples, thought=None):
    scorer = build_scorer(FACT_CHECK)
    texts = [f"<think>{e.rationale if thought is None else thought}</think><answer>x</answer>" for e in examples]
    completions = [Completion(text=text, n_tokens=9, truncated=False) for text in texts]
    return scorer([item_of(e, c, form="think") for e, c in zip(examples, completions, strict=True)])


def test_drawn_thoughts_are_sound_and_erring_ones_are_not(tmp_path):
    assert set(verdicts(load_phantom(tmp_path, **SMALL).examples)) == {1.0}
    erring = verdicts(load_phantom(tmp_path, **SMALL, teacher_errors=1.0).examples)
    assert sum(erring) / len(erring) < 0.02  # an error may be true of another finding of the picture


@pytest.mark.parametrize("thought", ["", "I look at the image and answer.", "zebra", "."])
def test_a_thought_that_claims_nothing_earns_nothing(tmp_path, thought):
    assert set(verdicts(load_phantom(tmp_path, **SMALL).examples[:8], thought)) == {0.0}


def test_a_place_with_a_finding_is_not_normal(tmp_path):
    examples = [e for e in load_phantom(tmp_path, **SMALL).examples if e.metadata["facts"]["modality"] == "xray"]
    for side, other in (("left", "right"), ("right", "left")):
        found = [e for e in examples if {f["side"] for f in e.metadata["facts"]["findings"]} == {side}]
        assert found and set(verdicts(found, f"The {side} lung is normal.")) == {0.0}
        assert set(verdicts(found, f"The {other} lung is normal.")) == {1.0}
