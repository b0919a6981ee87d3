import pytest
from hypothesis import given
from hypothesis import strategies as st

from medrft.scorers import build_scorer
from score_items import item, think


def sized(n, most=100, answer="lung", **more):
    return item(None, "lung", completion=think(answer, **more), n_tokens=n, max_tokens=most)


@pytest.mark.parametrize(
    ("name", "options", "rows", "expected"),
    [
        ("ecr", {}, [sized(0), sized(25), sized(100), sized(130, answer="heart")], [0, 0.25, 1, 1]),
        ("cwr", {}, [sized(25), sized(100), sized(100, answer="heart")], [0.25, 1, 0]),
        ("soft_overlong", {"cache": 20}, [sized(80), sized(90), sized(100), sized(200)], [0, -0.5, -1, -1]),
        ("soft_overlong", {"cache": 500}, [sized(0), sized(50), sized(100)], [0, -0.5, -1]),
        (
            "cosine_length",
            {},
            [sized(0), sized(100), sized(0, answer="no"), sized(100, answer="no")],
            [1, 0.75, 0, 0.25],
        ),
        (
            "sentence_band",
            {},
            [
                sized(1, thought="A. B. C. D."),
                sized(1, thought="One."),
                sized(1, thought="A. " * 15),
                sized(1, thought="A. " * 40),
            ],
            [0, -0.75, -0.5, -1],
        ),
    ],
)
def test_values(name, options, rows, expected):
    assert build_scorer(name, **options)(rows) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["ecr", "cwr", "soft_overlong", "cosine_length", "sentence_band"])
def test_a_bare_answer_has_no_length(name):
    scorer = build_scorer(name)
    assert not scorer.applies(item("lung", "lung"))
    assert scorer([item("lung", "lung")]) == [None]
    assert "completion" in scorer.needs


def test_correctness_that_is_unknown_is_unscored():
    assert build_scorer("cwr")([item(None, "?", completion=think("lung"), n_tokens=3, max_tokens=9)]) == [None]


@given(
    st.integers(0, 10_000),
    st.integers(0, 10_000),
    st.text(),
    st.sampled_from(["ecr", "cwr", "soft_overlong", "cosine_length", "sentence_band"]),
)
def test_range(n, most, text, name):
    scorer = build_scorer(name)
    (score,) = scorer([item(None, "lung", completion=text, n_tokens=n, max_tokens=most)])
    low, high = scorer.range
    assert score is None or low <= score <= high


def test_mistakes():
    for name, options in (
        ("soft_overlong", {"cache": 0}),
        ("sentence_band", {"k_min": 9, "k_max": 3}),
        ("cosine_length", {"right_long": 2}),
    ):
        with pytest.raises(ValueError, match=name):
            build_scorer(name, **options)


@pytest.mark.parametrize(
    ("completion", "modality", "score"),
    [
        ("<CT> seen", "CT", 1.0),
        ("<X-Ray>", "X-ray", 1.0),
        ("<MRI_SCAN>", "CT", 0.0),
        ("<CT><MRI>", "CT", 0.0),
        ("ct", "CT", 0.0),
        ("<CT>", None, None),
    ],
)
def test_modality_tag(completion, modality, score):
    row = item(None, "lung", completion=completion, metadata={"modality": modality} if modality else {})
    assert build_scorer("modality_tag")([row]) == [score]
