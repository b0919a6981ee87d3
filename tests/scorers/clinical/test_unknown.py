"""Which words count as unknown, and whether what is suggested for them makes them known."""

from __future__ import annotations

import pytest

from medrft.scorers.clinical.compile import load_lexicon
from medrft.scorers.clinical.own import own_lexicon
from medrft.scorers.clinical.unknown import FORMS, Source, content_words, paste, survey_words


@pytest.mark.parametrize(
    ("text", "known", "unknown"),
    [
        ("left pleural effusion", 3, ()),
        ("there is no flumox in the lung", 1, ("flumox",)),
        ("3 cm mass at L4", 4, ()),
        ("flumox, grumbly and whifful", 0, ("flumox", "grumbly", "whifful")),
        ("C", 0, ()),
        ("", 0, ()),
        ("!?", 0, ()),
    ],
)
def test_content_words(text, known, unknown):
    assert content_words(text, load_lexicon()) == (known, unknown)


def survey(*texts):
    return survey_words([Source(str(i), text) for i, text in enumerate(texts)], load_lexicon())


@pytest.mark.parametrize(
    ("text", "add"),
    [
        ("glorpitis", "findings:\n  glorpitis: {is_a: inflammation}\n"),
        ("flumoxopathy", "findings:\n  flumoxopathy: {is_a: disease}\n"),
        ("pneumothraxis", "definitions:\n  pneumothorax: [pneumothraxis]\n"),
        ("glorpomegaly", None),  # a place is missing, which nobody can guess
        ("the QZX is well placed", None),
        ("flumox", None),
    ],
)
def test_what_a_words_form_suggests(text, add, tmp_path):
    word = next(one for one in survey(text).words if one.word in text.lower())
    assert word.as_json()["add"] == add and word.hint
    if add:
        (tmp_path / "ours.yaml").write_text(add)
        assert content_words(word.word, own_lexicon((tmp_path / "ours.yaml",))).unknown == ()


def test_all_suggestions_are_one_file(tmp_path):
    found = survey("glorpitis", "flumoxopathy", "pneumothraxis", "pneumothoraxys", "flumox")
    (tmp_path / "ours.yaml").write_text(paste(found.words))
    made = own_lexicon((tmp_path / "ours.yaml",))
    assert [word.word for word in found.words if content_words(word.word, made).unknown] == ["flumox"]


def test_the_forms_to_copy_are_read(tmp_path):
    for number, line in enumerate(FORMS.splitlines()):
        path = tmp_path / f"{number}.yaml"
        path.write_text(line.replace("WORD", "flumox").replace("AXIS", "zz").replace("OPPOSITE", "unflumox"))
        assert content_words("flumox", own_lexicon((path,))).unknown == ()


def test_shares():
    found = survey("left lung", "left lung", "flumox lung", "flumox of the left upper lung", "glorp")
    assert (found.references, found.known, found.mostly_unknown) == (5, 2, 2)
    assert [(word.word, word.count) for word in found.words] == [("flumox", 2), ("glorp", 1)]
