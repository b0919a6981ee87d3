"""Texts become findings with their facets."""

import pytest

from medrft.scorers.clinical.reader import read_findings, read_fresh
from medrft.scorers.clinical.reading import LIKELY, POSSIBLE


def one(text):
    findings = read_fresh(text).findings
    assert len(findings) == 1, findings
    return findings[0]


@pytest.mark.parametrize(
    ("text", "negative"),
    [
        ("pneumothorax", False),
        ("no pneumothorax", True),
        ("pneumothorax is absent", True),
        ("pneumothorax has resolved", True),
        ("free of pneumothorax", True),
        ("without evidence of pneumothorax", True),
        ("there is no evidence of pneumothorax", True),
        ("pneumothorax is not seen", True),
        ("pneumothorax cannot be identified", True),
        ("negative for pneumothorax", True),
        ("no change in the pneumothorax", False),
        ("the pneumothorax is unchanged", False),
        ("pneumothorax is not absent", False),
        ("there is no doubt about the pneumothorax", False),
    ],
)
def test_polarity_before_and_after(text, negative):
    assert one(text).negative is negative


@pytest.mark.parametrize(
    ("text", "certainty"),
    [
        ("pneumonia", 1.0),
        ("possible pneumonia", POSSIBLE),
        ("cannot exclude pneumonia", POSSIBLE),
        ("pneumonia cannot be ruled out", POSSIBLE),
        ("probable pneumonia", LIKELY),
        ("findings suggestive of pneumonia", LIKELY),
    ],
)
def test_doubt(text, certainty):
    finding = one(text)
    assert (finding.certainty, finding.negative) == (certainty, False)


@pytest.mark.parametrize(
    ("text", "axis", "values"),
    [
        ("left effusion", "side", {"left"}),
        ("effusions on both sides", "side", {"bilateral"}),
        ("left and right effusion", "side", {"bilateral"}),
        ("mass above the diaphragm", "vertical", {"upper"}),
        ("distal ureter", "proximity", {"distal"}),
        ("solitary nodule", "number", {"single"}),
        ("slightly dilated ureter", "severity", {"mild"}),
        ("old infarct", "acuity", {"chronic"}),
        ("high attenuation", "brightness", {"hyper"}),
        ("decreased density", "brightness", {"hypo"}),
        ("attenuation like fat", "attenuation_kind", {"fat_density"}),
        ("increased heart size", "organ_size", {"enlarged"}),
        ("the heart is not enlarged", "organ_size", {"normal_size"}),
        ("no cardiomegaly", "organ_size", {"normal_size"}),
        ("large kidney", "organ_size", {"enlarged"}),
        ("interval growth of the mass", "trend", {"increased"}),
        ("AP view", "view", {"ap"}),
        ("no contrast", "contrast", {"without_contrast"}),
        ("not benign", "behavior", {"malignant"}),
        ("no abnormality", "normality", {"normal"}),
        ("right lung, left", "picture_side", {"picture_left"}),  # SLAKE: the right lung, left in the picture
    ],
)
def test_values(text, axis, values):
    assert one(text).values[axis] == values


@pytest.mark.parametrize(
    ("text", "counts", "measures"),
    [
        ("two nodules", {2}, ()),
        ("twin gestation", {2}, ()),
        ("8 cm mass", set(), (("mm", (80.0,)),)),
        ("6.5 x 6.2 x 8.8cm", set(), (("mm", (65.0, 62.0, 88.0)),)),
        ("2/3 of the hemithorax", set(), (("percent", (pytest.approx(66.7, abs=0.1),)),)),
        ("twice the normal diameter", set(), (("times", (2.0,)),)),
        ("40 HU", set(), (("hu", (40.0,)),)),
    ],
)
def test_numbers(text, counts, measures):
    finding = one(text)
    assert (set(finding.counts), finding.measures) == (counts, measures)


@pytest.mark.parametrize(
    ("text", "findings"),
    [
        ("right effusion and left pneumothorax", ["right effusion", "left pneumothorax"]),
        ("Lung, Spinal Cord", ["lung", "spinal cord"]),
        ("no effusion, pneumothorax or consolidation", ["effusion", "pneumothorax", "consolidation"]),
        ("liver and spleen are normal", ["liver , spleen are normal"]),
        ("large, round mass", ["large , round mass"]),
        ("pneumonia, left lower lobe", ["pneumonia , left lower lobe"]),
        ("effusion without pneumothorax", ["effusion", "pneumothorax"]),
        ("The lungs show no effusion", ["lung show effusion"]),
    ],
)
def test_what_belongs_together(text, findings):
    assert [finding.text for finding in read_fresh(text).findings] == findings


def test_a_negation_holds_for_a_list():
    assert all(finding.negative for finding in read_fresh("no effusion, pneumothorax or consolidation").findings)
    negative = [finding.negative for finding in read_fresh("no effusion, the heart is enlarged").findings]
    assert negative == [True, False]
    assert [finding.negative for finding in read_fresh("effusion without pneumothorax").findings] == [False, True]


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("cardiomegaly", "enlarged heart"),
        ("pleural effusion", "fluid in the pleural space"),
        ("free air under the diaphragm", "pneumoperitoneum"),
        ("the bronchi are dilated", "bronchiectasis"),
        ("stones in the gallbladder", "cholelithiasis"),
        ("midline structures are not displaced", "no midline shift"),
        ("inferior vena cava filter", "IVC filter"),
        ("grade III", "grade 3"),
        ("T12", "twelfth thoracic vertebra"),
    ],
)
def test_one_form_for_one_meaning(text, same):
    left, right = one(text), one(same)
    assert (left.names, left.levels, left.negative) == (right.names, right.levels, right.negative)
    assert not left.values or left.values == right.values


@pytest.mark.parametrize(
    ("text", "context", "concept"),
    [
        ("T2", "which sequence: MRI", "t2"),
        ("T2 vertebra", "", "vertebra"),
        ("MS plaque", "", "multiple_sclerosis"),
        ("PE", "", "embolus"),
        ("PE", "around the heart", "pericardium"),
    ],
)
def test_abbreviations_by_context(text, context, concept):
    assert concept in read_findings(text, read_findings(context).concepts).concepts
    if concept == "vertebra":
        assert read_findings(text).findings[0].levels == {"t2"}


@pytest.mark.parametrize(
    ("text", "answer", "findings"),
    [
        ("Yes.", "yes", 0),
        ("No", "no", 0),
        ("Yes, there is an aneurysm", "yes", 1),
        ("No, the lungs are clear", "no", 1),
        ("no pneumothorax", None, 1),
        ("The answer is no.", "no", 0),
    ],
)
def test_a_leading_yes_or_no(text, answer, findings):
    reading = read_fresh(text)
    assert (reading.answer, len(reading.findings)) == (answer, findings)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("new vessels absent at the disc", [("nvd", True)]),
        ("CD15+ CD30+ CD45-", [("cd15", False), ("cd30", False), ("cd45", True)]),
        ("ER positive and HER2 negative", [("estrogen_receptor", False), ("her2", True)]),
        ("no polyp, biopsies taken", [("polyp", True), ("biopsy", False)]),
        ("shingles of the chest, not crossing elsewhere", [("herpes_zoster", False)]),
        ("no edema: left pneumothorax seen", [("edema", True), ("gas", False)]),
        ("no pleural or pericardial effusion", [("fluid", True), ("fluid", True)]),
    ],
)
def test_a_negation_denies_only_what_it_stands_with(text, said):
    assert [(name, finding.negative) for finding in read_fresh(text).findings for name in finding.names] == said


def test_an_amount_of_change_is_no_size():
    assert one("the neuroma has enlarged by 5 mm").measures == (("changed by mm", (5.0,)),)


def test_relative_to_compares_as_than_does():
    for text in ("the liver is darker than the spleen", "the liver is hypodense relative to the spleen"):
        assert (one(text).places, one(text).values["brightness"]) == ({"spleen"}, {"hyper"})


@pytest.mark.parametrize(
    ("text", "context", "places"),
    [
        ("caries of 36", (), {"first_molar", "mandible"}),
        ("pulp of 11 and 21 vital", (), {"central_incisor", "maxilla"}),
        ("48", ("third_molar",), {"third_molar", "mandible"}),
        ("48", (), set()),
        ("36 nodules of the lung", (), {"lung"}),
    ],
)
def test_tooth_numbers_are_read_where_teeth_are_spoken_of(text, context, places):
    named = set().union(*(finding.places for finding in read_fresh(text, context).findings))
    assert places <= named and (bool(places) or not named)


def test_a_state_at_the_end_of_a_list_holds_for_each_place():
    findings = read_fresh("tear of the supraspinatus, subscapularis and biceps intact").findings
    assert [(sorted(f.places), sorted(f.values.get("normality", ()))) for f in findings] == [
        (["supraspinatus"], []),
        (["subscapularis"], ["normal"]),
        (["biceps_tendon"], ["normal"]),
    ]
