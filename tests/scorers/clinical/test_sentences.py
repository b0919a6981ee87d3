"""Sentences as reports and notes write them: what is denied, on which side, how many, when and where."""

import csv
from pathlib import Path

import pytest

from medrft.intervals import auroc
from medrft.scorers.clinical import score_pair

TABLE = Path(__file__).with_name("sentences.tsv")


@pytest.mark.parametrize("kind", ["denied", "side", "affirmed", "amount, time, place"])
def test_a_paraphrase_scores_above_a_contradiction_in_both_directions(kind):
    with TABLE.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if row["kind"] == kind]
    scores: dict[str, list[float]] = {"paraphrase": [], "contradiction": []}
    for row in rows:
        for said, found in scores.items():
            found += [score_pair(row["reference"], row[said]), score_pair(row[said], row["reference"])]
    assert auroc(scores["paraphrase"], scores["contradiction"], seed=0).mean >= 0.96


@pytest.mark.parametrize(
    ("reference", "candidate", "least", "most"),
    [
        ("opacity in each mid and lower lung", "opacity in both lower lungs", 0.3, 0.9),  # one place of two positions
        ("moderate right and small left effusion", "small right and moderate left effusion", 0.0, 0.45),
        ("small nodule, no effusion", "small nodule and effusion", 0.0, 0.3),
        ("no hyperlipidemia", "hyperlipidemia", 0.0, 0.05),  # of an unknown root
        ("pulmonary fibrosis", "fibrosis", 0.7, 0.9),  # what a finding means, it is a kind of
        ("blood cultures were negative", "negative blood cultures", 0.9, 1.0),
        ("consolidation better compared to prior", "consolidation worse compared to prior", 0.0, 0.1),
        ("no mass, calcification or distortion", "no distortion, calcification or mass", 0.95, 1.0),
        ("no thickening or mass", "no thickening, but a mass", 0.0, 0.05),  # a denied state goes on to a finding
        ("not enlarged or displaced", "displaced and not enlarged", 0.0, 0.05),
        ("no displacement or fracture", "fracture without displacement", 0.0, 0.1),  # a name that denies
        ("no interval change, small effusion", "unchanged, no effusion", 0.0, 0.3),  # no "or": another statement
        ("aortic atherosclerosis", "atherosclerotic calcification of the aorta", 0.85, 1.0),
        ("calcified plaque", "mixed plaque", 0.0, 0.5),
        ("mild thoracic kyphosis", "moderate thoracic kyphosis", 0.05, 0.3),  # one word of three exchanged
        ("orogastric tube with tip in the stomach", "OG tube tip in the fundus of the stomach", 0.85, 1.0),
        ("orogastric tube with tip in the stomach", "OG tube tip in the esophagus", 0.0, 0.1),
        ("hyperinflated lungs", "increased retrosternal space", 0.85, 1.0),
        ("the prosthesis is well fixed", "no loosening of the prosthesis", 0.9, 1.0),  # a definition that denies
    ],
)
def test_rules_of_kinds(reference, candidate, least, most):
    assert least <= score_pair(reference, candidate) <= most
