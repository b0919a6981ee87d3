import pickle

import pytest

from medrft.rewards import build_reward
from medrft.scorers import build_scorer
from score_items import item, think

SOURCE = """
class Brevity:
    name = "brevity"; range = (0.0, 1.0); needs = ()
    def __init__(self, words=5): self.words = words
    def applies(self, item): return True
    def __call__(self, items): return [float(len((i.answer or "").split()) <= self.words) for i in items]

def by_items(items):
    return [0.5 for _ in items]

def trl_style(completions, solution, organ, **kwargs):
    return [float(s in c[0]["content"]) if o else float("nan") for c, s, o in zip(completions, solution, organ)]

class Nothing: pass
value = 3
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "mine.py").write_text(SOURCE)
    return tmp_path


def test_a_class(folder):
    scorer = build_scorer("mine.py:Brevity", base_dir=folder, words=1)
    assert scorer([item("left lung", "x"), item("lung", "x")]) == [0.0, 1.0]
    assert pickle.loads(pickle.dumps(scorer)).words == 1


def test_functions(folder):
    assert build_scorer("mine.py:by_items", base_dir=folder)([item("a", "b")]) == [0.5]
    trl = build_scorer("mine.py:trl_style", base_dir=folder)
    rows = [
        item(None, "lung", completion=think("lung"), metadata={"organ": "LUNG"}),
        item(None, "lung", completion="heart", metadata={"organ": "HEART"}),
        item(None, "lung", completion="lung"),
    ]
    assert trl(rows) == [1.0, 0.0, None]  # NaN is unscored
    assert not trl.applies(item("a bare answer", "lung"))


def test_in_a_reward(folder):
    parts = [
        {"scorer": "mine.py:Brevity", "weight": 0.5, "options": {"words": 1}},
        {"scorer": "exact_match", "weight": 0.5},
    ]
    outcomes = build_reward({"parts": parts}, base_dir=folder)([item("lung", "lung"), item("left lung", "lung")])
    assert [outcome.reward for outcome in outcomes] == [1.0, 0.0]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("mine.py:Brevty", "did you mean 'Brevity'"),
        ("other.py:Brevity", "no file at"),
        ("mine.py:Nothing", "has no 'name'"),
        ("mine.py:value", "is a int"),
        ("no.such.module:Name", "no module"),
    ],
)
def test_mistakes(folder, spec, message):
    with pytest.raises(ValueError, match=message):
        build_scorer(spec, base_dir=folder)


def test_wrong_options(folder):
    with pytest.raises(ValueError, match="cannot be built"):
        build_scorer("mine.py:Brevity", base_dir=folder, letters=1)
    with pytest.raises(ValueError, match="takes no options"):
        build_scorer("mine.py:by_items", base_dir=folder, letters=1)
