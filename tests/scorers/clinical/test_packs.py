"""Each domain's pack reads that domain: paraphrases of a specialist score high, opposites low."""

import csv
from pathlib import Path

import pytest

from medrft.scorers.clinical import score_pair
from medrft.scorers.clinical.tables import FOLDER

TABLES = Path(__file__).with_name("packs")
PACKS = sorted((FOLDER / "packs").glob("*.yaml"))
SHARES = {
    "abdomen": 0.9,
    "ambiguous": 0.8,
    "breast": 0.9,
    "cardiology": 0.9,
    "chest": 0.9,
    "dental": 0.85,
    "derm": 0.9,
    "devices": 0.9,
    "endoscopy": 0.9,
    "msk": 0.8,
    "neuro": 0.9,
    "obgyn": 0.9,
    "ophthalmology": 0.9,
    "pathology": 0.88,
    "places": 0.88,
    "reports": 0.85,
}
"""The least share of a table's paraphrases above 0.5. Of its contradictions, `LOW` must be under 0.35."""
LOW = 0.95


def read_table(name: str) -> list[dict[str, str]]:
    with (TABLES / f"{name}.tsv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def test_every_pack_has_a_table():
    assert {path.stem for path in PACKS} <= {path.stem for path in TABLES.glob("*.tsv")} == set(SHARES)


@pytest.mark.parametrize("name", sorted(SHARES))
def test_paraphrases_score_high_and_contradictions_low(name):
    scores: dict[str, list[tuple[float, str, str]]] = {"paraphrase": [], "contradiction": []}
    for row in read_table(name):
        pair = row["reference"], row["candidate"]
        scores[row["kind"]].append((score_pair(*pair), *pair))
    low = [pair for pair in scores["paraphrase"] if pair[0] <= 0.5]
    high = [pair for pair in scores["contradiction"] if pair[0] >= 0.35]
    assert len(low) <= (1 - SHARES[name]) * len(scores["paraphrase"]), low
    assert len(high) <= (1 - LOW) * len(scores["contradiction"]), high


@pytest.mark.parametrize("path", PACKS, ids=lambda path: path.stem)
def test_the_header_says_where_the_words_come_from_and_under_which_licence(path):
    comment = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    header = " ".join(line.lstrip("# ") for line in comment[:4])
    assert "from general medical vocabulary" in header and "by the project" in header and "Apache-2.0" in header
