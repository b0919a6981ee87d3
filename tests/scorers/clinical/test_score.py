"""Scores: 1 for the same meaning, 0 for a contradiction, between them for less or more."""

import csv
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medrft.intervals import auroc
from medrft.scorers import build_scorer
from medrft.scorers.clinical import Clinical, explain, score_pair
from medrft.scorers.clinical.score import compare_answers
from medrft.text import normalize
from medrft.types import Scorer
from score_items import item

PAIRS = Path(__file__).parents[2] / "data"


@pytest.mark.parametrize(
    ("reference", "candidate"),
    [
        ("Left Lung.", "the left lung"),
        ("cardiomegaly", "enlarged heart"),
        ("no pneumothorax", "pneumothorax is absent"),
        ("RLL pneumonia", "right lower lobe pneumonia"),
        ("8 cm nodule", "80 mm nodule"),
        ("5 cm", "5.2 cm"),  # within 10 %
        ("two", "2"),
        ("Lung, Spinal Cord", "spinal cord and lung"),
        ("chest x-ray", "The image is a chest X-ray."),
        ("yes", "Yes, there is evidence of an aortic aneurysm."),
        ("no", "There is no evidence of fracture."),
        ("heart size is normal", "no cardiomegaly"),
        ("both kidneys", "bilateral kidneys"),
        ("XYZ", "xenon yolk zone"),  # an abbreviation nobody listed
        ("s/p cholecystectomy", "the gallbladder was removed"),
        ("collapsed lung", "pneumothorax"),
        ("collapsed lung", "atelectasis"),  # the word means either
        ("hyperintense", "bright signal"),
        ("0", "none"),
    ],
)
def test_the_same_meaning(reference, candidate):
    assert score_pair(reference, candidate) == 1.0


@pytest.mark.parametrize(
    ("facet", "reference", "candidate"),
    [
        ("polarity", "pneumothorax", "no pneumothorax"),
        ("polarity", "the appendix is visualized", "the appendix is not visualized"),
        ("polarity", "effusion", "the effusion has resolved"),
        ("polarity", "yes", "No, there is none."),
        ("side", "left pleural effusion", "fluid in the right pleural space"),
        ("side", "right effusion and left pneumothorax", "left effusion and right pneumothorax"),
        ("side", "both lungs", "the right lung only"),
        ("position", "apical pneumothorax", "basal pneumothorax"),
        ("position", "above the diaphragm", "below the diaphragm"),
        ("quantity", "two nodules", "three nodules"),
        ("quantity", "one lesion", "multiple lesions"),
        ("size", "2 cm nodule", "8 cm nodule"),
        ("size", "enlarged heart", "small heart"),
        ("severity", "mild cardiomegaly", "severe cardiomegaly"),
        ("severity", "acute infarct", "chronic infarct"),
        ("density", "hypodense lesion", "bright lesion"),
        ("change", "growing mass", "shrinking mass"),
        ("modality", "CT", "MRI"),
        ("modality", "T1", "FLAIR"),
        ("modality", "with contrast", "unenhanced scan"),
        ("plane", "PA", "AP"),
        ("plane", "axial", "sagittal"),
        ("category", "benign", "cancerous"),
        ("category", "normal chest radiograph", "pneumonia on the chest radiograph"),
        ("category", "type A dissection", "type B dissection"),
        ("anatomy", "liver", "spleen"),
        ("anatomy", "fracture of the femur", "fracture of the tibia"),
        ("anatomy", "L4-L5", "L5-S1"),
    ],
)
def test_contradictions(facet, reference, candidate):
    found = explain(reference, candidate)
    assert found.score <= (0.0 if facet == "polarity" else 0.1)
    assert found.contradiction
    lines = [line for finding in found.findings for line in finding.facets if line.verdict == "clash"]
    assert facet in {line.facet for line in lines}


@pytest.mark.parametrize(
    ("reference", "less"),
    [
        ("left pleural effusion", "pleural effusion"),
        ("cerebellum", "brain"),
        ("T1", "MRI"),
        ("bilateral", "left"),
        ("mild edema", "moderate edema"),
        ("pneumonia", "possible pneumonia"),
        ("pneumonia and effusion", "pneumonia"),
        ("mass", "lesion"),
        ("lung, heart", "lung"),
    ],
)
def test_less_or_more_is_partial(reference, less):
    assert 0.2 < score_pair(reference, less) < 1.0
    assert 0.15 < score_pair(less, reference) < 1.0


@pytest.mark.parametrize(
    ("question", "reference", "candidate", "score"),
    [
        ("Is there a fracture?", "no", "The bones are intact without fracture.", 1.0),
        ("Is the heart normal?", "no", "The heart is enlarged.", 1.0),
        ("Is the heart enlarged?", "yes", "There is cardiomegaly.", 1.0),
        ("Is the heart enlarged?", "yes", "The heart is of normal size.", 0.0),
        ("Is there a fracture?", "yes", "Yes, there is no fracture.", 0.0),  # says one thing and states the other
        ("Which lung is abnormal?", "left lung", "the left one", 1.0),
        ("Is there a pneumothorax?", "There is a pneumothorax", "no", 0.0),
        ("Where is the mass?", "right upper lobe", "yes", 0.0),  # not what was asked
        (None, "right upper lobe", "yes", 0.0),
        (None, "no pneumothorax", "no", pytest.approx(0.3)),
        ("Is there a pneumothorax?", "There is a pneumothorax", "yes", pytest.approx(0.6)),
    ],
)
def test_the_question_helps(question, reference, candidate, score):
    assert score_pair(reference, candidate, question) == score


@pytest.mark.parametrize(
    ("reference", "from_best_to_worst"),
    [
        ("5 cm mass in the right lung", ["a right lung mass of 5 cm", "2 cm mass in the right lung", "clear lungs"]),
        ("5 cm mass", ["5 cm mass", "4 cm mass", "1 cm mass", "clear lungs"]),
        (
            "severe cardiomegaly",
            ["severely enlarged heart", "moderate cardiomegaly", "mild cardiomegaly", "normal heart"],
        ),
        (
            "left pleural effusion",
            ["fluid in the left pleura", "pleural effusion", "right pleural effusion", "no effusion"],
        ),
        ("large pleural effusion", ["large effusion", "moderate effusion", "small pleural effusion", "no effusion"]),
        ("liver lesion", ["lesion in the liver", "lesion in the spleen", "normal liver"]),
        ("cardiomegaly", ["big heart", "pneumothorax", "pneumothorax, pleural effusion, edema and pneumonia"]),
        ("left effusion", ["left effusion", "left effusion and a right pneumothorax", "right pneumothorax"]),
        ("mass and effusion", ["effusion with a mass", "effusion", "no mass, no effusion"]),
        ("pneumonia", ["pneumonia", "pneumonia or atelectasis", "pneumonia, atelectasis or edema", "fracture"]),
        ("pneumothorax", ["pneumothorax. The heart is normal.", "possible pneumothorax", "the lungs are clear"]),
    ],
)
def test_wrong_answers_have_an_order_too(reference, from_best_to_worst):
    scores = [score_pair(reference, candidate) for candidate in from_best_to_worst]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == len(scores), scores


@pytest.mark.parametrize(
    ("reference", "candidate", "least", "most"),
    [
        # a negation holds for the finding, through adjectives, lists and "without"
        ("consolidation", "no focal areas of consolidation", 0.0, 0.2),
        ("rib fracture", "no acute, displaced rib fractures", 0.0, 0.2),
        ("nodule", "no large or suspicious nodule", 0.0, 0.2),
        ("effusion", "no new or enlarging effusion", 0.0, 0.2),
        ("chest pain", "the patient denied chest pain", 0.0, 0.0),
        ("cardiomegaly", "the heart is enlarged without pulmonary edema", 0.9, 1.0),
        ("rib fractures", "no effusion, left rib fractures", 0.7, 1.0),
        # a value belongs to its head
        ("2 nodules on the right and 1 on the left", "1 nodule on the right and 2 on the left", 0.0, 0.1),
        ("trachea deviated left by a right effusion", "trachea deviated right by a left effusion", 0.0, 0.1),
        ("5.6 cm, previously 5.1 cm", "5.1 cm, previously 5.6 cm", 0.0, 0.1),
        ("metastases from lung to brain", "metastases from brain to lung", 0.0, 0.1),
        ("mesial caries, distal surface sound", "distal caries, mesial surface sound", 0.0, 0.2),
        # everyday words for one place or state
        ("right lung base", "right basilar", 0.9, 1.0),
        ("right lung apex", "right apex", 0.9, 1.0),
        ("left lower lobe opacity", "opacity at the left lung base", 0.6, 1.0),
        ("electrocardiogram", "ECG", 0.9, 1.0),
        ("the ventricles are not enlarged", "normal sized ventricles", 0.7, 1.0),
        ("degenerative changes of the thoracic spine", "degenerative changes in the spine", 0.7, 1.0),
        # words that only look like others
        ("cephalic presentation", "breech presentation", 0.0, 0.1),
        ("radiolucency", "radiopacity", 0.0, 0.12),
        ("QTc 520 ms", "QTc of 0.52 s", 0.9, 1.0),
        # units and notation
        ("1.5 L", "1500 mL", 0.9, 1.0),
        ("22w3d", "22 weeks 3 days", 0.9, 1.0),
        ("22w3d", "24w3d", 0.0, 0.1),
        ("BI-RADS 4", "BI-RADS category 4", 0.9, 1.0),
        ("BI-RADS 4", "BI-RADS 2", 0.0, 0.1),
        ("Gleason 3+4=7", "Gleason 4+3=7", 0.0, 0.5),
        ("T2N1M0", "T3N1M0", 0.0, 0.1),
        ("mass at 2 o'clock", "mass at 10 o'clock", 0.0, 0.1),
        ("ASPECTS 7", "ASPECTS 10", 0.0, 0.1),
        # an addition is never free, a normal statement is
        ("left effusion", "left effusion, cardiomegaly", 0.0, 0.75),
        ("left upper lobe opacity", "left upper lobe opacity. No effusion. No pneumothorax.", 1.0, 1.0),
        # a report's findings, each by its weight
        ("Nodule in the left lower lobe. No effusion. Normal heart.", "No effusion. Normal heart.", 0.0, 0.1),
        ("Nodule in the left lower lobe. No effusion. Normal heart.", "Nodule in the left lower lobe.", 0.6, 1.0),
    ],
)
def test_how_sentences_are_read(reference, candidate, least, most):
    assert least <= score_pair(reference, candidate) <= most


def test_the_mode_follows_the_reference_or_is_given():
    report, answer = "Large effusion. Small nodule. Old rib fracture.", "Large effusion. Small mass. Old rib fracture."
    assert compare_answers(report, answer).score == compare_answers(report, answer, mode="findings").score
    wrong = "Small effusion. Small nodule. Old rib fracture."
    assert compare_answers(report, wrong, mode="answer").score < compare_answers(report, wrong, mode="findings").score


def test_unknown_words_make_a_score_unsure():
    scorer = Clinical()
    sure, unsure = item(None, "left pleural effusion"), item(None, "qwertous zyx plimbic blorf nodule")
    assert scorer.trusted(sure)
    assert not scorer.trusted(unsure)
    found = explain("qwertous zyx plimbic blorf nodule", "nodule")
    assert found.confidence < 2 / 3
    assert "confidence" in found.text()


def test_another_finding_earns_next_to_nothing():
    found = explain("pneumonia", "pneumothorax")
    assert 0 < found.score < 0.05
    assert not found.contradiction
    assert found.findings[0].facets[0].verdict == "clash"


def test_empty_and_wordless_texts():
    assert score_pair("lung", "—") == 0.0
    assert score_pair("lung", "") == 0.0
    found = explain("?!", "lung")
    assert (found.score, found.route) == (0.0, "lexical")
    assert "no word or number" in found.notes[0]


def test_saying_both_is_no_answer():
    assert score_pair("pneumothorax", "pneumothorax. There is no pneumothorax.") <= 0.05
    assert score_pair("left", "left or right") <= 0.5
    for reference, everything in (
        ("axial", "axial, coronal, sagittal"),
        ("benign", "benign and malignant"),
        ("CT", "CT MRI X-ray ultrasound"),
        ("liver", "liver, spleen, kidney, lung"),
        ("hyperintense", "hyperintense hypointense"),
    ):
        assert score_pair(reference, everything) <= 0.5
    listed = "pneumonia, effusion, mass, fracture, edema, abscess, emphysema, stroke"
    assert score_pair("pneumonia", listed) < 0.6


def test_unknown_words_compare_lexically():
    same = score_pair("qwertous zyx nodule", "zyx nodule, qwertous")
    other = score_pair("qwertous zyx nodule", "plimbic nodule")
    assert same > 0.8 > 0.4 > other


def test_the_scorer_follows_the_protocol():
    scorer = build_scorer("clinical")
    assert isinstance(scorer, Scorer)
    assert (scorer.name, scorer.range, scorer.needs) == ("clinical", (0.0, 1.0), ())
    rows = [
        item("enlarged heart", "cardiomegaly"),
        item(None, "cardiomegaly"),  # no answer
        item("right", "left", "right"),  # the best reference counts
        item("N/A", "left"),
        item("B", "spleen", options=("liver", "spleen"), kind="choice"),
        item("lung", "—"),
    ]
    assert scorer(rows) == [1.0, 0.0, 1.0, 0.0, 1.0, 0.0]
    assert scorer(rows[::-1]) == scorer(rows)[::-1]
    assert Clinical(cache=False)(rows) == scorer(rows)


@pytest.mark.parametrize(
    ("reference", "candidate"),
    [
        # a general word, a missing place or another place of a list is no evidence that both speak of one thing
        ("wall 3 mm, stones seen", "stones seen, not tender"),
        ("ulcer of the ankle, granulating, no cellulitis", "sore of the ankle, healthy based, no infection"),
    ],
)
def test_a_clash_needs_evidence_that_both_speak_of_one_thing(reference, candidate):
    assert not compare_answers(reference, candidate).contradiction


@pytest.mark.parametrize(
    ("reference", "candidate", "most"),
    [
        ("hyperexpanded lungs", "right lower lobe pneumonia", 0.2),  # a finding for the state of an organ
        (
            "detachment of the right eye, horseshoe tear, macula on",
            "detachment of the right eye, horseshoe tear, macula off",
            0.2,
        ),
        ("tear of the supraspinatus, subscapularis intact", "tear of the subscapularis, supraspinatus intact", 0.2),
        ("Forrest III ulcer", "spurting ulcer", 0.2),
        ("plaques on the extensor elbows", "plaques in the antecubital fossae", 0.2),
    ],
)
def test_what_stands_in_place_of_something_else_earns_little(reference, candidate, most):
    assert score_pair(reference, candidate) <= most


def test_a_grade_is_what_it_says():
    assert score_pair("Forrest Ia ulcer", "spurting ulcer") > 0.5
    assert score_pair("Paris Ip polyp", "pedunculated polyp") > 0.5


texts = st.text(max_size=80) | st.lists(
    st.sampled_from(
        [
            "no",
            "left",
            "right",
            "lung",
            "mass",
            "3",
            "cm",
            ",",
            ".",
            "and",
            "not",
            "t2",
            "x",
            "/",
            "large",
            "pneumonia",
            "is",
            "seen",
            "ct",
            "yes",
        ]
    ),
    max_size=14,
).map(" ".join)


@settings(max_examples=400, deadline=None)
@given(texts, texts, st.none() | texts)
def test_any_text_gets_a_score(reference, candidate, question):
    score = compare_answers(reference, candidate, question).score
    assert 0.0 <= score <= 1.0
    explain(reference, candidate, question).text()


@settings(max_examples=300, deadline=None)
@given(texts)
def test_equal_after_normalisation_is_right(text):
    for other in (text, text.upper() if text.isascii() else text, f"  {text}  "):
        if normalize(text) and normalize(text) == normalize(other):
            assert compare_answers(text, other).score == 1.0


def test_a_megabyte_is_read_in_time():
    for unit in ("left lung mass, no effusion. ", "no " * 5, "left and right ", "a", "3 x ", "((((", "pneumonia, "):
        text = unit * (1_000_000 // len(unit))
        start = time.process_time()
        compare_answers("mass in the left lung", text, "where is the mass?")
        assert time.process_time() - start < 1.0, unit


def pairs(path):
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    found = {"paraphrase": [], "contradiction": []}
    for row in rows:
        found[row["kind"]].append(score_pair(row["reference"], row["candidate"]))
    return found["paraphrase"], found["contradiction"]


def test_tuning_pairs():
    assert auroc(*pairs(PAIRS / "pairs_tune.tsv"), seed=0).mean >= 0.97


def test_development_pairs(shared_data):
    assert auroc(*pairs(shared_data / "minimal_pairs" / "dev.tsv"), seed=0).mean >= 0.95


def test_loads_without_torch():
    code = "import sys, medrft.scorers.clinical as c; c.score_pair('a mass', 'no mass'); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "transformers", "trl", "datasets", "sentence_transformers"} & set(loaded)
