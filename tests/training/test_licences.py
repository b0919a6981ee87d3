"""Whose licence a trained model carries."""

import pytest

from medrft.training.licences import KNOWN, Licence, licence_of

CARD = "---\nlicense: other\nlicense_name: mine\nlicense_link: https://example.org/terms\n---\n# A model\n"


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        (CARD, Licence("other", "mine", "https://example.org/terms")),
        ("---\nlicense: mit\n---\n", Licence("mit")),
        ("---\ntags: [a]\n---\n", None),
        ("---\nlicense: [mit]\n---\n", None),
        ("---\n: : :\n---\n", None),
        ("---\nlicense: mit\n", None),  # the head never ends
        ("# No head\n\n---\nlicense: mit\n---\n", None),
        ("", None),
    ],
)
def test_a_folders_card_is_read(tmp_path, card, expected):
    (tmp_path / "README.md").write_text(card)
    assert licence_of(str(tmp_path)) == expected


def test_known_ids_and_unknown_ones():
    assert licence_of("Qwen/Qwen2.5-VL-3B-Instruct").says == "qwen-research"
    assert licence_of("Qwen/Qwen2.5-VL-7B-Instruct").as_front_matter() == {"license": "apache-2.0"}
    assert licence_of("someone/else") is None


def test_the_page_of_terms_has_every_known_model():
    from pathlib import Path

    page = (Path(__file__).parents[2] / "docs" / "terms.md").read_text(encoding="utf-8")
    assert not {name for name in KNOWN if f"`{name}`" not in page}
