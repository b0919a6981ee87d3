from __future__ import annotations

import pytest

from medrft.audit.contradictions import make_contradictions
from medrft.audit.hacks import HACKS, hack_cases, is_right
from medrft.audit.paraphrases import make_paraphrases
from medrft.audit.phrases import phrase_examples
from medrft.audit.terms import changed_facet, same_meaning
from medrft.audit.words import BRITISH, OPPOSITES, SYNONYMS

FACETS = {
    *("polarity", "side", "position", "quantity", "size", "severity", "density", "change", "modality", "plane"),
    *("anatomy", "category"),
}


@pytest.mark.parametrize(("facet", "pair"), [(f, p) for f, pairs in OPPOSITES.items() for p in pairs])
def test_opposites_differ_in_their_facet_alone(facet, pair):
    assert changed_facet(*pair) == facet
    assert changed_facet(*reversed(pair)) == facet


@pytest.mark.parametrize("names", [*SYNONYMS, *BRITISH], ids=str)
def test_synonyms_say_the_same(names):
    assert all(same_meaning(names[0], other) for other in names[1:])


CONTRADICTIONS = [
    ("small left pleural effusion", {"side": "small right pleural effusion", "size": "large left pleural effusion"}),
    ("pneumothorax", {"polarity": "no pneumothorax"}),
    ("no pneumothorax", {"polarity": "pneumothorax"}),
    ("there is a large mass in the liver", {"polarity": "there is no large mass in the liver"}),
    ("a fracture is seen", {"polarity": "a fracture is not seen"}),
    ("the mass measures 3 cm", {"size": "the mass measures 12 cm"}),
    ("two fractures", {"quantity": "five fractures"}),
    ("multiple nodules", {"quantity": "single nodule"}),
    ("a solitary nodule", {"quantity": "multiple nodules"}),
    ("hyperintense on T2", {"density": "hypointense on T2", "modality": "hyperintense on T1"}),
    ("acute appendicitis", {"severity": "chronic appendicitis"}),
    ("increased lung markings", {"change": "decreased lung markings"}),
    ("coronal", {"plane": "axial"}),
    ("frontal lobe", {"anatomy": "occipital lobe"}),
    ("benign", {"category": "malignant"}),
]


@pytest.mark.parametrize(("reference", "expected"), CONTRADICTIONS)
def test_contradictions(reference, expected, example):
    assert expected.items() <= dict(make_contradictions(example(reference))).items()


@pytest.mark.parametrize(
    "reference",
    [
        "no abnormality",  # normal: its denial is a category
        "left effusion and right pneumothorax",  # both sides stand in it
        "xylophone",  # nothing the lexicon knows
        "left lateral ventricle",  # lateral is part of a name, not a position
    ],
)
def test_no_contradiction_by_accident(reference, example):
    found = dict(make_contradictions(example(reference)))
    assert "position" not in found
    assert reference == "left lateral ventricle" or not {"side", "polarity"} & set(found)


def test_closed_and_choice(example):
    assert dict(make_contradictions(example("yes", kind="closed"))) == {"polarity": "no"}
    options = ("left", "right", "midline")
    assert dict(make_contradictions(example("left", kind="choice", options=options))) == {"side": "right"}
    letters = [
        text for name, text in make_paraphrases(example("right", kind="choice", options=options)) if name == "letter"
    ]
    assert letters == ["B", "B. right"]


def test_every_phrase_probe_changes_one_facet_or_none(example):
    seen = set()
    for phrase in phrase_examples():
        for facet, text in make_contradictions(phrase):
            assert changed_facet(phrase.references[0], text) == facet
            seen.add(facet)
        for _, text in make_paraphrases(phrase):
            assert changed_facet(phrase.references[0], text.removeprefix("The answer is ").rstrip(".")) is None
    assert seen == FACETS


PARAPHRASES = [
    ("cardiomegaly", "synonym", "enlarged heart"),
    ("right lower lobe pneumonia", "abbreviation", "RLL pneumonia"),
    ("pleural effusion on the left", "order", "left pleural effusion"),
    ("liver, spleen, stomach", "list_order", "stomach, spleen, liver"),
    ("two fractures", "number", "2 fractures"),
    ("2.5 cm", "units", "25 mm"),
    ("brain edema", "spelling", "brain oedema"),
    ("mass", "sentence", "The answer is mass."),
    ("mass", "case_punctuation", "MASS."),
]


@pytest.mark.parametrize(("reference", "kind", "expected"), PARAPHRASES)
def test_paraphrases(reference, kind, expected, example):
    assert (kind, expected) in list(make_paraphrases(example(reference)))


def test_hacks_are_not_tried_where_they_are_right(example):
    import random

    assert is_right("no abnormality", example("normal"))
    assert is_right("No.", example("no", kind="closed"))
    assert not is_right("no abnormality", example("left effusion"))
    cases = hack_cases([example("no", kind="closed")], frequent="no", form="think", rng=random.Random(0))
    tried = {one.attribute for one in cases}
    assert not tried & {"always_no", "most_frequent", "all_options"}
    assert {"always_yes", "both_yes_and_no", "tags_only", "empty"} <= tried


def test_hacks_without_tags_in_the_short_form(example):
    import random

    cases = hack_cases([example("left lung")], frequent="no", form="short", rng=random.Random(0))
    assert not {one.attribute for one in cases} & {name for name, hack in HACKS.items() if hack.whole}
    assert all("<answer>" not in one.item.completion for one in cases)


def test_same_seed_same_cases(phantom_material):
    from medrft.audit.perform import Settings, prepare_cases

    first, second = (prepare_cases(phantom_material, Settings(groups=20, hack_examples=4)) for _ in range(2))
    assert [one.item for one in first.groups] == [one.item for one in second.groups]
    assert [one.item for one in first.probes] == [one.item for one in second.probes]
    other = prepare_cases(phantom_material, Settings(groups=20, hack_examples=4, seed=1))
    assert [one.item for one in first.groups] != [one.item for one in other.groups]
