import pytest

from medrft.scorers import build_scorer
from score_items import item, think


@pytest.mark.parametrize(
    ("completion", "form", "score"),
    [
        (think("lung"), "think", 1.0),
        ("it is so</think><answer>lung</answer>", "think", 1.0),
        ("<answer>lung</answer>", "think", 0.0),
        ("<answer>lung</answer>", "direct", 1.0),
        (think("lung"), "direct", 0.0),
        ("lung", "direct", 0.0),
        ("lung", "short", None),
        ("", "think", 0.0),
    ],
)
def test_answer_format(completion, form, score):
    assert build_scorer("answer_format")([item(None, "lung", completion=completion, form=form)]) == [score]


def test_a_bare_answer_has_no_format():
    scorer = build_scorer("answer_format")
    assert scorer([item("lung", "lung")]) == [None]
    assert not scorer.applies(item("lung", "lung"))
