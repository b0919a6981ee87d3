"""Explanations: plain data and plain text."""

import json

from medrft.scorers.clinical import explain


def test_finding_by_finding_facet_by_facet():
    found = explain(
        "mild left effusion, cardiomegaly", "severe effusion on the left. The heart is enlarged. Fracture of a rib."
    )
    assert [finding.contradicted for finding in found.findings] == [True, False]
    lines = {line.facet: line.verdict for line in found.findings[0].facets}
    assert lines == {"finding": "same", "side": "same", "severity": "clash"}
    assert found.extra == ("fracture of rib",)
    assert found.contradiction and found.score < 0.6


def test_text_says_what_matched_and_what_clashed():
    text = explain("left pleural effusion", "right pleural effusion").text()
    assert "x side: left / right: contradicts" in text
    assert "= anatomy: pleura" in text


def test_unknown_words_are_named():
    assert explain("qwertous nodule", "nodule").notes == ("not in the lexicon: qwertous",)


def test_long_texts_are_cut_in_print_and_whole_in_data():
    long = "mass in the left lung " * 50
    found = explain("mass", long)
    assert max(map(len, found.text().splitlines())) < 200
    assert json.loads(json.dumps(found.to_dict()))["candidate"] == long


def test_every_route_has_words():
    for reference, candidate in (("lung", "lung"), ("lung", ""), ("?", "lung"), ("yes", "no"), ("qwert", "zyx")):
        assert explain(reference, candidate).text().startswith("clinical ")
