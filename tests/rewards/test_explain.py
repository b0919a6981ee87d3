"""Explanations of a reward: each scorer speaks for itself, and says the number it gave."""

import pytest

from medrft.rewards.explain import explain_outcome, explain_scorer
from medrft.scorers import build_scorer
from medrft.scorers.lexical import Rouge1
from medrft.types import Item


def item(answer, *references, **rest):
    return Item(references=references, kind="choice" if rest.get("options") else "open", answer=answer, **rest)


@pytest.mark.parametrize(
    "asked",
    [
        item("fluid on the right", "left effusion"),
        item("lung", "heart", "the lungs"),  # the second reference is the best one
        item("B", "MRI", options=("CT", "MRI")),  # a letter stands for its option
        item("b) MRI", "B", options=("CT", "MRI")),
        item("no", "yes", question="Is there an effusion?"),
    ],
)
def test_the_clinical_explanation_ends_in_the_score_itself(asked):
    scorer = build_scorer("clinical")
    (score,) = scorer([asked])
    assert explain_scorer(scorer, asked, score)[1].startswith(f"    clinical {score:.2f}")


@pytest.mark.parametrize("answer", [None, "", "N/A"])
def test_what_was_scored_0_unread_has_nothing_to_explain(answer):
    assert explain_scorer(build_scorer("clinical"), item(answer, "lung"), 0.0) == ["clinical: 0.0000"]


def test_any_scorer_explains_itself_about_the_reference_that_counted():
    class Mine(Rouge1):
        def explain(self, one):
            yield " or ".join(one.references)

    class Part:
        scorer, name, weight = Mine(), "mine", 1.0
        calibration = type("Calibration", (), {"kind": "none"})()

    class Stack:
        parts, gate = (Part(),), None

    class Reward:
        def stack(self, kind):
            return Stack()

    row = {"reward": 1.0, "parts": {"mine": {"applicable": True, "raw": 1.0, "calibrated": 1.0}}}
    assert explain_outcome(Reward(), item("lung", "heart", "lung"), row, 1)[1] == "    lung"
