"""Two whole texts that say opposite things on a facet, wherever in them they say it; and where a denial ends."""

import pytest

from medrft.scorers.clinical import explain, score_pair


@pytest.mark.parametrize(
    ("reference", "candidate", "facet"),
    [
        (
            "Right nephrectomy: chromophobe renal cell carcinoma, 6.2 cm",
            "The left kidney was taken out for a 62 mm chromophobe RCC",
            "side",
        ),
        (
            "Ulcers at the anastomosis have healed since May; mild erythema of the ileum persists",
            "Compared with May the anastomotic ulcers are larger, and slight redness of the ileum remains",
            "change",
        ),
        (
            "Spindle cell tumor of the stomach with 12 mitoses per 5 mm²",
            "Gastric tumour of spindle cells in which two mitoses were found over 5 square mm",
            "quantity",
        ),
        (
            "A cyst beneath the carina with marked compression of the left bronchus",
            "The left bronchus is only slightly indented by a subcarinal cyst",
            "severity",
        ),
    ],
)
def test_what_is_left_over_on_a_facet_contradicts(reference, candidate, facet):
    found = explain(reference, candidate)
    assert found.contradiction
    assert found.score <= 0.3
    assert any(facet in note for note in (*found.notes, *(x.facet for line in found.findings for x in line.facets)))


@pytest.mark.parametrize(
    ("reference", "candidate"),
    [
        # a bound is no other number
        ("Solid nodule of 7 mm in the right upper lobe, no nodes", "Nodule under 1 cm in the RUL, no nodes"),
        # rounded
        ("Ulcer of 12 mm in the duodenum, not bleeding", "A duodenal ulcer of 1.1 cm which does not bleed"),
        # said of another organ
        ("Trachea midline, no collapse of the lung", "Central trachea and both lungs aerated"),
        # both courses are told
        ("Effusion smaller than before, consolidation larger", "Larger consolidation, smaller effusion"),
    ],
)
def test_what_is_no_opposite(reference, candidate):
    assert not any(note.startswith("in the whole text") for note in explain(reference, candidate).notes)


@pytest.mark.parametrize(
    ("right", "added"),
    [
        ("Moderate NPDR without macular edema", "Moderate NPDR, no macular edema, and a retinal detachment"),
        ("Gallstones without cholecystitis", "Gallstones without cholecystitis, plus a solid mass in the pancreas"),
        ("Pedicle screws at L4, no lucency", "Pedicle screws at L4, no lucency, and a broken rod"),
        ("Small varices without red signs", "Small varices without red signs together with a gastric ulcer"),
    ],
)
def test_a_denial_ends_where_another_thing_begins(right, added):
    assert score_pair(right, added) <= 0.75
    assert score_pair(right, added) < score_pair(right, right)


@pytest.mark.parametrize(
    ("reference", "candidate"),
    [
        ("no mass or nodule", "no mass or a nodule"),
        ("no fracture and no dislocation", "without a fracture, a dislocation"),
        ("no mass, cyst or stone", "no evidence of a mass, a cyst or a stone"),
        ("no mass of more than 5 cm", "no mass with a diameter over 5 cm"),
        ("a mass in the left lung and a nodule in the right", "nodule in the right lung and mass in the left lung"),
    ],
)
def test_what_an_article_does_not_change(reference, candidate):
    assert score_pair(reference, candidate) >= 0.75


@pytest.mark.parametrize(
    ("reference", "right", "wrong"),
    [
        (
            "effusion smaller than before",
            "effusion smaller than on the CT of May",
            "effusion larger than on the CT of May",
        ),
        (
            "edema has improved",
            "improvement in edema compared with yesterday's portable film",
            "edema worse than yesterday",
        ),
        (
            "opacities have decreased",
            "opacities decreased relative to the AP view",
            "opacities increased since January",
        ),
        ("possible pneumonia", "?pneumonia", "no pneumonia"),
        ("two nodules", "2 nodules", "nodules x3"),
        ("heart rate 60 bpm", "HR 60", "HR 120"),
        ("fracture of 6 weeks", "fracture 6 wks old", "fracture 6 days old"),
        (
            "distal radius fracture",
            "fracture of the lower end of the radius",
            "fracture of the upper end of the radius",
        ),
        ("height loss of 40%", "40 per cent loss of height", "80 per cent loss of height"),
        ("partial healing", "healing is not yet complete", "complete healing"),
        (
            "effusion has resolved",
            "the effusion seen on the earlier CT is no longer there",
            "effusion as on the earlier CT",
        ),
        ("four erosions, no bleeding", "4 erosions, none of them bleeding", "4 bleeding erosions"),
        ("QTc 310 ms", "QTc 0.31 s", "QTc 340 ms"),
        ("cup-to-disc ratio 0.8", "CDR of 80%", "CDR of 40%"),
        ("retinal tear at 10 o'clock", "retinal tear at the ten o'clock position", "retinal tear at 2 o'clock"),
        ("flat lesion", "non-elevated lesion", "elevated lesion"),
        ("psoriasis", "psoriasis", "tinea"),
    ],
)
def test_studies_doubts_and_amounts_as_notes_write_them(reference, right, wrong):
    assert score_pair(reference, right) >= 0.6
    assert score_pair(reference, wrong) <= 0.3 < score_pair(reference, right)


@pytest.mark.parametrize(
    ("reference", "right", "wrong"),
    [
        (
            "calcified aortic valve, normal mitral valve",
            "aortic valve calcified, mitral valve normal",
            "mitral valve calcified, aortic valve normal",
        ),
        (
            "small liver cyst and large renal cyst",
            "a big cyst in the kidney and a little one in the liver",
            "a little cyst in the kidney and a big one in the liver",
        ),
        (
            "metastasis of lung cancer in the brain",
            "brain metastasis from lung cancer",
            "metastasis of brain cancer in the lung",
        ),
        ("lung cancer metastatic to the brain", "metastases from lung to brain", "lung metastasis of brain cancer"),
        (
            "mass displacing the trachea to the right",
            "rightward displacement of the trachea by a mass",
            "mass displacing the trachea to the left",
        ),
        (
            "trachea deviated left by a right effusion",
            "right effusion pushing the trachea to the left",
            "trachea deviated right by a left effusion",
        ),
        ("effusion larger on the right than on the left", "effusion R > L", "effusion R<L"),
        ("effusion without pneumothorax", "effusion not accompanied by pneumothorax", "effusion with pneumothorax"),
        ("catheter removed", "the catheter has been pulled", "catheter in place"),
    ],
)
def test_a_value_belongs_to_its_head(reference, right, wrong):
    assert score_pair(reference, right) >= 0.7
    assert score_pair(reference, wrong) <= 0.4
