from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medrft.evaluation.controls import negation
from medrft.evaluation.controls.negation import negate_question

NEGATED = [
    ("Is there a pneumothorax?", "there is no pneumothorax"),
    ("is there any free air", "there is no free air"),
    (
        "Are there some organs controlling heartbeat in this image?",
        "there are no organs controlling heartbeat in this image",
    ),
    ("Is there evidence of an aortic aneurysm?", "there is no evidence of an aortic aneurysm"),
    ("Is/Are there abnormalities in the patient's left lung?", "there are no abnormalities in the patient's left lung"),
    ("Does the picture contain lung?", "the picture does not contain lung"),
    (
        "Does the picture contain the organ which has the effect of storing urine?",
        "the picture does not contain the organ which has the effect of storing urine",
    ),
    ("Do the organs in the image exist in the chest?", "the organs in the image do not exist in the chest"),
    (
        "Do any of the organs in the picture belong to the nervous system?",
        "none of the organs in the picture belong to the nervous system",
    ),
    ("Did this patient receive IV contrast?", "this patient did not receive IV contrast"),
    ("Do you see cardiomegaly?", "you do not see cardiomegaly"),
    ("Can you see the esophagus in this image?", "you cannot see the esophagus in this image"),
    (
        "Can pneumonia be observed on the right lung in this picture?",
        "pneumonia cannot be observed on the right lung in this picture",
    ),
    ("Is this a CT?", "this is not a CT"),
    ("Is this in a coronal plane?", "this is not in a coronal plane"),
    ("Are the lungs normal?", "the lungs are not normal"),
    ("Is the trachea midline?", "the trachea is not midline"),
    ("Are the borders of the heart clearly visualized?", "the borders of the heart are not clearly visualized"),
    ("Is a mass present in this xray?", "a mass is not present in this xray"),
    ("Has the midline of the mediastinum shifted?", "the midline of the mediastinum has not shifted"),
    ("Is the left kidney abnormal?", "the left kidney is not abnormal"),
    ("Is the nodule on the right side?", "the nodule is not on the right side"),
    ("Is the mass in the upper zone?", "the mass is not in the upper zone"),
]


@pytest.mark.parametrize(("question", "claim"), NEGATED)
def test_what_can_be_negated_is_in_whole_sentences(question, claim):
    assert negate_question(question).question == f"Is it true that {claim}?"


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        ("Is the heart not enlarged?", negation.NEGATIVE),
        ("Isn't there a mass?", negation.NEGATIVE),
        ("Is there no mass?", negation.NEGATIVE),
        ("Is the lung free of disease?", negation.NEGATIVE),
        ("Is the appendix non-enlarged?", negation.NEGATIVE),
        ("Was it taken without contrast?", negation.NEGATIVE),
        ("Are both lungs clear?", negation.JOINED),
        ("Is there a mass or a cyst?", negation.JOINED),
        ("Is the mass round and is it large?", negation.JOINED),
        ("Is the silhouette small/stretched?", negation.JOINED),
        ("Are >12 ribs present?", negation.COUNTED),
        ("Is there more than one nodule?", negation.COUNTED),
        ("Are there multiple lesions?", negation.COUNTED),
        ("Are all ribs intact?", negation.COUNTED),
        ("Is the heart wider than half of the chest?", negation.COUNTED),
        ("Is there anything abnormal?", negation.COUNTED),
        ("Does this mass likely represent a tumor?", negation.HEDGED),
        ("Is this normal? Is it a CT?", negation.SENTENCES),
        ("图中包含肝脏吗?", negation.FOREIGN),
        ("Is any rib fractured?", negation.NO_RULE),  # `any` under `not` would be no English
        ("Is the air present in the bowel pathologic?", negation.NO_RULE),  # two predicates
        ("Is the lesion seen in the left lung cancerous?", negation.NO_RULE),  # which is the predicate?
        ("Are the hepatic lesions ring enhancing?", negation.NO_RULE),
        ("Is this patient lying supine?", negation.NO_RULE),
        ("Is this mass located in the liver?", negation.NO_RULE),
        ("Is there the aorta?", negation.NO_RULE),
        ("Evidence of hemorrhage in the kidneys?", negation.NO_RULE),
        ("Can a patient with a metal implant get a CXR?", negation.NO_RULE),
        ("What is shown?", negation.NO_RULE),
        ("Was this image taken in the axial plane?", negation.NO_RULE),
        ("", negation.NO_RULE),
        ("?", negation.NO_RULE),
    ],
)
def test_what_cannot_be_negated_safely_is_left_with_its_reason(question, reason):
    assert negate_question(question) == (None, reason)


@pytest.mark.parametrize("question", [question for question, _ in NEGATED])
def test_a_negation_is_not_negated_again(question):
    assert negate_question(negate_question(question).question).question is None


@given(st.text(max_size=80))
def test_any_text_has_a_negation_or_a_reason(text):
    made = negate_question(text)
    assert (made.question is None) != (made.reason == "")


WORDS = [
    "is",
    "are",
    "the",
    "a",
    "this",
    "mass",
    "in",
    "of",
    "not",
    "any",
    "normal",
    "there",
    "does",
    "show",
    "can",
    "be",
]


@given(st.lists(st.sampled_from(WORDS)))
def test_words_in_any_order_break_nothing(words):
    made = negate_question(" ".join(words) + "?").question
    assert made is None or (made.startswith("Is it true that ") and made.count("?") == 1)
