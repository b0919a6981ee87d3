"""The shipped fact check of thoughts: it passes what is drawn from the facts, and sees a teacher's errors."""

from pathlib import Path

import pytest

from medrft.data import read_data
from medrft.data.phantom import load_phantom
from medrft.scorers import build_scorer
from medrft.scorers.base import item_of
from medrft.types import Completion

CHECKS = Path(__file__).resolve().parents[3] / "recipes" / "studies" / "fact_check.py"
SMALL = {"seed": 3, "images": 60, "validation_images": 0, "test_images": 0, "size": 32}


def verdicts(examples, thought=None, check="FactCheck"):
    scorer = build_scorer(f"{CHECKS}:{check}")
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


@pytest.fixture(scope="module")
def composed(tmp_path_factory):
    options = {"thoughts": 250, "answers": 0, "validation_images": 0, "test_images": 0, "size": 32}
    found = read_data("phantom_composed", tmp_path_factory.mktemp("composed"), seed=3, options=options).examples
    return {kind: [e for e in found if e.metadata["thought"] == kind] for kind in ("looking", "shortcut")}


def test_who_looks_pleases_both_experts_and_who_guesses_at_most_the_one_who_asks_for_nothing(composed):
    right = [e for e in composed["looking"] if e.metadata["teacher_error"] is None]
    for check in ("FactCheck", "AskedCheck"):
        assert len(right) > 60 and set(verdicts(right, check=check)) == {1.0}
    assert 0.2 < sum(verdicts(composed["shortcut"])) / len(composed["shortcut"]) < 0.6
    assert sum(verdicts(composed["shortcut"], check="AskedCheck")) / len(composed["shortcut"]) < 0.1
    wrong = "On the right there is a large mass. On the left there is a small infarct. The larger one is on the right."
    assert sum(verdicts(right, wrong, check="AskedCheck")) / len(right) < 0.1
